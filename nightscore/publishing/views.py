"""What BI tools read of a pipeline: its current and latest nights and their history, with comments and grants.

Views run with their owner's rights, so the reader's role needs no right on the tables behind them and can never read
an unpublished revision (docs/decisions/0002-views-with-owner-rights.md). Those over history are barriers besides: no
condition of a reader's is tried on a row before it is known to have been published, so none can tell of it by failing.
Added here: a view that every pipeline has. Not here: marts over all pipelines, which are dbt models (`marts.py`).
"""

import hashlib
import json
from collections.abc import Callable
from typing import Any

import sqlalchemy as sa
from psycopg import Connection, OperationalError, sql
from pydantic import SecretStr

from nightscore.catalog.connect import database_unavailable
from nightscore.catalog.facts import read_fact, write_fact
from nightscore.lake.workspace import Workspace
from nightscore.publishing.bitemporal import as_of_statement, first_query, revision_columns, revisions_query
from nightscore.publishing.mart import MartColumn
from nightscore.publishing.marts import build_marts, marts_hash
from nightscore.spec.pipeline import Pipeline

READER = "bi_reader"
LOCK_TIMEOUT = "2s"
SHAPE = 2
"""Raise when the SQL of the views changes, here or in `bitemporal.py`, so that deployments rebuild them."""


def ensure_views(
    workspace: Workspace, pipeline: Pipeline, columns: list[MartColumn],
    ensure_table: Callable[[sa.Connection], None],
) -> list[str]:  # fmt: skip
    """Make table, views, comments and grants in the declared shape; returns the marts that were built, if any.

    Raises DatabaseUnavailable when open readers do not let the shape change soon.
    """
    shape, marts = _shape_hash(pipeline, columns), marts_hash(workspace)
    with workspace.engine.connect() as connection:
        same_shape = read_fact(connection, f"mart:{pipeline.name}") == shape
        same_marts = read_fact(connection, "marts") == marts
    if not same_shape:
        try:
            _change_shape(workspace, pipeline, columns, ensure_table)
        except OperationalError as error:
            raise database_unavailable(f"Changing the views of {pipeline.name}", error) from error
        _remember(workspace, f"mart:{pipeline.name}", shape)
    if same_marts:
        return []
    built = build_marts(workspace)
    _remember(workspace, "marts", marts)
    return [node.name for node in built if node.kind == "model"]


def _change_shape(
    workspace: Workspace, pipeline: Pipeline, columns: list[MartColumn],
    ensure_table: Callable[[sa.Connection], None],
) -> None:  # fmt: skip
    with workspace.engine.begin() as connection:
        connection.execute(sa.text("select pg_advisory_xact_lock(hashtext('nightscore:views'))"))
        # While we wait for a view that an open transaction has read, its new readers would wait behind us.
        connection.execute(sa.text(f"set local lock_timeout = '{LOCK_TIMEOUT}'"))
        ensure_table(connection)
        _make_reader(connection, workspace.settings.reader_password)
        _make_views(connection, pipeline, columns)


def _remember(workspace: Workspace, name: str, value: str) -> None:
    with workspace.engine.begin() as connection:
        write_fact(connection, name, value, workspace.clock.now())


def _shape_hash(pipeline: Pipeline, columns: list[MartColumn]) -> str:
    shape = [SHAPE, pipeline.description, pipeline.publish.description, [vars(column) for column in columns]]
    return hashlib.sha256(json.dumps(shape, sort_keys=True).encode()).hexdigest()


def _make_reader(connection: sa.Connection, password: SecretStr | None) -> None:
    exists = connection.scalar(sa.text("select 1 from pg_roles where rolname = :role"), {"role": READER})
    if not exists:
        connection.execute(sa.text(f"create role {READER} login"))
        connection.execute(sa.text(f"alter role {READER} set default_transaction_read_only = on"))
        connection.execute(sa.text(f"alter role {READER} set statement_timeout = '5min'"))
        connection.execute(sa.text(f"alter role {READER} set idle_in_transaction_session_timeout = '10min'"))
    if password is not None:
        raw: Connection[Any] = connection.connection.driver_connection  # type: ignore[assignment]
        secret = sql.Literal(password.get_secret_value())
        raw.execute(sql.SQL("alter role {} password {}").format(sql.Identifier(READER), secret))
    connection.execute(sa.text(f"grant usage on schema bi to {READER}"))
    connection.execute(sa.text(f"revoke all on schema mart, nightscore from {READER}"))


def _make_views(connection: sa.Connection, pipeline: Pipeline, columns: list[MartColumn]) -> None:
    raw: Connection[Any] = connection.connection.driver_connection  # type: ignore[assignment]
    about = f"{pipeline.description}. {pipeline.publish.description}".strip()
    condition = sql.SQL("")
    newest = sql.SQL(
        " where m.score_date = (select max(score_date) from nightscore.publication_current where pipeline = {})"
    ).format(sql.Literal(pipeline.name))
    for suffix, where, text in (
        ("current", condition, "every published night, each in its current revision"),
        ("latest", newest, "the latest published night"),
    ):
        name = f"{pipeline.name}_{suffix}"
        query = _query(pipeline.name, _in_view_order(connection, name, columns), where)
        raw.execute(
            sql.SQL("create or replace view {} with (security_barrier) as {}").format(sql.Identifier("bi", name), query)
        )
        _describe(raw, name, f"{about} ({text})", columns)
    _make_history(connection, pipeline.name, about)


def _make_history(connection: sa.Connection, pipeline: str, about: str) -> None:
    """Two views and a function over earlier revisions, with all columns that the current view has."""
    raw: Connection[Any] = connection.connection.driver_connection  # type: ignore[assignment]
    current = _columns_of(connection, f"{pipeline}_current")
    columns = revision_columns(current)
    order = _in_view_order(connection, f"{pipeline}_revisions", columns)
    seen = f"every revision that readers ever saw, once for each time they saw it; {pipeline}_as_of(at) is one instant"
    for suffix, query, text, shown in (
        ("as_first_published", first_query(pipeline, [column.name for column in current]),
         "every published night, each in the revision that readers saw first", current),
        ("revisions", revisions_query(pipeline, current, order), seen, columns),
    ):  # fmt: skip
        view = sql.Identifier("bi", f"{pipeline}_{suffix}")
        raw.execute(sql.SQL("create or replace view {} with (security_barrier) as {}").format(view, query))
        _describe(raw, f"{pipeline}_{suffix}", f"{about} ({text})", shown)
    raw.execute(as_of_statement(pipeline, current))
    _describe_function(raw, pipeline, f"{about} (what {pipeline}_current showed at an instant, every night)")


def _describe_function(raw: Connection[Any], pipeline: str, comment: str) -> None:
    function, reader = sql.Identifier("bi", f"{pipeline}_as_of"), sql.Identifier(READER)
    raw.execute(sql.SQL("comment on function {} is {}").format(function, sql.Literal(comment)))
    raw.execute(sql.SQL("revoke all on function {} from public").format(function))
    raw.execute(sql.SQL("grant execute on function {} to {}").format(function, reader))


def _columns_of(connection: sa.Connection, view: str) -> list[MartColumn]:
    """The columns of a view as it stands, those included that are no longer published."""
    query = sa.text(
        "select attname, format_type(atttypid, atttypmod), coalesce(col_description(attrelid, attnum), '') "
        "from pg_attribute where attrelid = to_regclass('bi.' || :view) and attnum > 0 order by attnum"
    )
    return [MartColumn(*map(str, row)) for row in connection.execute(query, {"view": view})]


def _query(pipeline: str, names: list[str], where: sql.Composable) -> sql.Composed:
    listed = sql.SQL(", ").join(sql.Identifier("m", name) for name in names)
    joined = sql.SQL(
        "select {} from {} m join nightscore.publication_current c on c.pipeline = {} "
        "and c.score_date = m.score_date and c.publication_id = m.publication_id"
    ).format(listed, sql.Identifier("mart", pipeline), sql.Literal(pipeline))
    return sql.Composed([joined, where])


def _in_view_order(connection: sa.Connection, view: str, columns: list[MartColumn]) -> list[str]:
    """The view's columns as they stand, then the new ones: readers' queries survive every change."""
    query = sa.text(
        "select column_name from information_schema.columns "
        "where table_schema = 'bi' and table_name = :view order by ordinal_position"
    )
    standing = [str(name) for name in connection.scalars(query, {"view": view})]
    return [*standing, *(column.name for column in columns if column.name not in standing)]


def _describe(raw: Connection[Any], name: str, comment: str, columns: list[MartColumn]) -> None:
    view = sql.Identifier("bi", name)
    raw.execute(sql.SQL("comment on view {} is {}").format(view, sql.Literal(comment)))
    for column in columns:
        target = sql.Identifier("bi", name, column.name)
        raw.execute(sql.SQL("comment on column {} is {}").format(target, sql.Literal(column.comment or None)))
    raw.execute(sql.SQL("grant select on {} to {}").format(view, sql.Identifier(READER)))
