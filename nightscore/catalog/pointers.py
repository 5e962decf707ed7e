"""Move the pointers of many nights at once: what readers see, and which predictions are current, in a few statements.

Added here: a bulk move. Not here: one night's publication (`publications.py`), or who may decide (`publishing`).
"""

from collections.abc import Sequence
from datetime import date, datetime

import sqlalchemy as sa

from nightscore.catalog.changesets import Changeset
from nightscore.catalog.tables import publication_current

_EVENTS = """
insert into nightscore.publication_event (pipeline, score_date, publication_id, replaced_id, actor, reason, moved_at)
select :pipeline, i.score_date, i.{to}, i.{origin}, :actor, :reason, :now
from nightscore.changeset_item i where i.changeset_id = :changeset and i.outcome = 'staged' order by i.score_date
"""
_POINT = """
insert into nightscore.publication_current (pipeline, score_date, publication_id, moved_at)
select :pipeline, i.score_date, i.{to}, :now
from nightscore.changeset_item i
where i.changeset_id = :changeset and i.outcome = 'staged' and i.{to} is not null
on conflict (pipeline, score_date) do update set publication_id = excluded.publication_id, moved_at = excluded.moved_at
"""
_WITHDRAW = """
delete from nightscore.publication_current c using nightscore.changeset_item i
where i.changeset_id = :changeset and i.outcome = 'staged' and i.base_publication_id is null
  and c.pipeline = :pipeline and c.score_date = i.score_date
"""
# The partition follows, so that a night that is run again meets what readers see, not what was replaced.
_PARTITION_EVENTS = """
insert into nightscore.partition_event (dataset, score_date, version_id, replaced_id, run_id, moved_at)
select v.dataset, v.score_date, v.version_id, c.version_id, :run, :now
from nightscore.changeset_item i
join nightscore.publication p on p.publication_id = i.{to}
join nightscore.receipt r on r.receipt_id = p.receipt_id
join nightscore.partition_version v on v.version_id = r.predictions_id
left join nightscore.partition_current c on c.dataset = v.dataset and c.score_date = v.score_date
where i.changeset_id = :changeset and i.outcome = 'staged' order by v.score_date
"""
_PARTITIONS = """
insert into nightscore.partition_current (dataset, score_date, version_id, fingerprint, moved_at)
select v.dataset, v.score_date, v.version_id, r.fingerprint, :now
from nightscore.changeset_item i
join nightscore.publication p on p.publication_id = i.{to}
join nightscore.receipt r on r.receipt_id = p.receipt_id
join nightscore.partition_version v on v.version_id = r.predictions_id
where i.changeset_id = :changeset and i.outcome = 'staged'
on conflict (dataset, score_date) do update
set version_id = excluded.version_id, fingerprint = excluded.fingerprint, moved_at = excluded.moved_at
"""
_NIGHTS = """
insert into nightscore.night_event (pipeline, score_date, status, reason, run_id, at)
select :pipeline, i.score_date, case when i.{to} is null then 'prepared' else 'published' end, :said, :run, :now
from nightscore.changeset_item i where i.changeset_id = :changeset and i.outcome = 'staged' order by i.score_date
"""


def lock_nights(connection: sa.Connection, pipeline: str, nights: Sequence[date]) -> None:
    """Take the turn of every publisher of these nights, in date order, until the transaction ends."""
    names = [f"publication:{pipeline}:{night}" for night in sorted(nights)]
    locks = sa.text("select pg_advisory_xact_lock(hashtext(name)) from unnest(cast(:names as text[])) name")
    connection.execute(locks, {"names": names})


def current_pointers(connection: sa.Connection, pipeline: str, nights: Sequence[date]) -> dict[date, int]:
    """The publications that readers see of these nights."""
    query = sa.select(publication_current.c.score_date, publication_current.c.publication_id).where(
        publication_current.c.pipeline == pipeline, publication_current.c.score_date.in_(list(nights))
    )
    return {row.score_date: row.publication_id for row in connection.execute(query)}


def point_at(connection: sa.Connection, opened: Changeset, actor: str, reason: str, now: datetime) -> None:
    """Show readers what a changeset staged."""
    _move(connection, opened, "publication_id", "base_publication_id", actor, reason, now)


def withdraw(connection: sa.Connection, opened: Changeset, actor: str, reason: str, now: datetime) -> None:
    """Show readers what they saw before a changeset; nights that had nothing have nothing again."""
    _move(connection, opened, "base_publication_id", "publication_id", actor, reason, now)
    connection.execute(sa.text(_WITHDRAW), {"changeset": opened.changeset_id, "pipeline": opened.pipeline})


def _move(
    connection: sa.Connection, opened: Changeset, to: str, origin: str, actor: str, reason: str, now: datetime
) -> None:
    said = f"{opened.title}: {reason}"
    values = {
        "changeset": opened.changeset_id, "pipeline": opened.pipeline, "actor": actor, "reason": said, "said": said,
        "run": f"changeset {opened.changeset_id}", "now": now,
    }  # fmt: skip
    for statement in (_EVENTS, _POINT, _PARTITION_EVENTS, _PARTITIONS, _NIGHTS):
        connection.execute(sa.text(statement.format(to=to, origin=origin)), values)
