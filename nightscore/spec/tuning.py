"""The `training.tuning` section: which settings may be tried, and how much may be spent on it.

Added here: another setting that can be searched. Not here: the search itself (`nightscore/training/tuning.py`).
"""

from typing import Annotated

from pydantic import Field

from nightscore.spec.base import SpecModel


class FloatRange(SpecModel):
    """From `low` to `high`, on a log scale when `log` is set."""

    low: float
    high: float
    log: bool = False


class IntegerRange(SpecModel):
    """From `low` to `high`, both included, on a log scale when `log` is set."""

    low: int
    high: int
    log: bool = False


class SearchSpace(SpecModel):
    """Ranges of the algorithm's own settings; those that are absent stay as `training.algorithm` says."""

    trees: IntegerRange | None = None
    leaves: IntegerRange | None = None
    learning_rate: FloatRange | None = None
    min_rows_in_leaf: IntegerRange | None = None
    feature_fraction: FloatRange | None = None
    bagging_fraction: FloatRange | None = None
    l2: FloatRange | None = None

    @property
    def ranges(self) -> dict[str, IntegerRange | FloatRange]:
        """The settings that vary, by name, in a fixed order."""
        named = ((name, getattr(self, name)) for name in type(self).model_fields)
        return {name: found for name, found in named if found is not None}


class Tuning(SpecModel):
    """A search within a budget; each trial is measured on dates after those that it was fitted on."""

    trials: int = Field(default=20, ge=1, le=1000)
    minutes: Annotated[float, Field(gt=0)] = 30.0
    folds: int = Field(default=3, ge=1, le=20)
    fold_days: int = Field(default=7, ge=1, description="score dates that each fold is measured on")
    space: SearchSpace
