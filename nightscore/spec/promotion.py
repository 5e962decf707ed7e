"""The `promotion` and `rollout` sections: what evidence a version needs to become champion, and by which steps.

Added here: a rule of promotion, fairness or rollout. Not here: how evidence is measured (`nightscore/registry`).
"""

from typing import Literal

from pydantic import Field

from nightscore.spec.base import Name, SpecModel

FairnessMeasure = Literal[
    "selection_rate_difference", "selection_rate_ratio", "true_positive_rate_difference",
    "false_positive_rate_difference", "accuracy_difference",
]  # fmt: skip


class FairnessLimit(SpecModel):
    """How far the levels of each sensitive column may be apart: at most for a difference, at least for a ratio."""

    measure: FairnessMeasure
    limit: float = Field(ge=0, le=1)
    severity: Literal["block", "warn"] = "block"


class Fairness(SpecModel):
    """The bias gate: what is asked of every version between the levels of columns marked `sensitive`."""

    min_share: float = Field(default=0.05, gt=0, lt=1, description="levels with a smaller share of rows are not judged")
    limits: tuple[FairnessLimit, ...] = ()


class Promotion(SpecModel):
    """The gate between a challenger and the champion; the score date is the unit of evidence."""

    approve: Literal["person", "auto"] = Field(
        default="person", description="who promotes a challenger that the gate found better: a person, or the gate"
    )
    allow_dirty: bool = Field(
        default=True, description="also versions trained from changes that were not committed; they stay reproducible"
    )
    dates: int = Field(default=14, ge=10, description="newest mature score dates that both versions are compared on")
    min_dates: int = Field(default=10, ge=10, description="with fewer common dates there is not enough evidence")
    confidence: float = Field(default=0.9, ge=0.5, lt=1, description="of each bound, over score dates")
    refresh_loss: float = Field(
        default=0.01, ge=0, le=1, description="share of the loss by which a refresh of the same recipe may be worse"
    )
    max_gain: float = Field(
        default=0.10, gt=0, description="a larger share of the loss gained is too good to be true: look for a leak"
    )
    calibration_margin: float = Field(default=0.01, ge=0, description="how much worse the calibration error may be")
    segment_share: float = Field(default=0.05, gt=0, lt=1, description="smallest share of rows of a judged segment")
    segment_loss: float = Field(
        default=0.02, ge=0, description="no judged segment may be credibly worse by more than this share of its loss"
    )
    cooldown_days: int = Field(default=14, ge=0, description="score dates between two promotions by the gate")
    max_in_30_days: int = Field(default=2, ge=0, description="promotions by the gate in 30 days; then a person decides")
    fairness: Fairness = Fairness()


class Rollout(SpecModel):
    """How a promoted challenger comes to be champion of all rows."""

    kind: Literal["direct", "shadow", "canary", "ab"] = Field(
        default="direct",
        description="direct: at once; shadow: scored beside the champion and compared first; canary, ab: on a share of "
        "entities, which grows step by step (canary) or stays until it is decided (ab)",
    )
    entity: tuple[Name, ...] = Field(
        default=(), description="key columns that identify who stays in one arm; the whole entity key when empty"
    )
    steps: tuple[float, ...] = Field(default=(5.0, 25.0, 100.0), min_length=1, description="percent of entities")
    min_days: int = Field(default=7, ge=1, description="score dates between steps; never fewer than the label horizon")
    rollback: Literal["auto", "person"] = Field(
        default="auto", description="who takes back a canary or a new champion that is credibly worse"
    )
    watch_days: int = Field(default=28, ge=1, description="score dates for which a new champion is watched")
