"""`nightscore experiments`: every fit that was measured, with its settings, data, code and author; and how two differ.

Added here: a command that reads the record of trainings. Not here: tuning (`tune.py`), or versions (`models.py`).
"""

from collections.abc import Callable, Mapping, Sequence
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from orchestration.cli.output import JSON_OPTION, print_json, print_table

if TYPE_CHECKING:
    from nightscore.catalog.experiments import TrainingRun

app = typer.Typer(help="Measured fits: trainings, trials, runs of ci.", no_args_is_help=True)
AsJson = Annotated[bool, JSON_OPTION]


class Kind(StrEnum):
    """What a fit was for."""

    TRAIN = "train"
    TRIAL = "trial"
    CI = "ci"


@app.command("list")
def list_experiments(
    pipeline: Annotated[str | None, typer.Argument(help="One pipeline; all when absent.")] = None,
    kind: Annotated[Kind | None, typer.Option(help="Only fits for this.")] = None,
    study: Annotated[int | None, typer.Option(help="Only the trials of this study, by number.")] = None,
    as_json: AsJson = False,
) -> None:
    """The newest hundred fits, newest first, or every trial of a study."""
    from nightscore.settings import Settings
    from orchestration.cli.specs import require_pipeline_name

    if pipeline is not None:
        require_pipeline_name(Settings(), pipeline)
    runs = _find(pipeline, kind, study)
    if as_json:
        print_json([vars(one) for one in runs])
        return
    rows = [
        (str(one.training_run_id), one.pipeline, one.kind, _subject(one), one.status, one.algorithm, _headline(one),
         f"{one.seconds:.1f}", str(one.as_of), one.created_by, f"{one.at:%Y-%m-%d %H:%M}Z")
        for one in runs
    ]  # fmt: skip
    columns = ("id", "pipeline", "kind", "of", "status", "algorithm", "loss", "seconds", "for night", "by", "at")
    print_table("Experiments", columns, rows)


def _find(pipeline: str | None, kind: Kind | None, study: int | None) -> list["TrainingRun"]:
    from nightscore.catalog.experiments import list_training_runs, runs_of_study
    from nightscore.lake.workspace import open_workspace
    from nightscore.registry.studies import require_study
    from nightscore.settings import Settings

    with open_workspace(Settings()).engine.connect() as connection:
        if study is None:
            return list_training_runs(connection, pipeline, kind)
        require_study(connection, study)
        return [
            one for one in runs_of_study(connection, study)
            if pipeline in (None, one.pipeline) and kind in (None, one.kind)
        ]  # fmt: skip


@app.command("studies")
def list_studies(
    pipeline: Annotated[str | None, typer.Argument(help="One pipeline; all when absent.")] = None,
    as_json: AsJson = False,
) -> None:
    """The newest hundred searches of `nightscore tune`, newest first, with the budget each was opened with."""
    from nightscore.catalog import experiments
    from nightscore.lake.workspace import open_workspace
    from nightscore.settings import Settings
    from orchestration.cli.specs import require_pipeline_name

    settings = Settings()
    if pipeline is not None:
        require_pipeline_name(settings, pipeline)
    with open_workspace(settings).engine.connect() as connection:
        found = experiments.list_studies(connection, pipeline)
    if as_json:
        print_json([vars(one) for one in found])
        return
    rows = [
        (str(one.study_id), one.pipeline, str(one.as_of), one.trials, one.minutes, one.created_by,
         f"{one.created_at:%Y-%m-%d %H:%M}Z")
        for one in found
    ]  # fmt: skip
    print_table("Studies", ("id", "pipeline", "for night", "trials", "minutes", "by", "at"), rows)


@app.command("show")
def show_experiment(
    number: Annotated[int, typer.Argument(metavar="ID", help="As `nightscore experiments list` shows it.")],
    as_json: AsJson = False,
) -> None:
    """One fit: who, when, on which data and code, its settings and its figures."""
    (found,) = _require([number])
    if as_json:
        print_json(vars(found))
        return
    print_table(f"{found.pipeline}: {found.kind} {_subject(found)}", ("fact", "value"), list(_facts(found).items()))
    print_table("Settings", ("setting", "value"), [(name, str(one)) for name, one in flatten(found.parameters).items()])
    print_table("Figures", ("figure", "value"), list(_figures(found).items()))


@app.command("compare")
def compare_experiments(
    numbers: Annotated[list[int], typer.Argument(metavar="ID ID...", help="Two fits or more.")], as_json: AsJson = False
) -> None:
    """Fits beside each other: the settings that differ, every figure, and whether data and code are the same."""
    from nightscore.errors import SpecError

    if len(set(numbers)) < 2:
        raise SpecError("Comparing experiments", f"only {numbers[0]} was named", "name two of them or more")
    runs = _require(numbers)
    compared = compare(runs)
    if as_json:
        print_json(compared)
        return
    names = [str(one.training_run_id) for one in runs]
    for title, rows in compared.items():
        shown = [(name, *row["values"], row["equal"]) for name, row in rows.items()]
        print_table(title.capitalize(), (title, *names, "equal"), shown)


def compare(runs: Sequence["TrainingRun"]) -> dict[str, dict[str, Any]]:
    """`facts`, `settings` (only those that differ) and `figures`: name → the value in each run, and whether equal."""
    settings = _beside(runs, lambda one: {name: str(value) for name, value in flatten(one.parameters).items()})
    return {
        "facts": _beside(runs, _facts),
        "settings": {name: row for name, row in settings.items() if not row["equal"]},
        "figures": _beside(runs, _figures),
    }


def _beside(runs: Sequence["TrainingRun"], read: Callable[["TrainingRun"], Mapping[str, Any]]) -> dict[str, Any]:
    read_runs = [read(one) for one in runs]
    names = dict.fromkeys(name for one in read_runs for name in one)
    values = {name: [one.get(name) for one in read_runs] for name in names}
    return {name: {"values": found, "equal": all(one == found[0] for one in found)} for name, found in values.items()}


def flatten(document: Mapping[str, Any], above: str = "") -> dict[str, Any]:
    """The leaves of nested objects by their path: {"a": {"b": 1}} → {"a/b": 1}; lists are leaves."""
    leaves: dict[str, Any] = {}
    for name, value in document.items():
        path = f"{above}{name}"
        leaves |= flatten(value, f"{path}/") if isinstance(value, Mapping) else {path: value}
    return leaves


def _require(numbers: Sequence[int]) -> list["TrainingRun"]:
    from nightscore.catalog.experiments import find_run
    from nightscore.errors import SpecError
    from nightscore.lake.workspace import open_workspace
    from nightscore.settings import Settings

    with open_workspace(Settings()).engine.connect() as connection:
        found = {number: find_run(connection, number) for number in numbers}
    if missing := [f"there is no experiment {number}" for number, one in found.items() if one is None]:
        raise SpecError("Finding experiments", missing, "see `nightscore experiments list`")
    return [one for one in found.values() if one is not None]


def _facts(run: "TrainingRun") -> dict[str, str]:
    provenance = run.provenance
    return {
        "pipeline": run.pipeline, "kind": run.kind, "of": _subject(run), "status": run.status,
        "algorithm": run.algorithm, "for night": str(run.as_of), "data": run.snapshot_md5, "code": run.code_sha256,
        "commit": str(provenance.get("commit")), "dirty": str(provenance.get("dirty")),
        "packages": str(provenance.get("lock_sha256")), "seconds": f"{run.seconds:.2f}", "by": run.created_by,
        "at": f"{run.at:%Y-%m-%d %H:%M}Z", "run": run.run_id,
    }  # fmt: skip


def _figures(run: "TrainingRun") -> dict[str, Any]:
    return {
        name: value for name, value in flatten(run.metrics).items()
        if isinstance(value, int | float) and not isinstance(value, bool)
    }  # fmt: skip


def _subject(run: "TrainingRun") -> str:
    if run.version is not None:
        return f"{run.pipeline}@{run.version}"
    return "" if run.study_id is None else f"study {run.study_id} trial {run.number}"


def _headline(run: "TrainingRun") -> str:
    """A trial's loss, else the trained algorithm's log loss or squared error; nothing when there is neither."""
    figures = run.metrics if run.kind == Kind.TRIAL else run.metrics.get(run.algorithm, {})
    rmse, loss = figures.get("rmse"), figures.get("loss", figures.get("log_loss"))
    shown = loss if rmse is None else rmse**2
    return "" if shown is None else f"{shown:.6g}"
