"""`nightscore changes`: look at changesets and decide on them; each decision has a reason and a name.

Added here: a command about changesets. Not here: staging one (`backfills.py`).
"""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from orchestration.cli.output import JSON_OPTION, print_json

if TYPE_CHECKING:
    from nightscore.lake.workspace import Workspace

app = typer.Typer(help="Changesets: staged changes of history to review, approve, undo.", no_args_is_help=True)
AsJson = Annotated[bool, JSON_OPTION]
Number = Annotated[int, typer.Argument(help="Number of the changeset.", metavar="ID")]
Reason = Annotated[str | None, typer.Option(help="Why; kept in the history.")]


@app.command("list")
def list_changes(
    pipeline: Annotated[str | None, typer.Argument(help="One pipeline; all when absent.")] = None,
    as_json: AsJson = False,
) -> None:
    """Every changeset, newest first, with what became of its nights."""
    from nightscore.lake.workspace import open_workspace
    from nightscore.reports.review import list_summaries
    from nightscore.settings import Settings
    from orchestration.cli.change_tables import print_summaries
    from orchestration.cli.specs import require_pipeline_name

    settings = Settings()
    if pipeline is not None:
        require_pipeline_name(settings, pipeline)
    with open_workspace(settings).engine.connect() as connection:
        summaries = list_summaries(connection, pipeline)
    if as_json:
        print_json([vars(one.changeset) | {"outcomes": one.outcomes, "seconds": one.seconds} for one in summaries])
    else:
        print_summaries(summaries)


@app.command("show")
def show(changeset: Number, as_json: AsJson = False) -> None:
    """One changeset: its nights, versions, cost, and who decided what of it and why."""
    from nightscore.reports.review import read_review
    from orchestration.cli.change_tables import print_review, review_as_json

    review = read_review(_workspace(), changeset)
    if as_json:
        print_json(review_as_json(review))
    else:
        print_review(review)


@app.command("diff")
def diff(
    changeset: Number,
    html: Annotated[Path | None, typer.Option(help="Write the review with charts to this file.")] = None,
    as_json: AsJson = False,
) -> None:
    """What readers would see differently: rows, scores, decisions, ranks, versions, realised performance."""
    from dataclasses import asdict

    from nightscore.errors import ChangesetRefused
    from nightscore.reports.changeset import render_html, render_text
    from nightscore.reports.files import write_report
    from nightscore.reports.review import read_review
    from orchestration.cli.change_tables import print_blocked

    review = read_review(_workspace(), changeset)
    if review.difference is None:
        found, remedy = "none of its nights was compared", f"see `nightscore changes show {changeset}`"
        raise ChangesetRefused(f"To compare {review.changeset.title}", found, remedy)
    facts, difference = review.facts, review.difference
    if html is not None:
        write_report(html, render_html(facts, difference))
        sys.stderr.write(f"wrote {html}\n")
    if as_json:
        blocked = [{"night": one.score_date, "reason": one.reason} for one in review.blocked]
        print_json({"changeset": asdict(facts), "blocked": blocked, **difference.as_json()})
    elif html is None:
        sys.stdout.write(render_text(facts, difference))
        sys.stdout.flush()
        print_blocked(review)


@app.command("approve")
def approve_changes(changeset: Number, reason: Reason = None) -> None:
    """Show readers all of a staged changeset at once; refused when what they see has moved since it was compared."""
    from nightscore.publishing.changesets import approve

    wanted = require_reason(reason)
    nights = approve(_workspace(), changeset, _actor(), wanted)
    sys.stdout.write(f"Approved changeset {changeset}: readers see {len(nights)} nights anew.\n")
    sys.stdout.write(f'Take it back:   nightscore changes undo {changeset} --reason "…"\n')


@app.command("undo")
def undo_changes(changeset: Number, reason: Reason = None) -> None:
    """Show readers again what they saw before a changeset was approved, all of it at once."""
    from nightscore.publishing.changesets import undo

    wanted = require_reason(reason)
    nights = undo(_workspace(), changeset, _actor(), wanted)
    sys.stdout.write(f"Undone changeset {changeset}: readers see {len(nights)} nights as before.\n")
    sys.stdout.write(f'Approve it again:   nightscore changes approve {changeset} --reason "…"\n')


@app.command("discard")
def discard_changes(changeset: Number, reason: Reason = None) -> None:
    """Give up a changeset that readers never saw, and drop what it staged in the mart."""
    discard(changeset, require_reason(reason))


@app.command("rediff")
def rediff(changeset: Number, reason: Reason = None, as_json: AsJson = False) -> None:
    """Compare a staged changeset with what readers see by now, where that has moved; nothing is scored again."""
    from nightscore.publishing.changesets import reopen
    from orchestration.cli.backfill_runs import resume_backfill

    wanted = require_reason(reason)
    nights = reopen(_workspace(), changeset, _actor(), wanted)
    sys.stderr.write(f"changeset {changeset}: readers see another revision of {len(nights)} nights by now\n")
    raise SystemExit(resume_backfill(changeset, as_json))


def discard(changeset: int, reason: str) -> None:
    """Discard and say so; also for `nightscore backfill --cancel`."""
    from nightscore.publishing import changesets

    nights = changesets.discard(_workspace(), changeset, _actor(), reason)
    sys.stdout.write(f"Discarded changeset {changeset}: {nights} staged nights are gone; readers saw none of them.\n")


def require_reason(reason: str | None) -> str:
    """The reason for a decision, which must say something."""
    from nightscore.errors import SpecError

    if reason is None or not reason.strip():
        raise SpecError("Reading the decision", "it has no reason", 'add --reason "why": it is kept in the history')
    return reason.strip()


def _workspace() -> "Workspace":
    from nightscore.lake.workspace import open_workspace
    from nightscore.settings import Settings

    return open_workspace(Settings())


def _actor() -> str:
    from getpass import getuser

    return getuser()
