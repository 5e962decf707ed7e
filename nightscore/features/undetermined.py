"""The rules of determined SQL: which functions and clauses may give another result in another run, and what to write.

Measured on DuckDB: with two threads the order of rows is not the same from run to run, so whatever follows it is not.
Added here: a function or clause that depends on it. Not here: types of arguments, or the column that is affected.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

Answer = tuple[str, str]
"""(why the result may differ, what to write instead)"""

_ORDER = "the result follows the order of the rows, which is not the same in every run"
_FLOATS = "floating-point sums depend on the order of the rows, which changes with the threads"

SUMS = frozenset({"sum", "avg", "mean", "sum_no_overflow", "decimal_average"})
"""Exact over integers and decimals alone."""

_KINDS: tuple[tuple[str, str, str], ...] = (
    (
        "stddev stddev_pop stddev_samp variance variance_pop var_pop var_samp sem corr covar_pop covar_samp kurtosis "
        "kurtosis_pop skewness entropy product fsum favg kahan_sum sumkahan geomean wavg weighted_avg regr_avgx "
        "regr_avgy regr_intercept regr_r2 regr_slope regr_sxx regr_sxy regr_syy lttb",
        f"{_FLOATS}, and it computes in floating point whatever it is given",
        "build it from exact sums, or say ORDER BY and a unique key inside the call",
    ),
    (
        "first last any_value arbitrary arg_max arg_min arg_max_null arg_min_null arg_max_nulls_last "
        "arg_min_nulls_last argmax argmin max_by min_by mode list array_agg group_concat string_agg listagg "
        "json_group_array json_array_agg json_group_object json_object_agg variant_group_array variant_group_object "
        "combine_aggr",
        _ORDER,
        "say ORDER BY and a unique key inside the call, or use min or max",
    ),
    (
        "row_number ntile lag lead first_value last_value nth_value fill",
        _ORDER,
        "say ORDER BY and a unique key in its window",
    ),
)
"""(functions that need an order, why, what to write)"""

_NEVER: tuple[tuple[str, str, str], ...] = (
    (
        "approx_count_distinct approx_distinct approx_quantile approx_top_k reservoir_quantile",
        "an approximation depends on how the rows were split among threads",
        "use the exact function",
    ),
    (
        "random rand setseed uuid uuidv4 uuidv7 gen_random_uuid now today ago get_current_time get_current_timestamp "
        "current_date current_time current_timestamp current_timestamp_l_t_z current_datetime current_localtime "
        "current_localtimestamp localtime localtimestamp transaction_timestamp nextval currval setval txid_current "
        "current_transaction_id current_connection_id current_query current_query_id current_setting getvariable "
        "stats vector_type pg_conf_load_time pg_postmaster_start_time",
        "it is of the run and not of the data",
        "take dates from the variables start_date and end_date, and all else from the data",
    ),
)
"""(functions that no order helps, why, what to write)"""


def _by_name(kinds: tuple[tuple[str, str, str], ...]) -> dict[str, Answer]:
    return {name: (why, remedy) for names, why, remedy in kinds for name in names.split()}


NEED_ORDER = _by_name(_KINDS)
NEVER = _by_name(_NEVER)

_EXACT = (
    "TINYINT", "SMALLINT", "INTEGER", "BIGINT", "HUGEINT", "BOOLEAN", "DECIMAL", "INTERVAL", "DATE", "TIME",
)  # fmt: skip
"""How the types begin whose sums and means do not depend on the order (UBIGINT is averaged as DOUBLE)."""


@dataclass(frozen=True)
class Question:
    """A call or clause to examine: the node, its name, its select, and the argument whose type decides, if one does."""

    node: Any
    name: str
    select: Any
    argument: Any = None


def questions_of(tree: Any) -> list[Question]:
    """Everything in a parsed query that some rule here speaks of."""
    from sqlglot import exp

    calls = (_question(node) for node in tree.find_all(exp.Func))
    return [*filter(None, calls), *_clauses(tree)]


def examine(one: Question, kind: str | None) -> Answer | None:
    """Why `one` may differ from run to run; `kind` is DuckDB's type of its argument, None where it is not known."""
    return _examine_sum(kind) if one.name in SUMS else _ANSWERS[one.name]


_CLAUSES: dict[str, Answer] = {
    "limit": ("LIMIT without ORDER BY keeps any rows", "say ORDER BY and a unique key"),
    "distinct on": (
        "DISTINCT ON keeps any row of each group unless ORDER BY goes beyond its keys", "say ORDER BY and a unique key"
    ),
    "sample": ("a sample is another one in each run", "filter on a hash of the key"),
    "positional join": ("a POSITIONAL join pairs rows by an order that is not the same in every run", "join on a key"),
}  # fmt: skip


_ANSWERS = {**NEED_ORDER, **NEVER, **_CLAUSES}


def _examine_sum(kind: str | None) -> Answer | None:
    if kind is not None and kind.startswith(_EXACT) and not kind.endswith("]"):
        return None
    what = f"{_FLOATS} (its argument is {kind})" if kind else f"{_FLOATS} (the type of its argument is not known)"
    return what, "cast the argument to decimal (macro exact), or say ORDER BY and a unique key inside the call"


def name_of(node: Any) -> str:
    """The name of a function as it is written, or as sqlglot calls it."""
    from sqlglot import exp

    return str(node.name if isinstance(node, exp.Anonymous) else node.sql_name()).lower()


def _question(node: Any) -> Question | None:
    from sqlglot import exp

    name = name_of(node)
    if name == "age" and len(node.expressions) == 1:
        name = "now"
    select = node.find_ancestor(exp.Select)
    if name in NEVER:
        return Question(node, name, select)
    if not (name in SUMS or name in NEED_ORDER) or _is_ordered(node):
        return None
    return Question(node, name, select, _summed(node) if name in SUMS and select else None)


def _summed(node: Any) -> Any:
    from sqlglot import exp

    inner = node.expressions[0] if isinstance(node, exp.Anonymous) else node.this
    return inner.expressions[0] if isinstance(inner, exp.Distinct) else inner


def _is_ordered(node: Any) -> bool:
    """Whether the call says its order: inside, WITHIN GROUP, or in its window."""
    from sqlglot import exp

    within = [one for value in node.args.values() for one in (value if isinstance(value, list) else [value])]
    if any(isinstance(one, exp.Order) for one in within):
        return True
    outer = node.parent
    while isinstance(outer, exp.Filter | exp.IgnoreNulls | exp.RespectNulls):
        outer = outer.parent
    return isinstance(outer, exp.Window) and node.arg_key == "this" and _window_is_ordered(outer)


def _window_is_ordered(window: Any) -> bool:
    from sqlglot import exp

    if window.args.get("order"):
        return True
    select = window.find_ancestor(exp.Select)
    defined = {one.name: one for one in (select.args.get("windows") or [])} if select else {}
    base = defined.get(window.alias)
    return base is not None and base is not window and _window_is_ordered(base)


def _clauses(tree: Any) -> Iterator[Question]:
    from sqlglot import exp

    for query in tree.find_all(exp.Query):
        yield from _cuts(query)
    for sample in tree.find_all(exp.TableSample):
        yield Question(sample, "sample", sample.find_ancestor(exp.Select))
    for join in tree.find_all(exp.Join):
        if join.args.get("method") == "POSITIONAL":
            yield Question(join, "positional join", join.find_ancestor(exp.Select))


def _cuts(query: Any) -> Iterator[Question]:
    from sqlglot import exp

    order, distinct = query.args.get("order"), query.args.get("distinct")
    cut = query.args.get("limit") or query.args.get("offset")
    if cut and not order and not isinstance(query.parent, exp.Exists):
        yield Question(cut, "limit", query)
    keys = distinct.args.get("on") if isinstance(distinct, exp.Distinct) else None
    if keys is not None:
        said = [one.this for one in order.expressions] if order else []
        if all(one in keys.expressions for one in said):
            yield Question(distinct, "distinct on", query)
