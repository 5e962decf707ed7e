"""Which settings a trial has: the points of a scrambled Halton sequence over the ranges of the spec.

Trial number i depends on the seed and on i alone (docs/decisions/0009-our-own-search.md). The sequence is SciPy's
randomised Halton sequence (Owen, A randomized Halton algorithm in R, 2017).
Added here: how another kind of range is read. Not here: measuring a trial (`tuning.py`).
"""

import math

import numpy as np

from nightscore.spec.training import Alone
from nightscore.spec.tuning import FloatRange, IntegerRange, SearchSpace
from nightscore.training.matrix import Vector

INCUMBENT = 0
"""The number of the trial that has the spec's own settings."""


def settings_of(space: SearchSpace, algorithm: Alone, seed: int, number: int) -> Alone:
    """The settings of trial `number`: `algorithm` itself for trial 0, else a validated copy with other values."""
    if number == INCUMBENT:
        return algorithm
    ranges = space.ranges
    point = _point(len(ranges), seed, number - 1).tolist()
    values = {name: _value(span, at) for (name, span), at in zip(ranges.items(), point, strict=True)}
    return type(algorithm).model_validate(algorithm.model_dump() | values)


def _point(dimensions: int, seed: int, index: int) -> Vector:
    """Point `index` of the sequence, in [0, 1)."""
    from scipy.stats import qmc

    sequence = qmc.Halton(dimensions, scramble=True, rng=np.random.default_rng(seed))
    return np.asarray(sequence.fast_forward(index).random(1)[0])


def _value(span: IntegerRange | FloatRange, at: float) -> int | float:
    """The value at share `at` of a range; four digits, so that a spec can say exactly what was measured."""
    if isinstance(span, IntegerRange):
        # Half a step beyond both ends: otherwise they would come up half as often as the others.
        return min(max(round(_between(span.low - 0.5, span.high + 0.5, span.log, at)), span.low), span.high)
    return min(max(float(f"{_between(span.low, span.high, span.log, at):.4g}"), span.low), span.high)


def _between(low: float, high: float, log: bool, at: float) -> float:
    if log:
        return math.exp(_between(math.log(low), math.log(high), False, at))
    return low + (high - low) * at
