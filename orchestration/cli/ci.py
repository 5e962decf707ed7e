"""`nightscore ci`: would this checkout's spec, SQL and code make a model that may replace the champion?

Added here: a stage. Not here: what a stage finds (`nightscore/registry/candidate.py`) or how it is told
(`nightscore/reports/ci.py`).
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import date, datetime
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Annotated

import typer

from nightscore.errors import ContractViolation, NightscoreError, Permanent, SpecError, Transient
from nightscore.settings import Settings
from orchestration.cli.output import JSON_OPTION, print_json

if TYPE_CHECKING:
    from nightscore.registry.candidate import Candidate, Judged
    from nightscore.reports.ci import CiRun, Stage
    from nightscore.spec.pipeline import Pipeline
    from orchestration.cli.night_runs import Session

STAGES = ("validate", "compile", "data", "train", "gate")
_ERRORS: dict[int, type[NightscoreError]] = {2: Permanent, 3: ContractViolation, 4: Transient}


def ci(
    pipeline: Annotated[str | None, typer.Argument(help="One pipeline; all when absent.")] = None,
    as_of: Annotated[
        datetime | None,
        typer.Option(formats=["%Y-%m-%d"], help="The night to train for; default: by the newest labels of the lake."),
    ] = None,
    days: Annotated[
        int | None,
        typer.Option(min=2, help="Nights of the window; default: the spec's against a champion, else fewer."),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Write the report to this file too, as Markdown.")] = None,
    as_json: Annotated[bool, JSON_OPTION] = False,
) -> None:
    """Validate, compile, train on a small window, and let the gate judge; nothing is registered, moved or published.

    Exit codes: 0 better or not worse than the champion; 7 worse, or held back by a guardrail; 8 not enough evidence;
    2, 3 or 4 broken, as everywhere. Without a champion the best baseline of the spec stands in.
    """
    from nightscore.reports.ci import exit_code_of, render_markdown
    from nightscore.reports.files import write_report

    names = [pipeline] if pipeline else _pipelines(Settings())
    runs = [run_ci(name, as_of.date() if as_of else None, days) for name in names]
    text = render_markdown(runs)
    if out is not None:
        write_report(out, text)
    if as_json:
        print_json([run.as_json() for run in runs])
    else:
        sys.stdout.write(text)
    raise SystemExit(exit_code_of(runs))


def _pipelines(settings: Settings) -> list[str]:
    """Every spec by name; one with another suffix too, so that it is found to be misplaced."""
    names = sorted({path.stem for path in settings.pipelines_path.glob("*.y*ml")})
    if not names:
        raise SpecError("Reading the specs", f"there is none in {settings.pipelines_path}", "write one, or give a name")
    return names


def run_ci(name: str, as_of: date | None, days: int | None) -> "CiRun":
    """Every stage for one pipeline; those after a broken one are skipped."""
    from nightscore.reports.ci import CiRun

    log = StageLog()
    try:
        candidate, judged = _run_stages(log, name, as_of, days)
    except NightscoreError as error:
        sys.stderr.write(f"{error}\n")
        return CiRun(name, (*log.stages, *log.skipped()), error.exit_code)
    return CiRun(name, tuple(log.stages), 0, candidate, judged)


@dataclass
class StageLog:
    """The stages so far; `said` is what the running one tells."""

    stages: list["Stage"] = field(default_factory=list)
    said: str = ""

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Time a stage and keep what came of it; an error goes on."""
        from nightscore.reports.ci import Stage

        begun = perf_counter()
        try:
            yield
        except NightscoreError as error:
            self.stages.append(Stage(name, "broken", perf_counter() - begun, str(error)))
            raise
        self.stages.append(Stage(name, "passed", perf_counter() - begun, self.said))

    def skipped(self) -> list["Stage"]:
        """The stages that were not reached."""
        from nightscore.reports.ci import Stage

        return [Stage(name, "skipped", 0.0, "not reached") for name in STAGES[len(self.stages) :]]


def _run_stages(log: StageLog, name: str, as_of: date | None, days: int | None) -> "tuple[Candidate, Judged]":
    from nightscore.registry.candidate import judge_candidate, train_candidate

    settings = Settings()
    with log.stage("validate"):
        pipeline = _validate(settings, name)
        log.said = f"{len(pipeline.sources)} sources, {len(pipeline.features.columns)} features, {pipeline.task}"
    with log.stage("compile"):
        log.said = _compile(settings, pipeline)
    with log.stage("data"):
        session, night, run_id = _prepare(name, as_of, days)
        window = session.pipeline.training.window_days
        log.said = f"{window} nights before {night} are in the lake"
    with log.stage("train"):
        candidate = train_candidate(session.workspace, session.pipeline, night, run_id)
        log.said = f"{candidate.pipeline.training.algorithm.type} on {candidate.frame.height:,} rows; not registered"
    with log.stage("gate"):
        judged = judge_candidate(session.workspace, pipeline, candidate)
        log.said = f"{judged.verdict.outcome.replace('_', ' ')}, compared with {judged.opponent.said}"
    return candidate, judged


def _validate(settings: Settings, name: str) -> "Pipeline":
    """The spec and its business rules; what the lint says of the SQL follows once that is known to compile."""
    from nightscore.scoring.decide import check_decision
    from nightscore.spec.loader import find_dbt_models, load_spec
    from orchestration.cli.specs import require_pipeline_name

    if not list(settings.pipelines_path.glob(f"{name}.yml")):
        require_pipeline_name(settings, name)
    pipeline = load_spec(settings.pipelines_path / f"{name}.yaml", find_dbt_models(settings.dbt_path, name))
    check_decision(pipeline)
    return pipeline


def _compile(settings: Settings, pipeline: "Pipeline") -> str:
    """Models, contracts, unit tests, and the lint for results that may differ from run to run."""
    from nightscore.features.determinism import require_determined
    from nightscore.registry.candidate import compile_sql

    ran = compile_sql(settings, pipeline)
    require_determined(settings, pipeline)
    tests = sum(node.kind == "unit_test" for node in ran)
    return f"{sum(node.kind == 'model' for node in ran)} models, {tests} unit tests"


def _prepare(name: str, as_of: date | None, days: int | None) -> "tuple[Session, date, str]":
    """A session whose pipeline has the small window, its nights in the lake; the night, and the run that made sure."""
    from nightscore.registry.candidate import find_champion, newest_labelled, shrink
    from orchestration.cli.night_runs import next_night, open_session, prepare_history

    session = open_session(name)
    workspace, pipeline = session.workspace, session.pipeline
    night = as_of or newest_labelled(workspace, pipeline) or next_night(workspace, pipeline)
    _require_night(pipeline, night)
    # Against a champion, a candidate that learnt from less would lose by that alone.
    whole = find_champion(workspace, pipeline) is not None
    small = replace(session, pipeline=shrink(pipeline, night, days, whole))
    *_, last = prepare_history(small, night)
    if not last.success:
        kind = _ERRORS.get(last.exit_code, NightscoreError)
        remedy = "see above; `nightscore run` of that night meets the same"
        raise kind(f"Preparing the nights before {night}", last.message, remedy)
    return small, night, last.run_id


def _require_night(pipeline: "Pipeline", night: date) -> None:
    """Unlike a night to score, it needs no full training window behind it."""
    dates = pipeline.score_dates
    if night <= dates.start or (dates.end is not None and night > dates.end):
        found = f"{night} is not within the score dates {dates.start} to {dates.end or 'today'}"
        raise SpecError(f"Choosing the night of {pipeline.name}", found, "give --as-of a night after the first one")
