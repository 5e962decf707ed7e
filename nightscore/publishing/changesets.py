"""Decide on a changeset: approve, undo or discard it; each is one transaction that readers see whole or not at all.

Precedence: what was approved last stands. A changeset whose nights moved since it was planned is refused until it is
compared anew. Added here: another decision. Not here: staging (`staging.py`).
"""

from collections.abc import Sequence
from datetime import date, datetime
from typing import Any

import sqlalchemy as sa
from psycopg import Connection, sql
from psycopg.errors import LockNotAvailable

from nightscore.catalog.changesets import (
    DONE,
    Changeset,
    Item,
    find_changeset,
    items_of,
    record_event,
    set_status,
    update_item,
)
from nightscore.catalog.pointers import current_pointers, lock_nights, point_at, withdraw
from nightscore.errors import ChangesetMissing, ChangesetRefused, PartitionConflict
from nightscore.lake.workspace import Workspace
from nightscore.publishing.views import LOCK_TIMEOUT

APPROVABLE = ("staged", "undone")


def approve(workspace: Workspace, changeset_id: int, actor: str, reason: str) -> list[date]:
    """Move every pointer of a staged or undone changeset in one transaction; returns the nights readers see anew.

    Raises ChangesetRefused when it is neither, or when readers see another revision of a night than it was compared
    with, identical nights included.
    """
    with workspace.engine.begin() as connection:
        opened, items = _locked(connection, changeset_id)
        _require_status(opened, APPROVABLE, "approve", items)
        compared = [
            one
            for one in items_of(connection, changeset_id, differences=False)
            if one.outcome in {"staged", "identical"}
        ]
        _require_base(connection, opened, compared, [one.base_publication_id for one in compared], _remedy(opened))
        point_at(connection, opened, actor, reason, workspace.clock.now())
        return _decide(connection, opened, items, "approved", actor, reason, workspace.clock.now())


def undo(workspace: Workspace, changeset_id: int, actor: str, reason: str) -> list[date]:
    """Move every pointer of an approved changeset back to where it was; a night that had none is withdrawn.

    Raises ChangesetRefused when a later revision of one of its nights stands.
    """
    with workspace.engine.begin() as connection:
        opened, items = _locked(connection, changeset_id)
        _require_status(opened, ("approved",), "undo", items)
        later = "a later revision stands: undo what put it there first, or leave this changeset as it is"
        _require_base(connection, opened, items, [one.publication_id for one in items], later)
        withdraw(connection, opened, actor, reason, workspace.clock.now())
        return _decide(connection, opened, items, "undone", actor, reason, workspace.clock.now())


def discard(workspace: Workspace, changeset_id: int, actor: str, reason: str) -> int:
    """Give up a changeset that was never approved, and drop what it staged in the mart; returns how many nights.

    Objects in the lake stay until garbage collection.
    """
    with workspace.engine.begin() as connection:
        opened = _existing(find_changeset(connection, changeset_id, lock=True), changeset_id)
        made = [one for one in items_of(connection, changeset_id, differences=False) if one.publication_id is not None]
        # A rollback stages nothing of its own: its publications were readers' before.
        items = made if opened.kind != "rollback" else []
        if opened.status not in {"staging", "staged"}:
            remedy = "undo an approved one instead; what readers have seen is kept"
            raise _refused(opened, "discard", [f"it is {opened.status}"], remedy)
        _drop_staged(connection, opened, items)
        _decide(connection, opened, items, "discarded", actor, reason, workspace.clock.now())
        return len(items)


def reopen(workspace: Workspace, changeset_id: int, actor: str, reason: str) -> list[date]:
    """Nights whose readers see another revision by now are to be loaded and compared with that one; returns them.

    Their scores stand. The changeset is staging until that is done. Raises ChangesetRefused when it is not staged.
    """
    now = workspace.clock.now()
    with workspace.engine.begin() as connection:
        opened, _ = _locked(connection, changeset_id)
        items = [
            one
            for one in items_of(connection, changeset_id, differences=False)
            if one.outcome in {"staged", "identical"}
        ]
        _require_status(opened, ("staged",), "compare anew", items)
        if opened.kind == "rollback":
            raise _refused(opened, "compare anew", [f"it is a {opened.kind}"], "discard it and open another")
        seen = current_pointers(connection, opened.pipeline, [one.score_date for one in items])
        moved = [one for one in items if seen.get(one.score_date) != one.base_publication_id]
        if not moved:
            return []
        _drop_staged(connection, opened, [one for one in moved if one.publication_id is not None])
        for one in moved:
            anew = {"outcome": "scored", "publication_id": None, "difference": None}
            values = anew | {"base_publication_id": seen.get(one.score_date), "at": now}
            update_item(connection, changeset_id, one.score_date, values)
        set_status(connection, changeset_id, "staging")
        record_event(connection, changeset_id, "reopened", actor, reason, now)
    return [one.score_date for one in moved]


def decide(workspace: Workspace, pipeline: str, changeset_id: int, decision: str, actor: str, reason: str) -> None:
    """Approve, undo or discard by name; ChangesetRefused names all that is wrong with the request."""
    decisions = {"approve": approve, "undo": undo, "discard": discard}
    opened, found = require_changeset(workspace, changeset_id), []
    if opened.pipeline != pipeline:
        found.append(f"it belongs to {opened.pipeline}, not to {pipeline}")
    if decision not in decisions:
        found.append(f"{decision!r} is none of {', '.join(decisions)}")
    if not reason.strip():
        found.append("it has no reason, which is kept in the history")
    if found:
        raise _refused(opened, "decide on", found, "correct the request; nothing moved")
    decisions[decision](workspace, changeset_id, actor, reason.strip())


def require_changeset(workspace: Workspace, changeset_id: int) -> Changeset:
    """The changeset, or ChangesetMissing."""
    with workspace.engine.connect() as connection:
        return _existing(find_changeset(connection, changeset_id), changeset_id)


def _existing(found: Changeset | None, changeset_id: int) -> Changeset:
    if found is None:
        raise ChangesetMissing(
            f"Looking up changeset {changeset_id}", "there is none with this number", "see `nightscore changes list`"
        )
    return found


def _locked(connection: sa.Connection, changeset_id: int) -> tuple[Changeset, list[Item]]:
    """The changeset and its staged nights, against other decisions and other publishers of these nights."""
    opened = _existing(find_changeset(connection, changeset_id, lock=True), changeset_id)
    items = items_of(connection, changeset_id, differences=False)
    staged = [one for one in items if one.outcome == "staged"]
    lock_nights(connection, opened.pipeline, [one.score_date for one in staged])
    return opened, items if opened.status == "staging" else staged


def _drop_staged(connection: sa.Connection, opened: Changeset, items: Sequence[Item]) -> None:
    raw: Connection[Any] = connection.connection.driver_connection  # type: ignore[assignment]
    # A partition is dropped under its parent's lock; behind a reader's open transaction, others would wait for us.
    connection.execute(sa.text(f"set local lock_timeout = '{LOCK_TIMEOUT}'"))
    try:
        for one in items:
            table = sql.Identifier("mart", f"{opened.pipeline}_p{one.publication_id}")
            raw.execute(sql.SQL("drop table if exists {}").format(table))
    except LockNotAvailable as error:
        found = f"a transaction has mart.{opened.pipeline} open for longer than {LOCK_TIMEOUT}"
        raise PartitionConflict(f"Dropping what {opened.title} staged", found, "try again when it has ended") from error


def _require_status(opened: Changeset, wanted: Sequence[str], decision: str, items: Sequence[Item]) -> None:
    if opened.status in wanted:
        return
    waiting = sum(one.outcome not in DONE for one in items)
    found = [f"it is {opened.status}, not {wanted[0]}"]
    if opened.status == "staging":
        found.append(f"{waiting} of its {len(items)} nights are not done")
    remedy = f"finish it: `nightscore backfill --resume {opened.changeset_id}`"
    raise _refused(opened, decision, found, remedy if opened.status == "staging" else "see `nightscore changes list`")


def _require_base(
    connection: sa.Connection, opened: Changeset, items: Sequence[Item], expected: Sequence[int | None], remedy: str
) -> None:
    seen = current_pointers(connection, opened.pipeline, [one.score_date for one in items])
    moved = [
        f"{item.score_date}: readers see publication {seen.get(item.score_date) or 'none'}, expected {base or 'none'}"
        for item, base in zip(items, expected, strict=True)
        if seen.get(item.score_date) != base
    ]
    if moved:
        more = [f"and {len(moved) - 10} more nights"] if len(moved) > 10 else []
        raise _refused(opened, "decide on", [*moved[:10], *more], remedy)


def _remedy(opened: Changeset) -> str:
    """How to go on after a night has moved; an undone revision was seen by readers and is not made again in place."""
    if opened.status == "undone":
        return f"stage it anew: `nightscore backfill {opened.pipeline} --from … --to …`"
    return f'compare it anew: `nightscore changes rediff {opened.changeset_id} --reason "…"`, and decide again'


def _decide(
    connection: sa.Connection, opened: Changeset, items: Sequence[Item], event: str, actor: str, reason: str,
    now: datetime,
) -> list[date]:  # fmt: skip
    set_status(connection, opened.changeset_id, event)  # type: ignore[arg-type]
    record_event(connection, opened.changeset_id, event, actor, reason, now)
    return [one.score_date for one in items]


def _refused(opened: Changeset, decision: str, found: Sequence[str], remedy: str) -> ChangesetRefused:
    return ChangesetRefused(f"To {decision} {opened.title}", found, remedy)
