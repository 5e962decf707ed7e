"""Rows of the mart that readers saw, found by what names them; a revision that was only staged is not among them.

Added here: another way to find a published row. Not here: what is done with it (`feedback.py`).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any

import sqlalchemy as sa
from psycopg import Connection, sql

from nightscore.catalog.tables import publication_event
from nightscore.spec.pipeline import Pipeline
from nightscore.training.matrix import SCORE_DATE, row_key

_FIND = """
    select a.position, m.publication_id, m.score_date, m.rank, m.decision, {key}
    from unnest(%s::int[], {arrays}) as a (position, {names})
    join {mart} as m on {same}
    where m.score_date = any(%s::date[]) and m.publication_id in (
        select publication_id from nightscore.publication_event where pipeline = %s
    )
    order by m.publication_id
"""
_LARGEST = 2**63
_PARSERS: Mapping[str, Callable[[str], Any]] = {
    "bigint": int, "double precision": float, "date": date.fromisoformat,
    "timestamp with time zone": datetime.fromisoformat, "boolean": {"true": True, "false": False}.__getitem__,
}  # fmt: skip


@dataclass(frozen=True)
class PublishedRow:
    """A row of a publication; `key` as JSON, without the score date."""

    publication_id: int
    score_date: date
    rank: int | None
    decision: bool | None
    key: Mapping[str, Any]


def as_json_key(values: Mapping[str, Any]) -> dict[str, Any]:
    """A key as the catalog keeps it: dates and instants (in UTC) as ISO text."""
    return {name: _as_json(value) for name, value in values.items()}


def _as_json(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat()
    return value.isoformat() if isinstance(value, date) else value


def parse_value(text: str, sql_type: str) -> Any:
    """`text` as a value of a column of `sql_type`; None where it is none."""
    try:
        value = _PARSERS.get(sql_type, str)(text)
    except (ValueError, KeyError):
        return None
    return None if isinstance(value, int) and not -_LARGEST <= value < _LARGEST else value


def published_nights(connection: sa.Connection, pipeline: str) -> frozenset[date]:
    """Every night that readers ever saw."""
    seen = publication_event.c.publication_id.is_not(None)
    query = sa.select(publication_event.c.score_date).where(publication_event.c.pipeline == pipeline, seen)
    return frozenset(connection.scalars(query.distinct()))


def column_types(connection: sa.Connection, pipeline: str) -> dict[str, str]:
    """The columns of a pipeline's mart with their types in SQL; none before its first publication."""
    query = sa.text(
        "select attname::text, format_type(atttypid, atttypmod) from pg_attribute "
        "where attrelid = to_regclass(:mart) and attnum > 0 and not attisdropped"
    )
    return {str(row[0]): str(row[1]) for row in connection.execute(query, {"mart": f'mart."{pipeline}"'})}


def find_rows(
    connection: sa.Connection, pipeline: Pipeline, names: Sequence[str], asked: Sequence[Mapping[str, Any] | None]
) -> list[PublishedRow | None]:
    """For each of `asked` the row with these values of the columns `names`, in the newest revision that has it."""
    rows = {at: row for at, row in enumerate(asked) if row is not None}
    types = column_types(connection, pipeline.name)
    if not rows or not types:
        return [None] * len(asked)
    raw: Connection[Any] = connection.connection.driver_connection  # type: ignore[assignment]
    values = [[row[name] for row in rows.values()] for name in names]
    nights = list({row[SCORE_DATE] for row in rows.values()})
    statement = _statement(pipeline, names, types)
    found = raw.execute(statement, [list(rows), *values, nights, pipeline.name]).fetchall()
    by_position = {one[0]: _row(pipeline, one) for one in found}
    return [by_position.get(at) for at in range(len(asked))]


def _statement(pipeline: Pipeline, names: Sequence[str], types: Mapping[str, str]) -> sql.Composed:
    same = [sql.SQL("{} = {}").format(sql.Identifier("m", name), sql.Identifier("a", name)) for name in names]
    # The types are PostgreSQL's own names of them, read from its catalog.
    arrays = [sql.SQL("%s::{}[]").format(sql.SQL(types[name])) for name in names]
    return sql.SQL(_FIND).format(
        key=sql.SQL(", ").join(sql.Identifier("m", name) for name in row_key(pipeline)[1:]),
        arrays=sql.SQL(", ").join(arrays), names=sql.SQL(", ").join(sql.Identifier(name) for name in names),
        mart=sql.Identifier("mart", pipeline.name), same=sql.SQL(" and ").join(same),
    )  # fmt: skip


def _row(pipeline: Pipeline, found: Sequence[Any]) -> PublishedRow:
    _, publication_id, night, rank, decision, *key = found
    named = as_json_key(dict(zip(row_key(pipeline)[1:], key, strict=True)))
    return PublishedRow(publication_id, night, rank, decision, named)
