"""Which output columns of a query carry what stands somewhere inside it, followed through CTEs and derived tables.

Added here: a way by which a value travels through a query. Not here: what is looked for (`undetermined.py`).
"""

from collections.abc import Sequence
from typing import Any

Place = tuple[Any, str | None]
"""(the query that is a relation of its own, its column; None where something decides on the rows)"""


def carriers(tree: Any, nodes: Sequence[Any]) -> list[list[str]]:
    """For each node of the qualified `tree`, the output columns that carry it, in their order.

    `*` where it decides on the rows; `cte.column` or `cte.*` where it goes no further than a CTE or derived table.
    """
    if not nodes:
        return []
    feeds = _feeds(tree)
    return [_outputs(tree, feeds, _place(node)) for node in nodes]


def _outputs(tree: Any, feeds: dict[tuple[int, str], list[Place]], start: Place) -> list[str]:
    relation, column = start
    if relation is tree:
        return [column or "*"]
    if column is None:
        return [f"{_alias(relation)}.*"]
    reached, ahead = {(id(relation), column)}, [start]
    outputs = set()
    while ahead:
        query, name = ahead.pop()
        for target in feeds.get((id(query), str(name)), []):
            if target[0] is tree:
                outputs.add(target[1])
            elif (id(target[0]), str(target[1])) not in reached:
                reached.add((id(target[0]), str(target[1])))
                ahead.append(target)
    ordered = [name for name in tree.named_selects if name in outputs]
    return ordered or [f"{_alias(relation)}.{column}"]


def _alias(relation: Any) -> str:
    holder = relation.parent
    return str(holder.alias or holder.parent.alias)


def _feeds(tree: Any) -> dict[tuple[int, str], list[Place]]:
    """Where each column of a CTE or derived table goes."""
    from sqlglot import exp
    from sqlglot.optimizer.scope import Scope, traverse_scope

    scopes = {id(scope.expression): scope for scope in traverse_scope(tree)}
    feeds: dict[tuple[int, str], list[Place]] = {}
    for column in tree.find_all(exp.Column):
        scope = scopes.get(id(column.find_ancestor(exp.Select)))
        source = scope.sources.get(column.table) if scope else None
        relation, carried = _place(column)
        if isinstance(source, Scope) and carried is not None:
            read = source.expression.this.unnest() if isinstance(source.expression, exp.Lateral) else source.expression
            feeds.setdefault((id(read), column.name), []).append((relation, carried))
    return feeds


def _place(node: Any) -> Place:
    """The relation that a node stands in, and the column of it; a subquery in an expression belongs to that."""
    from sqlglot import exp

    query: Any = None
    column: int | None = None
    while node.parent is not None and not isinstance(node, exp.CTE) and not _is_derived_table(node):
        at, node = node, node.parent
        if isinstance(node, exp.Select):
            query, column = node, at.index if at.arg_key == "expressions" else None
        elif isinstance(node, exp.SetOperation):
            query = node
    names = query.named_selects if query is not None else []
    return query, names[column] if column is not None and column < len(names) else None


def _is_derived_table(node: Any) -> bool:
    from sqlglot import exp

    return isinstance(node, exp.Subquery) and isinstance(node.parent, exp.From | exp.Join | exp.Lateral | exp.Table)
