"""The `metrics` and `review` sections: what the business counts beside model metrics, and which rows people look at.

Added here: a way to declare a figure over predictions and outcomes, or a reason for a row to be reviewed.
Not here: how they are computed (`nightscore/monitoring`).
"""

from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from nightscore.spec.base import Name, SpecModel


class BusinessMetric(SpecModel):
    """One figure a score date, computed by DuckDB over `rows`: the published rows, with the label where it is known.

    `rows` has the columns of the published table, the label under its name, and every publish column.
    """

    name: Name
    expression: str | None = Field(
        default=None, min_length=1, description="an aggregate over `rows`, such as sum(score) or count(*)"
    )
    sql: str | None = Field(default=None, min_length=1, description="a whole query over `rows` that gives one number")
    over: Literal["predictions", "outcomes"] = Field(
        default="outcomes", description="predictions: all rows, known tonight; outcomes: labelled rows of mature dates"
    )
    unit: str = ""
    good: Literal["high", "low", "neither"] = Field(default="neither", description="which way is good")
    description: str = ""


def _ordered(band: tuple[float, float]) -> tuple[float, float]:
    if band[0] >= band[1]:
        raise ValueError("expected the lower bound first, and below the upper one")
    return band


Band = Annotated[tuple[float, float], AfterValidator(_ordered)]


class Review(SpecModel):
    """Which rows of a night people are asked to look at; without a band and rare inputs, none."""

    band: Band | None = Field(default=None, description="scores from the first to the second bound, both included")
    rare_inputs: bool = Field(
        default=False, description="rows with a level or a value that the reference had in at most `rare_share`"
    )
    rare_share: float = Field(default=0.001, gt=0, lt=1)
    rows: int = Field(default=50, ge=1, description="rows a night; of more, a sample that is always the same")
