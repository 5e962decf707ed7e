"""The mart's table of a pipeline: its columns from the spec, its DDL, its growth by added columns and partitions.

Partitioned by (score date, publication), so revisions of one night stand side by side and a date filter prunes.
Added here: a column that every published row has. Not here: loading rows (`publish.py`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl
import sqlalchemy as sa
from psycopg import Connection, sql

from nightscore.catalog.publications import Publication
from nightscore.spec.pipeline import Pipeline

TYPES_OF_FRAME: dict[type[pl.DataType] | pl.DataType, str] = {
    pl.Int64: "bigint", pl.Int32: "bigint", pl.Float64: "double precision", pl.String: "text",
    pl.Boolean: "boolean", pl.Date: "date", pl.Datetime("us", "UTC"): "timestamptz",
}  # fmt: skip
SHARED = ("publication_id", "score_date", "scored_at")
"""The columns whose values all rows of a publication share."""
_LACKING = """
    select attname, format_type(atttypid, atttypmod), attnotnull from pg_attribute
    where attrelid = %s::regclass and attnum > 0 and not attisdropped and attname not in
        (select attname from pg_attribute where attrelid = %s::regclass)
    order by attnum
"""


@dataclass(frozen=True)
class MartColumn:
    """One column of the mart's table, in SQL's terms, with the comment readers see."""

    name: str
    sql_type: str
    comment: str


def mart_columns(pipeline: Pipeline, schema: pl.Schema) -> list[MartColumn]:
    """The columns of a pipeline's mart table, given the schema of its predictions."""
    described = _descriptions(pipeline)
    made = [
        MartColumn(name, TYPES_OF_FRAME[dtype], described.get(name, ""))
        for name, dtype in schema.items()
        if name != "score_date"
    ]
    return [
        MartColumn("publication_id", "bigint", "the publication this row belongs to; one is current a night"),
        MartColumn("score_date", "date", "the night the row was scored for, a local calendar date"),
        *made,
        MartColumn("scored_at", "timestamptz", "the instant the night's scores were made, UTC"),
    ]


def _descriptions(pipeline: Pipeline) -> dict[str, str]:
    score = "probability of the label being 1" if pipeline.task == "binary" else "predicted value of the label"
    keys = dict.fromkeys(pipeline.entity.key, f"key of the {pipeline.entity.name}")
    columns = [column for source in pipeline.sources.values() for column in source.columns]
    return {
        **keys,
        **{name: f"feature {name}, as the night knew it" for name in pipeline.feature_names},
        **{column.name: column.description for column in columns if column.description},
        **{column.name: column.description for column in pipeline.features.columns if column.description},
        "score": f"{score}, as the model gave it ({pipeline.label.description or pipeline.label.column})",
        "probability": "calibrated probability; equal to the score while the version has no calibration",
        "decision": "what to do: true where the decision rule or a business rule says yes",
        "decision_reason": "the rule that decided: threshold, top_k or the name of a business rule",
        "rank": "1 for the highest probability (or score) of the night; ties go to the higher score, then to the key",
        "decile": "1 for the tenth of the night that ranks highest, 10 for the lowest",
        "reason_codes": "what moved the score most, strongest first: feature = value (effect before the link function)",
        "model_version": "version of the model that scored the row; see dim_model",
        "arm": "which arm of a rollout scored the row; champion outside of rollouts",
    }


def ensure_table(connection: sa.Connection, pipeline: str, columns: list[MartColumn]) -> None:
    """Create the mart table, or add the columns it lacks; nothing is ever dropped or retyped."""
    raw = connection.connection.driver_connection
    assert raw is not None
    table = sql.Identifier("mart", pipeline)
    listed = sql.SQL(", ").join(_definition(column) for column in columns)
    statement = sql.SQL("create table if not exists {} ({}) partition by range (score_date, publication_id)")
    raw.execute(statement.format(table, listed))
    for column in columns:
        added = sql.SQL("alter table {} add column if not exists {}").format(table, _definition(column))
        raw.execute(added)


def _definition(column: MartColumn) -> sql.Composed:
    required = sql.SQL(" not null" if column.name in {"publication_id", "score_date"} else "")
    return sql.SQL("{} {}{}").format(sql.Identifier(column.name), sql.SQL(column.sql_type), required)


def create_partition(
    raw: Connection[Any], made: Publication, key: Sequence[str], columns: Sequence[str]
) -> sql.Identifier:
    """An empty table of some `columns` of the mart's for a publication's rows, outside of it as yet; its name."""
    fresh, parent = _partition(made), sql.Identifier("mart", made.pipeline)
    listed = sql.SQL(", ").join(map(sql.Identifier, columns))
    raw.execute(sql.SQL("create table {} as select {} from {} with no data").format(fresh, listed, parent))
    # Said of the empty table, so that the primary key need not read the rows to find no null.
    required = [sql.SQL("alter {} set not null").format(sql.Identifier(name)) for name in key]
    raw.execute(sql.SQL("alter table {} {}").format(fresh, sql.SQL(", ").join(required)))
    return fresh


def add_shared(raw: Connection[Any], made: Publication, values: Mapping[str, Any]) -> None:
    """Give the table of a publication the rest of the mart's columns: `values`, and nothing in others.

    PostgreSQL keeps what a column that is added later holds once for the table, not in each row.
    """
    fresh, parent = _partition(made), sql.Identifier("mart", made.pipeline)
    lacking = raw.execute(_LACKING, [parent.as_string(raw), fresh.as_string(raw)]).fetchall()
    added = [
        sql.SQL("add column {} {}{} default {}").format(
            sql.Identifier(name), sql.SQL(kind), sql.SQL(" not null" if required else ""),
            sql.Literal(values.get(name)),
        )
        for name, kind, required in lacking
    ]  # fmt: skip
    raw.execute(sql.SQL("alter table {} {}").format(fresh, sql.SQL(", ").join(added)))


def attach_partition(raw: Connection[Any], made: Publication, key: Sequence[str]) -> None:
    """Make the table of a publication, which is filled, unique by `key` and a part of the mart's."""
    fresh, parent = _partition(made), sql.Identifier("mart", made.pipeline)
    night, first, after = sql.Literal(made.score_date), made.publication_id, made.publication_id + 1
    # Without the score date, which is one for the whole partition: a smaller index that also finds a key's nights.
    keys = sql.SQL(", ").join(sql.Identifier(name) for name in key)
    raw.execute(sql.SQL("alter table {} add primary key ({})").format(fresh, keys))
    # The check says what the partition bound says, so attaching need not read the rows again.
    raw.execute(
        sql.SQL("alter table {} add check (score_date = {} and publication_id >= {} and publication_id < {})").format(
            fresh, night, first, after
        )
    )
    raw.execute(
        sql.SQL("alter table {} attach partition {} for values from ({}, {}) to ({}, {})").format(
            parent, fresh, night, first, night, after
        )
    )


def _partition(made: Publication) -> sql.Identifier:
    return sql.Identifier("mart", f"{made.pipeline}_p{made.publication_id}")
