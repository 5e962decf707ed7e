"""The `monitoring` section: what counts as a fault or a shift, when people are told, and when to train again.

Thresholds come from the pipeline's own reference; the numbers here are floors and factors on them.
Added here: a rule of a level, of incidents or of retraining. Not here: how evidence is measured
(`nightscore/measures`) or judged (`nightscore/monitoring`).
"""

from typing import Literal

from pydantic import Field

from nightscore.spec.base import SpecModel
from nightscore.spec.promotion import Promotion


class Blocking(SpecModel):
    """L1, tonight: faults that hold the night back. Wrong schema, keys, scores or stale inputs always do."""

    rows_low: float = Field(
        default=0.75, ge=0, le=1, description="fewer rows than this share of the same weekday's fewest are a fault"
    )
    rows_high: float = Field(
        default=1.33, ge=1, description="more rows than this multiple of the same weekday's most are a fault"
    )
    null_change: float = Field(
        default=0.05, gt=0, le=1, description="a column's null rate may always change by this much (0.05: 5 points)"
    )
    null_deviations: float = Field(
        default=2.0, ge=0, description="and by this multiple of what 95 % of reference nights stay below"
    )
    unseen_share: float = Field(default=0.01, gt=0, le=1, description="rows whose level the reference never saw")
    out_of_range_share: float = Field(default=0.01, gt=0, le=1, description="rows outside the reference's range")
    min_affected_rows: int = Field(
        default=3, ge=1, description="a share counts only when at least this many rows of the night are behind it"
    )


class Shift(SpecModel):
    """A distribution has moved when its PSI reaches a floor, and a factor on what the reference did by itself."""

    psi_floor: float = Field(gt=0, description="a smaller PSI is never a shift")
    psi_factor: float = Field(ge=0, description="on the 99 % quantile of PSI of reference dates that were left out")


class Outcomes(SpecModel):
    """L4: CUSUM of the daily mean residual of mature labels, in empirical standard deviations between days."""

    slack: float = Field(default=0.5, ge=0, description="standard deviations a day that are let pass")
    limit: float = Field(default=5.0, gt=0, description="summed standard deviations beyond the slack that alarm")
    min_days: int = Field(default=10, ge=1, description="with fewer mature days there is not enough evidence")
    min_positives: int = Field(
        default=100, ge=0, description="nor with fewer positive labels on those days; of binary tasks only"
    )
    wait_days: int = Field(
        default=14,
        ge=0,
        description="days beyond the label's horizon after which labels that have not come never will",
    )
    windows: tuple[int, ...] = Field(
        default=(14, 28), min_length=1, description="mature score dates over which performance is shown"
    )


class Incidents(SpecModel):
    """When causes become an incident, and when it is over; while it is open nobody is told again."""

    needed: int = Field(
        default=2, ge=1, le=3, description="nights on which a cause of L2 to L4 must show; L1 needs one"
    )
    of: int = Field(default=3, ge=3, le=14, description="newest nights on which the cause could be measured")
    at_once_ratio: float = Field(
        default=3.0, gt=1, description="a cause of L2 that is this multiple of its threshold needs no second night"
    )
    quiet_nights: int = Field(default=7, ge=1, description="quiet nights in a row after which an incident closes")
    quiet_below: float = Field(
        default=0.8, gt=0, le=1, description="a night is quiet below this share of every threshold of the incident"
    )
    accepted_margin: float = Field(
        default=1.1, ge=1, description="an accepted cause shows again only beyond this multiple of its accepted level"
    )
    false_per_quarter: int = Field(
        default=1, ge=0, description="false incidents in 91 nights that are tolerated; measured, never enforced"
    )


class Retraining(SpecModel):
    """When a challenger is trained without a person; a calendar rhythm, which drift only brings forward."""

    every_days: int = Field(default=7, ge=1, description="score dates between two looks at whether to train")
    min_new_labels: float = Field(
        default=0.05, ge=0, le=1, description="mature labels since the last training, as a share of its training rows"
    )
    cooldown_days: int = Field(default=7, ge=1, description="score dates between two attempts")
    max_in_30_days: int = Field(default=4, ge=0, description="attempts in 30 days; then a person decides")


class Monitoring(SpecModel):
    """How the nights are watched."""

    daily_variance_share: float = Field(
        default=0.3,
        gt=0,
        le=1,
        description="columns whose variance lies between days by at least this share are judged by a control chart of "
        "their daily value, the others by their distribution",
    )
    min_rows: int = Field(
        default=20, ge=1, description="nights with fewer rows are not judged by distribution or for constant scores"
    )
    pages: Literal["nightly", "on_demand"] = Field(
        default="nightly", description="whether each night writes its report and the dashboard, or `report` does"
    )
    blocking: Blocking = Blocking()
    daily: Shift = Field(
        default=Shift(psi_floor=0.25, psi_factor=1.5), description="L2, tonight against the same weekday; warns"
    )
    weekly: Shift = Field(
        default=Shift(psi_floor=0.1, psi_factor=1.25), description="L3, the score over the trailing 7 days; warns"
    )
    weekly_inputs: Shift = Field(
        default=Shift(psi_floor=0.2, psi_factor=1.25), description="L3, inputs over the trailing 7 days; warns"
    )
    outcomes: Outcomes = Outcomes()
    incidents: Incidents = Incidents()
    retraining: Retraining = Retraining()


class Policy(SpecModel):
    """The sections of a spec that the watch follows, as they stand in a spec or in a file for a back-test."""

    monitoring: Monitoring = Monitoring()
    promotion: Promotion = Promotion()
