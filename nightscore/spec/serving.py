"""The `decision`, `publish`, `restatement`, `schedule` and `replay` sections: from score to table, every night.

Added here: a rule between the score and its reader. Not here: how the table is written (`nightscore/publishing`).
"""

from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from nightscore.spec.base import CalendarDate, Name, SpecModel
from nightscore.spec.expectations import Expectation


class Threshold(SpecModel):
    """Decide yes where the score is at least `value`."""

    type: Literal["threshold"]
    value: float


class TopK(SpecModel):
    """Decide yes for the `k` highest scores of the night; ties go to the smaller key."""

    type: Literal["top_k"]
    k: int = Field(ge=1)


class BusinessRule(SpecModel):
    """Where the SQL condition over keys, features and score holds, the decision is `decision`, and says the rule."""

    name: Name
    when: str = Field(min_length=1)
    decision: bool


class Costs(SpecModel):
    """What a wrong decision costs, in any one unit; right ones cost nothing."""

    false_alarm: float = Field(default=1.0, ge=0, description="decided yes, and the label came out 0")
    miss: float = Field(default=1.0, ge=0, description="decided no, and the label came out 1")
    unit: str = Field(default="", description="such as EUR, for reports")


class Decision(SpecModel):
    """How a score becomes a decision; rules apply in order, the last that holds wins.

    A threshold is compared with the calibrated probability where the version has a calibration, else with the score.
    """

    rule: Annotated[Threshold | TopK, Field(discriminator="type")]
    business_rules: tuple[BusinessRule, ...] = ()
    costs: Costs | None = Field(default=None, description="makes reports speak of value beside metrics")
    score_min: float | None = Field(default=None, description="scores below it block the night")
    score_max: float | None = Field(default=None, description="scores above it block the night")


class Reasons(SpecModel):
    """The features that moved a row's score most, as text beside it; they cost as much as many scores."""

    top: int = Field(default=3, ge=1, le=20, description="how many features are named")
    rows: Literal["all", "decided", "top_k"] = Field(
        default="decided", description="for which rows: all, those that are decided yes, or the `k` highest scores"
    )
    k: int | None = Field(default=None, ge=1)


class Publish(SpecModel):
    """What readers see beside keys and scores."""

    columns: tuple[Name, ...] = Field(default=(), description="feature columns carried along for readers")
    restate: Literal["review", "direct"] = Field(
        default="review", description="a night that readers see and that comes out otherwise: staged, or published"
    )
    reasons: Reasons | None = Field(default=None, description="publish reason codes; absent: none are computed")
    expectations: tuple[Expectation, ...] = ()
    description: str = ""


class Restatement(SpecModel):
    """What is done when an input of published nights changes; a night moved by it is restated through a changeset."""

    tolerance: float = Field(
        default=0.0, ge=0, le=1, description="share of rows that may move in a sample before anything is restated"
    )
    min_shift: float = Field(
        default=0.0, ge=0, description="a row has moved when its decision flips or its score shifts by more than this"
    )
    sample_nights: int = Field(default=3, ge=1, description="affected nights that are scored to estimate the effect")
    budget_nights: int = Field(default=14, ge=1, description="with more affected nights, a person is asked first")
    approve: Literal["person", "auto"] = Field(
        default="person", description="who approves: a person, or nobody is asked and readers see it at once"
    )


Cron = Annotated[str, StringConstraints(pattern=r"^(\S+ ){4}\S+$")]


class Schedule(SpecModel):
    """When the night and the drill run, in the pipeline's time zone."""

    cron: Cron = "0 3 * * *"
    drill: Cron = Field(
        default="0 5 * * 0", description="when an old night and an old model version are made again and compared"
    )
    drill_budget_minutes: int = Field(default=30, ge=1, description="minutes that one drill may take")


class Replay(SpecModel):
    """On wall date `wall` the night of `business` is scored, and so on day by day."""

    wall: CalendarDate
    business: CalendarDate
