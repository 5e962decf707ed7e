"""Charts of watched nights as SVG text: plain data in, the same bytes out each time; "" where there is nothing to draw.

Dates are marked by their text, so no clock or time zone moves a point; colour never says anything alone.
Added here: another chart of what the watch saw. Not here: figures over dates (`figure_charts.py`), or reading them
(`watch_facts.py`).
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import date, timedelta
from typing import Any, NamedTuple

from nightscore.reports.drawing import GREY, HEIGHT, ROW_HEIGHT, as_svg, inline, is_finite, shortened
from nightscore.spec.windows import nights_between

PAGE_WIDTH = 900
LEVEL_COLOURS = {"L1": "#d55e00", "L2": "#e69f00", "L3": "#0072b2", "L4": "#a3568f"}
STATUS_COLOURS = {
    "published": "#5aa9a0", "published, incident open": "#e69f00", "held back": "#d55e00", "failed": "#7a3b69",
    "not published": "#b9c6d6", "nothing recorded": "#f0f2f4",
}  # fmt: skip
_STATUS_SIGNS = dict(zip(STATUS_COLOURS, ("", "!", "H", "F", "…", ""), strict=True))
_HEAT = (
    (0.5, "below 0.5", "#eef2f6"), (0.8, "0.5 to 0.8", "#cfdde9"), (1.0, "0.8 to 1", "#94b8d6"),
    (2.0, "1 to 2: over its threshold", "#f2a25c"), (float("inf"), "2 and more", "#c4500a"),
)  # fmt: skip
_MOST_COLUMNS, _MOST_INCIDENTS, _MOST_BINS = 15, 30, 24
LINES = ("#0072b2", "#d55e00", "#009e73", "#a3568f", "#7f7f7f")
_HIGHEST_RATIO = 4.0
"""Ratios are drawn up to here: beyond, only that they are beyond matters."""


class Cell(NamedTuple):
    """The largest ratio of a column, or of a check of the whole night, to its threshold."""

    night: date
    name: str
    ratio: float
    fires: bool


class Bin(NamedTuple):
    """Rows of one bin, in the reference and tonight."""

    label: str
    reference: int
    tonight: int


class Life(NamedTuple):
    """An incident from its first night to its last; `closed` is None while it is open."""

    name: str
    level: str
    opened: date
    closed: date | None
    note: str = ""


def drift_strip(cells: Iterable[Cell], nights: Sequence[date]) -> str:
    """Columns by nights, the largest ratio first: colour and a dot mark what is over its threshold."""
    import altair as alt

    shown = [one for one in cells if is_finite(one.ratio) and one.night in set(nights)]
    names = ranked_names(shown)[:_MOST_COLUMNS]
    if not names:
        return ""
    rows = [
        {"night": str(one.night), "place": names.index(one.name), "heat": _heat(one.ratio), "fires": one.fires}
        for one in sorted(shown) if one.name in names
    ]  # fmt: skip
    legend = alt.Legend(title="value over its threshold", columns=5, symbolType="square", labelLimit=300)
    colour = alt.Color("heat:N", legend=legend).scale(domain=[one[1] for one in _HEAT], range=[one[2] for one in _HEAT])
    x, y = night_axis(nights), _places([shortened(name) for name in names])
    cell = alt.Chart(inline(rows)).mark_rect(stroke="#ffffff", strokeWidth=1).encode(x=x, y=y, color=colour)
    dots = alt.Chart(inline([row for row in rows if row["fires"]])).mark_point(
        filled=True, color="#3a1500", size=22, opacity=1
    )
    title = "Drift by column: tonight's figures over their thresholds"
    return as_svg(alt.layer(cell, dots.encode(x=x, y=y)), 96 + ROW_HEIGHT * len(names), PAGE_WIDTH, title)


def drift_lines(cells: Iterable[Cell], nights: Sequence[date]) -> str:
    """The five columns that came nearest to their thresholds or beyond, over the nights; the threshold is at 1."""
    import altair as alt

    shown = {(one.name, one.night): one for one in cells if is_finite(one.ratio) and one.night in set(nights)}
    names = ranked_names(shown.values())[: len(LINES)]
    if not names:
        return ""
    rows = [
        {"night": str(night), "name": shortened(name), "ratio": min(one.ratio, _HIGHEST_RATIO) if one else None}
        for name in names for night in nights for one in [shown.get((name, night))]
    ]  # fmt: skip
    top = max([1.2, *(row["ratio"] for row in rows if row["ratio"] is not None)])
    y = alt.Y("ratio:Q").title("value over its threshold").scale(domain=[0, top])
    if top == _HIGHEST_RATIO:
        y = y.axis(labelExpr=f"datum.value >= {_HIGHEST_RATIO:g} ? '≥ ' + datum.label : datum.label", tickCount=5)
    legend = alt.Legend(columns=5, symbolType="stroke", labelLimit=300)
    domain = [shortened(name) for name in names]
    colour = alt.Color("name:N", legend=legend).scale(domain=domain, range=list(LINES[: len(names)]))
    lines = alt.Chart(inline(rows)).mark_line(strokeWidth=1.8, point={"size": 16}).encode(
        x=night_axis(nights), y=y, color=colour
    )  # fmt: skip
    layers = [lines, threshold_rule(1.0), threshold_words(1.0, "threshold")]
    return as_svg(alt.layer(*layers), HEIGHT, PAGE_WIDTH, "Nearest to their thresholds, or beyond")


def distribution_chart(bins: Sequence[Bin], title: str = "Scores tonight against the reference") -> str:
    """The share of rows in each bin: the reference as grey bars, tonight as blue lines across them."""
    import altair as alt

    totals = [sum(getattr(one, part) for one in bins) for part in ("reference", "tonight")]
    if not all(totals) or len(bins) > _MOST_BINS:
        return ""
    of = ("reference", "tonight")
    rows = [
        {"place": at, "share": getattr(one, part) / total, "of": part}
        for part, total in zip(of, totals, strict=True) for at, one in enumerate(bins)
    ]  # fmt: skip
    labels = json.dumps([one.label for one in bins])
    x = alt.X("place:O").title(None).axis(labelExpr=f"{labels}[datum.value]", labelAngle=-40)
    y = alt.Y("share:Q").title("share of rows").axis(format="~%")
    colour = alt.Color("of:N").scale(domain=list(of), range=["#cfd5dc", "#0072b2"])
    bars = alt.Chart(inline(rows[: len(bins)])).mark_bar().encode(x=x, y=y, color=colour)
    ticks = alt.Chart(inline(rows[len(bins) :])).mark_tick(thickness=4, bandSize=34).encode(x=x, y=y, color=colour)
    return as_svg(alt.layer(bars, ticks), HEIGHT + 30, PAGE_WIDTH, title)


def incidents_chart(lives: Sequence[Life], first: date, last: date) -> str:
    """One line an incident, the newest below; open ones run into the right edge with an arrow."""
    import altair as alt

    shown = sorted(
        (one for one in lives if one.opened <= last and (one.closed or last) >= first), key=lambda one: one.opened
    )[-_MOST_INCIDENTS:]
    if not shown:
        return ""
    nights = nights_between(first, last)
    rows = [
        {"place": at, "from": str(max(one.opened, first)), "to": str(min(one.closed or last, last)), "level": one.level,
         "note": one.note, "end": "►" if one.closed is None or one.closed > last else ""}
        for at, one in enumerate(shown)
    ]  # fmt: skip
    y = _places([shortened(one.name) for one in shown])
    x, end = night_axis(nights, "from:O").bandPosition(0), alt.X2("to:O", bandPosition=1)
    colour = alt.Color("level:N").scale(domain=list(LEVEL_COLOURS), range=list(LEVEL_COLOURS.values()))
    bars = alt.Chart(inline(rows)).mark_bar(height=12, cornerRadius=2).encode(x=x, x2=end, y=y, color=colour)
    level = _words(rows, "level", dx=3, color="#ffffff", fontSize=9).encode(x=x, y=y)
    ends = _words(rows, "end", dx=-2, fontSize=11).encode(x=night_axis(nights, "to:O").bandPosition(1), y=y)
    layers = [bars, level, ends, *_notes(rows, nights, y)]
    return as_svg(alt.layer(*layers), 84 + 20 * len(shown), PAGE_WIDTH, "Incidents")


def status_calendar(statuses: Mapping[date, str], first: date, last: date) -> str:
    """A square a night, a column a week; `statuses` are keys of `STATUS_COLOURS`."""
    import altair as alt

    if not statuses:
        return ""
    rows: list[dict[str, Any]] = [
        {"week": str(night - timedelta(days=night.weekday())), "day": night.weekday(),
         "status": status, "sign": _STATUS_SIGNS[status]}
        for night in nights_between(first, last) for status in [statuses.get(night, "nothing recorded")]
    ]  # fmt: skip
    weeks = sorted({row["week"] for row in rows})
    names = [one for one in STATUS_COLOURS if any(row["status"] == one for row in rows)]
    words = [f"{_STATUS_SIGNS[one]} {one}".strip() for one in names]
    legend = alt.Legend(columns=3, symbolType="square", labelLimit=300, labelExpr=_named(names, words))
    colour = alt.Color("status:N", legend=legend).scale(domain=names, range=[STATUS_COLOURS[one] for one in names])
    step = max(1, len(weeks) // 12)
    x = (
        alt.X("week:O")
        .title("week from")
        .axis(values=weeks[::step], labelAngle=0, tickCount=len(weeks), labelExpr="slice(datum.value, 5)")
    )
    y = alt.Y("day:O").title(None).axis(labelExpr="['Mon','Tue','Wed','Thu','Fri','Sat','Sun'][datum.value]")
    squares = alt.Chart(inline(rows)).mark_rect(stroke="#ffffff", strokeWidth=2).encode(x=x, y=y, color=colour)
    layers = [squares, _words(rows, "sign", align="center", dx=0).encode(x=x, y=y)]
    width = min(PAGE_WIDTH, max(640, 110 + 26 * len(weeks)))
    return as_svg(alt.layer(*layers), 265, width, "What became of each night")


def ranked_names(cells: Iterable[Cell]) -> list[str]:
    """Names of cells by their largest ratio, equal ones by name."""
    largest: dict[str, float] = {}
    for one in cells:
        largest[one.name] = max(one.ratio, largest.get(one.name, 0.0))
    return sorted(largest, key=lambda name: (-largest[name], name))


def night_axis(nights: Sequence[date], field: str = "night:O") -> Any:
    """The x axis of score dates, all of them in order, a dozen of them named."""
    import altair as alt

    texts = [str(night) for night in nights]
    step = max(1, -(-len(texts) // 12))
    named = texts[::-1][::step][::-1]
    expression = "slice(datum.value, 5)" if len({night.year for night in nights}) == 1 else "datum.value"
    axis = alt.Axis(values=named, labelAngle=0, labelExpr=expression, tickCount=len(named))
    title = f"score date, {nights[0]:%Y}" if len({night.year for night in nights}) == 1 else "score date"
    return alt.X(field, axis=axis).title(title).scale(domain=texts)


def threshold_rule(at: float, colour: str = "#3a1500") -> Any:
    """A dashed line across the chart."""
    import altair as alt

    rule = alt.Chart(inline([{"at": at}])).mark_rule(color=colour, strokeDash=[5, 4], strokeWidth=1.3)
    return rule.encode(y=alt.Y("at:Q"))


def threshold_words(at: float, words: str, colour: str = "#3a1500") -> Any:
    """What a dashed line is, at its left end."""
    import altair as alt

    text = alt.Chart(inline([{"at": at, "words": words}])).mark_text(
        align="left", baseline="bottom", dx=3, dy=-2, color=colour, fontSize=10
    )
    return text.encode(x=alt.value(0), y=alt.Y("at:Q"), text="words:N")


def _heat(ratio: float) -> str:
    return next(name for below, name, _ in _HEAT if ratio < below)


def _places(names: Sequence[str]) -> Any:
    """One line a name, in their order; equal names keep their own lines."""
    import altair as alt

    axis = alt.Axis(labelExpr=f"{json.dumps(list(names))}[datum.value]", labelLimit=260, ticks=False, domain=False)
    return alt.Y("place:O", axis=axis).title(None).scale(domain=list(range(len(names))))


def _named(values: Sequence[str], words: Sequence[str]) -> str:
    return f"({json.dumps(dict(zip(values, words, strict=True)))})[datum.value]"


def _words(rows: Sequence[Mapping[str, Any]], key: str, **style: Any) -> Any:
    import altair as alt

    style = {"align": "left", "baseline": "middle", "fontSize": 10, "color": "#1c2430", **style}
    return alt.Chart(inline(rows)).mark_text(**style).encode(text=f"{key}:N")


def _notes(rows: Sequence[Mapping[str, Any]], nights: Sequence[date], y: Any) -> list[Any]:
    """How closed incidents ended, beside their bars, where there is room."""
    room = {str(night) for night in nights[: len(nights) * 3 // 4]}
    noted = [row for row in rows if row["note"] and row["to"] in room]
    return [_words(noted, "note", dx=14, color=GREY).encode(x=night_axis(nights, "to:O"), y=y)] if noted else []
