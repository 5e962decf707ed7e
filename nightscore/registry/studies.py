"""Studies and the record of trainings: who measured which settings on which data, with which code, and what came of it.

A study is known by its fingerprint: data, what is learnt, space, code and packages. The same search goes on where it
stopped, whatever stopped it.
Added here: another fact that a measured fit leaves. Not here: measuring (`nightscore/training/tuning.py`), or queries.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import date

import sqlalchemy as sa
from pydantic import TypeAdapter, ValidationError

from nightscore.catalog.experiments import (
    Study,
    TrainingRun,
    find_or_open_study,
    find_study,
    record_training_run,
    runs_of_study,
)
from nightscore.catalog.models import ModelVersion
from nightscore.errors import SpecError
from nightscore.features.determinism import require_determined
from nightscore.lake.fingerprints import code_hash, fingerprint
from nightscore.lake.outcomes import NightOutcome, timed_step
from nightscore.lake.workspace import Workspace
from nightscore.registry.families import numeric_releases
from nightscore.registry.provenance import find_provenance
from nightscore.spec.pipeline import Pipeline
from nightscore.spec.training import Algorithm
from nightscore.spec.tuning import SearchSpace, Tuning
from nightscore.training.training_set import TrainingSet, make_training_set
from nightscore.training.tuning import Choice, Status, TrialResult, best_of, require_tuning, tune

BUDGET = {"trials", "minutes"}
Report = Callable[[str], None]
"""Takes a line for whoever is waiting."""


@dataclass(frozen=True)
class StudyOutcome:
    """A study with all its trials by number; `measured` of them were measured just now."""

    study: Study
    results: tuple[TrialResult, ...]
    measured: int = 0

    @property
    def choice(self) -> Choice:
        """Whose settings the spec should have, and why."""
        return best_of(self.results)

    @property
    def varied(self) -> tuple[str, ...]:
        """The settings that the search varies."""
        return tuple(SearchSpace.model_validate(self.study.space["space"]).ranges)

    @property
    def ranking(self) -> list[TrialResult]:
        """Finished trials by loss, then the others by number."""
        return sorted(
            self.results, key=lambda one: (one.status != "done", one.loss if one.status == "done" else 0.0, one.number)
        )

    @property
    def block(self) -> str:
        """The chosen settings as they stand in a spec, below `training:`."""
        import yaml

        # The catalog's JSON does not keep the order of the spec.
        algorithm: Algorithm = TypeAdapter(Algorithm).validate_python(self.choice.trial.settings)
        text = yaml.safe_dump({"algorithm": algorithm.model_dump(mode="json")}, sort_keys=False)
        return "".join(f"  {line}\n" for line in text.splitlines())


def with_budget(pipeline: Pipeline, trials: int | None, minutes: float | None) -> Pipeline:
    """The pipeline with another budget where one is given; SpecError for one that is none."""
    wanted = {"trials": trials, "minutes": minutes}
    given = {name: value for name, value in wanted.items() if value is not None}
    try:
        tuning = Tuning.model_validate(require_tuning(pipeline).model_dump() | given)
    except ValidationError as error:
        found = [f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors()]
        raise SpecError(f"Tuning {pipeline.name}", found, "give a budget that can be spent") from error
    return pipeline.model_copy(update={"training": pipeline.training.model_copy(update={"tuning": tuning})})


def run_study(
    workspace: Workspace, pipeline: Pipeline, as_of: date, actor: str, run_id: str, report: Report,
    clock: Callable[[], float] = time.monotonic,
) -> StudyOutcome:  # fmt: skip
    """Search for settings on what was mature by night `as_of`, storing each trial as soon as it is measured.

    A study of before goes on; what its trials have cost counts against the budget, which is looked at between trials.
    Raises SpecError without a tuning section or when no trial could be finished, NotEnoughData, NotReadable, and
    Undetermined for features that could come out otherwise another time.
    """
    require_tuning(pipeline)
    require_determined(workspace.settings, pipeline)
    with timed_step(workspace, pipeline.name, "training set", [as_of], run_id) as log:
        training_set = make_training_set(workspace, pipeline, as_of, run_id)
        rows = training_set.frame.height
        log.outcomes.append(NightOutcome(training_set.account.dataset, as_of, "made", rows))
    with timed_step(workspace, pipeline.name, "tuning", [as_of], run_id) as log:
        outcome = _search(workspace, pipeline, training_set, actor, run_id, report, clock)
        name = f"{pipeline.name}.study"
        log.outcomes.append(NightOutcome(name, as_of, "made" if outcome.measured else "reused", rows))
    best_of(outcome.results)
    return outcome


def read_study(connection: sa.Connection, study_id: int) -> StudyOutcome:
    """A study as the catalog has it; SpecError when there is none of that number."""
    found = require_study(connection, study_id)
    return StudyOutcome(found, tuple(_result_of(run) for run in runs_of_study(connection, study_id)))


def require_study(connection: sa.Connection, study_id: int) -> Study:
    """The study of that number; SpecError when there is none."""
    found = find_study(connection, study_id)
    if found is None:
        remedy = "see `nightscore experiments list --kind trial`"
        raise SpecError(f"Finding study {study_id}", "there is no such study", remedy)
    return found


def record_version_run(
    workspace: Workspace, pipeline: Pipeline, version: ModelVersion, seconds: float, run_id: str
) -> None:
    """Append the training that made `version`: what it was told, what it learnt from, how good it is, what it cost."""
    measured = {name: figures["overall"] for name, figures in version.metrics["algorithms"].items()}
    run = TrainingRun(
        version.pipeline, "train", None, None, version.as_of, version.version, "done", version.algorithm,
        pipeline.training.model_dump(mode="json"), version.snapshot_md5, measured, seconds, code_hash(),
        version.provenance or {}, version.created_by, run_id, workspace.clock.now(),
    )  # fmt: skip
    with workspace.engine.begin() as connection:
        record_training_run(connection, run)


def _search(
    workspace: Workspace, pipeline: Pipeline, training_set: TrainingSet, actor: str, run_id: str, report: Report,
    clock: Callable[[], float],
) -> StudyOutcome:  # fmt: skip
    before, tuning, begun = _open(workspace, pipeline, training_set, actor), require_tuning(pipeline), clock()
    spent = sum(one.seconds for one in before.results)
    known, title = {one.number: one for one in before.results}, f"study {before.study.study_id}"
    report(f"{title}: {len(known)} of {tuning.trials} trials are there; {spent:.0f} s of {tuning.minutes:g} min used")
    record = _recorder(workspace, pipeline, before.study, training_set, actor, run_id)
    measured = 0
    for result in tune(
        training_set.frame, pipeline, known, lambda: spent + clock() - begun < 60 * tuning.minutes, clock
    ):
        record(result)
        measured += 1
        report(f"{title}: {_line(result)}")
    with workspace.engine.connect() as connection:
        return replace(read_study(connection, before.study.study_id or 0), measured=measured)


def _open(workspace: Workspace, pipeline: Pipeline, training_set: TrainingSet, actor: str) -> StudyOutcome:
    tuning, now = require_tuning(pipeline), workspace.clock.now()
    wanted = Study(
        pipeline.name, training_set.as_of, _fingerprint(pipeline, training_set),
        tuning.model_dump(mode="json", exclude=BUDGET), tuning.trials, tuning.minutes, actor, now,
    )  # fmt: skip
    with workspace.engine.begin() as connection:
        return read_study(connection, find_or_open_study(connection, wanted).study_id or 0)


def _fingerprint(pipeline: Pipeline, training_set: TrainingSet) -> str:
    learns = {"training", "features", "label", "task", "entity"}
    spec = pipeline.model_dump(mode="json", include=learns)
    spec["training"]["tuning"] = require_tuning(pipeline).model_dump(mode="json", exclude=BUDGET)
    data, releases = training_set.stored.content_sha256, numeric_releases()
    return fingerprint("study", spec=spec, data=data, as_of=training_set.as_of, packages=releases)


def _recorder(
    workspace: Workspace, pipeline: Pipeline, study: Study, training_set: TrainingSet, actor: str, run_id: str
) -> Callable[[TrialResult], None]:
    """Stores a trial; where another process was faster, it has stored the same."""
    provenance = find_provenance(workspace.settings.root, pipeline.name).facts

    def record(result: TrialResult) -> None:
        run = TrainingRun(
            pipeline.name, "trial", study.study_id, result.number, training_set.as_of, None, result.status,
            pipeline.training.algorithm.type, result.settings, training_set.stored.md5, result.as_metrics(),
            result.seconds, code_hash(), provenance, actor, run_id, workspace.clock.now(),
        )  # fmt: skip
        with workspace.engine.begin() as connection:
            record_training_run(connection, run)

    return record


def _result_of(run: TrainingRun) -> TrialResult:
    status: dict[str, Status] = {"done": "done", "pruned": "pruned", "failed": "failed"}
    return TrialResult.from_metrics(run.number or 0, status[run.status], run.parameters, run.metrics, run.seconds)


def _line(result: TrialResult) -> str:
    loss = "" if result.loss is None else f", loss {result.loss:.6f}"
    reason = f" ({result.reason})" if result.reason else ""
    return f"trial {result.number} {result.status}{loss}, {result.seconds:.1f} s{reason}"
