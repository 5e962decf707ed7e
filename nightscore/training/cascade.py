"""Cascade: the first trees of a model score every row, all of them the rows that the first leave uncertain.

A sure row keeps its first score, stretched to the scale of the full one; a row within the band has the full model's
score, bit for bit. LightGBM sums from zero, so it walks a band's rows through all trees; a kernel may go on from the
first sum, since trees are added in order: the bits are the same.
Added here: what the model file of a cascade holds, and how it scores. Not here: how prefix and band are chosen
(`band.py`), or what they save and lose (`routing.py`).
"""

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from nightscore.measures.metrics import Mask
from nightscore.training.boosted import LightGbmModel
from nightscore.training.matrix import Encoding, Matrix, Vector

_NUMBERS = ("lower", "upper", "slope", "intercept")
_KEYS = {"trees", "prefix", "model", *_NUMBERS}
_OBJECTIVE = "objective=binary sigmoid:1"


@dataclass(frozen=True)
class Band:
    """First scores (log odds) that are uncertain: `lower` and up to, but not including, `upper`; either may be ±inf."""

    lower: float
    upper: float

    def holds(self, early: Vector) -> Mask:
        """Where a first score (rows,) is uncertain."""
        return np.asarray((self.lower <= early) & (early < self.upper))


@dataclass(frozen=True)
class Scale:
    """The straight line from first scores to the scale of full ones, both log odds."""

    slope: float
    intercept: float

    def apply(self, early: Vector) -> Vector:
        """Stretched scores (rows,): one product and one sum each, rounded in turn."""
        return self.slope * early + self.intercept


@dataclass(frozen=True)
class CascadeModel:
    """`prefix` trees of `full` for every row, all of them where `band` holds the first score."""

    full: LightGbmModel
    prefix: int
    band: Band
    scale: Scale
    file_name: str = "model.cascade.json"

    def to_bytes(self) -> bytes:
        """All of it as JSON; bounds and scale as hexadecimal floats, which are exact and may be infinite."""
        stored = {
            "trees": self.full.trees, "prefix": self.prefix, "model": self.full.text,
            "lower": self.band.lower.hex(), "upper": self.band.upper.hex(),
            "slope": self.scale.slope.hex(), "intercept": self.scale.intercept.hex(),
        }  # fmt: skip
        return json.dumps(stored, sort_keys=True, ensure_ascii=False).encode()

    @classmethod
    def from_bytes(cls, data: bytes, encoding: Encoding) -> Self:
        """The inverse of `to_bytes`; raises ValueError for any damage, and for trees of other columns.

        LightGBM may end the process on damaged text: only for bytes that a probe has loaded before.
        """
        try:
            return cls._read(json.loads(data), encoding)
        except Exception as error:  # LightGBM, JSON and float fail in ways of their own
            raise ValueError(f"the cascade is damaged: {type(error).__name__}: {error}") from error

    @classmethod
    def _read(cls, stored: Mapping[str, Any], encoding: Encoding) -> Self:
        if set(stored) != _KEYS:
            raise ValueError(f"it has the keys {', '.join(sorted(stored))}, expected {', '.join(sorted(_KEYS))}")
        full = LightGbmModel.from_bytes(stored["model"].encode(), encoding)
        lower, upper, slope, intercept = (float.fromhex(stored[name]) for name in _NUMBERS)
        band, scale = Band(lower, upper), Scale(slope, intercept)
        if found := _mistakes(stored, full, band, scale):
            raise ValueError("; ".join(found))
        return cls(full, stored["prefix"], band, scale)

    def predict(self, matrix: Matrix, threads: int = 1) -> Vector:
        """Probabilities (rows,); equal for any number of threads."""
        return link(self._raw(matrix, threads))

    def raw(self, matrix: Matrix) -> Vector:
        """Log odds (rows,) of the scores given."""
        return self._raw(matrix, threads=1)

    def escalates(self, matrix: Matrix, threads: int = 1) -> Mask:
        """Which rows (rows,) have the full model's score."""
        return self.band.holds(self.full.raw_of_first(matrix, self.prefix, threads))

    def combine(self, early: Vector, full: Callable[[Mask], Vector]) -> Vector:
        """Log odds (rows,) from first scores (rows,); `full` gives the full model's of the rows of a mask (rows,).

        For whoever evaluates trees by other means, whose link must then be that of `link`.
        """
        found, uncertain = self.scale.apply(early), self.band.holds(early)
        if uncertain.any():
            found[uncertain] = full(uncertain)
        return found

    def _raw(self, matrix: Matrix, threads: int) -> Vector:
        early = self.full.raw_of_first(matrix, self.prefix, threads)
        return self.combine(early, lambda rows: self.full.raw_of_first(matrix[rows], self.full.trees, threads))

    def function_text(self) -> str:
        """Prefix, band and scale, exactly, and the function of the full model."""
        numbers = (self.band.lower, self.band.upper, self.scale.slope, self.scale.intercept)
        return f"{self.prefix} {' '.join(one.hex() for one in numbers)}\n{self.full.function_text()}"

    def contributions(self, matrix: Matrix, threads: int = 1) -> tuple[Matrix, Vector]:
        """Contributions (rows, features) and base (rows,) of the score that a row was given, first or full."""
        uncertain = self.escalates(matrix, threads)
        moved, base = np.empty(matrix.shape), np.empty(matrix.shape[0])
        moved[uncertain], base[uncertain] = self.full.contributions(matrix[uncertain], threads)
        parts, start = self.full.contributions(matrix[~uncertain], threads, self.prefix)
        moved[~uncertain], base[~uncertain] = self.scale.slope * parts, self.scale.apply(start)
        return moved, base

    def importance(self) -> dict[str, float]:
        """Total gain of the splits on each feature in the full model."""
        return self.full.importance()


def link(raw: Vector) -> Vector:
    """Probabilities (rows,) of log odds (rows,): in its bits LightGBM's own sigmoid, whatever the stride."""
    from scipy.special import expit

    return np.asarray(expit(raw))


def _mistakes(stored: Mapping[str, Any], full: LightGbmModel, band: Band, scale: Scale) -> list[str]:
    prefix = stored["prefix"]
    checks = {
        f"it has {full.trees} trees, expected {stored['trees']}": full.trees != stored["trees"],
        f"prefix is {prefix!r}, expected 1 to {full.trees}": type(prefix) is not int or not 1 <= prefix <= full.trees,
        f"the band is {band.lower} to {band.upper}": not band.lower <= band.upper,
        f"the slope is {scale.slope}": not (math.isfinite(scale.slope) and scale.slope > 0),
        f"the intercept is {scale.intercept}": not math.isfinite(scale.intercept),
        f"the trees were not fitted as {_OBJECTIVE}": _OBJECTIVE not in full.text.split("\nTree=", 1)[0].splitlines(),
    }
    return [reason for reason, wrong in checks.items() if wrong]
