"""What the watch reads of one night, and what it answers: frozen facts that go to JSON and back unchanged.

A figure that was not or could not be measured is None, never 0: nothing follows from it.
Added here: a fact that a level or a rule of retraining needs. Not here: how it is measured (`nightscore/measures`), or
what follows from it (`levels.py`, `incidents.py`, `retraining.py`).
"""

from datetime import date
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class Fact(BaseModel):
    """Frozen, finite, and an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Chart(Fact):
    """The daily value of a column that moves from day to day, and the limits its control chart gives."""

    value: float
    low: float
    high: float


class ColumnNight(Fact):
    """One column tonight against the reference; rates are shares of tonight's rows.

    `null_deviation_q95`: what 95 % of reference nights' null rates stay within of `reference_null_rate`. `psi` is
    against the same weekday, `psi_q99` the 99 % quantile of left-out reference days. Columns of the calendar have
    neither `psi` nor `chart`.
    """

    name: str
    null_rate: float | None = None
    reference_null_rate: float = 0.0
    null_deviation_q95: float = 0.0
    unseen_share: float | None = None
    out_of_range_share: float | None = None
    psi: float | None = None
    psi_q99: float = 0.0
    chart: Chart | None = None


class Freshness(Fact):
    """The age of what an input (a source, or labels) knows tonight and the most that is normal, in days."""

    name: str
    age_days: int
    limit_days: int
    kind: Literal["feature", "label"] = "feature"


class ColumnWeek(Fact):
    """PSI of a column over the trailing 7 days, and the 99 % quantile of left-out reference weeks."""

    name: str
    psi: float
    psi_q99: float = 0.0


class DomainClassifier(Fact):
    """How well a classifier tells the trailing 7 days from the reference; the columns it does so by, strongest first.

    `threshold` is the AUC that left-out reference weeks stay below; `detail` says more in words, such as which levels
    of a column look swapped.
    """

    auc: float
    threshold: float
    columns: tuple[str, ...] = ()
    detail: str = ""


class Swap(Fact):
    """Pairs of levels of a column whose rows tonight look like the reference's rows of the other level."""

    name: str
    pairs: tuple[tuple[str, str], ...] = ()


class Residual(Fact):
    """Mean of outcome minus prediction over the labelled rows of one mature score date."""

    day: date
    mean: float


class MatureOutcomes(Fact):
    """Realised performance on mature score dates, scored by the champion of `NightEvidence.reference`.

    `residuals` may repeat days of earlier nights: each day counts once. `residual_target` and `residual_sd`: mean and
    empirical standard deviation of the daily residual on the champion's held-out dates. `positives` is None for a
    regression.
    """

    residuals: tuple[Residual, ...] = ()
    residual_target: float = 0.0
    residual_sd: float | None = None
    days: int = 0
    positives: int | None = None
    loss: str = "log loss"
    champion_loss: float | None = None
    constant_loss: float | None = None
    held_out_loss: float | None = None


class LabelArrival(Fact):
    """Labels that were due and that came, and mature labels since the last training as a share of its rows."""

    expected: int = 0
    arrived: int = 0
    new_mature_share: float


class NightEvidence(Fact):
    """All that one score date shows. `reference` names the model version whose training profile was compared with.

    `differing_bits`: sampled rows to which the scoring kernel gave another score than LightGBM, which then scored them.
    `rows_min` and `rows_max` are the fewest and most rows of the same weekday in the reference.
    """

    kind: Literal["night"] = "night"
    pipeline: str
    score_date: date
    reference: str
    rows: int
    rows_min: int | None = None
    rows_max: int | None = None
    schema_findings: tuple[str, ...] = ()
    duplicate_keys: int = 0
    differing_bits: int = 0
    scores_not_finite: int = 0
    scores_constant: bool = False
    freshness: tuple[Freshness, ...] = ()
    columns: tuple[ColumnNight, ...] = ()
    week: tuple[ColumnWeek, ...] = ()
    domain: DomainClassifier | None = None
    swaps: tuple[Swap, ...] = ()
    outcomes: MatureOutcomes | None = None
    labels: LabelArrival | None = None

    @property
    def weekday(self) -> str:
        """The English name of the score date's weekday."""
        return ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")[self.score_date.weekday()]


class NightDecision(Fact):
    """One answer: what is done or left undone, and why. `tell` is true when people must hear of it.

    `rules` names every rule that applied. `not_before` is the first night on which a refusal may end by itself.
    """

    pipeline: str
    night: date
    kind: Literal["publish", "incident", "retrain"]
    subject: str
    verdict: Literal["blocked", "opened", "joined", "closed", "accepted", "attempt", "no_attempt", "ask"]
    reason: str
    rules: tuple[str, ...] = ()
    not_before: date | None = None
    promotion: Literal["gate", "person"] | None = Field(
        default=None, description="of an attempt: who may promote a better challenger tonight"
    )
    tell: bool = False
