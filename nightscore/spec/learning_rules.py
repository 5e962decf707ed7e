"""What must hold for a model to be trained, calibrated, tuned, compared and rolled out as a spec says.

Added here: a rule about the life of a model. Not here: rules of one section (`section_rules.py`) or of data.
"""

from collections.abc import Callable, Iterator

from nightscore.spec.pipeline import Finding, Pipeline
from nightscore.spec.training import Calibration, Cascade, Linear
from nightscore.spec.tuning import SearchSpace

TUNED_BY_LINEAR = frozenset({"l2"})


def check_learning(spec: Pipeline) -> list[Finding]:
    """Every contradiction about models in `spec`; rules about sections that a salvaged spec lacks are left out."""
    there = set(vars(spec))
    return [finding for check, needed in _CHECKS if needed <= there for finding in check(spec)]


def _window(spec: Pipeline) -> Iterator[Finding]:
    training = spec.training
    for where, section in (("calibration", training.calibration), ("algorithm", training.algorithm)):
        apart = section.dates if isinstance(section, Calibration | Cascade) else 0
        if apart and training.holdout_days + apart >= training.window_days:
            found = f"{apart} dates beside {training.holdout_days} that are held out"
            yield ("training", where, "dates"), found, f"together fewer than window_days {training.window_days}"
    if training.folds > training.holdout_days:
        yield ("training", "folds"), str(training.folds), f"at most holdout_days {training.holdout_days}"
    if training.calibration and spec.task != "binary":
        yield ("training", "calibration"), f"task {spec.task}", "a binary task; only probabilities are calibrated"


def _cascade(spec: Pipeline) -> Iterator[Finding]:
    cascade = spec.training.algorithm
    if not isinstance(cascade, Cascade):
        return
    where, small = ("training", "algorithm"), cascade.small.trees
    if spec.task != "binary":
        yield where, f"task {spec.task}", "a binary task; only a probability has a band where it is uncertain"
    if cascade.full.trees < 2:
        yield (*where, "full", "trees"), str(cascade.full.trees), "at least 2, of which the first stage has fewer"
    elif small is not None and small >= cascade.full.trees:
        yield (*where, "small", "trees"), str(small), f"fewer than the full model's trees {cascade.full.trees}"


def _tuning(spec: Pipeline) -> Iterator[Finding]:
    tuning = spec.training.tuning
    if tuning is None:
        return
    where = ("training", "tuning")
    algorithm = spec.training.algorithm
    allowed = TUNED_BY_LINEAR if isinstance(algorithm, Linear) else frozenset(SearchSpace.model_fields)
    if algorithm.type not in {"lightgbm", "linear"}:
        yield where, f"algorithm {algorithm.type}", "an algorithm with settings: lightgbm or linear"
        return
    if tuning.folds * tuning.fold_days >= spec.training.window_days:
        found = f"{tuning.folds} folds of {tuning.fold_days} dates"
        yield (*where, "folds"), found, f"together fewer dates than window_days {spec.training.window_days}"
    if not tuning.space.ranges:
        yield (*where, "space"), "nothing", f"a range for one of {', '.join(sorted(allowed))}"
    for name, span in tuning.space.ranges.items():
        if name not in allowed:
            yield (*where, "space", name), name, f"a setting of {algorithm.type}: {', '.join(sorted(allowed))}"
        elif span.high < span.low:
            yield (*where, "space", name, "high"), str(span.high), f"a number >= low {span.low}"
        elif span.log and span.low <= 0:
            yield (*where, "space", name, "low"), str(span.low), "a number above 0 on a log scale"
        else:
            yield from _ends(spec, name, span.low, span.high)


def _ends(spec: Pipeline, name: str, low: float, high: float) -> Iterator[Finding]:
    """Both ends must be values that the algorithm takes."""
    algorithm = spec.training.algorithm
    for end, value in (("low", low), ("high", high)):
        try:
            type(algorithm).model_validate(algorithm.model_dump() | {name: value})
        except ValueError:
            yield ("training", "tuning", "space", name, end), str(value), f"a value that {algorithm.type} takes"


def _rollout(spec: Pipeline) -> Iterator[Finding]:
    steps = spec.rollout.steps
    for at, name in enumerate(spec.rollout.entity):
        if name not in spec.entity.key:
            yield ("rollout", "entity", at), name, f"one of the key columns {', '.join(spec.entity.key)}"
    if list(steps) != sorted(set(steps)) or not 0 < steps[0] <= 100 or steps[-1] != 100:
        yield ("rollout", "steps"), str(list(steps)), "growing shares in percent, above 0, the last one 100"


def _fairness(spec: Pipeline) -> Iterator[Finding]:
    limits = spec.promotion.fairness.limits
    if limits and not any(column.sensitive for column in spec.features.columns):
        yield ("promotion", "fairness", "limits"), "no sensitive column", "a feature column with sensitive: true"
    if limits and spec.task != "binary":
        yield ("promotion", "fairness", "limits"), f"task {spec.task}", "a binary task"


def _evidence(spec: Pipeline) -> Iterator[Finding]:
    promotion = spec.promotion
    if promotion.min_dates > promotion.dates:
        yield ("promotion", "min_dates"), str(promotion.min_dates), f"at most dates {promotion.dates}"
    if spec.decision.costs and spec.task != "binary":
        yield ("decision", "costs"), f"task {spec.task}", "a binary task; other tasks have no right or wrong decision"


def _reasons(spec: Pipeline) -> Iterator[Finding]:
    reasons = spec.publish.reasons
    if reasons and (reasons.k is None) == (reasons.rows == "top_k"):
        yield ("publish", "reasons", "k"), str(reasons.k), "a number of rows with rows: top_k, and only then"
    if reasons and any(column.name == "reason_codes" for column in spec.features.columns):
        yield ("publish", "reasons"), "a feature named reason_codes", "another name; the reasons are published as it"


_CHECKS: tuple[tuple[Callable[[Pipeline], Iterator[Finding]], frozenset[str]], ...] = (
    (_window, frozenset({"training", "task"})),
    (_cascade, frozenset({"training", "task"})),
    (_tuning, frozenset({"training"})),
    (_rollout, frozenset({"rollout", "entity"})),
    (_fairness, frozenset({"promotion", "features", "task"})),
    (_evidence, frozenset({"promotion", "decision", "task"})),
    (_reasons, frozenset({"publish", "features"})),
)
"""Each rule, with the sections it needs."""
