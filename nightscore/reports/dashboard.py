"""A pipeline over a period: what became of each night, incidents, drift, performance, the ledger, costs; as one page.

Added here: a section of the dashboard, or a line of one. Not here: facts (`watch_facts.py`), figures over dates
(`figure_sections.py`), charts.
"""

from collections import Counter
from collections.abc import Iterator
from datetime import date, timedelta
from pathlib import Path

from nightscore.catalog.decisions import Decision
from nightscore.lake.workspace import Workspace
from nightscore.reports.card_pages import Block, Chart, Lead, Table, as_markdown, as_page
from nightscore.reports.figure_charts import rows_chart
from nightscore.reports.figure_sections import (
    business_blocks,
    cost_blocks,
    drift_blocks,
    equal_maturity_blocks,
    estimate_blocks,
    performance_blocks,
)
from nightscore.reports.files import write_report
from nightscore.reports.watch_charts import Life, incidents_chart, status_calendar
from nightscore.reports.watch_facts import (
    IncidentFacts,
    PeriodFacts,
    newest_known,
    nights_of_decision,
    read_period_facts,
    row_counts,
)
from nightscore.spec.pipeline import Pipeline
from nightscore.watch.incidents import QUARTER_DAYS

_MOST_ROWS = 40
_WATCHED = frozenset({"incident", "publish"})
"""Kinds of decisions that the sections of nights and incidents show already."""
_OTHER_STATUSES = {"gated": "held back", "failed": "failed", "prepared": "not published"}


def write_dashboard(workspace: Workspace, pipeline: Pipeline, first: date, last: date, folder: Path) -> Path:
    """Write the page of a period to `folder` as `dashboard-<pipeline>.html`, in place of the one before; its path.

    Permanent where `last` lies before `first`, SettingsError where the file cannot be written.
    """
    path = folder / f"dashboard-{pipeline.name}.html"
    write_report(path, render_html(read_period_facts(workspace, pipeline, first, last)), make_folder=True)
    return path


def render_markdown(facts: PeriodFacts) -> str:
    """The dashboard as Markdown without charts; ends with a newline."""
    return as_markdown(_title(facts), _sections(facts))


def render_html(facts: PeriodFacts) -> str:
    """The dashboard as one page with charts; no scripts, no links."""
    return as_page(_title(facts), _sections(facts))


def status_of_nights(facts: PeriodFacts) -> dict[date, str]:
    """What became of each night of which anything is recorded, in the words of `STATUS_COLOURS`."""
    found = dict.fromkeys(facts.published or {}, "published")
    for one in facts.statuses:
        found[one.score_date] = _OTHER_STATUSES.get(one.status, found.get(one.score_date, "not published"))
    for night, status in found.items():
        if status == "published" and any(one.open_on(night) for one in facts.incidents):
            found[night] = "published, incident open"
    return dict(sorted(found.items()))


def false_incidents(facts: PeriodFacts) -> list[IncidentFacts]:
    """Those of the last 91 days that a person called a false alarm."""
    since = facts.last - timedelta(days=QUARTER_DAYS - 1)
    return [one for one in facts.incidents if one.false_alarm and since <= one.opened <= facts.last]


def _title(facts: PeriodFacts) -> str:
    return f"Dashboard: {facts.pipeline}, {facts.first} to {facts.last}"


def _sections(facts: PeriodFacts) -> Iterator[tuple[str, list[Block]]]:
    known, nights = newest_known(facts.metrics, facts.last), facts.nights
    yield "At a glance", list(_glance(facts))
    yield "Nights", list(_nights(facts))
    yield "Incidents", list(_incidents(facts))
    yield "Drift over time", list(drift_blocks(facts.signals, facts.nights, lines=True))
    performance = [*performance_blocks(known, nights, facts.task, charts=2)]
    performance += equal_maturity_blocks(facts.metrics, nights, facts.task, facts.last)
    yield f"Performance, as known on {facts.last}", performance
    yield "Estimate without labels", list(estimate_blocks(known, nights, facts.task))
    yield "Business metrics", list(business_blocks(known))
    yield "Retraining, promotions and restatements", list(_ledger(facts))
    yield "Run time", list(cost_blocks(known, nights))


def _glance(facts: PeriodFacts) -> Iterator[Block]:
    counts = Counter(status_of_nights(facts).values())
    published = counts["published"] + counts["published, incident open"]
    open_now = [one for one in facts.incidents if one.open_on(facts.last)]
    false = len(false_incidents(facts))
    lost = counts["held back"] + counts["failed"]
    incidents = f"{len(open_now)} open incident{'s' * (len(open_now) != 1)}" if open_now else "No incident is open"
    said = f"{incidents}. Published: {published} of {len(facts.nights)} nights; "
    said += f"held back: {counts['held back']}; failed: {counts['failed']}."
    yield Lead(said, "bad" if any(one.level == "L1" for one in open_now) else "warned" if open_now or lost else "good")
    budget = f"{false} false incident{'s' * (false != 1)} in {QUARTER_DAYS} days; {facts.false_allowed} tolerated."
    yield f"{budget} {'The budget is overspent.' if false > facts.false_allowed else 'Within the budget.'}"


def _nights(facts: PeriodFacts) -> Iterator[Block]:
    statuses = status_of_nights(facts)
    if not statuses:
        yield "Nothing is recorded of these nights."
        return
    yield Chart(lambda: status_calendar(statuses, facts.first, facts.last))
    said = [one for one in facts.statuses if one.status in {"gated", "failed"}]
    if said:
        rows = [(str(one.score_date), _OTHER_STATUSES[one.status], one.reason) for one in said[:_MOST_ROWS]]
        yield Table(("night", "what became of it", "why"), rows)
        yield from _left_out(len(said))
    yield Chart(lambda: rows_chart(row_counts(facts.signals, facts.published or {}), facts.nights))


def _incidents(facts: PeriodFacts) -> Iterator[Block]:
    found = [one for one in facts.incidents if (one.closed or facts.last) >= facts.first]
    if not found:
        yield "None in this period."
        return
    lives = [Life(f"{one.cause} ({one.incident_id})", one.level, one.opened, one.closed, _end(one)) for one in found]
    yield Chart(lambda: incidents_chart(lives, facts.first, facts.last))
    rows = [
        (one.level, one.incident_id, one.cause, str(one.opened), str(one.closed or "open"),
         str(one.days(facts.last)), str(one.nights), _ending(one))
        for one in found[:_MOST_ROWS]
    ]  # fmt: skip
    yield Table(("level", "incident", "cause", "opened", "closed", "days", "nights seen", "how it ended"), rows)
    yield from _left_out(len(found))
    yield Table(("quarter", "incidents", "of them false", "tolerated"), _quarters(facts, found))


def _end(one: IncidentFacts) -> str:
    return "" if one.status == "open" else "false alarm" if one.false_alarm else one.status


def _ending(one: IncidentFacts) -> str:
    ended = " by ".join(part for part in (_end(one), one.actor) if part)
    return ": ".join(part for part in (ended, one.reason) if part) or "-"


def _quarters(facts: PeriodFacts, found: list[IncidentFacts]) -> list[tuple[str, ...]]:
    """By calendar quarter in which incidents opened."""
    opened = Counter(_quarter(one.opened) for one in found)
    false = Counter(_quarter(one.opened) for one in found if one.false_alarm)
    return [(name, str(opened[name]), str(false[name]), str(facts.false_allowed)) for name in sorted(opened)]


def _quarter(night: date) -> str:
    return f"{night.year} Q{(night.month + 2) // 3}"


def _ledger(facts: PeriodFacts) -> Iterator[Block]:
    made = [one for one in facts.decisions if one.kind not in _WATCHED]
    if not made:
        yield "Nothing was decided in this period."
        return
    counts = Counter(f"{one.kind} {one.verdict.replace('_', ' ')}" for one in made)
    yield ", ".join(f"{count} {what}" for what, count in sorted(counts.items())) + "."
    yield Table(
        ("night", "kind", "verdict", "of", "by", "why"), [_decision(one) for one in reversed(made[-_MOST_ROWS:])]
    )
    yield from _left_out(len(made))


def _decision(one: Decision) -> tuple[str, ...]:
    nights = sorted(nights_of_decision(one))
    when = str(nights[0]) if len(nights) == 1 else f"{nights[0]} to {nights[-1]}"
    return when, one.kind, one.verdict.replace("_", " "), one.subject, one.actor, one.reason


def _left_out(count: int) -> Iterator[str]:
    if count > _MOST_ROWS:
        yield f"And {count - _MOST_ROWS} more."
