"""The rule: a SQL expression over feature columns that scores without learning, as a team would without a model.

Only what looks at one row alone is a rule: an average over rows would score a row by its neighbours.
Added here: what a rule may say. Not here: business rules on decisions (`nightscore/scoring/decide.py`).
"""

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Self, cast, get_args

import numpy as np
import polars as pl
from polars.exceptions import PolarsError

from nightscore.errors import SpecError
from nightscore.spec.base import Task
from nightscore.spec.pipeline import Pipeline
from nightscore.spec.training import Rule
from nightscore.training.matrix import Encoding, Examples, Matrix, Vector

_TYPES: Mapping[str, type[pl.DataType]] = {"float": pl.Float64, "integer": pl.Int64, "boolean": pl.Boolean}
_ROW, _SCORE = "_row", "_score"
_ACROSS_ROWS = frozenset({"Agg", "Len", "Over", "Explode", "Quantile", "Correlation", "Range", "SubPlan"})
"""Parts of a polars expression that look at other rows."""


@dataclass(frozen=True)
class RuleModel:
    """A SQL expression, and the mean training label for rows on which it gives no finite number."""

    score: str
    task: Task
    mean: float
    encoding: Encoding = field(repr=False)
    file_name: str = "model.rule.json"

    def to_bytes(self) -> bytes:
        """Expression, task and mean as JSON."""
        return json.dumps({"score": self.score, "task": self.task, "mean": self.mean}, sort_keys=True).encode()

    @classmethod
    def from_bytes(cls, data: bytes, encoding: Encoding) -> Self:
        """The inverse of `to_bytes`; raises ValueError for damage, and for a rule that `encoding` cannot answer."""
        stored = json.loads(data)
        if not isinstance(stored, dict) or set(stored) != {"score", "task", "mean"}:
            raise ValueError("a rule has score, task and mean, nothing else")
        score, task, mean = stored["score"], stored["task"], stored["mean"]
        if not isinstance(score, str) or task not in get_args(Task):
            raise ValueError(f"score {score!r} is not SQL, or task {task!r} is unknown")
        if not isinstance(mean, float) or not math.isfinite(mean):
            raise ValueError(f"the mean is {mean!r}, expected a finite number")
        if found := list(_mistakes(score, _schema(encoding))):
            raise ValueError("; ".join(found))
        return cls(score, cast(Task, task), mean, encoding)

    def predict(self, matrix: Matrix, threads: int = 1) -> Vector:
        """Scores (rows,): what the rule says, within [0, 1] for a binary task, else the mean.

        Raises SpecError where the rule fails on a value, such as a cast of text that is no number.
        """
        scores = self._evaluate(matrix)
        answered = np.where(np.isfinite(scores), scores, self.mean)
        return np.asarray(np.clip(answered, 0, 1) if self.task == "binary" else answered)

    def raw(self, matrix: Matrix) -> Vector:
        """The same as `predict`; there is no link."""
        return self.predict(matrix)

    def function_text(self) -> str:
        """Task, expression and mean, exactly."""
        return "\n".join([self.task, self.score, self.mean.hex()])

    def _evaluate(self, matrix: Matrix) -> Vector:
        rule = pl.sql_expr(self.score).cast(pl.Float64).alias(_SCORE)
        frame = _decode(matrix, self.encoding, rule.meta.root_names())
        try:
            scores = frame.select(_ROW, rule)[_SCORE]
        except PolarsError as error:
            raise _error("scoring by the rule", [f"rule ({self.score}): {_first_line(error)}"]) from error
        return scores.fill_null(float("nan")).to_numpy()[:-1]


def fit_rule(algorithm: Rule, examples: Examples, task: Task) -> RuleModel:
    """The rule with the mean label of `examples`.

    Raises SpecError where it names another column than a feature, gives no number or looks at other rows.
    """
    if found := list(_mistakes(algorithm.score, _schema(examples.encoding))):
        raise _error("reading a rule", found)
    mean = math.fsum(examples.labels) / len(examples.labels)
    return RuleModel(algorithm.score, task, mean, examples.encoding)


def check_rule(pipeline: Pipeline) -> None:
    """Raise SpecError naming every rule among the algorithm and baselines that the declared features cannot answer.

    The type of a category's levels is not declared: a rule must be right for levels of text or for whole numbers.
    """
    algorithms = (pipeline.training.algorithm, *pipeline.training.baselines)
    found = [reason for one in algorithms if isinstance(one, Rule) for reason in _declared_mistakes(one, pipeline)]
    if found:
        raise _error(f"checking the rule of {pipeline.name}", found)


def _declared_mistakes(rule: Rule, pipeline: Pipeline) -> list[str]:
    columns = pipeline.features.columns
    tried = [
        list(_mistakes(rule.score, {one.name: _TYPES.get(one.type, levels)() for one in columns}))
        for levels in (pl.String, pl.Int64, pl.Null)
    ]
    return [] if [] in tried else tried[0]


def _schema(encoding: Encoding) -> dict[str, pl.DataType]:
    types = zip(encoding.names, encoding.types, strict=True)
    return {name: _TYPES[kind]() if kind in _TYPES else _level_type(encoding, name) for name, kind in types}


def _level_type(encoding: Encoding, name: str) -> pl.DataType:
    return pl.Int64() if any(isinstance(level, int) for level in encoding.levels[name]) else pl.String()


def _mistakes(score: str, schema: Mapping[str, pl.DataType]) -> Iterator[str]:
    where = f"rule ({score})"
    try:
        rule = pl.sql_expr(score)
        unknown = sorted(set(rule.meta.root_names()) - set(schema))
        if unknown:
            yield f"{where} names {', '.join(unknown)}, which is not one of {', '.join(schema)}"
            return
        if across := sorted(_parts(json.loads(rule.meta.serialize(format="json"))) & _ACROSS_ROWS):
            yield f"{where} looks at other rows ({', '.join(across)}), expected a rule about one row"
            return
        dtype = pl.DataFrame(schema=dict(schema)).select(rule).dtypes[0]
    except PolarsError as error:
        yield f"{where} is not valid: {_first_line(error)}"
        return
    if not dtype.is_numeric():
        yield f"{where} gives {dtype}, expected a number"


def _parts(node: Any) -> set[str]:
    """The names of all parts of a serialised expression, without the user's own texts."""
    if isinstance(node, str):
        return {node}
    if isinstance(node, list):
        return {name for item in node for name in _parts(item)}
    if not isinstance(node, dict):
        return set()
    inner = (_parts(value) for name, value in node.items() if name not in {"Column", "Literal", "Alias"})
    return set(node).union(*inner, *(_parts(node["Alias"][:1]) for _ in range("Alias" in node)))


def _decode(matrix: Matrix, encoding: Encoding, names: list[str]) -> pl.DataFrame:
    """The columns `names` as the features had them, beside the number of each row; the last row is empty.

    Polars divides a column by a number through its reciprocal, but not one row alone: no row may ever be alone.
    """
    schema, used = _schema(encoding), [at for at, name in enumerate(encoding.names) if name in names]
    columns = [_column(matrix[:, at], encoding.names[at], schema[encoding.names[at]], encoding) for at in used]
    return pl.DataFrame([pl.Series(_ROW, np.arange(len(matrix) + 1)), *columns])


def _column(codes: Vector, name: str, dtype: pl.DataType, encoding: Encoding) -> pl.Series:
    values = pl.Series(name, np.append(codes, np.nan)).fill_nan(None)
    if name not in encoding.levels:
        return values.cast(dtype)
    levels = pl.Series(name, encoding.levels[name], dtype=dtype)
    return levels.gather(values.cast(pl.Int64))


def _first_line(error: PolarsError) -> str:
    return str(error).splitlines()[0]


def _error(attempted: str, found: list[str]) -> SpecError:
    return SpecError(attempted, found, "write SQL over feature columns that gives each row a number")
