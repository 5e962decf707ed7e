"""Logistic and ridge models: fitted by scikit-learn, stored by skops, scored here column by column.

scikit-learn's own prediction sums a row in an order that depends on how many rows there are; a sum column by column
does not. Added here: a step of preparation. Not here: other families of models.
"""

import io
import json
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np

from nightscore.spec.base import Task
from nightscore.spec.training import Linear
from nightscore.training.matrix import Encoding, Examples, Matrix, Vector

TRUSTED_TYPES = ("numpy.dtype",)
"""Beside skops's own list, the only types a stored linear model may name."""


@dataclass(frozen=True)
class NumberTerm:
    """score += weight × (x − mean) / scale, where a missing x counts as `fill`."""

    column: int
    fill: float
    mean: float
    scale: float
    weight: float

    def add_to(self, score: Vector, matrix: Matrix) -> None:
        """Add this term to `score` (rows,) in place."""
        values = matrix[:, self.column]
        score += (np.where(np.isnan(values), self.fill, values) - self.mean) / self.scale * self.weight


@dataclass(frozen=True)
class MissingTerm:
    """score += weight × (1 where x is missing, else 0, centred and scaled)."""

    column: int
    mean: float
    scale: float
    weight: float

    def add_to(self, score: Vector, matrix: Matrix) -> None:
        """Add this term to `score` (rows,) in place."""
        score += (np.isnan(matrix[:, self.column]) - self.mean) / self.scale * self.weight


@dataclass(frozen=True)
class CategoryTerm:
    """score += the weight of the row's level; 0 for a missing or unseen one."""

    column: int
    weights: tuple[float, ...]

    def add_to(self, score: Vector, matrix: Matrix) -> None:
        """Add this term to `score` (rows,) in place."""
        codes = np.nan_to_num(matrix[:, self.column], nan=len(self.weights)).astype(np.int64)
        score += np.array([*self.weights, 0.0])[codes]


Term = NumberTerm | MissingTerm | CategoryTerm


@dataclass(frozen=True)
class LinearModel:
    """A fitted scikit-learn pipeline, kept as skops's bytes, and the terms it consists of."""

    data: bytes = field(repr=False)
    pipeline: Any = field(repr=False, compare=False)
    task: Task
    intercept: float
    terms: tuple[Term, ...]
    file_name: str = "model.skops"

    def to_bytes(self) -> bytes:
        """The pipeline in skops's format, without its times and memory addresses."""
        return self.data

    @classmethod
    def from_bytes(cls, data: bytes, encoding: Encoding) -> Self:
        """The model in `data`; raises ValueError where it names a type that is not trusted, or has other columns."""
        import skops.io

        strange = set(skops.io.get_untrusted_types(data=data)) - set(TRUSTED_TYPES)
        if strange:
            raise ValueError(f"the model names types that are not trusted: {', '.join(sorted(strange))}")
        pipeline = skops.io.loads(data, trusted=list(TRUSTED_TYPES))
        if pipeline.n_features_in_ != len(encoding.names):
            raise ValueError(f"the model has {pipeline.n_features_in_} columns, expected {len(encoding.names)}")
        return cls(data, pipeline, *_compile(pipeline))

    def predict(self, matrix: Matrix, threads: int = 1) -> Vector:
        """Scores (rows,)."""
        from scipy.special import expit

        score = self.raw(matrix)
        return np.asarray(expit(score)) if self.task == "binary" else score

    def raw(self, matrix: Matrix) -> Vector:
        """Intercept plus terms (rows,): log odds for a binary task."""
        score = np.full(matrix.shape[0], self.intercept)
        for term in self.terms:
            term.add_to(score, matrix)
        return score

    def function_text(self) -> str:
        """The task, the intercept and every term, exactly."""
        return "\n".join([self.task, repr(self.intercept), *map(repr, self.terms)])


def fit_linear(algorithm: Linear, examples: Examples, task: Task) -> LinearModel:
    """A logistic (binary) or ridge (regression) model of `examples`, fitted with one BLAS thread."""
    import skops.io
    from sklearn.linear_model import LogisticRegression, Ridge
    from sklearn.pipeline import Pipeline
    from threadpoolctl import threadpool_limits

    binary = task == "binary"
    estimator = LogisticRegression(C=1 / algorithm.l2, max_iter=2000) if binary else Ridge(alpha=algorithm.l2, tol=1e-9)
    pipeline = Pipeline([("prepare", _preparation(examples.encoding)), ("estimate", estimator)])
    with threadpool_limits(1):
        pipeline.fit(examples.matrix, examples.labels)
    return LinearModel(_without_chance(skops.io.dumps(pipeline)), pipeline, *_compile(pipeline))


def _preparation(encoding: Encoding) -> Any:
    from sklearn.compose import ColumnTransformer
    from sklearn.impute import SimpleImputer
    from sklearn.pipeline import Pipeline
    from sklearn.preprocessing import OneHotEncoder, StandardScaler

    categories = list(encoding.category_indexes)
    numbers = [at for at in range(len(encoding.names)) if at not in categories]
    # scikit-learn cannot encode a category without levels; one that no row has gets the weight 0.
    counts = [max(1, len(encoding.levels[encoding.names[at]])) for at in categories]
    levels = [np.arange(count, dtype=np.float64) for count in counts]
    impute = SimpleImputer(strategy="median", add_indicator=True, keep_empty_features=True)
    scaled = Pipeline([("impute", impute), ("scale", StandardScaler())])
    one_hot = OneHotEncoder(categories=levels, handle_unknown="ignore")
    parts = [("numbers", scaled, numbers), ("categories", one_hot, categories)]
    return ColumnTransformer([part for part in parts if part[2]], sparse_threshold=1.0)


def _compile(pipeline: Any) -> tuple[Task, float, tuple[Term, ...]]:
    estimator = pipeline.named_steps["estimate"]
    weights = iter(np.ravel(estimator.coef_).tolist())
    terms = tuple(_terms(pipeline.named_steps["prepare"], weights))
    task: Task = "binary" if hasattr(estimator, "classes_") else "regression"
    return task, float(np.ravel(estimator.intercept_)[0]), terms


def _terms(preparation: Any, weights: Iterator[float]) -> Iterator[Term]:
    for name, fitted, columns in preparation.transformers_:
        if name == "numbers":
            yield from _number_terms(fitted.named_steps["impute"], fitted.named_steps["scale"], columns, weights)
        if name == "categories":
            for column, levels in zip(columns, fitted.categories_, strict=True):
                yield CategoryTerm(int(column), tuple(next(weights) for _ in levels))


def _number_terms(impute: Any, scale: Any, columns: list[int], weights: Iterator[float]) -> Iterator[Term]:
    scaling = zip(scale.mean_.tolist(), scale.scale_.tolist(), strict=True)
    for column, fill in zip(columns, impute.statistics_.tolist(), strict=True):
        mean, spread = next(scaling)
        # A column without any value has no median; scikit-learn then fills it with 0.
        yield NumberTerm(int(column), 0.0 if np.isnan(fill) else fill, mean, spread, next(weights))
    for at in impute.indicator_.features_.tolist():
        mean, spread = next(scaling)
        yield MissingTerm(int(columns[at]), mean, spread, next(weights))


def _without_chance(data: bytes) -> bytes:
    """Skops names its members by memory address and stamps the time: number them by appearance, without time."""
    source = zipfile.ZipFile(io.BytesIO(data))
    numbers: dict[str, int] = {}
    schema = _renumber(json.loads(source.read("schema.json")), numbers)
    members = {f"{numbers[name[:-4]]}.npy": source.read(name) for name in source.namelist() if name.endswith(".npy")}
    members["schema.json"] = json.dumps(schema, sort_keys=True).encode()
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w") as archive:
        for name in sorted(members):
            archive.writestr(zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0)), members[name])
    return target.getvalue()


def _renumber(node: Any, numbers: dict[str, int]) -> Any:
    if isinstance(node, list):
        return [_renumber(item, numbers) for item in node]
    if not isinstance(node, dict):
        return node
    return {name: _renumber_value(name, value, numbers) for name, value in node.items()}


def _renumber_value(name: str, value: Any, numbers: dict[str, int]) -> Any:
    if name == "__id__":
        return numbers.setdefault(str(value), len(numbers))
    if name == "file":
        return f"{numbers.setdefault(value[:-4], len(numbers))}.npy"
    return _renumber(value, numbers)
