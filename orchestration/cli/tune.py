"""`nightscore tune`: search for better settings within a budget, and say what to write into the spec.

Added here: how a study is shown. Not here: the search (`nightscore/training/tuning.py`), or studies of the past
(`experiments.py`).
"""

import sys
from datetime import date, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from orchestration.cli.output import JSON_OPTION, print_json, print_table, stdout

if TYPE_CHECKING:
    from nightscore.registry.studies import StudyOutcome
    from orchestration.cli.launch import Launched
    from orchestration.cli.night_runs import Session


def tune(
    pipeline: Annotated[str, typer.Argument(help="Name of a pipeline, as in pipelines/<name>.yaml.")],
    as_of: Annotated[
        datetime | None, typer.Option(formats=["%Y-%m-%d"], help="The night to tune for; default: the next night.")
    ] = None,
    trials: Annotated[int | None, typer.Option(min=1, max=1000, help="Trials in all, instead of the spec's.")] = None,
    minutes: Annotated[float | None, typer.Option(min=0.01, help="Minutes in all, instead of the spec's.")] = None,
    as_json: Annotated[bool, JSON_OPTION] = False,
) -> None:
    """Measure other settings on past dates, each on dates after those that it was fitted on.

    Stopped in any way, the same command goes on; finished trials are not measured again. Nothing is edited: the best
    settings are printed as they would stand in the spec.
    """
    from orchestration.cli.night_runs import open_session

    session = open_session(pipeline)
    study_id = _run(session, as_of.date() if as_of else None, {"trials": trials, "minutes": minutes})
    outcome = _read(session, study_id)
    if as_json:
        print_json(as_document(outcome))
    else:
        print_study(outcome)


def _run(session: "Session", as_of: date | None, budget: dict[str, Any]) -> int:
    """History first, then the study; its id, or an exit when a run fails."""
    from nightscore.training.tuning import require_tuning
    from orchestration.cli.night_runs import next_night, prepare_history, require_score_dates

    require_tuning(session.pipeline)
    chosen = as_of or next_night(session.workspace, session.pipeline)
    require_score_dates(session.pipeline, chosen, chosen)
    launched = prepare_history(session, chosen)
    if all(one.success for one in launched):
        launched.append(launch(session, {"as_of": chosen.isoformat(), **budget}))
    if not launched[-1].success:
        sys.stderr.write(f"{launched[-1].message}\n")
        raise SystemExit(launched[-1].exit_code)
    return study_of(session, launched[-1].run_id)


def launch(session: "Session", settings: dict[str, Any]) -> "Launched":
    """Run the tuning job with these settings, those that are None left out, as the user of this process."""
    from getpass import getuser

    from orchestration.cli.launch import run_job
    from orchestration.run_tags import USER_TAG

    name = session.pipeline.name
    given = {key: value for key, value in settings.items() if value is not None}
    config = {"ops": {f"{name}__tuning": {"config": given}}}
    return run_job(session.definitions, session.instance, f"{name}_tune", {USER_TAG: getuser()}, config)


def study_of(session: "Session", run_id: str) -> int:
    """The study that a run has run, as its materialisation says."""
    import dagster as dg

    from assets.tuning import STUDY

    made = dg.DagsterEventType.ASSET_MATERIALIZATION
    (record,) = session.instance.get_records_for_run(run_id, of_type=made).records
    found = record.asset_materialization
    assert found is not None
    return int(str(found.metadata[STUDY].value))


def _read(session: "Session", study_id: int) -> "StudyOutcome":
    from nightscore.registry.studies import read_study

    with session.workspace.engine.connect() as connection:
        return read_study(connection, study_id)


def as_document(outcome: "StudyOutcome") -> dict[str, Any]:
    """A study for JSON: its facts, the trials best first, and the choice."""
    choice = outcome.choice
    trials = [
        {"number": one.number, "status": one.status, "settings": dict(one.settings), "seconds": one.seconds,
         **one.as_metrics()}
        for one in outcome.ranking
    ]  # fmt: skip
    chosen = {"trial": choice.trial.number, "keeps_spec": choice.keeps_incumbent, "reason": choice.reason}
    return {"study": vars(outcome.study), "trials": trials, "choice": chosen | {"settings": choice.trial.settings}}


def print_study(outcome: "StudyOutcome") -> None:
    """The trials of a study, best first, and what to write into the spec."""
    study, choice = outcome.study, outcome.choice
    rows = [
        (one.number, one.status, len(one.folds), _figure(one.loss), _figure(one.standard_error),
         *(str(one.settings[name]) for name in outcome.varied), f"{one.seconds:.1f}")
        for one in outcome.ranking
    ]  # fmt: skip
    title = f"Study {study.study_id} of {study.pipeline} for {study.as_of}: {len(rows)} trials, best first"
    print_table(title, ("trial", "status", "folds", "loss", "error", *outcome.varied, "seconds"), rows)
    console = stdout()
    for one in outcome.ranking:
        if one.status == "failed":
            console.print(f"Trial {one.number} failed: {one.reason}")
    console.print(f"{choice.reason[0].upper()}{choice.reason[1:]}.", style="bold")
    if choice.keeps_incumbent:
        return
    console.print(f"To use it, replace `algorithm` under `training:` in pipelines/{study.pipeline}.yaml, by review:")
    sys.stdout.write(f"\n{outcome.block}\n")


def _figure(value: float | None) -> str:
    """Six digits: trials of a good search differ in the fourth."""
    return "" if value is None else f"{value:.6g}"
