"""What a reproduction or a trace looks like on a screen.

Added here: a table about the past made again. Not here: commands.
"""

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

from nightscore.catalog.reproductions import Reproduction
from nightscore.reproduction.trace import SourceTrace, Trace
from orchestration.cli.output import print_table, stdout

FEATURES_SHOWN = 12


def print_reproduction(made: Reproduction) -> None:
    """The verdict, what it was checked against, and every difference."""
    level = f" ({made.level})" if made.level else ""
    print_table(f"{made.name}: {made.outcome.upper()}{level}", ("fact", "value"), list(_facts(made)))
    if made.first_difference:
        stdout().print(f"First difference: {made.first_difference}", style="bold")
    differences = made.report.get("differences", [])
    if differences:
        print_table("Differences", ("layer", "what"), [(one["layer"], one["what"]) for one in differences])


def print_attempts(title: str, attempts: Sequence[Reproduction]) -> None:
    """One line an attempt."""
    columns = ("subject", "outcome", "level", "asked by", "at", "seconds", "first difference")
    rows = [
        (one.name, one.outcome, one.level or "", one.asked_by, f"{one.at:%Y-%m-%d %H:%M}Z", f"{one.seconds:.1f}",
         one.first_difference or "")
        for one in attempts
    ]  # fmt: skip
    print_table(title, columns, rows)


def _facts(made: Reproduction) -> Iterator[tuple[str, str]]:
    report, provenance = made.report, made.report["provenance"]
    yield "sources", _sources(provenance)
    yield "lock", f"{str(provenance['lock_sha256'])[:16]}, Python {provenance['python']}"
    yield "snapshot", str(report["snapshot_md5"])
    if made.kind == "model":
        yield "capsule", f"manifest {report['manifest_sha256'][:16]}"
        yield "function", report["function_sha256"][:16]
        if "members" in report:
            yield "members", f"as they are; each on its own: {', '.join(report['members'].values())}"
    else:
        yield "publication", f"{report['publication_id']}, receipt {report['receipt_id']}"
        yield "predictions", f"content {report['results']['predictions_content'][:16]}, {report['published_rows']} rows"
    yield "level", f"{made.level or 'none'} (required: {report['required_level']})"
    yield "took", f"{made.seconds:.1f} s, of which {report['child_seconds']:.1f} s computing"


def _sources(provenance: Mapping[str, Any]) -> str:
    archive = f"archive {provenance['sources_sha256'][:16]}"
    if provenance["commit"] is None:
        return f"{archive}, no commit"
    return f"{archive}, commit {provenance['commit'][:12]}{' with uncommitted changes' if provenance['dirty'] else ''}"


def print_trace(trace: Trace) -> None:
    """One screen: the row, what made it, its features and sources, its gates, and the verdict."""
    print_table(_title(trace), ("fact", "value"), list(_origin(trace)))
    gains = trace.model.metrics.get("importance", {})
    ordered = sorted(trace.features, key=lambda name: -gains.get(name, 0.0))[:FEATURES_SHOWN]
    more = len(trace.features) - len(ordered)
    title = f"Features (the {len(ordered)} with the most gain; {more} more in --json)" if more else "Features"
    print_table(title, ("feature", "value"), [(name, trace.features[name]) for name in ordered])
    print_table(
        "Sources", ("source", "partitions", "rows of this key", "read from"), [_source(one) for one in trace.sources]
    )
    gates = [(one["dataset"], "passed" if one["passed"] else "blocked", len(one["results"]), one["rows_quarantined"])
             for one in trace.gates]  # fmt: skip
    print_table("Gates", ("dataset", "verdict", "expectations", "quarantined"), gates)
    score = "" if trace.again is None else f": score {trace.published['score']!r} then, {trace.again['score']!r} again"
    stdout().print(f"{trace.verdict}{score}", style="bold")
    for reason in trace.reasons:
        stdout().print(f"  - {reason}")


def _title(trace: Trace) -> str:
    key = ", ".join(f"{name}={value}" for name, value in trace.key.items())
    return f"{trace.publication.pipeline} {key}"


def _origin(trace: Trace) -> Iterator[tuple[str, str]]:
    shown = ("score", "decision", "decision_reason", "rank", "decile", "arm")
    yield "row", ", ".join(f"{name} {trace.published[name]}" for name in shown)
    yield from _publication(trace)
    model, window = trace.model, trace.model.metrics["all"]
    learnt = f"learnt from {window['first']} to {window['last']} ({window['rows']:,} rows)"
    yield "model", f"{model.name}, {model.algorithm}, {learnt}, by {model.created_by}: {model.purpose}"
    yield "recipe", f"{model.recipe_hash[:16]}, function {model.function_hash[:16]}, snapshot {model.snapshot_md5}"
    for one in trace.approvals:
        yield "approved", f"champion from {one['at']:%Y-%m-%d %H:%M}Z by {one['actor']}: {one['reason']}"


def _publication(trace: Trace) -> Iterator[tuple[str, str]]:
    one, receipt = trace.publication, trace.receipt
    now = "readers see it now" if trace.is_current else "replaced since"
    yield "publication", f"{one.publication_id}, revision {one.revision}, {_instant(one.published_at)}, {now}"
    yield "receipt", f"{receipt.receipt_id}, {_instant(receipt.made_at)}, snapshot {receipt.snapshot_md5}"
    provenance = receipt.body["provenance"]
    yield "code", f"{_sources(provenance)}, lock {str(provenance['lock_sha256'])[:16]}"


def _instant(at: datetime) -> str:
    return f"{at:%Y-%m-%d %H:%M:%S}Z"


def _source(one: SourceTrace) -> tuple[str, str, str, str]:
    nights = [version.score_date for version in one.partitions]
    span = f"{len(nights)}: {min(nights)} to {max(nights)}" if len(nights) > 1 else str(nights[0])
    on = ", ".join(one.matched_on) or "none of the key"
    files = one.files[0].split(" size=")[0] if one.files else "before origins were kept"
    more = f" and {len(one.files) - 1} more" if len(one.files) > 1 else ""
    return one.source, span, f"{one.matching_rows} by {on}", f"{files}{more}"
