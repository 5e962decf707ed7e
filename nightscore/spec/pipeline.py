"""The whole spec of a pipeline: its sections, and what must hold between them.

Added here: a rule that spans sections (each finding carries its own location). Not here: rules of one section.
"""

from collections.abc import Callable, Iterator, Mapping
from datetime import date, timedelta
from typing import Annotated
from zoneinfo import available_timezones

from pydantic import AfterValidator, Field

from nightscore.spec.base import CalendarDate, Name, SpecModel, Task
from nightscore.spec.expectations import Expectation
from nightscore.spec.monitoring import Monitoring
from nightscore.spec.outcomes import BusinessMetric, Review
from nightscore.spec.promotion import Promotion, Rollout
from nightscore.spec.serving import Decision, Publish, Replay, Restatement, Schedule
from nightscore.spec.sources import Source
from nightscore.spec.training import Features, Label, Training


def _known_timezone(name: str) -> str:
    if name not in available_timezones():
        raise ValueError("expected an IANA time zone such as America/New_York")
    return name


class Entity(SpecModel):
    """What one row of a night is about, and the columns that identify it within the night."""

    name: Name
    key: tuple[Name, ...] = Field(min_length=1)
    description: str = ""


class ScoreDates(SpecModel):
    """The nights that exist: local calendar dates, first and (for closed data) last."""

    start: CalendarDate
    end: CalendarDate | None = None
    timezone: Annotated[str, AfterValidator(_known_timezone)]


class Pipeline(SpecModel):
    """One pipeline, as declared in `pipelines/<name>.yaml`."""

    name: Name
    description: str = Field(min_length=1)
    owner: str = Field(description="an e-mail address or team:name")
    task: Task
    entity: Entity
    score_dates: ScoreDates
    sources: dict[Name, Source] = Field(min_length=1)
    features: Features
    label: Label
    training: Training
    promotion: Promotion = Promotion()
    rollout: Rollout = Rollout()
    monitoring: Monitoring = Monitoring()
    metrics: tuple[BusinessMetric, ...] = ()
    review: Review = Review()
    decision: Decision
    publish: Publish = Publish()
    restatement: Restatement = Restatement()
    schedule: Schedule = Schedule()
    replay: Replay | None = None

    @property
    def first_night(self) -> date:
        """The first night with a full training window behind it."""
        return self.score_dates.start + timedelta(days=self.training.window_days)

    @property
    def late_days(self) -> int:
        """For how many nights the source that is corrected longest may still change a night."""
        return max(source.late_days for source in self.sources.values())

    @property
    def feature_names(self) -> tuple[str, ...]:
        """Model inputs in the pinned order."""
        return tuple(column.name for column in self.features.columns)

    @property
    def prediction_range(self) -> tuple[float | None, float | None]:
        """The bounds of a score: [0, 1] for a binary task, the declared ones otherwise."""
        low, high = self.decision.score_min, self.decision.score_max
        if self.task == "binary":
            return (0.0 if low is None else low, 1.0 if high is None else high)
        return (low, high)


Location = tuple[str | int, ...]
Finding = tuple[Location, str, str]
"""(location in the spec, what was found, what was expected)"""


def check_sections(spec: Pipeline) -> list[Finding]:
    """Every contradiction between sections of `spec`, all at once.

    A spec that was salvaged from a file with mistakes may lack sections; rules about those are left out.
    """
    there = set(vars(spec))
    return [finding for check, needed in CHECKS if needed <= there for finding in check(spec)]


def _check_owner(spec: Pipeline) -> Iterator[Finding]:
    if "@" not in spec.owner and not spec.owner.startswith("team:"):
        yield ("owner",), spec.owner, "an e-mail address or team:name"


def _check_dates(spec: Pipeline) -> Iterator[Finding]:
    dates = spec.score_dates
    if dates.end is not None and dates.end < dates.start:
        yield ("score_dates", "end"), str(dates.end), f"a date on or after start {dates.start}"
    if spec.replay is not None and not dates.start <= spec.replay.business <= (dates.end or date.max):
        yield ("replay", "business"), str(spec.replay.business), "a date within score_dates"


def _check_training(spec: Pipeline) -> Iterator[Finding]:
    training = spec.training
    if training.holdout_days >= training.window_days:
        yield ("training", "holdout_days"), str(training.holdout_days), f"fewer than window_days {training.window_days}"


def _check_sources(spec: Pipeline) -> Iterator[Finding]:
    for name, source in spec.sources.items():
        columns = [column.name for column in source.columns]
        for repeated in sorted({column for column in columns if columns.count(column) > 1}):
            yield ("sources", name, "columns"), f"column {repeated} twice", "each column once"
        for reserved in sorted({"known_on", "unreadable"} & set(columns)):
            yield ("sources", name, "columns"), reserved, "another name; Nightscore adds this column itself"
        for key in source.key:
            if key not in columns:
                yield ("sources", name, "key"), key, f"one of the columns {', '.join(columns)}"
        if source.cadence == "daily" and source.event_date is None:
            yield ("sources", name, "event_date"), "nothing", "the column or SQL that gives a row's event date"
        types = {column.name: column.type for column in source.columns}
        for at, expectation in enumerate(source.expectations):
            for found, expected in _unfit(expectation, types):
                yield ("sources", name, "expectations", at), found, expected


def _unfit(expectation: Expectation, types: Mapping[str, str | None]) -> Iterator[tuple[str, str]]:
    """What an expectation asks of columns that are not there, or that are of another type (None: of any)."""
    needed = {"between": ("integer", "float"), "matches": ("string",), "in_set": ("string", "integer", "boolean")}
    for column in _columns_of(expectation):
        fitting = needed.get(expectation.type, ())
        if column not in types:
            yield column, f"one of the columns {', '.join(types)}"
        elif fitting and types[column] not in (None, *fitting):
            found = f"{expectation.type} on {column}, which is {types[column]}"
            yield found, f"a column of type {' or '.join(fitting)}"


def _columns_of(expectation: object) -> tuple[str, ...]:
    single = getattr(expectation, "column", None)
    return (single,) if single else tuple(getattr(expectation, "columns", ()))


def _check_features(spec: Pipeline) -> Iterator[Finding]:
    names = list(spec.feature_names)
    for at, name in enumerate(names):
        if names.index(name) != at:
            yield ("features", "columns", at, "name"), f"{name} again", "each feature once"
    features = {column.name: "string" if column.type == "category" else column.type for column in spec.features.columns}
    known: dict[str, str | None] = {**dict.fromkeys(("score_date", *spec.entity.key)), **features}
    for at, expectation in enumerate(spec.features.expectations):
        for found, expected in _unfit(expectation, known):
            yield ("features", "expectations", at), found, expected
    for at, carried in enumerate(spec.publish.columns):
        if carried not in features or carried in spec.entity.key:
            yield ("publish", "columns", at), carried, "a feature that is not a key column"


def _check_label(spec: Pipeline) -> Iterator[Finding]:
    for at, name in enumerate(spec.feature_names):
        if name == spec.label.column:
            yield ("features", "columns", at, "name"), name, "a feature; this column is the label"


def _check_decision(spec: Pipeline) -> Iterator[Finding]:
    names = [rule.name for rule in spec.decision.business_rules]
    for at, name in enumerate(names):
        if names.index(name) != at:
            yield ("decision", "business_rules", at, "name"), f"{name} again", "each rule once"
    rule = spec.decision.rule
    if spec.task == "binary" and rule.type == "threshold" and not 0 <= rule.value <= 1:
        yield ("decision", "rule", "value"), str(rule.value), "a probability in [0, 1] for a binary task"


def _check_metrics(spec: Pipeline) -> Iterator[Finding]:
    names = [metric.name for metric in spec.metrics]
    for at, metric in enumerate(spec.metrics):
        if names.index(metric.name) != at:
            yield ("metrics", at, "name"), f"{metric.name} again", "each metric once"
        if (metric.expression is None) == (metric.sql is None):
            found = "neither expression nor sql" if metric.sql is None else "both expression and sql"
            yield ("metrics", at), found, "one of the two"


CHECKS: tuple[tuple[Callable[[Pipeline], Iterator[Finding]], frozenset[str]], ...] = (
    (_check_owner, frozenset({"owner"})),
    (_check_dates, frozenset({"score_dates"})),
    (_check_training, frozenset({"training"})),
    (_check_sources, frozenset({"sources"})),
    (_check_features, frozenset({"features", "entity"})),
    (_check_label, frozenset({"features", "label"})),
    (_check_decision, frozenset({"decision", "task"})),
    (_check_metrics, frozenset({"metrics"})),
)
"""Each rule between sections, with the sections it needs."""
