"""The `expectations` of a dataset, as a closed set of kinds.

Each becomes one Great Expectations expectation and, where it speaks of rows, one quarantine mask.
Added here: a new kind, together with its translation in `nightscore/quality`. Not here: evaluation.
"""

from typing import Annotated, Literal

from pydantic import Field

from nightscore.spec.base import Name, Severity, SpecModel


class ExpectationBase(SpecModel):
    """Every expectation has a severity and may say why it exists."""

    severity: Severity = "block"
    reason: str = ""


class NotNull(ExpectationBase):
    """Each column has a value in at least `mostly` of the rows."""

    type: Literal["not_null"]
    columns: tuple[Name, ...] = Field(min_length=1)
    mostly: float = Field(default=1.0, gt=0, le=1)


class Between(ExpectationBase):
    """Values lie within [min, max]; nulls are not judged."""

    type: Literal["between"]
    column: Name
    min: float | None = None
    max: float | None = None
    mostly: float = Field(default=1.0, gt=0, le=1)


class InSet(ExpectationBase):
    """Values belong to the set; nulls are not judged."""

    type: Literal["in_set"]
    column: Name
    values: tuple[str | int, ...] = Field(min_length=1)
    mostly: float = Field(default=1.0, gt=0, le=1)


class Matches(ExpectationBase):
    """String values match the regular expression from the start; nulls are not judged."""

    type: Literal["matches"]
    column: Name
    pattern: str
    mostly: float = Field(default=1.0, gt=0, le=1)


class Unique(ExpectationBase):
    """The columns together identify a row; all copies of a repeated row offend."""

    type: Literal["unique"]
    columns: tuple[Name, ...] = Field(min_length=1)


class RowCount(ExpectationBase):
    """The partition has at least `min` and at most `max` rows; rows cannot be set aside for it."""

    type: Literal["row_count"]
    severity: Literal["block", "warn"] = "block"
    min: int | None = Field(default=None, ge=0)
    max: int | None = Field(default=None, ge=0)


Expectation = Annotated[NotNull | Between | InSet | Matches | Unique | RowCount, Field(discriminator="type")]
