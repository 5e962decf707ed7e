"""`nightscore backfill`: plan nights of the past, stage them as a changeset, go on after a stop, or give it up.

Added here: an option of a backfill. Not here: how it runs (`backfill_runs.py`), decisions on it (`changes.py`).
"""

from datetime import date, datetime
from typing import Annotated, Literal

import typer

from orchestration.cli.changes import Reason, require_reason
from orchestration.cli.output import JSON_OPTION

Scope = Literal["predictions", "features", "all"]


def backfill(
    pipeline: Annotated[
        str | None, typer.Argument(help="Name of a pipeline; not needed with --resume and --cancel.")
    ] = None,
    from_: Annotated[datetime | None, typer.Option("--from", formats=["%Y-%m-%d"], help="First night.")] = None,
    to: Annotated[datetime | None, typer.Option("--to", formats=["%Y-%m-%d"], help="Last night.")] = None,
    model: Annotated[
        str | None, typer.Option(help="as-published, champion, challenger, or a version's number; default: champion.")
    ] = None,
    only: Annotated[
        Scope | None,
        typer.Option(
            help="predictions: use the features that are there, make missing ones; all: sources and features of every "
            "night first, reused where nothing changed; features: nothing but these. Default: predictions."
        ),
    ] = None,
    reason: Reason = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the plan and stop.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask after the plan.")] = False,
    resume: Annotated[int | None, typer.Option(help="Go on with a changeset that was stopped.", metavar="ID")] = None,
    cancel: Annotated[int | None, typer.Option(help="Give up a changeset; needs --reason.", metavar="ID")] = None,
    as_json: Annotated[bool, JSON_OPTION] = False,
) -> None:
    """Score nights of the past into a changeset, which readers do not see until it is approved.

    The plan comes first: nights, versions, time, space, and what is in the way. A stop at any point loses nothing
    that was finished: --resume goes on. Review with `nightscore changes`. Exit codes: 0 staged; 130 interrupted;
    else those of `nightscore --help`.
    """
    from orchestration.cli.backfill_runs import Wish, start_backfill

    given = {"--from": from_, "--to": to, "--model": model, "--only": only, "--dry-run": dry_run or None}
    _require_one_request(given, resume, cancel)
    if resume is None and cancel is None:
        wish = Wish(model or "champion", only or "predictions", (reason or "").strip(), dry_run, yes, as_json)
        raise SystemExit(start_backfill(*_required(pipeline, from_, to), wish))
    _go_on(pipeline, resume, cancel, reason, as_json)


def _go_on(pipeline: str | None, resume: int | None, cancel: int | None, reason: str | None, as_json: bool) -> None:
    from orchestration.cli.backfill_runs import resume_backfill
    from orchestration.cli.changes import discard

    if resume is not None:
        _require_pipeline_of(resume, pipeline)
        raise SystemExit(resume_backfill(resume, as_json))
    if cancel is not None:
        _require_pipeline_of(cancel, pipeline)
        discard(cancel, require_reason(reason))


def _require_one_request(given: dict[str, object], resume: int | None, cancel: int | None) -> None:
    from nightscore.errors import SpecError

    if resume is not None and cancel is not None:
        raise SpecError("Reading the request", "both --resume and --cancel were given", "give one of them")
    found = [name for name, value in given.items() if value is not None]
    if found and (resume is not None or cancel is not None):
        remedy = "leave them out: a changeset keeps its own plan"
        raise SpecError("Reading the request", f"{', '.join(found)} beside --resume or --cancel", remedy)


def _required(pipeline: str | None, first: datetime | None, last: datetime | None) -> tuple[str, date, date]:
    from nightscore.errors import SpecError

    if pipeline is None or first is None or last is None:
        parts = {"PIPELINE": pipeline, "--from": first, "--to": last}
        absent = [name for name, value in parts.items() if value is None]
        usage = "nightscore backfill PIPELINE --from 2013-04-01 --to 2013-12-31, or nightscore backfill --resume ID"
        raise SpecError("Reading the request", f"{', '.join(absent)} missing", usage)
    return pipeline, first.date(), last.date()


def _require_pipeline_of(changeset_id: int, pipeline: str | None) -> None:
    from nightscore.errors import SpecError
    from nightscore.lake.workspace import open_workspace
    from nightscore.publishing.changesets import require_changeset
    from nightscore.settings import Settings

    opened = require_changeset(open_workspace(Settings()), changeset_id)
    if pipeline not in {None, opened.pipeline}:
        raise SpecError("Reading the request", f"{opened.title} is not one of {pipeline}", "leave the pipeline out")
