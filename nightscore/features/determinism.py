"""Feature SQL that cannot promise one result, found before it is run: the model, its column, why and what to write.

The types are DuckDB's own, asked of empty tables; the reading of the SQL is sqlglot's. Not seen: an ORDER BY with ties.
Added here: how findings are gathered and named. Not here: the rules (`undetermined.py`), where a model's column comes
from (`carriers.py`), or a check of results, which is what repeating a build is for.
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from graphlib import TopologicalSorter
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from nightscore.errors import Undetermined
from nightscore.features.carriers import carriers
from nightscore.features.dbt import load_manifest, run_dbt
from nightscore.features.undetermined import Question, examine, questions_of
from nightscore.settings import Settings
from nightscore.spec.base import ColumnType
from nightscore.spec.pipeline import Pipeline

Columns = Mapping[str, str]
"""DuckDB's type of each column."""

_DUCKDB_TYPES: Mapping[ColumnType, str] = {
    "integer": "BIGINT", "float": "DOUBLE", "string": "VARCHAR", "boolean": "BOOLEAN", "date": "DATE",
    "timestamp": "TIMESTAMP WITH TIME ZONE",
}  # fmt: skip
_NO_MATTER_TO_TYPES = (
    "with_",
    "where",
    "having",
    "qualify",
    "order",
    "limit",
    "offset",
    "distinct",
    "sample",
    "windows",
)


@dataclass(frozen=True)
class Finding:
    """One column of a model (`*`: which rows it has, `cte.column`: inside it) that may differ from run to run."""

    model: str
    column: str
    expression: str
    why: str
    remedy: str


@dataclass(frozen=True)
class Model:
    """One compiled model: the (schema, name) that others read it by, and its SQL; None for a model in Python."""

    schema: str
    name: str
    sql: str | None


def find_undetermined(settings: Settings, pipeline: Pipeline) -> list[Finding]:
    """Everything in the models of `pipeline` that cannot promise one result, in the order the models are built.

    Raises FeatureBuildFailed when dbt cannot compile them.
    """
    sources = {
        name: {**{column.name: _DUCKDB_TYPES[column.type] for column in source.columns}, "known_on": "DATE"}
        for name, source in pipeline.sources.items()
    }
    return find_in(_compile(settings, pipeline), sources)


def require_determined(settings: Settings, pipeline: Pipeline) -> None:
    """Raises Undetermined, naming every finding and its remedy."""
    found = find_undetermined(settings, pipeline)
    if found:
        raise Undetermined(
            f"reading the feature SQL of {pipeline.name}",
            [f"{one.model}.{one.column}: {one.expression}: {one.why}; {one.remedy}" for one in found],
            f"correct these models under dbt/models/{pipeline.name}",
        )


def find_in(models: Sequence[Model], sources: Mapping[str, Columns], catalog: str = "scratch") -> list[Finding]:
    """The findings of `models`, in order; each may read `clean.<source>` and the models before it."""
    import duckdb

    with duckdb.connect() as database:
        database.execute(f"attach ':memory:' as \"{catalog}\"")
        database.execute(f'use "{catalog}"')
        for statement in ("set TimeZone = 'UTC'", "set enable_external_access = false", "create schema clean"):
            database.execute(statement)
        reader = _Reader(database, catalog)
        for name, columns in sources.items():
            reader.add("clean", name, ", ".join(f'"{column}" {kind}' for column, kind in columns.items()))
        return [finding for model in models for finding in reader.read(model)]


def _compile(settings: Settings, pipeline: Pipeline) -> list[Model]:
    night = pipeline.score_dates.start
    variables = {"start_date": night, "end_date": night, "horizon_days": pipeline.label.horizon_days}
    selected = ["--select", f"nightscore.{pipeline.name},resource_type:model"]
    parent = settings.home_path / "scratch"
    parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=parent, prefix=f"{os.getpid()}-") as folder:
        environment = {
            "NIGHTSCORE_SCRATCH": str(Path(folder) / "scratch.duckdb"),
            "NIGHTSCORE_DUCKDB_MEMORY": settings.memory_limit, "NIGHTSCORE_DUCKDB_THREADS": str(settings.threads),
        }  # fmt: skip
        command = ["compile", *selected, "--no-populate-cache", "--no-write-json"]
        run_dbt(settings, "features", command, variables, environment)
    return _in_build_order(load_manifest(settings, "features").nodes, pipeline.name)


def _in_build_order(nodes: Mapping[str, Any], folder: str) -> list[Model]:
    """The models; dbt leaves the compiled SQL on the nodes of the manifest it was given."""
    own = {key: node for key, node in nodes.items() if node.resource_type == "model" and node.fqn[1] == folder}
    graph = {key: sorted(set(node.depends_on.nodes) & set(own)) for key, node in sorted(own.items())}
    ordered = [own[key] for key in TopologicalSorter(graph).static_order()]
    return [Model(node.schema, node.name, node.compiled_code if node.language == "sql" else None) for node in ordered]


class _Reader:
    """Reads models one after the other into an empty database, where the next ones find their types."""

    def __init__(self, database: Any, catalog: str) -> None:
        self._database = database
        self._catalog = catalog
        self._schema: dict[str, Any] = {catalog: {}}

    def add(self, schema: str, name: str, columns: str) -> None:
        self._database.execute(f'create table "{schema}"."{name}" ({columns})')
        self._remember(schema, name)

    def read(self, model: Model) -> list[Finding]:
        import duckdb
        from sqlglot.errors import SqlglotError

        if model.sql is None:
            return [_unread(model, "a Python model says nothing of what it computes", "write it in SQL")]
        try:
            findings = self._examine(model.name, model.sql)
            self._database.execute(f'create schema if not exists "{model.schema}"')
            self._database.execute(f'create table "{model.schema}"."{model.name}" as {model.sql} with no data')
            self._remember(model.schema, model.name)
        except (duckdb.Error, SqlglotError) as error:
            reason = str(error).strip().splitlines()[0]
            return [_unread(model, f"its SQL cannot be read ({reason})", "correct it, or write it more plainly")]
        return findings

    def _remember(self, schema: str, name: str) -> None:
        described = self._describe(f'from "{schema}"."{name}"')
        self._schema[self._catalog].setdefault(schema, {})[name] = described

    def _describe(self, query: str) -> dict[str, str]:
        return {row[0]: row[1] for row in self._database.execute(f"describe {query}").fetchall()}

    def _examine(self, name: str, sql: str) -> list[Finding]:
        import sqlglot
        from sqlglot.optimizer.qualify import qualify

        parsed = sqlglot.parse_one(sql, dialect="duckdb")
        tree: Any = qualify(
            parsed, dialect="duckdb", schema=self._schema, catalog=self._catalog, validate_qualify_columns=False,
            quote_identifiers=False, identify=False,
        )  # fmt: skip
        asked = questions_of(tree)
        types = self._types_of(asked)
        answers = [(one.node, examine(one, types.get(id(one.node)))) for one in asked]
        found = [(node, *answer) for node, answer in answers if answer]
        named = [
            Finding(name, column, _shown(node), why, remedy)
            for (node, why, remedy), columns in zip(found, carriers(tree, [node for node, *_ in found]), strict=True)
            for column in columns
        ]
        return list(dict.fromkeys(named))

    def _types_of(self, asked: Sequence[Question]) -> dict[int, str]:
        """DuckDB's type of what each aggregate adds up, by the id of the aggregate; absent where it cannot tell."""
        selects: dict[int, list[Question]] = {}
        for one in asked:
            if one.argument is not None:
                selects.setdefault(id(one.select), []).append(one)
        answers: dict[int, str] = {}
        for together in selects.values():
            for group in (together, *([one] for one in together)):
                missing = [one for one in group if id(one.node) not in answers]
                answers.update(self._probe(missing) if missing else {})
        return answers

    def _probe(self, asked: Sequence[Question]) -> dict[int, str]:
        import duckdb

        try:
            types = self._describe(_probe_sql(asked)).values()
        except duckdb.Error:
            return {}
        return {id(one.node): kind for one, kind in zip(asked, types, strict=True)}


def _probe_sql(asked: Sequence[Question]) -> str:
    """The arguments of aggregates of one select, as a query of its own over the same tables and the CTEs before it."""
    from sqlglot import exp

    select = asked[0].select
    probe = select.copy()
    for part in _NO_MATTER_TO_TYPES:
        probe.set(part, None)
    if not any(one.argument.find(exp.AggFunc) for one in asked):
        probe.set("group", None)
    arguments = [one.argument.copy() for one in asked]
    probe.set("expressions", [exp.alias_(argument, f"a{at}") for at, argument in enumerate(arguments)])
    before = [cte.sql(dialect="duckdb") for cte in _ctes_before(select)]
    recursive = any(one.args.get("recursive") for one in _withs_around(select))
    opening = f"with {'recursive ' if recursive else ''}{', '.join(before)} " if before else ""
    return opening + str(probe.sql(dialect="duckdb"))


def _withs_around(select: Any) -> list[Any]:
    around = []
    node = select
    while node is not None:
        if node.args.get("with_"):
            around.append(node.args["with_"])
        node = node.parent
    return around[::-1]


def _ctes_before(select: Any) -> list[Any]:
    """The CTEs that `select` may read: all around it up to the one it stands in."""
    inside = set()
    node = select
    while node is not None:
        inside.add(id(node))
        node = node.parent
    readable = []
    for around in _withs_around(select):
        for cte in around.expressions:
            if id(cte) in inside and not around.args.get("recursive"):
                break
            readable.append(cte)
    return readable


def _shown(node: Any) -> str:
    text = str(node.sql(dialect="duckdb", normalize_functions="lower"))
    return text if len(text) <= 120 else f"{text[:117]}..."


def _unread(model: Model, why: str, remedy: str) -> Finding:
    return Finding(model.name, "*", "the whole model", why, remedy)
