"""The report of `nightscore ci`: what each stage did, what was compared with what, the verdict; as Markdown or JSON.

Pure: what happened in, text and exit code out. Added here: another fact of a run of ci. Not here: running one.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import date
from typing import Any, Literal

from nightscore.catalog.models import ModelVersion
from nightscore.registry.candidate import Candidate, Judged
from nightscore.training.worth import worth_line

WORSE, NOT_ENOUGH_EVIDENCE = 7, 8
"""Exit codes of verdicts; broken stages keep those of the error tree."""
_CODES = {"better": 0, "not_worse": 0, "worse": WORSE, "held_back": WORSE, "not_enough_evidence": NOT_ENOUGH_EVIDENCE}
_NOT_LOOKED_FOR = "Leaks were not looked for: how much better than a baseline a model is says nothing of one."
_MOST_SEGMENTS = 12
_BOUNDS = ("gain", "lower", "upper")
_PAIRED = ("challenger_loss", *_BOUNDS, "sd_daily", "detectable", "dates", "rows")


@dataclass(frozen=True)
class Stage:
    """One stage of a run: what it did in a sentence, or the whole message of what broke it."""

    name: str
    result: Literal["passed", "broken", "skipped"]
    seconds: float
    said: str


@dataclass(frozen=True)
class CiRun:
    """What became of one pipeline; `broken` is the exit code of the error that ended it, 0 when none did."""

    pipeline: str
    stages: tuple[Stage, ...]
    broken: int = 0
    candidate: Candidate | None = None
    judged: Judged | None = None

    @property
    def outcome(self) -> str:
        """The verdict in a word, or `broken`."""
        return "broken" if self.broken or self.judged is None else self.judged.verdict.outcome

    @property
    def exit_code(self) -> int:
        """0 better or not worse, 7 worse or held back, 8 not enough evidence, else that of the error."""
        return self.broken if self.broken or self.judged is None else _CODES[self.judged.verdict.outcome]

    def as_json(self) -> dict[str, Any]:
        """The whole run; `verdict`, `against` and `metrics` are null where it did not get so far."""
        judged, candidate = self.judged, self.candidate
        return {
            "pipeline": self.pipeline, "outcome": self.outcome, "exit_code": self.exit_code,
            "stages": [asdict(stage) for stage in self.stages],
            "as_of": None if candidate is None else str(candidate.as_of),
            "against": None if judged is None else {
                "name": judged.opponent.said, "is_champion": judged.opponent.version is not None,
                "why": judged.opponent.why,
            },
            "verdict": None if judged is None else judged.verdict.as_json() | {"reasons": judged.reasons},
            "metrics": None if candidate is None else candidate.trained.metrics,
            "training": None if candidate is None else candidate.pipeline.training.model_dump(mode="json"),
        }  # fmt: skip


def exit_code_of(runs: Iterable[CiRun]) -> int:
    """Of several pipelines: the first that is broken, else worse, else not enough evidence, else 0."""
    codes = [run.exit_code for run in runs]
    broken = [run.broken for run in runs if run.broken]
    return broken[0] if broken else next((code for code in (WORSE, NOT_ENOUGH_EVIDENCE) if code in codes), 0)


def render_markdown(runs: Sequence[CiRun]) -> str:
    """One section a pipeline, each with the same headings; ends with a newline."""
    return "\n\n".join("\n\n".join(_section(run)) for run in runs) + "\n"


def _section(run: CiRun) -> Iterator[str]:
    yield f"# ci of {run.pipeline}: {run.outcome.replace('_', ' ')} (exit code {run.exit_code})"
    rows = [(one.name, one.result, f"{one.seconds:.1f}", one.said.splitlines()[0]) for one in run.stages]
    yield _table(("stage", "result", "seconds", "what"), rows)
    for stage in run.stages:
        if stage.result == "broken":
            yield f"## What broke {stage.name}\n\n```text\n{stage.said}\n```"
    if run.candidate is not None and run.judged is not None:
        yield from _verdict(run.candidate, run.judged)
        yield from _evidence(run.judged)
        yield from _metrics(run.candidate)


def _verdict(candidate: Candidate, judged: Judged) -> Iterator[str]:
    yield f"## What was compared\n\n{_comparison(candidate, judged)}"
    lines = [*judged.reasons, *(f"warning: {one}" for one in judged.verdict.evidence["warnings"])]
    yield f"## Verdict: {judged.verdict.outcome.replace('_', ' ')}\n\n" + "\n".join(f"- {line}" for line in lines)


def _comparison(candidate: Candidate, judged: Judged) -> str:
    opponent, evidence, metrics = judged.opponent, judged.verdict.evidence, candidate.trained.metrics
    rule = "a refresh of its recipe must not be worse" if opponent.is_refresh else "a new recipe must be better"
    fit = metrics["fit"]
    lines = [
        f"The candidate ({metrics['algorithm']}, learnt from {fit['dates']} dates, {fit['first']} to {fit['last']}, "
        f"{fit['rows']:,} rows) against **{opponent.said}** on {_span(evidence['dates'])}: {rule}."
    ]
    if opponent.version is not None:
        lines.append(_advantage(opponent.version, candidate))
    else:
        lines.append(f"A baseline stands in for the champion: {opponent.why}. {_NOT_LOOKED_FOR}")
    if evidence["rows_left_out"]:
        lines.append(f"{evidence['rows_left_out']:,} rows had no score of both.")
    left_out = [f"- not compared: {night}, {why}" for night, why in evidence["left_out"].items()]
    return "\n".join([" ".join(lines), *([""] if left_out else []), *left_out])


def _advantage(champion: ModelVersion, candidate: Candidate) -> str:
    """Of which nights the champion and the candidate know, and how to let the candidate know of as many."""
    last, first = (date.fromisoformat(champion.metrics["all"][name]) for name in ("last", "first"))
    days = (last - first).days + max(1, candidate.pipeline.label.horizon_days)
    window = candidate.pipeline.training.window_days
    said = f"{champion.name} has a window of {days} nights, the candidate one of {window}."
    return f"{said} What it loses may come of that alone: try `--days {days}`." if days > window else said


def _span(dates: Sequence[str]) -> str:
    return f"{len(dates)} held-out dates, {dates[0]} to {dates[-1]}" if dates else "no date"


def _evidence(judged: Judged) -> Iterator[str]:
    evidence = judged.verdict.evidence
    if evidence["paired"] is None:
        return
    stands_in = judged.opponent.version is None
    paired = evidence["paired"] | ({"baseline_loss": evidence["paired"]["champion_loss"]} if stands_in else {})
    names = ("baseline_loss" if stands_in else "champion_loss", *_PAIRED)
    rows = [(name.replace("_", " "), _figure(paired[name])) for name in names]
    table = _table((f"{evidence['metric']} against {judged.opponent.said}", "value"), rows)
    yield f"## Evidence\n\n{table}" + (f"\n\nPower: {evidence['power']}." if evidence["power"] else "")
    yield "## Guardrails\n\n" + _table(("guardrail", "figures"), list(_guardrails(evidence, stands_in)))
    if evidence["segments"]:
        yield _table(("segment", "rows", "gain", "lower", "upper"), _segments(evidence["segments"]))


def _guardrails(evidence: Mapping[str, Any], stands_in: bool) -> Iterator[tuple[str, str]]:
    for name, figures in evidence["guardrails"].items():
        told = _inline(figures).replace("champion", "baseline" if stands_in else "champion")
        yield name, "not looked for" if stands_in and name == "leaks" else told or "nothing to judge"
    yield "score PSI", _figure(evidence["score_psi"])


def _inline(figures: Mapping[str, Any] | None) -> str:
    leaves = {name: value for name, value in (figures or {}).items() if not isinstance(value, list | dict)}
    lists = {name: value for name, value in (figures or {}).items() if isinstance(value, list) and value}
    told = [f"{name.replace('_', ' ')} {_figure(value)}" for name, value in leaves.items()]
    return "; ".join([*told, *(f"{name}: {', '.join(map(_item, value))}" for name, value in lists.items())])


def _item(value: Mapping[str, Any]) -> str:
    """A suspected feature, or a disparity between levels."""
    return str(value["feature"]) if "feature" in value else f"{value['measure']} {_figure(value['value'])}"


def _segments(table: Sequence[Mapping[str, Any]]) -> list[tuple[str, ...]]:
    """The worst levels first."""
    worst = sorted(table, key=lambda row: float("inf") if row["gain"] is None else row["gain"])[:_MOST_SEGMENTS]
    return [
        (f"{row['column']} = {row['level']}", f"{row['rows']:,}", *(_figure(row[name]) for name in _BOUNDS))
        for row in worst
    ]


def _metrics(candidate: Candidate) -> Iterator[str]:
    metrics = candidate.trained.metrics
    measured = {name: figures["overall"] for name, figures in metrics["algorithms"].items()}
    names = list(next(iter(measured.values())))
    rows = [(name, *(_figure(figures[metric]) for metric in names)) for name, figures in measured.items()]
    held_out = metrics["held_out"]
    span = f"{held_out['dates']} held-out dates, {held_out['rows']:,} rows"
    yield f"## Metrics on {span}\n\n" + _table(("algorithm", *names), rows)
    yield f"## Is it worth a model?\n\n{worth_line(metrics)}"


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join(f"| {' | '.join(_cell(value) for value in line)} |" for line in lines)


def _cell(value: str) -> str:
    return value.replace("|", "\\|").replace("\n", " ")


def _figure(value: Any) -> str:
    if value is None:
        return "unknown"
    return f"{value:,.5g}" if isinstance(value, float) else str(value)
