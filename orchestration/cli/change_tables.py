"""Plans and reviews of changesets as tables and as JSON.

Added here: another table of a changeset. Not here: the facts (`nightscore/reports/review.py`) or the full review
(`nightscore/reports/changeset.py`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import date, timedelta
from typing import Any

from nightscore.publishing.backfill import Plan
from nightscore.publishing.difference import ChangesetDifference
from nightscore.reports.review import Review, Summary
from orchestration.cli.output import print_table, stdout


def print_plan(plan: Plan) -> None:
    """What a backfill would do, a line a fact."""
    published, nights = sum(base is not None for base in plan.bases.values()), len(plan.nights)
    features = f"{nights - len(plan.to_prepare)} are there, {len(plan.to_prepare)} are made first"
    facts = [
        ("nights", f"{nights}, {plan.nights[0]} to {plan.nights[-1]}"),
        ("published already", f"{published}; {nights - published} are new to readers"),
        ("features", features),
        ("model", plan.model_policy),
        *(("version", line) for line in _version_lines(plan.pipeline, plan.versions)),
        ("rows", "unknown" if plan.rows is None else f"about {plan.rows:,}"),
        ("time", "unknown" if plan.seconds is None else str(timedelta(seconds=round(plan.seconds)))),
        ("space", "unknown" if plan.bytes is None else f"{plan.bytes / 1e6:,.1f} MB"),
        ("estimated from", plan.basis),
        ("free disk", f"{plan.free_bytes / 1e6:,.0f} MB"),
        *(("conflict", one) for one in plan.conflicts),
    ]
    print_table(f"Backfill of {plan.pipeline}: the plan", ("fact", "value"), facts)


def plan_as_json(plan: Plan) -> dict[str, Any]:
    """The plan with its nights as a list: date, version, publication that readers see, whether features are there."""
    missing = set(plan.to_prepare)
    nights = [
        {"night": night, "model_version": plan.versions[night], "publication_id": plan.bases[night],
         "has_features": night not in missing}
        for night in plan.nights
    ]  # fmt: skip
    names = ("pipeline", "model_policy", "scope", "rows", "seconds", "bytes", "basis", "free_bytes", "conflicts")
    return {name: getattr(plan, name) for name in names} | {"nights": nights}


def version_runs(versions: Mapping[date, int]) -> list[tuple[date, date, int]]:
    """First night, last night and version of each stretch of nights that one version scores."""
    runs: list[tuple[date, date, int]] = []
    for night, version in sorted(versions.items()):
        if runs and runs[-1][2] == version:
            runs[-1] = runs[-1][0], night, version
        else:
            runs.append((night, night, version))
    return runs


def _version_lines(pipeline: str, versions: Mapping[date, int]) -> list[str]:
    return [f"{pipeline}@{version} scores {first} to {last}" for first, last, version in version_runs(versions)]


def print_staged(review: Review) -> None:
    """What a finished backfill has to say, and what comes next."""
    opened, console = review.changeset, stdout()
    number = opened.changeset_id
    console.print(f"{_capital(opened.title)}: {opened.status}; {_counted(review.outcomes)}", style="bold")
    if review.difference is not None:
        console.print(summary_line(review.difference), soft_wrap=True)
    print_blocked(review)
    console.print(f"\nLook at it:   nightscore changes show {number}; nightscore changes diff {number}")
    console.print(f'Publish it:   nightscore changes approve {number} --reason "…"')


def summary_line(difference: ChangesetDifference) -> str:
    """A changeset's difference in one line."""
    tally = difference.tally
    rows, flips = tally.rows, tally.flips
    parts = [
        f"nights: {_counted(difference.states)}",
        f"rows: {rows.added:,} added, {rows.removed:,} removed, {rows.changed:,} changed, {rows.identical:,} identical",
        f"decisions: {flips.to_yes:,} to yes, {flips.to_no:,} to no",
        *([] if tally.psi is None else [f"PSI {tally.psi:.4f}"]),
    ]
    return "; ".join(parts)


def print_blocked(review: Review) -> None:
    """Every night that a gate held back, with the reason."""
    if review.blocked:
        rows = [(str(one.score_date), one.reason) for one in review.blocked]
        print_table("Held back; readers keep what they see of these nights", ("night", "reason"), rows)


def print_summaries(summaries: Sequence[Summary]) -> None:
    """One line a changeset."""
    columns = ("id", "pipeline", "kind", "from", "to", "nights", "model", "status", "seconds", "by", "at", "reason")
    rows = [
        (str(one.changeset_id), one.pipeline, one.kind, str(one.first_date), str(one.last_date),
         _counted(summary.outcomes), one.model_policy, one.status, summary.seconds, one.created_by,
         f"{one.created_at:%Y-%m-%d %H:%M}Z", one.reason)
        for summary in summaries
        for one in [summary.changeset]
    ]  # fmt: skip
    print_table("Changesets", columns, rows)


def print_review(review: Review) -> None:
    """A changeset without its difference: what it is, what became of its nights, who decided what and why."""
    one = review.changeset
    versions = {item.score_date: item.model_version for item in review.items}
    facts = [
        ("status", one.status), ("kind", one.kind), ("nights", f"{len(review.items)}: {_counted(review.outcomes)}"),
        ("model", one.model_policy), *(("version", line) for line in _version_lines(one.pipeline, versions)),
        ("scope", one.scope),
        ("cost", f"{review.seconds:,.1f} s, {review.bytes / 1e6:,.1f} MB, {review.facts.cost.rows:,} rows"),
        *([("difference", summary_line(review.difference))] if review.difference else []),
    ]  # fmt: skip
    print_table(_capital(one.title), ("fact", "value"), facts)
    events = [
        (event["event"], event["actor"], f"{event['at']:%Y-%m-%d %H:%M:%S}Z", event["reason"])
        for event in review.events
    ]
    print_table("History", ("event", "by", "at", "why"), events)
    print_blocked(review)


def review_as_json(review: Review) -> dict[str, Any]:
    """The whole review as plain values, its nights without their own differences."""
    items = [{name: value for name, value in vars(one).items() if name != "difference"} for one in review.items]
    return vars(review.changeset) | {
        "outcomes": review.outcomes, "cost": asdict(review.facts.cost), "items": items, "events": review.events,
        "difference": review.difference.as_json() if review.difference else None,
    }  # fmt: skip


def _counted(counts: Mapping[Any, int]) -> str:
    return ", ".join(f"{count} {name}" for name, count in counts.items() if count) or "none"


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
