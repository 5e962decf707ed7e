"""The `features`, `label` and `training` sections: what a model sees, predicts, and how it is fitted.

Added here: a setting of fitting or of the training set. Not here: what is done with scores, or which version may score.
"""

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import Field

from nightscore.spec.base import Name, SpecModel
from nightscore.spec.expectations import Expectation
from nightscore.spec.tuning import Tuning


class FeatureColumn(SpecModel):
    """One model input: float, integer, boolean, or category (levels are stored with the model)."""

    name: Name
    type: Literal["float", "integer", "category", "boolean"]
    segment: bool = Field(default=False, description="metrics are also shown by the levels of this column")
    sensitive: bool = Field(default=False, description="decisions are compared between the levels of this column")
    title: str = Field(default="", description="what people call it; in reasons and reports instead of the name")
    may_be_null: bool = Field(default=False, description="a whole night without a value of it is normal")
    description: str = ""


class Features(SpecModel):
    """The dbt model that makes the features of a night, and its columns in the model's order."""

    model: Name
    lookback_days: int = Field(default=0, ge=0, le=3660, description="nights of history the SQL may read")
    max_gap_days: int = Field(default=0, ge=0, description="nights of history that may be missing, recorded each time")
    columns: tuple[FeatureColumn, ...] = Field(min_length=1)
    max_quarantine_share: float = Field(default=0.0, ge=0, le=1)
    expectations: tuple[Expectation, ...] = ()


class Label(SpecModel):
    """The dbt model that makes labels; a cohort is mature `horizon_days` after its score date, if covered."""

    model: Name
    column: Name
    horizon_days: int = Field(ge=0, le=3660)
    min_coverage: float = Field(default=0.9, gt=0, le=1, description="share of a cohort's rows that must have labels")
    description: str = ""


class LightGbm(SpecModel):
    """Gradient boosted trees. Only what keeps training deterministic can be said here."""

    type: Literal["lightgbm"]
    trees: int = Field(default=200, ge=1, le=10_000)
    leaves: int = Field(default=31, ge=2, le=4096)
    learning_rate: float = Field(default=0.05, gt=0, le=1)
    min_rows_in_leaf: int = Field(default=20, ge=1)
    feature_fraction: float = Field(default=1.0, gt=0, le=1)
    bagging_fraction: float = Field(default=1.0, gt=0, le=1)
    l2: float = Field(default=0.0, ge=0)
    threads: int = Field(default=1, ge=1, le=64, description="part of the version's identity; never 0")


_GOSS = "only plain boosting is offered; GOSS gives another model for another number of threads"
_LINEAR = "linear trees give another model for another number of threads"
_THREADS = "0 or -1 takes what the machine has, and another machine makes another model; write threads, at least 1"
_DASK = "distributed training such as Dask's adds up in no fixed order: three runs gave three models"
_GPU = "a GPU adds up in no fixed order"
_QUANTIZED = "with quantised gradients LightGBM broke off on categories with bagging"
_SEED = "there is one seed, training.seed, and every other one follows from it"
_REFUSED: tuple[tuple[str, str], ...] = (
    ("boosting boosting_type boost data_sample_strategy goss top_rate other_rate", _GOSS),
    ("linear_tree linear_trees linear_lambda", _LINEAR),
    ("num_threads num_thread nthread nthreads n_jobs", _THREADS),
    ("trainer dask distributed tree_learner tree_learner_type num_machines machines", _DASK),
    ("device device_type gpu cuda gpu_use_dp gpu_platform_id gpu_device_id num_gpu", _GPU),
    ("use_quantized_grad num_grad_quant_bins quant_train_renew_leaf stochastic_rounding", _QUANTIZED),
    ("seed random_seed random_state bagging_seed feature_fraction_seed extra_seed data_random_seed drop_seed", _SEED),
    ("deterministic", "it is always on: without it six runs on four threads gave six models"),
    ("force_col_wise", "it is always on, so that the number of threads matters less"),
    (
        "force_row_wise",
        "training is always column by column; row by row, labels with a heavy tail gave another model for another "
        "number of threads",
    ),
)
IRREPRODUCIBLE: Mapping[str, str] = {key: reason for keys, reason in _REFUSED for key in keys.split()}
"""Settings that users know from LightGBM, and why they cannot be said here (as measured)."""


class Linear(SpecModel):
    """Logistic (binary) or ridge (regression) model on imputed, scaled and one-hot encoded features."""

    type: Literal["linear"]
    l2: float = Field(default=1.0, gt=0)


class Constant(SpecModel):
    """The mean label of the training rows."""

    type: Literal["constant"]


class Rule(SpecModel):
    """A score that needs no learning: what a team would do without a model."""

    type: Literal["rule"]
    score: str = Field(
        min_length=1,
        description="SQL over feature columns: a probability for a binary task, the value for regression; where it is "
        "null, the mean label of the training rows stands",
    )


class Small(SpecModel):
    """The first stage of a cascade: the first trees of the full model."""

    trees: int | None = Field(default=None, ge=1, le=9_999, description="how many; the cheapest number where absent")


class Cascade(SpecModel):
    """Boosted trees in two stages: the first of them score every row, all of them the rows where that matters."""

    type: Literal["cascade"]
    full: LightGbm
    small: Small = Small()
    dates: int = Field(default=14, ge=2, description="the score dates before those held out that the band is fitted on")
    max_loss_share: float = Field(default=0.01, gt=0, le=0.1, description="share of the full model's loss it may cost")
    max_flip_share: float = Field(
        default=0.01,
        ge=0,
        le=0.5,
        description="differing decisions, as a share of the full model's yes decisions",
    )


Alone = LightGbm | Linear | Constant | Rule
"""What is fitted to rows alone, without dates of its own."""
Algorithm = Annotated[LightGbm | Linear | Constant | Rule | Cascade, Field(discriminator="type")]
Baseline = Annotated[LightGbm | Linear | Constant | Rule, Field(discriminator="type")]


class Calibration(SpecModel):
    """A map from scores to probabilities, fitted on dates that neither training nor evaluation uses."""

    method: Literal["isotonic", "sigmoid"]
    dates: int = Field(default=14, ge=2, description="the score dates just before those that are held out")


class Training(SpecModel):
    """The window of score dates, what is held out of it, the algorithm and its baselines."""

    window_days: int = Field(ge=2, le=3660, description="score dates before the training night")
    holdout_days: int = Field(default=14, ge=1, description="last dates of the window, for evaluation only")
    folds: int = Field(
        default=1, ge=1, description="the held-out dates are evaluated in so many steps, each by a model of its past"
    )
    min_rows: int = Field(default=1000, ge=1)
    seed: int = Field(default=20130401, ge=0, le=2**31 - 1)
    algorithm: Algorithm
    baselines: tuple[Baseline, ...] = (Constant(type="constant"),)
    calibration: Calibration | None = None
    tuning: Tuning | None = None

    @property
    def dates_apart(self) -> int:
        """Score dates just before those held out that no model learns: they calibrate, or fit a cascade's band."""
        banded = self.algorithm.dates if isinstance(self.algorithm, Cascade) else 0
        return max(self.calibration.dates if self.calibration else 0, banded)
