"""Ensemble: models that were fitted before, whose calibrated predictions are averaged by weight.

Each member keeps its own columns, levels and calibrator, and scores a row as its own capsule does, bit for bit.
Added here: what the model file of an ensemble holds. Not here: which versions may be members
(`nightscore/registry/ensembles.py`).
"""

import base64
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from typing import Any, Self

import numpy as np

from nightscore.measures.calibration import Calibrator
from nightscore.training.algorithms import MODEL_FILES, Model, algorithm_of, read_model
from nightscore.training.contributions import contributions
from nightscore.training.matrix import Encoding, Levels, Matrix, Vector

ENSEMBLE = "ensemble"
_BINARY_FILES = frozenset({"linear"})
"""Algorithms whose model file is no text."""
_TOLERANCE = 1e-12
"""How far from 1 weights may add up to."""


@dataclass(frozen=True)
class Member:
    """A model with its own columns and calibrator, and its share of the mean."""

    weight: float
    encoding: Encoding
    calibrator: Calibrator
    model: Model

    def predict(self, matrix: Matrix, threads: int) -> Vector:
        """Calibrated predictions (rows,) of a matrix in the member's own encoding."""
        return self.calibrator.apply(self.model.predict(matrix, threads))

    def function_text(self) -> str:
        """Weight, columns, calibrator and the model's own function."""
        known = [self.weight.hex(), self.encoding.as_json(), self.calibrator.as_json()]
        return f"{json.dumps(known, sort_keys=True)}\n{self.model.function_text()}"

    def as_json(self) -> dict[str, Any]:
        """Everything that the member needs to score."""
        algorithm = algorithm_of(self.model)
        return {
            "weight": self.weight,
            "algorithm": algorithm,
            "columns": self.encoding.as_json(),
            "calibration": self.calibrator.as_json(),
            "model": _as_text(algorithm, self.model.to_bytes()),
        }

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> Self:
        """The inverse of `as_json`; a damaged member fails in whatever way its library does."""
        algorithm, weight, encoding = stored["algorithm"], stored["weight"], _read_encoding(stored["columns"])
        if algorithm == ENSEMBLE or algorithm not in MODEL_FILES:
            raise ValueError(f"algorithm {algorithm} cannot be a member")
        if not isinstance(weight, float) or not (math.isfinite(weight) and weight > 0):
            raise ValueError(f"the weight is {weight!r}, expected a number above 0")
        model = read_model(algorithm, _from_text(algorithm, stored["model"]), encoding)
        return cls(weight, encoding, Calibrator.from_json(stored["calibration"]), model)


@dataclass(frozen=True)
class EnsembleModel:
    """The weighted mean of its members' predictions; `encoding` is the union of theirs, and weights add up to 1."""

    members: tuple[Member, ...]
    encoding: Encoding
    file_name: str = MODEL_FILES[ENSEMBLE]

    @classmethod
    def of(cls, members: Sequence[Member]) -> Self:
        """The ensemble of `members`, in this order, their weights as `shares` of the whole.

        Raises ValueError naming every feature that two members know in ways that exclude each other.
        """
        weights = shares([one.weight for one in members])
        scaled = tuple(replace(one, weight=weight) for one, weight in zip(members, weights, strict=True))
        return cls(scaled, union_encoding([one.encoding for one in members]))

    def to_bytes(self) -> bytes:
        """All members as JSON; shortest decimals keep weights exact."""
        stored = {"members": [one.as_json() for one in self.members]}
        return json.dumps(stored, sort_keys=True, ensure_ascii=False, allow_nan=False).encode()

    @classmethod
    def from_bytes(cls, data: bytes, encoding: Encoding) -> Self:
        """The inverse of `to_bytes`; raises ValueError for any damage, and for members that do not make `encoding`.

        LightGBM may end the process on damaged text: only for bytes that a probe has loaded before.
        """
        try:
            members = tuple(Member.from_json(one) for one in json.loads(data)["members"])
            found = list(_mistakes(members, encoding))
        except Exception as error:  # each of the libraries that read members fails in a way of its own
            raise ValueError(f"the ensemble is damaged: {type(error).__name__}: {error}") from error
        if found:
            raise ValueError(f"the ensemble is damaged: {'; '.join(found)}")
        return cls(members, encoding)

    def predict(self, matrix: Matrix, threads: int = 1) -> Vector:
        """The weighted mean (rows,) of members' predictions, summed in their order."""
        parts = [one.predict(recode(matrix, self.encoding, one.encoding), threads) for one in self.members]
        return weighted_mean([one.weight for one in self.members], parts)

    def raw(self, matrix: Matrix) -> Vector:
        """The same as `predict`; a mean of probabilities has no link."""
        return self.predict(matrix)

    def function_text(self) -> str:
        """The functions of all members with their weights, columns and calibrators."""
        return "\n".join(one.function_text() for one in self.members)

    def contributions(self, matrix: Matrix, threads: int = 1) -> tuple[Matrix, Vector]:
        """The weighted mean of members' contributions (rows, features) and bases (rows,); SpecError where one has none.

        They stay in each member's raw units: exact for regression. For a binary task a mean of log odds, before
        calibration, is only near the log odds of the mean, and members without a link add their probability to the
        base: the parts say which features moved a row and which way, but do not add up to `raw`.
        """
        moved, base = np.zeros(matrix.shape), np.zeros(matrix.shape[0])
        for one in self.members:
            own = recode(matrix, self.encoding, one.encoding)
            parts, start = contributions(one.model, own, one.encoding, threads)
            for at, name in enumerate(one.encoding.names):
                moved[:, self.encoding.names.index(name)] += one.weight * parts[:, at]
            base += one.weight * start
        return moved, base


def shares(weights: Sequence[float]) -> list[float]:
    """`weights` divided by their sum; to the bit as they are where they add up to 1 already."""
    total = math.fsum(weights)
    return list(weights) if abs(total - 1) <= _TOLERANCE else [weight / total for weight in weights]


def weighted_mean(weights: Sequence[float], parts: Sequence[Vector]) -> Vector:
    """Σ weight × part (rows,), in the order given, and never outside what the parts themselves say of a row."""
    total = np.zeros(len(parts[0]))
    for weight, part in zip(weights, parts, strict=True):
        total += weight * part
    # Weights add up to 1 but for rounding, which must not lift a probability above 1.
    return np.asarray(np.clip(total, reduce(np.minimum, parts), reduce(np.maximum, parts)))


def union_encoding(encodings: Sequence[Encoding]) -> Encoding:
    """The columns of the first, then those that others add; a category has the sorted levels of all.

    Raises ValueError naming every feature of unequal types, or with levels of text here and whole numbers there.
    """
    types: dict[str, str] = {}
    levels: dict[str, list[Levels]] = {}
    found: list[str] = []
    for one in encodings:
        for name, kind in zip(one.names, one.types, strict=True):
            if types.setdefault(name, kind) != kind:
                found.append(f"feature {name} is {types[name]} for one member and {kind} for another")
            elif kind == "category":
                levels.setdefault(name, []).append(one.levels[name])
    mixed = [name for name, known in levels.items() if len({type(level) for one in known for level in one}) > 1]
    found += [f"feature {name} has levels of text for one member and whole numbers for another" for name in mixed]
    if found:
        raise ValueError("; ".join(dict.fromkeys(found)))
    return Encoding(tuple(types), tuple(types.values()), {name: _sorted_union(known) for name, known in levels.items()})


def recode(matrix: Matrix, union: Encoding, own: Encoding) -> Matrix:
    """The columns of `own` out of a matrix (rows, features) in `union`; a level that `own` never saw becomes NaN."""
    return matrix if own == union else np.column_stack(recode_columns(list(matrix.T), union, own))


def recode_columns(columns: Sequence[Vector], union: Encoding, own: Encoding) -> list[Vector]:
    """The same of single columns (rows,)."""
    found = {name: columns[union.names.index(name)] for name in own.names}
    return [
        _own_codes(column, union.levels[name], own.levels[name]) if name in own.levels else column
        for name, column in found.items()
    ]


def _own_codes(codes: Vector, union: Levels, own: Levels) -> Vector:
    code_of = {level: float(code) for code, level in enumerate(own)}
    table = np.array([*(code_of.get(level, np.nan) for level in union), np.nan])
    return np.asarray(table[np.nan_to_num(codes, nan=len(union)).astype(np.int64)])


def _sorted_union(known: Sequence[Levels]) -> Levels:
    union: set[Any] = {level for one in known for level in one}
    return tuple(sorted(union))


def _mistakes(members: Sequence[Member], encoding: Encoding) -> Iterator[str]:
    if len(members) < 2:
        yield f"it has {len(members)} members, expected at least 2"
        return
    if abs(math.fsum(one.weight for one in members) - 1) > _TOLERANCE:
        yield f"its weights add up to {math.fsum(one.weight for one in members)!r}, expected 1"
    if union_encoding([one.encoding for one in members]) != encoding:
        yield "its members' columns and levels do not make the capsule's"


def _read_encoding(columns: Sequence[Mapping[str, Any]]) -> Encoding:
    encoding = Encoding.from_json(columns)
    unsorted = [name for name, levels in encoding.levels.items() if levels != _sorted_union([levels])]
    if unsorted or not encoding.names:
        raise ValueError(f"levels of {', '.join(unsorted)} are not sorted" if unsorted else "there are no columns")
    return encoding


def _as_text(algorithm: str, data: bytes) -> str:
    return base64.b64encode(data).decode() if algorithm in _BINARY_FILES else data.decode()


def _from_text(algorithm: str, text: str) -> bytes:
    return base64.b64decode(text, validate=True) if algorithm in _BINARY_FILES else text.encode()
