"""Scores that had not seen the labels they are judged by, and the rows on which two versions have such scores.

A version's capsule may judge dates after the last one it learnt from. Its held-out dates are judged by the stored
scores of the model that was fitted before them. For any other date there is none, and the date is left out.
Added here: another source of unseen scores. Not here: what the rows say about the versions (`gate.py`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from functools import cached_property
from typing import Any

import polars as pl

from nightscore.catalog.models import ModelVersion
from nightscore.catalog.partitions import PartitionVersion
from nightscore.errors import PromotionRefused
from nightscore.lake.workspace import Workspace
from nightscore.registry.capsule import Capsule
from nightscore.registry.families import allowance
from nightscore.registry.versions import open_capsule
from nightscore.spec.datasets import features_dataset, labels_dataset
from nightscore.spec.pipeline import Pipeline
from nightscore.spec.windows import nights_between
from nightscore.training.matrix import SCORE_DATE, row_key
from nightscore.training.training_set import join_labels

PREDICTION, SOURCE = "_probability", "_source"
CHAMPION_SCORE, CHALLENGER_SCORE = "_champion", "_challenger"
"""Columns beside keys and features; no spec name begins with an underscore, so they cannot meet one."""
CAPSULE, HELD_OUT = "capsule", "held_out"
LOOKBACK = 3
"""Candidate dates, in multiples of the dates that are compared."""


@dataclass(frozen=True)
class PairedRows:
    """Labelled rows that both versions have an unseen score of, sorted by key, and what was left out.

    `frame`: key, label, the challenger's features, segment and sensitive columns, `_champion` and `_challenger`: the
    probability, or for regression the prediction. `left_out`: why a date takes no part; `rows_left_out`: labelled rows
    of the compared dates that one of the two has no score of. `importance`: the challenger's, by feature. `allowance`:
    the share of the loss that the challenger may cost for being cheaper to score with.
    """

    frame: pl.DataFrame
    dates: tuple[date, ...]
    left_out: Mapping[date, str]
    rows_left_out: int = 0
    new_features: tuple[str, ...] = ()
    importance: Mapping[str, float] | None = None
    allowance: float = 0.0


@dataclass(frozen=True)
class UnseenScorer:
    """One version with its capsule; the stored held-out scores are read when first asked for."""

    version: ModelVersion
    capsule: Capsule
    task: str
    threads: int

    @cached_property
    def held_out(self) -> dict[date, pl.DataFrame]:
        """Key and prediction of each held-out date."""
        stored = self.capsule.held_out()
        if stored is None:
            return {}
        kept = stored.select(*self.capsule.key, pl.col("_score" if self.task == "regression" else PREDICTION))
        parts = kept.rename({kept.columns[-1]: PREDICTION}).partition_by(SCORE_DATE, as_dict=True)
        return {night: part for (night,), part in parts.items() if isinstance(night, date)}

    def source_of(self, night: date) -> str | None:
        """Where an unseen score of `night` comes from; None when there is none."""
        if night > date.fromisoformat(self.version.metrics["all"]["last"]):
            return CAPSULE
        return HELD_OUT if night in self.held_out else None

    def scores(self, night: date, features: pl.DataFrame) -> pl.DataFrame:
        """Key, `_probability` (or prediction) and `_source`; none where `night` has no unseen score.

        PromotionRefused names the columns of the version that `features` lacks.
        """
        source = self.source_of(night)
        if source == CAPSULE:
            found = self._scored(features)
        elif source == HELD_OUT:
            found = self.held_out[night]
        else:
            found = features.select(*self.capsule.key, pl.lit(None, pl.Float64).alias(PREDICTION)).clear()
        return found.with_columns(pl.lit(source, pl.String).alias(SOURCE))

    def _scored(self, features: pl.DataFrame) -> pl.DataFrame:
        names, key = self.capsule.encoding.names, self.capsule.key
        _require_columns(self.version, names, features.columns)
        scores = self.capsule.predict(features.select(list(dict.fromkeys((*key, *names)))), self.threads)
        predictions = scores if self.task == "regression" else self.capsule.probability(scores)
        return features.select(*key, pl.Series(PREDICTION, predictions, dtype=pl.Float64))


def open_scorer(workspace: Workspace, version: ModelVersion) -> UnseenScorer:
    """The scorer of a version, its capsule verified."""
    return UnseenScorer(version, open_capsule(workspace, version), version.task, workspace.settings.threads)


def unseen_scores(
    workspace: Workspace, pipeline: Pipeline, version: ModelVersion, dates: Sequence[date]
) -> pl.DataFrame:
    """Key, `_probability` (or prediction) and `_source` of the rows of `dates`; dates without unseen scores have none.

    Raises NotReadable for a date without features, PromotionRefused when features lack a column of the version.
    """
    scorer = open_scorer(workspace, version)
    features = workspace.lake.require(features_dataset(pipeline.name), sorted(dates))
    parts = [scorer.scores(one.score_date, workspace.lake.scan([one]).collect()) for one in features]
    schema = {SCORE_DATE: pl.Date(), PREDICTION: pl.Float64(), SOURCE: pl.String()}
    return pl.concat(parts).sort(row_key(pipeline)) if parts else pl.DataFrame(schema=schema)


def paired_rows(
    workspace: Workspace, pipeline: Pipeline, champion: ModelVersion, challenger: ModelVersion, as_of: date
) -> PairedRows:
    """Rows of the newest mature dates, at most `promotion.dates`, on which both have unseen scores.

    Dates are looked for in three times as many calendar days before the night `as_of`. Raises PromotionRefused when
    the lake's features lack a column of either version, so that it can be compared on no date.
    """
    pair = _Pair(workspace, pipeline, open_scorer(workspace, champion), open_scorer(workspace, challenger))
    left_out: dict[date, str] = {}
    parts: list[pl.DataFrame] = []
    labelled = 0
    for night, features, labels in pair.candidates(as_of, left_out):
        if len(parts) == pipeline.promotion.dates:
            break
        part, rows, reason = pair.rows_of(night, features, labels)
        if reason:
            left_out[night] = reason
            continue
        parts.append(part)
        labelled += rows
    frame = pl.concat(parts, how="diagonal_relaxed").sort(row_key(pipeline)) if parts else pl.DataFrame()
    dates = tuple(sorted(part[SCORE_DATE][0] for part in parts))
    # Dates before those that were enough were not needed, so there is no reason to give.
    enough = dates[0] if len(dates) == pipeline.promotion.dates else date.min
    reasons = {night: why for night, why in sorted(left_out.items()) if night > enough}
    importance = challenger.metrics.get("importance") or {}
    spared = allowance(champion, challenger)
    return PairedRows(frame, dates, reasons, labelled - frame.height, pair.new_features, importance, spared)


@dataclass(frozen=True)
class _Pair:
    workspace: Workspace
    pipeline: Pipeline
    champion: UnseenScorer
    challenger: UnseenScorer

    @property
    def new_features(self) -> tuple[str, ...]:
        known = set(self.champion.capsule.encoding.names)
        return tuple(name for name in self.challenger.capsule.encoding.names if name not in known)

    def candidates(
        self, as_of: date, left_out: dict[date, str]
    ) -> list[tuple[date, PartitionVersion, PartitionVersion]]:
        """Dates with features, labels and two unseen scores, newest first; says of the others why not."""
        nights, horizon = self._mature(as_of), timedelta(days=self.pipeline.label.horizon_days)
        if not nights:
            return []
        features = self._current(features_dataset(self.pipeline.name), nights, timedelta(0))
        labels = self._current(labels_dataset(self.pipeline.name), nights, horizon)
        found = []
        for night in reversed(nights):
            reason = self._missing(night, night in features, night + horizon in labels)
            if reason:
                left_out[night] = reason
            else:
                found.append((night, features[night], labels[night + horizon]))
        return found

    def _mature(self, as_of: date) -> list[date]:
        last = as_of - timedelta(days=max(1, self.pipeline.label.horizon_days))
        first = last - timedelta(days=LOOKBACK * self.pipeline.promotion.dates - 1)
        return nights_between(max(first, self.pipeline.score_dates.start), last)

    def _current(self, dataset: str, nights: Sequence[date], later: timedelta) -> dict[date, PartitionVersion]:
        return self.workspace.lake.current(dataset, nights[0] + later, nights[-1] + later)

    def _missing(self, night: date, has_features: bool, has_labels: bool) -> str:
        if not (has_features and has_labels):
            absent = [name for name, there in (("features", has_features), ("labels", has_labels)) if not there]
            return f"the lake has no {' and no '.join(absent)}"
        seen = [one.version.name for one in (self.champion, self.challenger) if one.source_of(night) is None]
        return f"no unseen score of {' and of '.join(seen)}" if seen else ""

    def rows_of(
        self, night: date, features: PartitionVersion, labels: PartitionVersion
    ) -> tuple[pl.DataFrame, int, str]:
        """The paired rows of a date, how many were labelled, and why it takes no part."""
        lake, pipeline = self.workspace.lake, self.pipeline
        joined = join_labels(pipeline, lake.scan([features]), lake.scan([labels]))
        if joined.left_out or not joined.frame.height:
            return joined.frame, 0, joined.left_out.get(night, "none of its rows has a label")
        paired = self._with_scores(night, joined.frame)
        reason = "" if paired.height else "no row has scores of both versions"
        return paired, joined.frame.height, reason

    def _with_scores(self, night: date, rows: pl.DataFrame) -> pl.DataFrame:
        key = list(row_key(self.pipeline))
        paired = rows.select(self._kept(rows.columns))
        for scorer, column in ((self.champion, CHAMPION_SCORE), (self.challenger, CHALLENGER_SCORE)):
            scores = scorer.scores(night, rows).select(*key, pl.col(PREDICTION).alias(column))
            paired = paired.join(scores.filter(pl.col(column).is_finite()), on=key)
        return paired

    def _kept(self, columns: Sequence[str]) -> list[str]:
        marked = [one.name for one in self.pipeline.features.columns if one.segment or one.sensitive]
        wanted = {*row_key(self.pipeline), self.pipeline.label.column, *self.challenger.capsule.encoding.names, *marked}
        return [name for name in columns if name in wanted]


def _require_columns(version: ModelVersion, needed: Sequence[str], there: Sequence[str]) -> None:
    lacking = [name for name in needed if name not in there]
    if lacking:
        raise PromotionRefused(
            f"Scoring recent dates with {version.name}",
            [f"the current features have no column {name}, which it learnt from" for name in lacking],
            "bring the column back, or promote another version despite the gate",
        )


def evidence_of(rows: PairedRows) -> dict[str, Any]:
    """What was compared and what was not, as JSON."""
    return {
        "dates": [str(night) for night in rows.dates], "rows_left_out": rows.rows_left_out,
        "left_out": {str(night): why for night, why in rows.left_out.items()},
    }  # fmt: skip
