"""Run a backfill: plan, ask, open a changeset, make missing features, stage its nights chunk by chunk.

Imported inside commands, since it imports Dagster. Added here: a step of a backfill. Not here: a job, or the tables
(`change_tables.py`).
"""

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import date, timedelta
from getpass import getuser
from time import perf_counter

import dagster as dg
import sqlalchemy as sa

from nightscore.catalog.changesets import Changeset, items_of
from nightscore.clock import local_date
from nightscore.errors import ChangesetRefused, OutOfSpace, PartitionConflict, SpecError
from nightscore.lake.workspace import Workspace, open_workspace
from nightscore.publishing.backfill import Plan, open_changeset, plan_backfill, unfinished_nights
from nightscore.publishing.changesets import require_changeset
from nightscore.reports.review import read_review
from nightscore.settings import Settings
from nightscore.spec.datasets import features_dataset
from nightscore.spec.pipeline import Pipeline
from nightscore.spec.windows import nights_between
from orchestration.cli.change_tables import plan_as_json, print_plan, print_staged, review_as_json
from orchestration.cli.deployment import open_instance
from orchestration.cli.launch import INTERRUPTED, UNFINISHED, run_nights
from orchestration.cli.night_runs import Session, open_session, require_score_dates
from orchestration.cli.output import print_json
from orchestration.cli.specs import find_pipeline
from orchestration.partitions import NIGHTS_PER_RUN
from orchestration.run_tags import CHANGESET_TAG, PIPELINE_TAG, nights_of_run


@dataclass(frozen=True)
class Wish:
    """What was asked for beside the nights."""

    model: str
    scope: str
    reason: str
    dry_run: bool
    confirmed: bool
    as_json: bool


def start_backfill(name: str, first: date, last: date, wish: Wish) -> int:
    """Print the plan; unless that was all, stage it and return the exit code."""
    settings = Settings()
    pipeline, workspace = find_pipeline(settings, name), open_workspace(settings)
    require_score_dates(pipeline, first, last)
    _require_past(workspace, pipeline, last)
    plan = plan_backfill(workspace, pipeline, nights_between(first, last), wish.model, wish.scope)
    plan = replace(plan, conflicts=(*plan.conflicts, *_running(workspace, plan)))
    if not wish.as_json:
        print_plan(plan)
    elif wish.dry_run:
        print_json(plan_as_json(plan))
    require_room(plan)
    if wish.dry_run:
        return 0
    _confirm(wish, plan)
    session = open_session(name)
    if wish.scope == "features":
        return _run_pieces(session, f"{name}_history", plan.nights, {})
    opened = open_changeset(session.workspace, plan, wish.reason, getuser())
    return _stage(session, opened, wish.as_json)


def _running(workspace: Workspace, plan: Plan) -> Iterator[str]:
    """Runs of this moment over the same nights; what is published or approved last stands."""
    instance = open_instance(workspace.settings, workspace.database)
    unfinished = dg.RunsFilter(statuses=UNFINISHED, tags={PIPELINE_TAG: plan.pipeline})
    for run in instance.get_runs(unfinished):
        nights = nights_of_run(run.tags)
        if nights is not None and nights[0] <= plan.nights[-1] and plan.nights[0] <= nights[1]:
            yield f"run {run.run_id} of {run.job_name} over {nights[0]} to {nights[1]} has not ended"
    instance.dispose()


def resume_backfill(changeset_id: int, as_json: bool) -> int:
    """Stage what is left of a changeset, and return the exit code."""
    opened = require_changeset(open_workspace(Settings()), changeset_id)
    if opened.status not in {"staging", "staged"}:
        found, remedy = f"it is {opened.status}", "plan it anew: `nightscore backfill`"
        raise ChangesetRefused(f"To resume {opened.title}", found, remedy)
    return _stage(open_session(opened.pipeline), opened, as_json)


def _require_past(workspace: Workspace, pipeline: Pipeline, last: date) -> None:
    tonight = local_date(workspace.clock, pipeline.score_dates.timezone)
    if last > tonight:
        found = f"{last} is after {tonight}, the night that begins"
        raise SpecError(f"Choosing nights of {pipeline.name}", found, "a backfill is of nights that have begun")


def require_room(plan: Plan) -> None:
    """OutOfSpace when a plan needs more bytes than the disk has; nothing where that is not known."""
    if plan.bytes is not None and plan.bytes > plan.free_bytes:
        found = f"{plan.bytes / 1e6:,.0f} MB are needed by estimate, {plan.free_bytes / 1e6:,.0f} MB are free"
        raise OutOfSpace(f"Planning a backfill of {plan.pipeline}", found, "free disk space, or choose fewer nights")


def _confirm(wish: Wish, plan: Plan) -> None:
    if wish.confirmed:
        return
    if wish.as_json or not sys.stdin.isatty():
        found = "nobody is there to ask whether to go on"
        raise SpecError(f"Starting a backfill of {plan.pipeline}", found, "add --yes, or --dry-run for the plan alone")
    import typer

    typer.confirm(f"Stage these {len(plan.nights)} nights? Readers see nothing of it yet.", abort=True, err=True)


def _stage(session: Session, opened: Changeset, as_json: bool) -> int:
    """Features first, then predictions and publications out of sight; what a stop leaves is named."""
    sys.stderr.write(f"{opened.title}: staging; readers see nothing of it yet\n")
    try:
        with _turn(session.workspace, opened):
            code = _run(session, opened)
    except (KeyboardInterrupt, dg.DagsterExecutionInterruptedError):
        code = INTERRUPTED
    if code:
        go_on = f"`nightscore backfill --resume {opened.changeset_id}` goes on"
        sys.stderr.write(f"{opened.title}: stopped; what is finished is kept, {go_on}\n")
        return code
    review = read_review(session.workspace, opened.changeset_id)
    if as_json:
        print_json(review_as_json(review))
    else:
        print_staged(review)
    return 0


@contextmanager
def _turn(workspace: Workspace, opened: Changeset) -> Iterator[None]:
    """One process stages a changeset at a time; the database ends the turn of a process that dies."""
    name = {"name": f"changeset:{opened.changeset_id}"}
    with workspace.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        if not connection.scalar(sa.text("select pg_try_advisory_lock(hashtext(:name))"), name):
            found, remedy = "another process is staging it now", "wait for that one, or end it first"
            raise PartitionConflict(f"Staging {opened.title}", found, remedy)
        try:
            yield
        finally:
            connection.execute(sa.text("select pg_advisory_unlock(hashtext(:name))"), name)


def _run(session: Session, opened: Changeset) -> int:
    """Chunk by chunk, what a chunk lacks first; the exit code of the first run that fails, else 0."""
    name, tags = session.pipeline.name, {CHANGESET_TAG: str(opened.changeset_id)}
    missing = set(_nights_without_features(session, opened))
    with session.workspace.engine.connect() as connection:
        waiting, total = unfinished_nights(connection, opened.changeset_id), len(_nights(connection, opened))
    begun, done = perf_counter(), 0
    for chunk in chunks_of(waiting, NIGHTS_PER_RUN):
        lacking = [night for night in chunk if night in missing]
        code = _run_pieces(session, f"{name}_history", lacking, {}) or _run_pieces(
            session, f"{name}_backfill", chunk, tags
        )
        if code:
            return code
        done += len(chunk)
        rate = done / (perf_counter() - begun)
        left = timedelta(seconds=round((len(waiting) - done) / rate))
        finished = total - len(waiting) + done
        sys.stderr.write(f"staged {finished} of {total} nights, {rate:.2f} nights/s, {left} left\n")
    return 0


def _nights(connection: sa.Connection, opened: Changeset) -> list[date]:
    return [one.score_date for one in items_of(connection, opened.changeset_id, differences=False)]


def _nights_without_features(session: Session, opened: Changeset) -> list[date]:
    """Of the nights not scored yet, those without features, or all where the changeset's scope says so."""
    with session.workspace.engine.connect() as connection:
        items = items_of(connection, opened.changeset_id, differences=False)
    dataset = features_dataset(opened.pipeline)
    there = session.workspace.lake.current(dataset, opened.first_date, opened.last_date)
    planned = [one.score_date for one in items if one.outcome == "planned"]
    return [night for night in planned if opened.scope == "all" or night not in there]


def _run_pieces(session: Session, job: str, nights: Sequence[date], tags: dict[str, str]) -> int:
    """Run `job` over `nights`, each stretch without gaps a run; the exit code of the first that fails, else 0."""
    for piece in chunks_of(nights, NIGHTS_PER_RUN):
        (launched,) = run_nights(session.definitions, session.instance, job, piece, tags)
        if not launched.success:
            sys.stderr.write(f"{launched.message}\n")
            return launched.exit_code
    return 0


def chunks_of(nights: Sequence[date], size: int) -> list[list[date]]:
    """`nights` in order as pieces of at most `size` consecutive dates, since a run covers a range without gaps."""
    pieces: list[list[date]] = []
    for night in nights:
        if pieces and len(pieces[-1]) < size and night - pieces[-1][-1] == timedelta(days=1):
            pieces[-1].append(night)
        else:
            pieces.append([night])
    return pieces
