"""Versions, evidence and rollouts as tables: what the gate compared, date by date, and what became of versions.

Added here: another table of versions or evidence. Not here: the facts, or commands (`models.py`, `rollouts.py`).
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from nightscore.catalog.decisions import Decision
from nightscore.catalog.models import ModelVersion
from nightscore.training.savings import savings_line
from orchestration.cli.night_tables import print_model
from orchestration.cli.output import print_table, stdout

Evidence = Mapping[str, Any]


def family_marks(versions: Sequence[ModelVersion]) -> dict[str, str]:
    """A short mark for each version by name: versions of a pipeline with one mark are refreshes of one recipe."""
    known: dict[str, list[str]] = {}
    marks = {}
    for one in versions:
        families = known.setdefault(one.pipeline, [])
        if one.family is not None and one.family not in families:
            families.append(one.family)
        marks[one.name] = "" if one.family is None else f"F{families.index(one.family) + 1}"
    return marks


def print_verdict(title: str, outcome: str, reasons: Sequence[str]) -> None:
    """The verdict in a line, and each of its reasons."""
    console = stdout()
    console.print(f"{title}: {outcome.replace('_', ' ')}", style="bold")
    for reason in reasons:
        console.print(f"  - {reason}")
    console.print()


def print_evidence(evidence: Evidence) -> None:
    """What was compared: figures, dates, guardrails, segments, and what was left out and why."""
    print_table("Evidence", ("figure", "value"), _figures(evidence))
    _print_dates(evidence.get("by_date") or [])
    _print_guardrails(evidence)
    rows = [
        (one["column"], one["level"], one["dates"], one["rows"], *(percent(one[name]) for name in _SPAN))
        for one in evidence.get("segments") or []
    ]
    if rows:
        print_table("Segments", ("column", "level", "dates", "rows", *_SPAN), rows)
    absent = Counter(str(why) for why in (evidence.get("left_out") or {}).values())
    if absent:
        print_table("Dates left out", ("dates", "why"), [(count, why) for why, count in absent.items()])


def print_version(found: ModelVersion, aliases: Sequence[str]) -> None:
    """One version: identity, provenance, held-out metrics, importance."""
    facts = ("purpose", "capsule_md5", "manifest_sha256", "function_hash", "recipe_hash", "family", "snapshot_md5",
             "parent")  # fmt: skip
    rows = [("aliases", ", ".join(aliases)), *((fact, str(getattr(found, fact) or "")) for fact in facts)]
    provenance = found.provenance or {}
    rows += [(fact, str(provenance[fact])) for fact in ("commit", "dirty", "sources_sha256", "lock_sha256", "python")
             if fact in provenance]  # fmt: skip
    print_table(found.name, ("fact", "value"), rows)
    print_model(found)
    if saved := savings_line(found.metrics):
        stdout().print(f"{saved}\n", soft_wrap=True)
    gains = sorted(found.metrics.get("importance", {}).items(), key=lambda pair: -pair[1])[:15]
    print_table("Importance (total gain)", ("feature", "gain"), gains)


def print_judgement(judged: Decision) -> None:
    """A verdict of the gate as the ledger keeps it."""
    told = judged.evidence
    print_evidence(told["gate"])
    title = f"{judged.subject} against {told['champion']} as of {told['as_of']}, {judged.verdict.replace('_', ' ')}"
    print_verdict(title, told["gate"]["outcome"], told["gate"]["reasons"])


def print_figures(versions: Sequence[ModelVersion]) -> None:
    """Held-out metrics of versions side by side; each on its own held-out dates."""
    found = [held_out_figures(one) for one in versions]
    names = [name for name, value in found[0].items() if isinstance(value, int | float)]
    rows = [(name, *(one.get(name) for one in found)) for name in names]
    rows.insert(0, ("held out", *(_held_out_dates(one) for one in versions)))
    print_table("Held-out metrics, of each version on its own dates", ("metric", *(one.name for one in versions)), rows)


def held_out_figures(version: ModelVersion) -> dict[str, Any]:
    """The metrics of a version's own algorithm on its held-out dates, by name."""
    return dict(version.metrics["algorithms"][version.metrics["algorithm"]]["overall"])


def print_arms(arms: Mapping[str, Any] | None) -> None:
    """What readers got, arm by arm, with intervals clustered by entity and by date."""
    rows = [
        (name, one["rows_a"], one["rows_b"], one["mean_a"], one["mean_b"], one["difference"], one["lower"],
         one["upper"], one["entities"], one["dates"])
        for name, one in (arms or {}).items()
    ]  # fmt: skip
    columns = ("figure", "rows", "rows of the challenger", "mean", "mean of the challenger", "difference", "lower",
               "upper", "entities", "dates")  # fmt: skip
    if rows:
        print_table("Arms, as published", columns, rows)
    else:
        stdout().print("Arms: no mature night has labelled rows of both yet.\n")


def percent(share: float | None) -> str:
    """A share with its sign as a percentage; "" where there is none."""
    return "" if share is None else f"{100 * share:+.2f} %"


_SPAN = ("gain", "lower", "upper")


def _figures(evidence: Evidence) -> list[tuple[str, str]]:
    dates, paired = evidence.get("dates") or [], evidence.get("paired") or {}
    told = [
        ("compared as", "a refresh of one recipe" if evidence.get("is_refresh") else "a new recipe"),
        ("dates", f"{len(dates)}, {dates[0]} to {dates[-1]}" if dates else "none"),
        ("rows", f"{paired.get('rows', 0):,}; {evidence.get('rows_left_out') or 0:,} left out"),
        *((f"{name.replace('_', ' ')}", _loss(evidence, paired.get(name)))
          for name in ("champion_loss", "challenger_loss")),
        *((name, percent(paired.get(name))) for name in _SPAN),
        ("power", evidence.get("power") or "unknown"),
        ("score PSI", _number(evidence.get("score_psi"))),
    ]  # fmt: skip
    return told + [("warning", str(one)) for one in evidence.get("warnings") or []]


def _loss(evidence: Evidence, loss: float | None) -> str:
    return "" if loss is None else f"{loss:.6f} ({str(evidence.get('metric')).replace('_', ' ')})"


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"


def _print_dates(by_date: Sequence[Mapping[str, Any]]) -> None:
    rows = [
        (one["score_date"], one["rows"], _number(one["champion_loss"]), _number(one["challenger_loss"]),
         percent((one["champion_loss"] - one["challenger_loss"]) / one["champion_loss"])
         if one["champion_loss"] else "")
        for one in by_date
    ]  # fmt: skip
    if rows:
        print_table("By date", ("score date", "rows", "champion", "challenger", "gain"), rows)


def _print_guardrails(evidence: Evidence) -> None:
    found: Mapping[str, Any] = evidence.get("guardrails") or {}
    calibration, leaks, fairness = (found.get(name) or {} for name in ("calibration", "leaks", "fairness"))
    rows = [("calibration", name, _number(value)) for name, value in calibration.items()]
    rows += [("leaks", name.replace("_", " "), _number(leaks.get(name))) for name in ("gain", "max_gain") if leaks]
    rows += [("leak suspected", one["feature"], _number(one["separation"])) for one in leaks.get("suspects", [])]
    rows += [
        ("fairness", f"{column}: {one['measure'].replace('_', ' ')}", _number(one["value"]))
        for column, measured in fairness.items()
        for one in measured
    ]
    if rows:
        print_table("Guardrails", ("guardrail", "figure", "value"), rows)


def _held_out_dates(version: ModelVersion) -> str:
    held_out = version.metrics["held_out"]
    return f"{held_out['first']} to {held_out['last']}"
