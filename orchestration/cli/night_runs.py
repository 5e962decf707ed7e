"""Run a pipeline's nights through Dagster and report what came of them; bootstrap a pipeline that has no champion.

Imported inside commands, since it imports Dagster. Added here: a sequence of jobs. Not here: a job.
"""

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from time import perf_counter

import dagster as dg

from jobs.nightly import night_for
from nightscore.catalog.models import alias_holder, list_versions
from nightscore.catalog.publications import latest_publication
from nightscore.clock import local_date
from nightscore.errors import SpecError
from nightscore.lake.workspace import Workspace, open_workspace
from nightscore.reports.night import read_night
from nightscore.settings import Settings
from nightscore.spec.pipeline import Pipeline
from nightscore.spec.windows import nights_between
from orchestration.build import build_pipeline_definitions
from orchestration.cli.deployment import open_instance
from orchestration.cli.launch import Launched, reconcile_dead_runs, run_job, run_nights
from orchestration.cli.night_tables import print_model, print_night
from orchestration.cli.output import print_json
from orchestration.cli.specs import find_pipeline


@dataclass(frozen=True)
class Session:
    """One command's opened deployment and pipeline."""

    workspace: Workspace
    pipeline: Pipeline
    definitions: dg.Definitions
    instance: dg.DagsterInstance


def open_session(name: str) -> Session:
    """Open everything a run needs; runs that a killed process left behind are ended first."""
    settings = Settings()
    pipeline = find_pipeline(settings, name)
    workspace = open_workspace(settings)
    instance = open_instance(settings, workspace.database)
    for run_id in reconcile_dead_runs(instance, workspace):
        sys.stderr.write(f"run {run_id} was left unfinished by a process that is gone; marked as failed\n")
    return Session(workspace, pipeline, build_pipeline_definitions(pipeline), instance)


def choose_nights(
    workspace: Workspace, pipeline: Pipeline, night: date | None, first: date | None, last: date | None
) -> list[date]:
    """The nights a command is about: the one or the range that was given, or the next one."""
    if night is not None and (first or last):
        raise SpecError("Reading the dates", "both --date and --from/--to were given", "give one or the other")
    if (first is None) != (last is None):
        raise SpecError("Reading the dates", "only one of --from and --to was given", "give both")
    if first is not None and last is not None:
        require_score_dates(pipeline, first, last)
        return nights_between(first, last)
    chosen = night or next_night(workspace, pipeline)
    require_score_dates(pipeline, chosen, chosen)
    return [chosen]


def next_night(workspace: Workspace, pipeline: Pipeline) -> date:
    """The night after the latest published one; at first, tonight, or a replay's first business date."""
    with workspace.engine.connect() as connection:
        latest = latest_publication(connection, pipeline.name)
    tonight = local_date(workspace.clock, pipeline.score_dates.timezone)
    if latest is None:
        return tonight if pipeline.replay is None else pipeline.replay.business
    following = latest.score_date + timedelta(days=1)
    return following if pipeline.replay is not None else min(following, night_for(pipeline, tonight))


def require_score_dates(pipeline: Pipeline, first: date, last: date) -> None:
    """SpecError for a range that is empty, or leaves the nights that the spec allows to score."""
    dates, found = pipeline.score_dates, []
    if last < first:
        found.append(f"--to {last} is before --from {first}")
    if first < pipeline.first_night:
        found.append(f"{first} is before the first night with a full training window, {pipeline.first_night}")
    if dates.end is not None and last > dates.end:
        found.append(f"{last} is after the last score date, {dates.end}")
    if found:
        raise SpecError(f"Choosing nights of {pipeline.name}", found, "choose nights within score_dates of the spec")


def run_and_report(name: str, choose: Callable[[Workspace, Pipeline], list[date]], as_json: bool) -> int:
    """Run the chosen nights, print the closing report, and return the exit code."""
    begun = perf_counter()
    session = open_session(name)
    nights = choose(session.workspace, session.pipeline)
    launched = bootstrap(session, nights[0])
    if all(one.success for one in launched):
        launched += run_nights(session.definitions, session.instance, f"{name}_nightly", nights)
    run_ids = [one.run_id for one in launched]
    report = read_night(session.workspace.engine, name, nights[-1], run_ids)
    if as_json:
        print_json(report.as_json())
    else:
        print_night(report, perf_counter() - begun)
    return _exit_code(launched)


def bootstrap(session: Session, first: date) -> list[Launched]:
    """Read the training window and train a first version, unless the pipeline has a champion."""
    name = session.pipeline.name
    if _has_champion(session):
        return []
    sys.stderr.write(f"{name} has no champion: reading its history and training a first version\n")
    launched = prepare_history(session, first)
    if all(one.success for one in launched):
        launched.append(_train(session, first, f"first version, for the night of {first}"))
    return launched


def _has_champion(session: Session) -> bool:
    with session.workspace.engine.connect() as connection:
        return alias_holder(connection, session.pipeline.name, "champion") is not None


def prepare_history(session: Session, as_of: date) -> list[Launched]:
    """Features and labels of the training window of `as_of`, and of that night itself for the last labels."""
    pipeline = session.pipeline
    begin = max(as_of - timedelta(days=pipeline.training.window_days), pipeline.score_dates.start)
    return run_nights(session.definitions, session.instance, f"{pipeline.name}_history", nights_between(begin, as_of))


def _train(session: Session, as_of: date, purpose: str, store_wheels: bool = False) -> Launched:
    name = session.pipeline.name
    settings = {"as_of": as_of.isoformat(), "purpose": purpose, "store_wheels": store_wheels}
    config = {"ops": {f"{name}__model": {"config": settings}}}
    return run_job(session.definitions, session.instance, f"{name}_train", {}, config)


def train_and_report(name: str, as_of: date | None, purpose: str, store_wheels: bool, as_json: bool) -> int:
    """Train for a night, print the version, and return the exit code."""
    session = open_session(name)
    chosen = as_of or next_night(session.workspace, session.pipeline)
    require_score_dates(session.pipeline, chosen, chosen)
    launched = prepare_history(session, chosen)
    if all(one.success for one in launched):
        launched.append(_train(session, chosen, purpose, store_wheels))
    if not launched[-1].success:
        return _exit_code(launched)
    with session.workspace.engine.connect() as connection:
        version = max(list_versions(connection, name), key=lambda one: (one.as_of == chosen, one.version))
    if as_json:
        print_json(vars(version))
    else:
        print_model(version)
    return 0


def _exit_code(launched: Sequence[Launched]) -> int:
    failed = [one for one in launched if not one.success]
    for one in failed:
        sys.stderr.write(f"{one.message}\n")
    return failed[0].exit_code if failed else 0
