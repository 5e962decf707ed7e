"""All that the catalog knows of a watched night, or of a period of a pipeline, as frozen facts without a drawing.

Of a night only what was known by then is read, so that its report says the same whenever it is written; what readers
see, and what became of incidents, is as it stands now.
Added here: a fact that a report shows. Not here: sentences, tables and charts (`night_report.py`, `dashboard.py`).
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import date, timedelta
from itertools import pairwise
from typing import Any

import sqlalchemy as sa

from nightscore.catalog.decisions import Decision, list_decisions
from nightscore.catalog.gates import RowAccount, Verdict, accounts_of_night, verdicts_of_night
from nightscore.catalog.metrics import MetricValue, metrics_between
from nightscore.catalog.models import ModelVersion, find_version
from nightscore.catalog.nights import NightStatus, night_status, recent_nights
from nightscore.catalog.publications import (
    Publication,
    Receipt,
    current_publications,
    latest_publication,
    publications_of_night,
    receipt_by_id,
)
from nightscore.catalog.watch import (
    WatchVerdict,
    list_incidents,
    newest_state,
    newest_watch_verdict,
    signals_between,
)
from nightscore.errors import Permanent
from nightscore.lake.parquet import read_batches
from nightscore.lake.workspace import Workspace
from nightscore.reports.figure_charts import RowCount
from nightscore.reports.watch_charts import Bin, Cell
from nightscore.spec.pipeline import Pipeline
from nightscore.spec.windows import nights_between

STRIP_NIGHTS, FIGURE_NIGHTS = 28, 56
_BATCH_ROWS = 1 << 18
_LEDGER_DEPTH = 10_000
_NIGHTS_OF_EVIDENCE = ("as_of", "night", "score_date")


@dataclass(frozen=True)
class Signal:
    """One figure of a night beside its threshold; `column` is None for a check of the whole night."""

    night: date
    level: str
    cause: str
    column: str | None
    value: float
    threshold: float
    ratio: float
    fires: bool
    message: str

    @property
    def name(self) -> str:
        """The column, or the kind of check."""
        return self.column or self.cause.partition(":")[0]


@dataclass(frozen=True)
class IncidentFacts:
    """An incident as it stands now."""

    incident_id: str
    level: str
    status: str
    cause: str
    messages: tuple[str, ...]
    opened: date
    last_seen: date
    closed: date | None
    nights: int
    actor: str | None
    reason: str
    false_alarm: bool

    def open_on(self, night: date) -> bool:
        """Whether it was open after that night."""
        return self.opened <= night and (self.closed is None or self.closed > night)

    def days(self, until: date) -> int:
        """Days from the night it opened to the one it closed on, or to `until`, both counted."""
        return (min(self.closed or until, until) - self.opened).days + 1


@dataclass(frozen=True)
class NightFacts:
    """One score date. `latest` is the newest night that readers see; `signals` are of `STRIP_NIGHTS` nights up to it.

    `metrics` are the figures of `FIGURE_NIGHTS` score dates as known by the night, the newest of each.
    """

    pipeline: str
    task: str
    night: date
    horizon_days: int
    status: NightStatus | None = None
    verdict: WatchVerdict | None = None
    publications: tuple[Publication, ...] = ()
    current: Publication | None = None
    latest: Publication | None = None
    receipt: Receipt | None = None
    model: ModelVersion | None = None
    accounts: tuple[RowAccount, ...] = ()
    gates: tuple[Verdict, ...] = ()
    signals: tuple[Signal, ...] = ()
    incidents: tuple[IncidentFacts, ...] = ()
    metrics: tuple[MetricValue, ...] = ()
    decisions: tuple[Decision, ...] = ()
    scores: tuple[Bin, ...] = ()

    @property
    def tonight(self) -> list[Signal]:
        """The signals of the night itself."""
        return [one for one in self.signals if one.night == self.night]

    @property
    def open_incidents(self) -> list[IncidentFacts]:
        """Those that are open after the night, the most severe and oldest first."""
        found = [one for one in self.incidents if one.open_on(self.night)]
        return sorted(found, key=lambda one: (one.level, one.opened, one.incident_id))

    @property
    def strip(self) -> list[date]:
        """The nights that drift is shown over."""
        return nights_between(self.night - timedelta(days=STRIP_NIGHTS - 1), self.night)

    def as_json(self) -> dict[str, Any]:
        """The same as plain values."""
        return asdict(self)


@dataclass(frozen=True)
class PeriodFacts:
    """A pipeline from `first` to `last`: `published` has what readers see now, by score date.

    `metrics` keep every date of knowledge up to `last`; `false_allowed` is the budget of a quarter.
    """

    pipeline: str
    task: str
    first: date
    last: date
    false_allowed: int
    statuses: tuple[NightStatus, ...] = ()
    published: Mapping[date, Publication] | None = None
    signals: tuple[Signal, ...] = ()
    incidents: tuple[IncidentFacts, ...] = ()
    metrics: tuple[MetricValue, ...] = ()
    decisions: tuple[Decision, ...] = ()

    @property
    def nights(self) -> list[date]:
        """Every date of the period."""
        return nights_between(self.first, self.last)

    def as_json(self) -> dict[str, Any]:
        """The same as plain values."""
        by_date = {str(night): vars(one) for night, one in (self.published or {}).items()}
        return asdict(self) | {"published": by_date}


def read_night_facts(workspace: Workspace, pipeline: Pipeline, night: date) -> NightFacts:
    """The facts of one night. Permanent where the watch never judged it and nothing else became of it either."""
    name = pipeline.name
    with workspace.engine.connect() as connection:
        status, verdict = night_status(connection, name, night), newest_watch_verdict(connection, name, night)
        revisions = publications_of_night(connection, name, night)
        if not (status or verdict or revisions):
            raise _never_watched(connection, name, night)
        current = current_publications(connection, name, night, night).get(night)
        latest = latest_publication(connection, name)
        model = _model_of(connection, name, current, verdict)
        metrics = metrics_between(connection, name, night - timedelta(days=FIGURE_NIGHTS - 1), night)
        return NightFacts(
            name, pipeline.task, night, pipeline.label.horizon_days, status, verdict, tuple(revisions), current, latest,
            receipt_by_id(connection, current.receipt_id) if current else None, model,
            tuple(accounts_of_night(connection, name, night)), tuple(verdicts_of_night(connection, name, night)),
            _signals(connection, name, night - timedelta(days=STRIP_NIGHTS - 1), night),
            _incidents(connection, name, night), newest_known(metrics, night),
            tuple(_decisions(connection, name, night, night)), score_bins(workspace, model, name, night),
        )  # fmt: skip


def read_period_facts(workspace: Workspace, pipeline: Pipeline, first: date, last: date) -> PeriodFacts:
    """The facts of a pipeline over a period. Permanent where it ends before it begins."""
    if last < first:
        raise Permanent(f"Reading {pipeline.name}", f"{last} lies before {first}", "give the first night first")
    name = pipeline.name
    with workspace.engine.connect() as connection:
        known = [one for one in metrics_between(connection, name, first, last) if one.known_on <= last]
        return PeriodFacts(
            name, pipeline.task, first, last, pipeline.monitoring.incidents.false_per_quarter,
            tuple(recent_nights(connection, name, first, last)), current_publications(connection, name, first, last),
            _signals(connection, name, first, last), _incidents(connection, name, last), tuple(known),
            tuple(_decisions(connection, name, first, last)),
        )  # fmt: skip


def newest_watched_night(workspace: Workspace, pipeline: str) -> date:
    """The newest night that the watch has judged; Permanent where there is none."""
    with workspace.engine.connect() as connection:
        found = _newest_watched(connection, pipeline)
    if found is None:
        remedy = f"run a night: nightscore run {pipeline}"
        raise Permanent(f"Reporting on {pipeline}", "none of its nights was ever watched", remedy)
    return found


def newest_known(metrics: Iterable[MetricValue], by: date) -> tuple[MetricValue, ...]:
    """Of each figure of each score date the newest that was known by then, in their order."""
    known = sorted((one for one in metrics if one.known_on <= by), key=lambda one: one.known_on)
    newest = {(one.score_date, one.scope, one.metric): one for one in known}
    return tuple(newest[key] for key in sorted(newest))


def drift_cells(signals: Iterable[Signal]) -> list[Cell]:
    """Of each night and column the signal that is furthest over its threshold, or nearest to it."""
    found: dict[tuple[date, str], Cell] = {}
    for one in signals:
        before = found.get((one.night, one.name))
        ratio, fires = (max(one.ratio, before.ratio), one.fires or before.fires) if before else (one.ratio, one.fires)
        found[one.night, one.name] = Cell(one.night, one.name, ratio, fires)
    return list(found.values())


def row_counts(signals: Iterable[Signal], published: Mapping[date, Publication]) -> list[RowCount]:
    """Rows by night with what is normal; nights without a watch have the rows that readers see."""
    counts = {night: RowCount(night, one.rows) for night, one in published.items()}
    for one in signals:
        if one.cause == "rows:low":
            counts[one.night] = counts.get(one.night, RowCount(one.night, one.value))._replace(
                rows=one.value, low=one.threshold
            )
        elif one.cause == "rows:high":
            counts[one.night] = counts.get(one.night, RowCount(one.night, one.value))._replace(
                rows=one.value, high=one.threshold
            )
    return [counts[night] for night in sorted(counts)]


def nights_of_decision(made: Decision) -> set[date]:
    """The score dates that a decision is about; the date it was made on where its evidence names none."""
    named = [str(made.evidence.get(key) or "") for key in _NIGHTS_OF_EVIDENCE]
    affected = made.evidence.get("affected")
    named += list(affected) if isinstance(affected, Mapping) else []
    found = {night for text in named if (night := _as_date(text)) is not None}
    return found or {made.at.date()}


def score_bins(workspace: Workspace, model: ModelVersion | None, pipeline: str, night: date) -> tuple[Bin, ...]:
    """Tonight's scores counted into the bins of the reference of `model`; none where either is missing."""
    import json

    from nightscore.measures.profiles import ReferenceProfile, count_into
    from nightscore.spec.datasets import predictions_dataset
    from nightscore.training.reference import REFERENCE_FILE, SCORE

    scored = workspace.lake.current(predictions_dataset(pipeline), night, night).get(night)
    store = workspace.lake.store
    files = store.read_directory(model.capsule_md5) if model and scored else {}
    if scored is None or REFERENCE_FILE not in files:
        return ()
    content = json.loads(store.verified_path(files[REFERENCE_FILE]).read_text("utf-8"))
    profile = ReferenceProfile.from_json(json.dumps(content["profile"])).column(SCORE)
    batches = read_batches(store.verified_path(scored.md5), _BATCH_ROWS, [SCORE])
    tonight = [count_into(profile, batch[SCORE]).tolist() for batch in batches]
    return label_bins(profile.edges, profile.counts, [sum(counts) for counts in zip(*tonight, strict=True)])


def label_bins(edges: Sequence[float], reference: Sequence[int], tonight: Sequence[int]) -> tuple[Bin, ...]:
    """Bins between ascending `edges` (lo, hi], open outside, and a last one for missing scores if there are any."""
    texts = [f"{edge:.3g}" for edge in edges]
    between = [f"{low}–{high}" for low, high in pairwise(texts)]
    labels = [f"≤ {texts[0]}", *between, f"> {texts[-1]}"] if texts else ["all"]
    bins = [Bin(*one) for one in zip([*labels, "missing"], reference, tonight, strict=True)]
    return tuple(bins if bins[-1].reference or bins[-1].tonight else bins[:-1])


def _never_watched(connection: sa.Connection, pipeline: str, night: date) -> Permanent:
    newest = _newest_watched(connection, pipeline)
    found = f"it was never watched, nor did anything else become of it; the newest watched night is {newest or 'none'}"
    remedy = f"give a night that was run (nightscore status {pipeline}), or run it: nightscore run {pipeline}"
    return Permanent(f"Reporting on {pipeline} {night}", found, remedy)


def _newest_watched(connection: sa.Connection, pipeline: str) -> date | None:
    return _as_date(str((newest_state(connection, pipeline) or {}).get("night") or ""))


def _as_date(text: str) -> date | None:
    try:
        return date.fromisoformat(text[:10])
    except ValueError:
        return None


def _model_of(
    connection: sa.Connection, pipeline: str, current: Publication | None, verdict: WatchVerdict | None
) -> ModelVersion | None:
    """The version that scored what readers see, or what was judged."""
    if current is not None:
        return find_version(connection, pipeline, current.model_version)
    number = verdict.reference.rpartition("@")[2] if verdict else ""
    return find_version(connection, pipeline, int(number)) if number.isdigit() else None


def _signals(connection: sa.Connection, pipeline: str, first: date, last: date) -> tuple[Signal, ...]:
    return tuple(
        Signal(one["score_date"], one["level"], one["cause"], one["column_name"], one["value"], one["threshold"],
               one["ratio"], one["fires"], one["message"])
        for one in signals_between(connection, pipeline, first, last)
    )  # fmt: skip


def _incidents(connection: sa.Connection, pipeline: str, last: date) -> tuple[IncidentFacts, ...]:
    """Those that had opened by `last`, the newest first."""
    names = [name for name in IncidentFacts.__dataclass_fields__ if name != "messages"]
    return tuple(
        IncidentFacts(**{name: one[name] for name in names}, messages=tuple(one["messages"]))
        for one in list_incidents(connection, pipeline) if one["opened"] <= last
    )  # fmt: skip


def _decisions(connection: sa.Connection, pipeline: str, first: date, last: date) -> list[Decision]:
    """Oldest first."""
    made = reversed(list_decisions(connection, pipeline, _LEDGER_DEPTH))
    return [one for one in made if any(first <= night <= last for night in nights_of_decision(one))]
