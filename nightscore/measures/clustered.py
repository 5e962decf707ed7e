"""The difference of means between two arms whose rows are clustered by entity and by date.

An entity comes back night after night and a date's rows share what happened that day, so neither rows nor one kind of
cluster alone is the unit of evidence (Cameron, Gelbach & Miller, Robust Inference with Multiway Clustering, Journal of
Business & Economic Statistics 29, 2011).
Added here: inference between separate arms. Not here: two models on the same rows (`paired.py`), or a verdict.
"""

from dataclasses import asdict, dataclass

import numpy as np

from nightscore.measures.bootstrap import Codes
from nightscore.measures.metrics import Mask, Vector


@dataclass(frozen=True)
class ArmDifference:
    """Mean of arm b less mean of arm a, in the values' unit; None where it has no meaning."""

    rows_a: int
    rows_b: int
    mean_a: float | None
    mean_b: float | None
    difference: float | None
    standard_error: float | None
    lower: float | None
    upper: float | None
    entities: int
    dates: int

    def as_json(self) -> dict[str, float | int | None]:
        """Every figure by name."""
        return asdict(self)


def compare_arms(values: Vector, arm: Mask, entity: Codes, date: Codes, confidence: float = 0.9) -> ArmDifference:
    """The difference with its two-sided interval; all arrays (rows,), `arm` true for b, codes tell clusters apart.

    Student's t has one degree of freedom less than the fewer of entities and dates; two of each at least have bounds.
    """
    a, b = values[~arm], values[arm]
    mean_a, mean_b = (float(side.mean()) if len(side) else None for side in (a, b))
    difference = None if mean_a is None or mean_b is None else mean_b - mean_a
    entities, dates = len(np.unique(entity)), len(np.unique(date))
    defined = difference is not None and min(entities, dates) > 1
    error = _standard_error(_influence(values, arm), entity, date) if defined else None
    lower, upper = _bounds(difference, error, min(entities, dates) - 1, confidence)
    return ArmDifference(len(a), len(b), mean_a, mean_b, difference, error, lower, upper, entities, dates)


def _influence(values: Vector, arm: Mask) -> Vector:
    """How much each row moves the difference."""
    return np.where(arm, _share_of_mean(values, arm), -_share_of_mean(values, ~arm))


def _share_of_mean(values: Vector, side: Mask) -> Vector:
    return np.asarray((values - values[side].mean()) / side.sum())


def _standard_error(influence: Vector, entity: Codes, date: Codes) -> float:
    """Variance by entity plus by date less by both, floored at the larger of the first two."""
    _, entities = np.unique(entity, return_inverse=True)
    _, dates = np.unique(date, return_inverse=True)
    _, both = np.unique(entities * (dates.max() + 1) + dates, return_inverse=True)
    by_entity, by_date, by_both = (_variance(influence, codes) for codes in (entities, dates, both))
    return float(np.sqrt(max(by_entity + by_date - by_both, by_entity, by_date)))


def _variance(influence: Vector, codes: Codes) -> float:
    sums = np.bincount(codes, weights=influence)
    return float(len(sums) / (len(sums) - 1) * (sums**2).sum())


def _bounds(
    difference: float | None, error: float | None, freedom: int, confidence: float
) -> tuple[float | None, float | None]:
    if difference is None or error is None:
        return None, None
    from scipy.special import stdtrit

    reach = float(stdtrit(freedom, (1 + confidence) / 2)) * error
    return difference - reach, difference + reach
