"""The report of one score date: what readers see now and why, then everything that says so; Markdown and HTML.

The headline comes first and is whole in itself; each section below says in words when it has nothing to show.
Added here: a section of a night's report, or a line of one. Not here: facts (`watch_facts.py`), charts
(`watch_charts.py`, `figure_charts.py`), the form of the texts (`card_pages.py`).
"""

from collections.abc import Iterator, Sequence
from datetime import date, datetime, timedelta
from pathlib import Path

from nightscore.catalog.publications import Publication
from nightscore.lake.workspace import Workspace
from nightscore.reports.card_pages import Block, Bullets, Chart, Commands, Lead, Table, as_markdown, as_page
from nightscore.reports.charts import calibration_chart
from nightscore.reports.figure_sections import (
    business_blocks,
    cost_blocks,
    drift_blocks,
    estimate_blocks,
    number,
    performance_blocks,
)
from nightscore.reports.files import write_report
from nightscore.reports.watch_charts import distribution_chart
from nightscore.reports.watch_facts import (
    FIGURE_NIGHTS,
    IncidentFacts,
    NightFacts,
    Signal,
    read_night_facts,
)
from nightscore.spec.pipeline import Pipeline
from nightscore.spec.windows import nights_between

_NEAREST, _MOST_FOUND = 5, 20
_STEPS = ("L1", "L2", "L3", "L4")
MEANING = {
    "L1": "L1, faults of tonight that hold it back", "L2": "L2, tonight's distributions",
    "L3": "L3, the trailing 7 days", "L4": "L4, mature outcomes",
}  # fmt: skip


def write_night_report(workspace: Workspace, pipeline: Pipeline, night: date, folder: Path) -> Path:
    """Write the page of a night to `folder` as `night-<pipeline>-<night>.html`, whole or not at all; its path.

    Permanent for a night of which the catalog knows nothing, SettingsError where the file cannot be written.
    """
    path = folder / f"night-{pipeline.name}-{night}.html"
    write_report(path, render_html(read_night_facts(workspace, pipeline, night)), make_folder=True)
    return path


def render_markdown(facts: NightFacts) -> str:
    """The report as Markdown without charts; ends with a newline."""
    return as_markdown(_title(facts), _sections(facts))


def render_html(facts: NightFacts) -> str:
    """The report as one page with charts; no scripts, no links."""
    return as_page(_title(facts), _sections(facts))


def draw_charts(facts: NightFacts) -> dict[str, str]:
    """Every chart of the report as SVG, by the title of its section and its place there."""
    drawn: dict[str, str] = {}
    for title, blocks in _sections(facts):
        svgs = [svg for block in blocks if isinstance(block, Chart) if (svg := block.draw())]
        name = title.partition(",")[0]  # what follows names the night, and a chart has one name every night
        drawn |= {name if at == 1 else f"{name} {at}": svg for at, svg in enumerate(svgs, start=1)}
    return drawn


def headline(facts: NightFacts) -> Lead:
    """What became of the night and what readers see now, in one or two sentences."""
    status, verdict = facts.status, facts.verdict
    kind = status.status if status else ""
    refused = verdict is not None and not verdict.passed and kind != "published"
    if kind == "failed" and status is not None:
        return Lead(f"Failed: {_sentence(status.reason)} {_seen(facts, 'still ')}", "bad")
    if kind == "gated" or refused:
        reasons = "; ".join(verdict.reasons) if verdict and refused else (status.reason if status else "")
        return Lead(f"Held back: {_sentence(reasons)} {_seen(facts, 'still ')}", "bad")
    if facts.current is None:
        judged = "judged fit to be published, but not published" if verdict else "not published"
        return Lead(f"Not published: the night is {judged}. {_seen(facts)}", "warned")
    open_now = facts.open_incidents
    if open_now:
        counted = f"{len(open_now)} open incident{'s' * (len(open_now) > 1)}"
        return Lead(f"Published, with {counted}. {_seen(facts)}", "warned")
    return Lead(f"Published. {_seen(facts)}")


def _title(facts: NightFacts) -> str:
    return f"Night report: {facts.pipeline}, {facts.night:%A} {facts.night}"


def _sections(facts: NightFacts) -> Iterator[tuple[str, list[Block]]]:
    figures = nights_between(facts.night - timedelta(days=FIGURE_NIGHTS - 1), facts.night)
    yield "What readers see", list(_seen_blocks(facts))
    yield "Incidents open tonight", list(_incidents(facts))
    yield "What was found", list(_found(facts))
    yield "Rows and gates", list(_gates(facts))
    yield "Scores", list(_scores(facts))
    yield "Drift over the last 28 nights", list(drift_blocks(facts.signals, facts.strip))
    known = f"Performance at maturity, as known on {facts.night}"
    yield known, [*performance_blocks(facts.metrics, figures, facts.task), *_calibration(facts)]
    yield "Estimate without labels", list(estimate_blocks(facts.metrics, figures, facts.task))
    yield "Business metrics", list(business_blocks(facts.metrics))
    yield "Run time", list(cost_blocks(facts.metrics, facts.strip, facts.night))
    yield "Decisions about the night", list(_decisions(facts))
    yield "Receipt", list(_receipt(facts))


def _seen(facts: NightFacts, still: str = "") -> str:
    """One sentence on what readers get now."""
    if facts.current is not None:
        return f"Readers {still}see {_revision(facts.current)}."
    if facts.latest is None:
        return "Readers see nothing of this night, nor of any other yet."
    return f"Readers see nothing of this night; the newest night that they see is {facts.latest.score_date}."


def _revision(one: Publication) -> str:
    scored = f"{one.rows:,} rows scored by {one.pipeline}@{one.model_version}"
    return f"revision {one.revision}: {scored}, published {_instant(one.published_at)}"


def _seen_blocks(facts: NightFacts) -> Iterator[Block]:
    yield headline(facts)
    lines = []
    if facts.verdict is None:
        lines.append("The watch has not judged this night.")
    else:
        said = "let it pass" if facts.verdict.passed else "held it back"
        lines.append(
            f"The watch {said} on {_instant(facts.verdict.at)}, against {facts.verdict.reference or 'nothing'}."
        )
    if facts.current is not None:
        comes = facts.night + timedelta(days=facts.horizon_days)
        lines.append(f"Provisional: how good these scores are is known once labels come, on {comes} at the earliest.")
    if len(facts.publications) > 1:
        lines.append(f"The night was published {len(facts.publications)} times; each revision is kept.")
    yield Bullets(lines)


def _incidents(facts: NightFacts) -> Iterator[Block]:
    found = facts.open_incidents
    if not found:
        yield "None."
    else:
        yield Table(
            ("level", "incident", "cause", "open for", "what was seen"), [_incident(facts, one) for one in found]
        )
    ended = [one for one in facts.incidents if one.closed == facts.night]
    yield from (f"{one.incident_id} ({one.cause}) ended tonight: {one.status}. {one.reason}" for one in ended)
    if found:
        yield Commands([f"nightscore incidents show {one.incident_id}" for one in found[:3]])


def _incident(facts: NightFacts, one: IncidentFacts) -> tuple[str, ...]:
    days = one.days(facts.night)
    lasted = "opened tonight" if days == 1 else f"{days} days, since {one.opened}"
    return one.level, one.incident_id, one.cause, lasted, "; ".join(one.messages)


def _found(facts: NightFacts) -> Iterator[Block]:
    tonight = facts.tonight
    if not tonight:
        yield "Nothing was measured against thresholds tonight."
    for level in _STEPS:
        fired = sorted((one for one in tonight if one.fires and one.level == level), key=lambda one: -one.ratio)
        if fired:
            yield f"{MEANING[level]}: {len(fired)} over the threshold."
            yield _signal_table(fired[:_MOST_FOUND])
    misses = sorted((one for one in tonight if not one.fires and one.ratio > 0), key=lambda one: -one.ratio)[:_NEAREST]
    if misses and not any(one.fires for one in tonight):
        yield f"Nothing of {len(tonight)} figures is over its threshold. The nearest:"
    elif misses:
        yield "The nearest of those that are not:"
    elif tonight and not any(one.fires for one in tonight):
        yield f"Nothing of {len(tonight)} figures is over its threshold, nor near it."
    if misses:
        yield _signal_table(misses)
    if facts.verdict and facts.verdict.notes:
        yield Bullets(list(facts.verdict.notes))


def _signal_table(signals: Sequence[Signal]) -> Table:
    rows = [
        (one.level, one.cause, number(one.value), number(one.threshold), f"{one.ratio:.2f}", one.message)
        for one in signals
    ]
    return Table(("level", "cause", "value", "threshold", "ratio", "in words"), rows)


def _gates(facts: NightFacts) -> Iterator[Block]:
    passed = {one.dataset: one for one in facts.gates}
    rows = []
    for one in facts.accounts:
        gate = passed.pop(one.dataset, None)
        excluded = ", ".join(f"{count:,} {name}" for name, count in sorted(one.excluded.items())) or "-"
        verdict = "-" if gate is None else "passed" if gate.passed else "blocked"
        counts = (f"{one.rows_in:,}", f"{one.rows_out:,}", f"{one.quarantined:,}")
        rows.append((one.dataset.removeprefix(f"{facts.pipeline}."), *counts, excluded, verdict))
    rows += [(name.removeprefix(f"{facts.pipeline}."), "-", "-", "-", "-", "passed" if gate.passed else "blocked")
             for name, gate in passed.items()]  # fmt: skip
    if not rows:
        yield "No gate has judged anything of this night."
        return
    yield Table(("stage", "rows in", "rows out", "quarantined", "excluded", "gate"), rows)
    blocked = [f"{gate.dataset}: {'; '.join(gate.reasons)}" for gate in facts.gates if not gate.passed]
    if blocked:
        yield Bullets(blocked)


def _scores(facts: NightFacts) -> Iterator[Block]:
    if not facts.scores or not any(one.tonight for one in facts.scores):
        yield "The scores cannot be compared: no reference of them is kept with the version, or nothing was scored."
        return
    rows, of = sum(one.tonight for one in facts.scores), sum(one.reference for one in facts.scores)
    yield f"{rows:,} scores tonight against {of:,} of the reference, in the reference's own bins."
    yield Chart(lambda: distribution_chart(facts.scores))


def _calibration(facts: NightFacts) -> Iterator[Block]:
    """As the version promised it on held-out dates; by date the calibration error says how it holds."""
    found = facts.model.metrics.get("reliability") if facts.model else None
    if facts.model and found:
        yield f"Calibration of {facts.model.name} on the dates that were held out when it was trained:"
        yield Chart(lambda: calibration_chart(found))


def _decisions(facts: NightFacts) -> Iterator[Block]:
    if not facts.decisions:
        yield "None: no retraining, promotion or restatement was decided on."
        return
    rows = [(one.kind, one.verdict.replace("_", " "), one.subject, one.actor, one.reason) for one in facts.decisions]
    yield Table(("kind", "verdict", "of", "by", "why"), rows)


def _receipt(facts: NightFacts) -> Iterator[Block]:
    current, receipt, model = facts.current, facts.receipt, facts.model
    if current is None or receipt is None:
        yield "Readers see no publication of this night, so there is no receipt to show."
        return
    body, provenance = receipt.body, receipt.body.get("provenance") or {}
    commit = f"{provenance.get('commit') or 'not known'}{', with uncommitted changes' * bool(provenance.get('dirty'))}"
    rows = [
        ("publication", f"{current.publication_id}, revision {current.revision}, {current.kind}"),
        ("published", _instant(current.published_at)),
        ("content", current.content_md5),
        ("model", f"{current.pipeline}@{current.model_version}{f', {model.algorithm}' if model else ''}"),
        ("recipe: spec, model and inputs", receipt.fingerprint),
        ("code", f"{body.get('code_sha256', 'not known')}, commit {commit}"),
        ("features", str((body.get("features") or {}).get("content", "not known"))),
        ("snapshot of all inputs", receipt.snapshot_md5 or "not kept"), ("run", current.run_id),
    ]  # fmt: skip
    yield Table(("", ""), rows)
    yield Commands([f"nightscore reproduce {facts.pipeline} --night {facts.night} # make this night again"])


def _sentence(text: str) -> str:
    return f"{text.strip().rstrip('.') or 'no reason was recorded'}."


def _instant(at: datetime) -> str:
    return f"{at:%Y-%m-%d %H:%M %Z}".strip()
