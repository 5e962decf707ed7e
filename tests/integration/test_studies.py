"""Studies in the catalog: stopped by anything, they go on; every trial and training says what it was made of."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from getpass import getuser
from itertools import count
from typing import Any

import dagster as dg
import pytest
import sqlalchemy as sa

from assets.tuning import build_tuning
from jobs.tuning import build_tuning_job
from nightscore.catalog.experiments import (
    TrainingRun,
    find_or_open_study,
    find_run,
    list_studies,
    list_training_runs,
    record_training_run,
    runs_of_study,
)
from nightscore.catalog.postgres import Server
from nightscore.errors import NotEnoughData, SpecError
from nightscore.lake.fingerprints import code_hash
from nightscore.lake.workspace import Workspace
from nightscore.registry.register import train_version
from nightscore.registry.studies import StudyOutcome, read_study, record_version_run, run_study, with_budget
from nightscore.spec.pipeline import Pipeline
from nightscore.spec.tuning import Tuning
from nightscore.spec.windows import nights_between
from orchestration.cli.experiments import compare
from orchestration.cli.night_runs import Session
from orchestration.cli.tune import as_document, launch, print_study, study_of
from orchestration.resources import Engine
from tests.integration.night_chain import NOW, fresh_database, night_after, opened_shop, prepare, visits_of_shop
from tests.shop import FIRST, FIRST_NIGHT

pytestmark = pytest.mark.timeout(120)

TRIALS = 6
SPACE = {"leaves": {"low": 2, "high": 31}, "learning_rate": {"low": 0.0001, "high": 0.9, "log": True}}
SECTION = {"trials": TRIALS, "minutes": 10, "folds": 2, "fold_days": 1, "space": SPACE}
KILLED_IN_THE_MIDDLE = """
import sys
from nightscore.lake.workspace import open_workspace
from nightscore.registry.studies import run_study
from nightscore.settings import Settings
from tests.integration.night_chain import visits_of_shop
from tests.integration.test_studies import FIRST_NIGHT, tuned

def report(line):
    print(line, flush=True)
    if ": trial 2 " in line:
        sys.stdin.read()

workspace = open_workspace(Settings())
run_study(workspace, tuned(visits_of_shop(workspace)), FIRST_NIGHT, "ann", "killed", report)
"""


def tuned(pipeline: Pipeline, **settings: Any) -> Pipeline:
    """The pipeline with a tuning section."""
    tuning = Tuning.model_validate({**SECTION, **settings})
    return pipeline.model_copy(update={"training": pipeline.training.model_copy(update={"tuning": tuning})})


@pytest.fixture(scope="module")
def database(server: Server) -> Iterator[str]:
    with fresh_database(server) as name:
        yield name


@pytest.fixture(scope="module")
def workspace(server: Server, database: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workspace]:
    """One shop for the module, with the history of its first night."""
    with opened_shop(server, database, tmp_path_factory.mktemp("studies")) as opened:
        prepare(opened, visits_of_shop(opened), nights_between(FIRST, night_after(FIRST_NIGHT)), "history")
        yield opened


@pytest.fixture
def pipeline(workspace: Workspace) -> Iterator[Pipeline]:
    """The shop's pipeline with a tuning section, and no study yet."""
    yield tuned(visits_of_shop(workspace))
    forget(workspace)


def run(workspace: Workspace, pipeline: Pipeline, **more: Any) -> StudyOutcome:
    arguments = {"as_of": FIRST_NIGHT, "actor": "ann", "run_id": "whole", "report": lambda line: None}
    return run_study(workspace, pipeline, **(arguments | more))


def facts(outcome: StudyOutcome) -> list[Any]:
    """What must be the same to the last bit: everything but seconds."""
    return [replace(one, seconds=0.0) for one in outcome.results]


def stored(workspace: Workspace, study_id: int) -> list[TrainingRun]:
    with workspace.engine.connect() as connection:
        return runs_of_study(connection, study_id)


def forget(workspace: Workspace) -> None:
    with workspace.engine.begin() as connection:
        connection.execute(sa.text("truncate nightscore.training_run, nightscore.study"))


def test_a_study_measures_its_trials_and_keeps_what_each_was_made_of(workspace: Workspace, pipeline: Pipeline) -> None:
    said: list[str] = []
    outcome = run(workspace, pipeline, report=said.append)
    assert (outcome.measured, [one.number for one in outcome.results]) == (TRIALS, list(range(TRIALS)))
    assert (outcome.study.created_by, outcome.study.created_at, outcome.study.trials) == ("ann", NOW, TRIALS)
    assert len(said) == TRIALS + 1
    training_set = workspace.lake.current("visits.training_set", FIRST_NIGHT, FIRST_NIGHT)[FIRST_NIGHT]
    first = stored(workspace, outcome.study.study_id or 0)[0]
    assert replace(first, training_run_id=None, provenance={}, seconds=0.0) == TrainingRun(
        "visits", "trial", outcome.study.study_id, 0, FIRST_NIGHT, None, "done", "lightgbm",
        pipeline.training.algorithm.model_dump(mode="json"), training_set.md5, outcome.results[0].as_metrics(), 0.0,
        code_hash(), {}, "ann", "whole", NOW,
    )  # fmt: skip
    assert set(first.provenance) >= {"commit", "dirty", "sources_sha256", "lock_sha256"}


def test_trials_are_measured_on_dates_before_those_that_are_held_out(workspace: Workspace, pipeline: Pipeline) -> None:
    outcome = run(workspace, with_budget(pipeline, 1, None))
    # Dates 2 to 8 March have rows; the last two are held out.
    assert [str(day.score_date) for day in outcome.results[0].days] == ["2024-03-05", "2024-03-06"]


def test_a_finished_study_is_not_run_again(workspace: Workspace, pipeline: Pipeline) -> None:
    outcome, again = run(workspace, pipeline), run(workspace, pipeline, run_id="again", actor="bob")
    assert (again.measured, again.study, again.results) == (0, outcome.study, outcome.results)
    assert {one.run_id for one in stored(workspace, outcome.study.study_id or 0)} == {"whole"}


def test_a_killed_study_goes_on_and_comes_to_the_same(
    server: Server, database: str, workspace: Workspace, pipeline: Pipeline
) -> None:
    whole = run(workspace, pipeline)
    forget(workspace)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("NIGHTSCORE_")}
    environment |= {
        "NIGHTSCORE_ROOT": str(workspace.settings.root), "NIGHTSCORE_HOME": str(workspace.settings.home_path),
        "NIGHTSCORE_DATABASE_URL": server.url(database, driver="postgresql"), "PYTHONPATH": os.pathsep.join(sys.path),
    }  # fmt: skip
    pipe = subprocess.PIPE
    with subprocess.Popen(
        [sys.executable, "-c", KILLED_IN_THE_MIDDLE], env=environment, stdin=pipe, stdout=pipe, text=True
    ) as process:
        assert process.stdout is not None
        seen = next((line for line in process.stdout if ": trial 2 " in line), "")
        process.kill()
    assert (": trial 2 " in seen, process.returncode) == (True, -signal.SIGKILL)
    resumed = run(workspace, pipeline, run_id="resumed")
    assert (resumed.measured, facts(resumed)) == (TRIALS - 3, facts(whole))
    runs = stored(workspace, resumed.study.study_id or 0)
    assert [one.run_id for one in runs] == ["killed"] * 3 + ["resumed"] * 3


def test_a_trial_that_was_interrupted_leaves_nothing(workspace: Workspace, pipeline: Pipeline) -> None:
    whole = run(workspace, pipeline)
    forget(workspace)
    ticks = iter(range(5))

    def clock() -> float:
        if (at := next(ticks, None)) is None:
            raise KeyboardInterrupt
        return float(at)

    with pytest.raises(KeyboardInterrupt):
        run(workspace, pipeline, clock=clock)
    (study,) = studies(workspace)
    assert [one.number for one in stored(workspace, study.study_id or 0)] == [0]
    assert facts(run(workspace, pipeline)) == facts(whole)


def studies(workspace: Workspace) -> list[Any]:
    with workspace.engine.connect() as connection:
        return list_studies(connection, "visits")


def test_two_processes_at_one_study_store_each_trial_once(workspace: Workspace, pipeline: Pipeline) -> None:
    """The second one runs whole in the middle of the first, between two of its trials."""
    inner: list[StudyOutcome] = []

    def report(line: str) -> None:
        if ": trial 2 " in line:
            inner.append(run(workspace, pipeline, run_id="inner"))

    outer = run(workspace, pipeline, run_id="outer", report=report)
    assert outer.results == inner[0].results
    runs = stored(workspace, outer.study.study_id or 0)
    assert [one.run_id for one in runs] == ["outer"] * 3 + ["inner"] * 3


def test_a_larger_budget_goes_on_with_the_same_study(workspace: Workspace, pipeline: Pipeline) -> None:
    small = run(workspace, with_budget(pipeline, 2, None))
    large = run(workspace, with_budget(pipeline, 4, 20))
    assert (small.measured, large.measured, large.study) == (2, 2, small.study)
    assert large.results[:2] == small.results


def test_minutes_that_trials_have_cost_before_count(workspace: Workspace, pipeline: Pipeline) -> None:
    """Each look at the clock takes ten seconds, so a trial costs ten of them and a look at the budget ten more."""
    spent = run(workspace, with_budget(pipeline, None, 1), clock=ticking())
    assert [one.seconds for one in spent.results] == [10.0, 10.0]
    again = run(workspace, with_budget(pipeline, None, 0.5), clock=ticking())
    assert (again.measured, len(again.results)) == (0, 2)


def ticking() -> Any:
    ticks = count(step=10)
    return lambda: float(next(ticks))


@pytest.mark.parametrize(
    "change",
    [{"space": {"leaves": {"low": 2, "high": 30}}}, {"folds": 1}, {"fold_days": 2, "folds": 1}],
)
def test_another_search_is_another_study(workspace: Workspace, pipeline: Pipeline, change: dict[str, Any]) -> None:
    first = run(workspace, with_budget(pipeline, 1, None))
    second = run(workspace, tuned(pipeline, trials=1, **change))
    assert first.study.study_id != second.study.study_id
    assert studies(workspace) == [second.study, first.study]


def test_other_data_another_seed_and_another_night_are_another_study(workspace: Workspace, pipeline: Pipeline) -> None:
    one = with_budget(pipeline, 1, None)
    other_seed = one.model_copy(update={"training": one.training.model_copy(update={"seed": 8})})
    outcomes = [run(workspace, one), run(workspace, other_seed), run(workspace, one, as_of=night_after(FIRST_NIGHT))]
    assert len({outcome.study.fingerprint for outcome in outcomes}) == 3


def test_the_study_that_stands_is_found_not_opened(workspace: Workspace, pipeline: Pipeline) -> None:
    standing = run(workspace, with_budget(pipeline, 1, None)).study
    with workspace.engine.begin() as connection:
        wanted = replace(standing, study_id=None, trials=99, created_by="bob")
        assert find_or_open_study(connection, wanted) == standing
        opened = find_or_open_study(connection, replace(wanted, fingerprint="other"))
        assert (opened.study_id != standing.study_id, opened.trials) == (True, 99)


def test_a_study_is_read_back_as_it_was_run(workspace: Workspace, pipeline: Pipeline) -> None:
    outcome = run(workspace, pipeline)
    with workspace.engine.connect() as connection:
        assert read_study(connection, outcome.study.study_id or 0) == replace(outcome, measured=0)
        with pytest.raises(SpecError, match="there is no such study"):
            read_study(connection, 10_000)


def test_the_ranking_begins_with_the_best_and_the_block_is_for_the_spec(
    workspace: Workspace, pipeline: Pipeline, capsys: pytest.CaptureFixture[str]
) -> None:
    import yaml

    outcome = run(workspace, pipeline)
    done = [one for one in outcome.ranking if one.status == "done"]
    assert outcome.ranking[: len(done)] == sorted(done, key=lambda one: (one.loss, one.number))
    assert outcome.varied == ("leaves", "learning_rate")
    settings = yaml.safe_load(f"training:\n{outcome.block}")["training"]["algorithm"]
    assert settings == outcome.choice.trial.settings
    document = as_document(outcome)
    assert [one["number"] for one in document["trials"]] == [one.number for one in outcome.ranking]
    print_study(outcome)
    printed = capsys.readouterr().out
    assert (not outcome.choice.keeps_incumbent, outcome.block in printed) == (True, True)
    assert "under `training:` in pipelines/visits.yaml" in printed


def test_a_training_of_a_version_is_recorded_beside_the_trials(workspace: Workspace, pipeline: Pipeline) -> None:
    run(workspace, with_budget(pipeline, 2, None))
    version = train_version(workspace, pipeline, FIRST_NIGHT, "first", "training").version
    record_version_run(workspace, pipeline, version, 1.5, "training")
    with workspace.engine.connect() as connection:
        runs = list_training_runs(connection, "visits")
        newest = list_training_runs(connection, "visits", "train")[0]
        assert find_run(connection, newest.training_run_id or 0) == newest
        assert (list_training_runs(connection, "nowhere"), find_run(connection, 10_000)) == ([], None)
    assert (newest.version, newest.seconds, newest.snapshot_md5) == (version.version, 1.5, version.snapshot_md5)
    assert newest.parameters == pipeline.training.model_dump(mode="json")
    assert newest.metrics == {name: one["overall"] for name, one in version.metrics["algorithms"].items()}
    assert [one.number for one in runs if one.kind == "trial"] == [1, 0]


def test_runs_beside_each_other_show_what_differs(workspace: Workspace, pipeline: Pipeline) -> None:
    outcome = run(workspace, with_budget(pipeline, 2, None))
    runs = stored(workspace, outcome.study.study_id or 0)
    compared = compare(runs)
    assert set(compared["settings"]) == {"leaves", "learning_rate"}
    equal = {name: row["equal"] for name, row in compared["facts"].items()}
    assert [equal[name] for name in ("data", "code", "by", "packages", "of")] == [True, True, True, True, False]
    assert compared["figures"]["loss"]["values"] == [one.loss for one in outcome.results]


def test_a_trial_is_stored_once(workspace: Workspace, pipeline: Pipeline) -> None:
    outcome = run(workspace, with_budget(pipeline, 1, None))
    (first,) = stored(workspace, outcome.study.study_id or 0)
    with workspace.engine.begin() as connection:
        assert record_training_run(connection, replace(first, run_id="other")) is None
        assert record_training_run(connection, replace(first, number=1)) is not None
    assert [one.run_id for one in stored(workspace, outcome.study.study_id or 0)] == ["whole", "whole"]


def test_too_short_a_window_is_refused(workspace: Workspace, pipeline: Pipeline) -> None:
    with pytest.raises(NotEnoughData, match="5 score dates beside those that calibrate or are held out"):
        run(workspace, tuned(pipeline, folds=5))


def test_a_pipeline_without_a_space_and_a_budget_of_nothing_are_refused(
    workspace: Workspace, pipeline: Pipeline
) -> None:
    with pytest.raises(SpecError, match=r"no section training\.tuning"):
        run(workspace, visits_of_shop(workspace))
    with pytest.raises(SpecError, match=r"trials: .*\n.*minutes: "):
        with_budget(pipeline, 0, 0)


@pytest.fixture
def session(
    server: Server, database: str, workspace: Workspace, pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Session]:
    """What the command line opens, with the tuning asset and its job alone."""
    monkeypatch.setenv("NIGHTSCORE_ROOT", str(workspace.settings.root))
    monkeypatch.setenv("NIGHTSCORE_HOME", str(workspace.settings.home_path))
    monkeypatch.setenv("NIGHTSCORE_DATABASE_URL", server.url(database))
    asset, engine = build_tuning(pipeline), Engine()
    definitions = dg.Definitions.merge(
        dg.Definitions(assets=[asset], resources={"engine": engine}), build_tuning_job(pipeline, asset)
    )
    with dg.DagsterInstance.ephemeral() as instance:
        yield Session(workspace, pipeline, definitions, instance)
    engine.workspace().engine.dispose()


def test_a_study_that_dagster_runs_shows_its_trials(session: Session) -> None:
    launched = launch(session, {"as_of": FIRST_NIGHT.isoformat(), "trials": 3, "minutes": None})
    assert (launched.success, launched.message) == (True, "")
    (record,) = session.instance.get_records_for_run(
        launched.run_id, of_type=dg.DagsterEventType.ASSET_MATERIALIZATION
    ).records
    assert record.asset_materialization is not None
    shown = {name: one.value for name, one in record.asset_materialization.metadata.items()}
    with session.workspace.engine.connect() as connection:
        outcome = read_study(connection, study_of(session, launched.run_id))
    assert (shown["study"], shown["trials"], shown["measured_now"]) == (outcome.study.study_id, 3, 3)
    assert (shown["best_trial"], shown["why"]) == (outcome.choice.trial.number, outcome.choice.reason)
    assert str(shown["ranking"]).splitlines()[0] == (
        "| trial | status | loss | standard error | leaves | learning_rate | seconds |"
    )
    assert outcome.block in str(shown["settings"])
    assert outcome.study.created_by == getuser()


def test_a_study_that_cannot_be_run_fails_with_the_engines_reason(session: Session) -> None:
    launched = launch(session, {"as_of": FIRST_NIGHT.isoformat(), "trials": 0})
    assert (launched.success, launched.exit_code, "trials: " in launched.message) == (False, 2, True)
