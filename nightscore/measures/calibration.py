"""Calibrators: monotone functions from a score to a probability, stored as a few numbers.

A row's probability depends on its score alone, bit for bit, whatever the chunk, order or memory layout it comes in.
Added here: a calibration method, and what a reliability plot shows. Not here: which dates a calibrator is fitted on.
"""

import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, cast

import numpy as np

from nightscore.measures.metrics import Vector

Method = Literal["none", "isotonic", "sigmoid"]

METHODS: tuple[Method, ...] = ("none", "isotonic", "sigmoid")
_NEAREST = 1e-12
"""How near to 0 and 1 a score may come before its logit is taken."""
_NEWTON_STEPS = 100


@dataclass(frozen=True)
class Calibrator:
    """`isotonic`: knots `x` of score and `y` of probability; `sigmoid`: `x` is slope and intercept on its logit."""

    method: Method
    x: tuple[float, ...]
    y: tuple[float, ...]

    def apply(self, scores: Vector) -> Vector:
        """Probabilities (rows,) of `scores` (rows,) in [0, 1]; NaN stays NaN, `none` gives back the same array."""
        if self.method == "none":
            return scores
        return self._interpolated(scores) if self.method == "isotonic" else self._squashed(scores)

    def as_json(self) -> dict[str, Any]:
        """Method and numbers; JSON's shortest decimals keep floats exact."""
        return {"method": self.method, "x": list(self.x), "y": list(self.y)}

    @staticmethod
    def from_json(stored: Mapping[str, Any]) -> "Calibrator":
        """The calibrator that `as_json` wrote; ValueError names what is not a monotone function into [0, 1]."""
        if not isinstance(stored, Mapping) or set(stored) != {"method", "x", "y"}:
            raise ValueError("a calibrator has the keys method, x and y, nothing else")
        if stored["method"] not in METHODS:
            raise ValueError(f"method is {stored['method']!r}, expected one of {', '.join(METHODS)}")
        found = Calibrator(cast(Method, stored["method"]), _numbers(stored, "x"), _numbers(stored, "y"))
        reasons = _CHECKS[found.method](found)
        if reasons:
            raise ValueError(f"not a {found.method} calibrator: {'; '.join(reasons)}")
        return found

    def _interpolated(self, scores: Vector) -> Vector:
        """Rounding may lift a row above its upper knot, and so above a row beyond it: the knot is the most."""
        above = np.minimum(np.searchsorted(self.x, scores), len(self.x) - 1)
        return np.asarray(np.minimum(np.interp(scores, self.x, self.y), np.array(self.y)[above]))

    def _squashed(self, scores: Vector) -> Vector:
        """In extended precision: numpy's vector code for doubles gives other last bits by stride and processor."""
        slope, intercept = self.x
        kept = np.clip(scores, _NEAREST, 1 - _NEAREST).astype(np.longdouble)
        return np.asarray(1 / (1 + np.exp(-(slope * np.log(kept / (1 - kept)) + intercept))), np.float64)


NO_CALIBRATION = Calibrator("none", (), ())


def fit_calibrator(method: Method, scores: Vector, labels: Vector) -> Calibrator:
    """The calibrator of `scores` in [0, 1] to `labels` in {0, 1}, both (rows,), whatever the order of rows.

    ValueError when there are no rows or a score is not finite, unless `method` is none.
    """
    if method == "none":
        return NO_CALIBRATION
    if not len(scores) or not np.isfinite(scores).all():
        raise ValueError("a calibrator needs rows, and a finite score in each")
    return _fit_isotonic(scores, labels) if method == "isotonic" else _fit_sigmoid(scores, labels)


def reliability(labels: Vector, probabilities: Vector, bins: int = 10) -> list[dict[str, float | int]]:
    """Bins of about equal count from the lowest probability up: rows, mean probability and share of positives.

    Equal probabilities share a bin, so there are fewer bins where many rows are alike.
    """
    if not len(labels):
        return []
    edges = np.unique(np.sort(probabilities)[np.arange(1, bins) * len(labels) // bins])
    group = np.searchsorted(edges, probabilities, side="right")
    return [
        {
            "rows": int(of.sum()),
            "mean_probability": float(probabilities[of].mean()),
            "share": float(labels[of].mean()),
        }
        for of in (group == one for one in np.unique(group))
    ]


def _fit_isotonic(scores: Vector, labels: Vector) -> Calibrator:
    from sklearn.isotonic import IsotonicRegression

    fitted = IsotonicRegression(y_min=0, y_max=1, out_of_bounds="clip").fit(scores, labels)
    return Calibrator("isotonic", tuple(fitted.X_thresholds_.tolist()), tuple(fitted.y_thresholds_.tolist()))


def _fit_sigmoid(scores: Vector, labels: Vector) -> Calibrator:
    """Platt 1999, with his smoothed targets; a slope below 0 would turn the order of rows around, so 0 is the least."""
    order = np.lexsort((labels, scores))
    kept, hit = np.clip(scores[order], _NEAREST, 1 - _NEAREST), labels[order] == 1
    positives, negatives = int(hit.sum()), int((~hit).sum())
    targets = np.where(hit, (positives + 1) / (positives + 2), 1 / (negatives + 2))
    slope, intercept = _newton(np.log(kept / (1 - kept)), targets)
    if slope <= 0:
        share = float(targets.mean())
        slope, intercept = 0.0, math.log(share / (1 - share))
    return Calibrator("sigmoid", (slope, intercept), ())


def _newton(logits: Vector, targets: Vector) -> tuple[float, float]:
    """Slope and intercept of least cross entropy; steps are halved while they do not lower it."""
    design = np.column_stack([logits, np.ones_like(logits)])
    found, loss = np.zeros(2), _cross_entropy(np.zeros_like(logits), targets)
    for _ in range(_NEWTON_STEPS):
        step = _newton_step(design, targets, found)
        while (lower := _cross_entropy(design @ (found - step), targets)) > loss and np.abs(step).max() > 1e-12:
            step = step / 2
        if lower >= loss:
            break
        found, loss = found - step, lower
    return float(found[0]), float(found[1])


def _newton_step(design: Vector, targets: Vector, found: Vector) -> Vector:
    """Least squares, since equal scores leave the slope open."""
    probabilities = 1 / (1 + np.exp(-(design @ found)))
    curvature = (design * (probabilities * (1 - probabilities))[:, None]).T @ design
    return np.asarray(np.linalg.lstsq(curvature, design.T @ (probabilities - targets), rcond=1e-12)[0])


def _cross_entropy(raw: Vector, targets: Vector) -> float:
    return float((np.logaddexp(0, raw) - targets * raw).mean())


def _numbers(stored: Mapping[str, Any], key: str) -> tuple[float, ...]:
    values = stored[key]
    if not isinstance(values, list) or any(type(one) not in {int, float} or not math.isfinite(one) for one in values):
        raise ValueError(f"{key} is not a list of finite numbers")
    return tuple(float(one) for one in values)


def _wrong_none(found: Calibrator) -> list[str]:
    return ["x and y are not empty"] if found.x or found.y else []


def _wrong_sigmoid(found: Calibrator) -> list[str]:
    if len(found.x) != 2 or found.y:
        return ["x is not (slope, intercept) alone"]
    return ["the slope is below 0"] if found.x[0] < 0 else []


def _wrong_isotonic(found: Calibrator) -> list[str]:
    checks = {
        "x and y are not of one length of at least 1": len(found.x) != len(found.y) or not found.x,
        "x does not rise": any(a >= b for a, b in itertools.pairwise(found.x)),
        "y falls": any(a > b for a, b in itertools.pairwise(found.y)),
        "a number is not within [0, 1]": any(not 0 <= one <= 1 for one in (*found.x, *found.y)),
    }
    return [reason for reason, wrong in checks.items() if wrong]


_CHECKS = {"none": _wrong_none, "isotonic": _wrong_isotonic, "sigmoid": _wrong_sigmoid}
