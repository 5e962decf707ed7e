"""What must hold for a metric that a spec declares in SQL: one query over `rows` and nothing else that can be read.

Added here: a rule about declared SQL figures. Not here: their notation (`outcomes.py`), or how they are computed.
"""

from collections.abc import Iterator
from typing import Any

from nightscore.spec.outcomes import BusinessMetric
from nightscore.spec.pipeline import Finding, Pipeline

RELATION = "rows"
PUBLISHED = (
    "score_date",
    "score",
    "probability",
    "decision",
    "decision_reason",
    "rank",
    "decile",
    "model_version",
    "arm",
)
"""The columns that every pipeline publishes beside its key."""
_NEEDED = frozenset({"metrics", "entity", "publish", "label"})


def query_of(metric: BusinessMetric) -> str:
    """The whole query of a metric; a comment at the end of an expression ends with its line."""
    if metric.sql is not None:
        return metric.sql
    return f"select (\n{metric.expression}\n) from {RELATION}"  # noqa: S608 (SQL of the spec, run in a sandbox)


def check_metrics(spec: Pipeline) -> list[Finding]:
    """Every metric of `spec` whose SQL is no single query over `rows`, or names a column that they do not have."""
    if not set(vars(spec)) >= _NEEDED:
        return []
    return [
        (("metrics", at, "expression" if metric.sql is None else "sql"), found, expected)
        for at, metric in enumerate(spec.metrics)
        if (metric.expression is None) != (metric.sql is None)
        for found, expected in _mistakes(spec, metric)
    ]


def columns_of_rows(spec: Pipeline) -> tuple[str, ...]:
    """The columns of `rows`, in no particular order."""
    reasons = ("reason_codes",) if spec.publish.reasons else ()
    own = (*spec.entity.key, *spec.publish.columns, spec.label.column, "label_source")
    return tuple(dict.fromkeys((*PUBLISHED, *own, *reasons)))


def _mistakes(spec: Pipeline, metric: BusinessMetric) -> Iterator[tuple[str, str]]:
    import sqlglot
    from sqlglot import exp
    from sqlglot.errors import SqlglotError

    try:
        statements = sqlglot.parse(query_of(metric), dialect="duckdb")
    except SqlglotError as error:
        yield f"SQL that cannot be read ({_first_line(error)})", "SQL of DuckDB"
        return
    if len(statements) != 1 or not isinstance(statements[0], exp.Query):
        yield f"{len(statements)} statements" if len(statements) != 1 else "no query", "one select"
        return
    yield from _tables(statements[0])
    if metric.expression is not None:
        yield from _shape(statements[0])
        yield from _columns(statements[0], columns_of_rows(spec))


def _tables(query: Any) -> Iterator[tuple[str, str]]:
    """What FROM names beside `rows` and the query's own parts, such as a file or a function that reads one."""
    from sqlglot import exp

    own = {RELATION, *(one.alias_or_name.lower() for one in query.find_all(exp.CTE))}
    for table in query.find_all(exp.Table):
        if not isinstance(table.this, exp.Identifier) or table.db or table.name.lower() not in own:
            yield f"a query of {table.sql(dialect='duckdb')}", f"only {RELATION} to be read"


def _shape(query: Any) -> Iterator[tuple[str, str]]:
    from sqlglot import exp

    if not isinstance(query, exp.Select) or isinstance(query.expressions[0], exp.Tuple):
        yield "several expressions", "one aggregate"
    elif not query.find(exp.AggFunc, exp.AnonymousAggFunc, exp.Anonymous, exp.Subquery):
        yield "no aggregate", "one number of all rows, such as sum(score) or count(*)"


def _columns(query: Any, known: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    """Unknown columns of an expression; where it has queries or lambdas of its own, names may be theirs."""
    from sqlglot import exp

    if query.find(exp.Subquery, exp.Lambda):
        return
    named = dict.fromkeys(one.name for one in query.find_all(exp.Column))
    for name in named:
        if name.lower() not in known:
            yield f"the column {name}", f"one of {', '.join(known)}"


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0]
