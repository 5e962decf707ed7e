"""What readers saw before, as SQL: nights as first published, every revision with its time, all nights at an instant.

It comes from the moves of each night's pointer, so a revision that no pointer ever named is in none of it.
Added here: another reading of those moves. Not here: making, describing and granting views (`views.py`).
"""

from collections.abc import Sequence
from typing import LiteralString

from psycopg import sql

from nightscore.publishing.mart import MartColumn

HISTORY = [
    MartColumn("revision", "integer", "number of the revision within its night, counted from 1"),
    MartColumn("published_from", "timestamptz", "instant from which readers saw this revision, UTC"),
    MartColumn("published_until", "timestamptz", "instant at which it ceased to be read; null while it is current"),
    MartColumn("replaced_by", "bigint", "publication_id of the one read after it; null while there is none"),
    MartColumn("actor", "text", "who or what made this revision the one that readers saw"),
    MartColumn("reason", "text", "why it was made the one that readers saw"),
]
"""What the revisions' view says of each time during which readers saw a revision, beside the rows themselves."""

# Clocks may step back and moves may not: a move counts from its own instant or its predecessor's, whichever is later.
# A move to no publication ends a time and begins none.
_TIMES = """
    select p.revision, v.* from nightscore.publication p join (
        select score_date, publication_id, actor, reason, published_from,
            lead(published_from) over moves as published_until, lead(publication_id) over moves as replaced_by
        from (
            select e.*, max(moved_at) over (partition by score_date order by event_id) as published_from
            from nightscore.publication_event e where pipeline = {pipeline}
        ) as moved
        window moves as (partition by score_date order by event_id)
    ) as v on v.publication_id = p.publication_id
"""
_FIRST = """
    select distinct on (score_date) score_date, publication_id
    from nightscore.publication_event where pipeline = {pipeline} and publication_id is not null
    order by score_date, event_id
"""
_ROWS = (
    "select {columns} from {mart} m join ({seen}) as h "
    "on h.score_date = m.score_date and h.publication_id = m.publication_id"
)
# Not a SECURITY DEFINER, so that the planner merges it into the query and a filter prunes; `$1`, because a published
# column may be called `at`. The body's names are bound when it is made, so no search_path can bend it.
_AS_OF = """
    create or replace function {function}(at timestamptz) returns setof {current}
    language sql stable parallel safe
    begin atomic
        select {columns} from {revisions} r
        where r.published_from <= $1 and (r.published_until is null or r.published_until > $1);
    end
"""


def first_query(pipeline: str, names: Sequence[str]) -> sql.Composed:
    """The columns `names` of every night's rows, in the revision that readers saw first."""
    columns = sql.SQL(", ").join(sql.Identifier("m", name) for name in names)
    return _rows(pipeline, columns, _FIRST)


def revision_columns(current: Sequence[MartColumn]) -> list[MartColumn]:
    """The columns of the revisions' view, given those of the current one."""
    own = [MartColumn(_shown(column.name), column.sql_type, column.comment) for column in current]
    return [*own, *HISTORY]


def revisions_query(pipeline: str, current: Sequence[MartColumn], order: Sequence[str]) -> sql.Composed:
    """Every revision that readers ever saw, once for each time they saw it; the view's columns in `order`."""
    sources = {_shown(column.name): sql.Identifier("m", column.name) for column in current}
    sources |= {column.name: sql.Identifier("h", column.name) for column in HISTORY}
    columns = sql.SQL(", ").join(sql.SQL("{} as {}").format(sources[name], sql.Identifier(name)) for name in order)
    return _rows(pipeline, columns, _TIMES)


def as_of_statement(pipeline: str, current: Sequence[MartColumn]) -> sql.Composed:
    """DDL of the function of an instant whose rows are those that the current view had then, column by column."""
    return sql.SQL(_AS_OF).format(
        function=sql.Identifier("bi", f"{pipeline}_as_of"),
        current=sql.Identifier("bi", f"{pipeline}_current"),
        revisions=sql.Identifier("bi", f"{pipeline}_revisions"),
        columns=sql.SQL(", ").join(sql.Identifier("r", _shown(column.name)) for column in current),
    )


def _rows(pipeline: str, columns: sql.Composable, seen: LiteralString) -> sql.Composed:
    times = sql.SQL(seen).format(pipeline=sql.Literal(pipeline))
    return sql.SQL(_ROWS).format(columns=columns, mart=sql.Identifier("mart", pipeline), seen=times)


def _shown(name: str) -> str:
    """A published column that is called like one of the history's has another name beside it."""
    return f"row_{name}" if name in {column.name for column in HISTORY} else name
