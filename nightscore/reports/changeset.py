"""The review of a changeset, as one screen of text and as one page of HTML that needs nothing from elsewhere.

Pure: facts in, text out; every name and reason is escaped, since people write them.
Added here: a table or a chart of what `nightscore/publishing/difference.py` knows. Not here: finding differences.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from html import escape
from itertools import pairwise

import numpy as np

from nightscore.measures.shift import Sketch
from nightscore.publishing.difference import ChangesetDifference, Performance, SegmentFlips

Table = tuple[Sequence[str], Sequence[Sequence[object]]]
"""Header and rows."""
_TEXT_WIDTH = 110
_TEXT_ROWS, _PAGE_ROWS, _COLUMNS = 4, 20, 8
_WIDTH, _HEIGHT, _LEFT, _LABEL = 760, 180, 64, 20
_ROW_COLOURS = {"identical": "#b8c0c8", "changed": "#e8a33d", "added": "#2a7", "removed": "#c55"}
_FLIP_COLOURS = {"no to yes": "#2a7", "yes to no": "#c55"}
_LINE = "#36c"
_STYLE = """
body{font:15px/1.45 system-ui,sans-serif;max-width:62rem;margin:2rem auto;padding:0 1rem;color:#1c2430;background:#fff}
h1{font-size:1.5rem}h2{font-size:1.1rem;margin-top:2rem}table{border-collapse:collapse;margin:.5rem 0}
th,td{padding:.15rem .8rem .15rem 0;text-align:left;border-bottom:1px solid #e3e6ea;vertical-align:top}
td.n,th.n{text-align:right;font-variant-numeric:tabular-nums}svg{max-width:100%;height:auto}
svg text{font:11px system-ui,sans-serif;fill:#566}.note{color:#566;font-size:.9rem}td{overflow-wrap:anywhere}
"""


@dataclass(frozen=True)
class Cost:
    """What staging took: seconds of run time, bytes stored, rows scored."""

    seconds: float
    bytes: int
    rows: int


@dataclass(frozen=True)
class ChangesetFacts:
    """What the catalog knows of a changeset; `model` is the choice that was made, `base` what it is compared with."""

    id: int
    pipeline: str
    first: date
    last: date
    reason: str
    model: str
    created_by: str
    created_at: datetime
    status: str
    cost: Cost
    base: str


def render_text(changeset_facts: ChangesetFacts, difference: ChangesetDifference) -> str:
    """One screen for a terminal, without colour; lines end with a newline."""
    parts = [_title(changeset_facts), _text_table((), _facts(changeset_facts))]
    for heading, table in _sections(difference, _TEXT_ROWS):
        parts.append(f"\n{heading}\n{_text_table(*table)}" if table[1] else f"\n{heading}: none")
    return "\n".join(parts) + "\n"


def render_html(changeset_facts: ChangesetFacts, difference: ChangesetDifference) -> str:
    """One page: the same tables, longer, and charts; no scripts, no links."""
    title = escape(_title(changeset_facts))
    tables = (_html_section(heading, table) for heading, table in _sections(difference, _PAGE_ROWS))
    policy = "default-src 'none'; style-src 'unsafe-inline'"
    return "\n".join([
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">',
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">',
        f"<title>{title}</title><style>{_STYLE}</style></head><body>",
        f"<h1>{title}</h1>", _html_table((), _facts(changeset_facts)), *_charts(difference), *tables,
        "</body></html>\n",
    ])  # fmt: skip


def _title(facts: ChangesetFacts) -> str:
    return _printable(f"Changeset {facts.id} of {facts.pipeline}: {facts.status}, {facts.first} to {facts.last}")


def _facts(facts: ChangesetFacts) -> list[tuple[str, str]]:
    cost = facts.cost
    return [
        ("reason", facts.reason),
        ("model", facts.model),
        ("compared with", facts.base),
        ("made", f"{facts.created_at:%Y-%m-%d %H:%M %Z} by {facts.created_by}"),
        ("cost", f"{cost.seconds:,.1f} s, {cost.bytes / 1e6:,.1f} MB, {cost.rows:,} rows"),
    ]


def _sections(difference: ChangesetDifference, limit: int) -> Iterable[tuple[str, Table]]:
    """Every table of the review with its heading; at most `limit` rows of those that could be long."""
    tally = difference.tally
    states = ", ".join(f"{count} {state}" for state, count in difference.states.items())
    yield f"Rows of {len(difference.nights)} nights ({states})", _counts(vars(tally.rows))
    yield "Decisions on rows that are there before and after", _decisions(difference)
    segments = _largest_flips(tally.segments)
    yield _cut("Flips by segment, most first", segments, limit), _segment_table(segments[:limit])
    columns = sorted(tally.columns.items(), key=lambda one: (-one[1], one[0]))
    yield _cut("Columns that differ, rows", columns, _COLUMNS), _counts(dict(columns[:_COLUMNS]))
    yield f"Shift of the score, after - before ({_shift_note(difference)})", _counts(tally.shift_quantiles)
    worst = difference.largest_psi(limit)
    psi = f"PSI of the score {_text(tally.psi)}, other rows in the top {_share(tally.churn)}; nights by PSI"
    yield psi, (("night", "psi", "top changed"), [(_text(one.night), one.psi, _share(one.churn)) for one in worst])
    yield "Model versions, rows", _model_table(tally.models_before, tally.models_after)
    yield "Realised performance", _performance_table(tally.performance_before, tally.performance_after)


def _counts(values: dict[str, int] | dict[str, float | None]) -> Table:
    return tuple(values), [tuple(values.values())] if values else []


def _cut(heading: str, rows: Sequence[object], limit: int) -> str:
    return f"{heading} ({limit} of {len(rows)})" if len(rows) > limit else heading


def _decisions(difference: ChangesetDifference) -> Table:
    flips = difference.tally.flips
    return ("rows", "no to yes", "share", "yes to no", "share"), [(
        flips.rows, flips.to_yes, _share_of(flips.to_yes, flips.rows), flips.to_no, _share_of(flips.to_no, flips.rows),
    )]  # fmt: skip


def _largest_flips(segments: Iterable[SegmentFlips]) -> list[SegmentFlips]:
    flipped = [one for one in segments if one.flips.to_yes or one.flips.to_no]
    return sorted(flipped, key=lambda one: -(one.flips.to_yes + one.flips.to_no))


def _segment_table(segments: Iterable[SegmentFlips]) -> Table:
    return ("segment", "rows", "no to yes", "yes to no", "share"), [
        (
            _segment_name(one), one.flips.rows, one.flips.to_yes, one.flips.to_no,
            _share_of(one.flips.to_yes + one.flips.to_no, one.flips.rows),
        )
        for one in segments
    ]  # fmt: skip


def _segment_name(one: SegmentFlips) -> str:
    return f"{one.column} = {one.level}" if one.level is not None else f"{one.column} unknown"


def _shift_note(difference: ChangesetDifference) -> str:
    shift = difference.tally.shift
    return f"{shift.rows:,} rows, mean {_text(shift.mean)}, {shift.missing:,} without a score"


def _model_table(before: dict[int, int], after: dict[int, int]) -> Table:
    return ("version", "before", "after"), [
        (f"@{version}", before.get(version, 0), after.get(version, 0)) for version in sorted({*before, *after})
    ]


def _performance_table(before: Performance, after: Performance) -> Table:
    names = list(dict.fromkeys([*(before.figures or {}), *(after.figures or {})]))
    if not names:
        return ("", "labelled rows"), [("before", "immature"), ("after", "immature")]
    return ("", "labelled rows", *names), [
        (side, one.rows or "immature", *((one.figures or {}).get(name) for name in names))
        for side, one in (("before", before), ("after", after))
    ]


def _share_of(part: int, whole: int) -> str:
    return _share(part / whole if whole else None)


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.2%}"


def _text(value: object) -> str:
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:.4g}" if abs(value) < 1000 else f"{value:,.1f}"
    return f"{value:,}" if isinstance(value, int) else _printable(str(value))


def _printable(text: str) -> str:
    """One line, without the characters by which a reason could redraw a terminal or turn the text around it."""
    return " ".join("".join(letter if letter.isprintable() else " " for letter in text).split())


def _numeric(column: Iterable[object]) -> bool:
    texts = [value for value in column if isinstance(value, str)]
    return all(text in {"-", "immature"} or text.endswith("%") for text in texts)


def _text_table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Columns as wide as their longest cell, numbers to the right; a line is cut where the screen would end."""
    numeric = [_numeric(column) for column in zip(*rows, strict=True)]
    cells = [[_text(value) for value in row] for row in [*([header] if header else []), *rows]]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    shapes = [f"{'>' if right else '<'}{width}" for width, right in zip(widths, numeric, strict=True)]
    lines = ("  ".join(map(format, row, shapes)) for row in cells)
    return "\n".join(f"  {line}"[:_TEXT_WIDTH].rstrip() for line in lines)


def _html_section(heading: str, table: Table) -> str:
    return f"<h2>{escape(heading)}</h2>" + (_html_table(*table) if table[1] else '<p class="note">none</p>')


def _html_table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    numeric = [_numeric(column) for column in zip(*rows, strict=True)]

    def line(values: Sequence[object], tag: str) -> str:
        cells = zip(values, numeric, strict=True)
        return "".join(f"<{tag}{' class=n' * right}>{escape(_text(value))}</{tag}>" for value, right in cells)

    head = f"<tr>{line(header, 'th')}</tr>" if header else ""
    body = (f"<tr>{line(row, 'td')}</tr>" for row in rows)
    return f"<table>{head}{''.join(body)}</table>"


def _charts(difference: ChangesetDifference) -> Iterable[str]:
    nights, segments = difference.nights, _largest_flips(difference.tally.segments)
    dates = [_text(line.night) for line in nights]
    rows = {name: [getattr(line.rows, name) for line in nights] for name in _ROW_COLOURS}
    yield _figure("Rows by night", _bars(dates, rows, _ROW_COLOURS))
    yield _figure("PSI by night", _line(dates, [line.psi for line in nights]))
    for column in dict.fromkeys(one.column for one in segments):
        yield _figure(f"Flips by {column}", _flip_bars([one for one in segments if one.column == column][:_PAGE_ROWS]))
    yield _figure("Shift of the score, after - before", _shift_bars(difference.tally.shift))


def _flip_bars(segments: Sequence[SegmentFlips]) -> str:
    levels = ["unknown" if one.level is None else _text(one.level) for one in segments]
    to_yes, to_no = [one.flips.to_yes for one in segments], [one.flips.to_no for one in segments]
    return _bars(levels, {"no to yes": to_yes, "yes to no": to_no}, _FLIP_COLOURS)


def _shift_bars(shift: Sketch) -> str:
    """An odd number of bars around zero, so that what did not move stands in the middle; the outer two are open."""
    low, high = shift.quantiles((0.01, 0.99))
    reach = max(abs(low or 0.0), abs(high or 0.0)) or shift.max_abs
    if not reach:
        return _bars(["0"] if shift.rows else [], {"rows": [shift.rows] if shift.rows else []}, {"rows": _LINE})
    edges = np.linspace(-reach, reach, 22)
    inner = [f"{lower:.3g} to {upper:.3g}" for lower, upper in pairwise(edges)]
    labels = [f"to {-reach:.3g}", *inner, f"over {reach:.3g}"]
    return _bars(labels, {"rows": shift.histogram(edges)}, {"rows": _LINE})


def _figure(heading: str, drawing: str) -> str:
    return f"<h2>{escape(heading)}</h2>{drawing}"


def _bars(labels: Sequence[str], series: Mapping[str, Sequence[int]], colours: Mapping[str, str]) -> str:
    """Stacked bars: one a label, the series upon each other, with what they are and how many as a tooltip."""
    highest = max(map(sum, zip(*series.values(), strict=True)), default=0) or 1
    step, shapes, base = _step(labels), [], [0] * len(labels)
    for name, values in series.items():
        for at, (label, value) in enumerate(zip(labels, values, strict=True)):
            if value:
                base[at] += value
                tall, top = value / highest * _HEIGHT, _HEIGHT - base[at] / highest * _HEIGHT
                place = (
                    f'x="{_LEFT + (at + 0.1) * step:.1f}" y="{top:.1f}" width="{0.8 * step:.1f}" height="{tall:.1f}"'
                )
                tip = f"<title>{escape(f'{label}: {value:,} {name}')}</title>"
                shapes.append(f'<rect {place} fill="{colours[name]}">{tip}</rect>')
    return _legend(colours) + _drawing(labels, f"{highest:,}", shapes)


def _line(labels: Sequence[str], values: Sequence[float | None]) -> str:
    """Points joined by a line, which breaks where there is no value."""
    highest = max((value for value in values if value is not None), default=0.0) or 1.0
    step, shapes, last = _step(labels), [], None
    for at, (label, value) in enumerate(zip(labels, values, strict=True)):
        point = None if value is None else (_LEFT + (at + 0.5) * step, _HEIGHT * (1 - value / highest))
        if point is not None and last is not None:
            ends = f'x1="{last[0]:.1f}" y1="{last[1]:.1f}" x2="{point[0]:.1f}" y2="{point[1]:.1f}"'
            shapes.append(f'<line {ends} stroke="{_LINE}"/>')
        if point is not None:
            tip = f"<title>{escape(f'{label}: {_text(value)}')}</title>"
            shapes.append(f'<circle cx="{point[0]:.1f}" cy="{point[1]:.1f}" r="3" fill="{_LINE}">{tip}</circle>')
        last = point
    return _drawing(labels, _text(highest), shapes)


def _drawing(labels: Sequence[str], highest: str, shapes: Sequence[str]) -> str:
    """The axes around `shapes`: 0 and the highest value, and as many labels as fit."""
    if not labels:
        return '<p class="note">none</p>'
    short = [label if len(label) <= _LABEL else f"{label[: _LABEL - 1]}…" for label in labels]
    step = _step(labels)
    every = math.ceil(max(map(len, short)) * 7 / step)
    ticks = [
        f'<text x="{_LEFT + (at + 0.5) * step:.1f}" y="{_HEIGHT + 16}" text-anchor="middle">{escape(label)}</text>'
        for at, label in enumerate(short)
        if at % every == 0
    ]
    right = _LEFT - 6
    return "".join([
        f'<svg viewBox="0 -12 {_LEFT + _WIDTH + 40} {_HEIGHT + 36}" width="{_LEFT + _WIDTH + 40}" role="img">',
        f'<text x="{right}" y="4" text-anchor="end">{escape(highest)}</text>',
        f'<text x="{right}" y="{_HEIGHT}" text-anchor="end">0</text>',
        f'<line x1="{_LEFT}" y1="{_HEIGHT}" x2="{_LEFT + _WIDTH}" y2="{_HEIGHT}" stroke="#99a"/>',
        *shapes, *ticks, "</svg>",
    ])  # fmt: skip


def _step(labels: Sequence[str]) -> float:
    return _WIDTH / max(len(labels), 1)


def _legend(colours: Mapping[str, str]) -> str:
    keys = (f'<span style="color:{colour}">&#9632;</span> {escape(name)}' for name, colour in colours.items())
    return f'<p class="note">{" &nbsp; ".join(keys)}</p>' if len(colours) > 1 else ""
