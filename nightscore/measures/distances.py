"""How far two distributions lie apart: from counts in the same bins, so from stored profiles, or from samples.

p is a bin's share of the reference, q of the current rows. A bin that is empty in both takes no part, so bins for
missing values and other levels cost nothing while they are empty. Without rows on either side there is nothing to
compare and the figure is None; two columns that are constant, or null throughout, alike have distance 0.
Added here: a distance with its source. Not here: bins (`bins.py`), profiles, or thresholds (`left_out.py`).
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from nightscore.measures.bins import Counts, finite_values
from nightscore.measures.metrics import Mask, Vector

_LEAST_DEVIATION = 1e-3
"""By which Wasserstein is normed at least: Evidently's floor."""


@dataclass(frozen=True)
class Smoothing:
    """What keeps a share from being zero, without renormalisation but for `laplace`.

    `laplace`: (n + amount) / (N + amount * bins). `floor`: shares below `amount` count as it. `zeros`: only empty
    bins do, as in feature-engine and Evidently. `none`: nothing.
    """

    kind: Literal["laplace", "floor", "zeros", "none"]
    amount: float = 0.0


LAPLACE = Smoothing("laplace", 0.5)
FLOOR = Smoothing("floor", 1e-4)
ZEROS = Smoothing("zeros", 1e-4)
UNSMOOTHED = Smoothing("none")


@dataclass(frozen=True)
class Independence:
    """A chi-square test of independence: statistic, p-value, degrees of freedom and Cramér's V in 0..1."""

    statistic: float
    p_value: float
    degrees: int
    cramers_v: float


@dataclass(frozen=True)
class Kolmogorov:
    """The largest distance D of two distribution functions, where it is, and its p-value.

    `sign` is 1 where the reference's function lies above at `location`, -1 below.
    """

    statistic: float
    p_value: float
    location: float
    sign: int
    reference_rows: int
    current_rows: int

    @property
    def scaled(self) -> float:
        """D · sqrt(nm / (n + m)), which under no change does not depend on the rows."""
        return self.statistic / float(np.sqrt(1 / self.reference_rows + 1 / self.current_rows))

    @property
    def linf_robust(self) -> float:
        """What is left of D after 1.8 · sqrt((n + m) / (nm)), at least 0: Deequ's and SageMaker's "Robust"."""
        noise = 1.8 * np.sqrt(1 / self.reference_rows + 1 / self.current_rows)
        return max(0.0, self.statistic - float(noise))


def psi(reference: Counts, current: Counts, smoothing: Smoothing = LAPLACE) -> float | None:
    """Population stability index Σ (p − q) · ln(p / q) in nats (Siddiqi, Credit Risk Scorecards, 2006).

    With `UNSMOOTHED`, None where a bin is empty on one side only.
    """
    shares = _shares(reference, current, smoothing)
    if shares is None or not all(share.all() for share in shares):
        return None
    p, q = shares
    return float(((p - q) * np.log(p / q)).sum())


def psi_without_change(bins: int, reference_rows: int, current_rows: int, confidence: float = 0.99) -> float | None:
    """The PSI that chance alone exceeds with 1 − `confidence`: χ²(bins − 1) · (1/n + 1/m) (Yurdakul 2018).

    For rows drawn independently, which rows of one night are not. None without rows, 0 with a single bin.
    """
    from scipy.special import chdtri

    if not reference_rows or not current_rows:
        return None
    return float(chdtri(bins - 1, 1 - confidence)) * (1 / reference_rows + 1 / current_rows) if bins > 1 else 0.0


def jensen_shannon(reference: Counts, current: Counts, base: float = 2) -> float | None:
    """Jensen-Shannon distance, the root of the divergence (Endres & Schindelin 2003).

    0..1 in base 2, 0..0.8326 in base e.
    """
    shares = _shares(reference, current, UNSMOOTHED)
    if shares is None:
        return None
    middle = (shares[0] + shares[1]) / 2
    divergence = sum(_relative_entropy(share, middle) for share in shares) / 2
    return float(np.sqrt(max(divergence, 0.0) / np.log(base)))


def linf(reference: Counts, current: Counts) -> float | None:
    """The largest difference of two shares of a bin, 0..1."""
    shares = _shares(reference, current, UNSMOOTHED)
    return None if shares is None else float(np.abs(shares[0] - shares[1]).max())


def chi_square(reference: Counts, current: Counts) -> Independence | None:
    """Pearson's test (1900) on the 2 × k table of counts, without Yates' correction.

    A single bin has statistic 0 and p-value 1.
    """
    from scipy.special import chdtrc

    used = _used(reference, current)
    if used is None:
        return None
    table = np.stack([reference[used], current[used]]).astype(np.float64)
    expected = np.outer(table.sum(axis=1), table.sum(axis=0)) / table.sum()
    statistic, degrees = float(((table - expected) ** 2 / expected).sum()), table.shape[1] - 1
    if not degrees:
        return Independence(0.0, 1.0, 0, 0.0)
    return Independence(statistic, float(chdtrc(degrees, statistic)), degrees, float(np.sqrt(statistic / table.sum())))


def ks_of_counts(reference: Counts, current: Counts) -> float | None:
    """The largest distance of the distribution functions at the bins' edges: a lower bound of D.

    Counts are those of numbers: the last bin holds missing values and is left out.
    """
    p, q = reference[:-1], current[:-1]
    if not p.sum() or not q.sum():
        return None
    return float(np.abs(np.cumsum(p) / p.sum() - np.cumsum(q) / q.sum()).max())


def null_rate(counts: Counts) -> float | None:
    """The share of missing values; None without rows."""
    return float(counts[-1] / counts.sum()) if counts.sum() else None


def unseen_rate(counts: Counts) -> float | None:
    """The share of rows whose level is not among the bins of `count_levels`; None without rows."""
    return float(counts[-2] / counts.sum()) if counts.sum() else None


def kolmogorov_smirnov(
    reference: Vector, current: Vector, method: Literal["auto", "exact", "asymp"] = "auto"
) -> Kolmogorov | None:
    """The two-sided two-sample test on the values that are not missing; None without any on either side.

    `auto` is scipy's rule: exact up to 10,000 rows on the larger side (Hodges 1958), asymptotic above.
    """
    from scipy.stats import ks_2samp

    old, new = finite_values(reference), finite_values(current)
    if not len(old) or not len(new):
        return None
    found = ks_2samp(old, new, method=method)
    place, sign = float(found.statistic_location), int(found.statistic_sign)
    return Kolmogorov(float(found.statistic), float(found.pvalue), place, sign, len(old), len(new))


def wasserstein(reference: Vector, current: Vector) -> float | None:
    """Earth mover's distance, the area between the distribution functions, in the column's unit.

    Missing values are left out (Ramdas, García Trillos & Cuturi, On Wasserstein Two-Sample Testing, 2017).
    """
    old, new = np.sort(finite_values(reference)), np.sort(finite_values(current))
    if not len(old) or not len(new):
        return None
    values = np.sort(np.concatenate([old, new]))
    p, q = (np.searchsorted(one, values[:-1], side="right") / len(one) for one in (old, new))
    return float((np.abs(p - q) * np.diff(values)).sum())


def wasserstein_normed(reference: Vector, current: Vector) -> float | None:
    """`wasserstein` over the reference's standard deviation (ddof 0), which counts as 0.001 at least."""
    distance = wasserstein(reference, current)
    return None if distance is None else distance / max(float(np.std(finite_values(reference))), _LEAST_DEVIATION)


def wasserstein_of_quantiles(reference: Vector, current: Vector) -> float | None:
    """`wasserstein` from stored quantiles at the same evenly spaced shares, 0 and 1 among them; trapezoidal."""
    if not len(reference) or not len(current):
        return None
    gaps = np.abs(reference - current)
    return float(((gaps[1:] + gaps[:-1]) / 2).mean())


def _used(reference: Counts, current: Counts) -> Mask | None:
    """The bins that are not empty on both sides; None when a side has no rows at all."""
    return np.asarray(reference + current > 0) if reference.sum() and current.sum() else None


def _shares(reference: Counts, current: Counts, smoothing: Smoothing) -> tuple[Vector, Vector] | None:
    used = _used(reference, current)
    if used is None:
        return None
    return _smoothed(reference[used], smoothing), _smoothed(current[used], smoothing)


def _smoothed(counts: Counts, smoothing: Smoothing) -> Vector:
    if smoothing.kind == "laplace":
        return np.asarray((counts + smoothing.amount) / (counts.sum() + smoothing.amount * len(counts)))
    shares: npt.NDArray[np.float64] = counts / counts.sum()
    if smoothing.kind == "zeros":
        return np.where(shares == 0, smoothing.amount, shares)
    return np.maximum(shares, smoothing.amount) if smoothing.kind == "floor" else shares


def _relative_entropy(share: Vector, middle: Vector) -> float:
    there = share > 0
    return float((share[there] * np.log(share[there] / middle[there])).sum())
