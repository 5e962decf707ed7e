"""Which rows of a published night people are asked to look at, and why: near the decision, or unlike the reference.

It reads what the publication's receipt names, so an answer is about the very row that readers saw.
Added here: a reason for a row to be looked at. Not here: what people answer (`feedback.py`), or whether the night as a
whole is unlike the reference (`levels.py`).
"""

import hashlib
import heapq
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

import polars as pl

from nightscore.catalog.publications import Publication, current_publications, receipt_by_id
from nightscore.catalog.reviews import ReviewItem, lock_reviews, replace_items
from nightscore.lake.outcomes import NightOutcome, timed_step
from nightscore.lake.workspace import Workspace
from nightscore.measures.profiles import ColumnProfile, ReferenceProfile
from nightscore.monitoring.review_rows import as_json_key
from nightscore.spec.outcomes import Review
from nightscore.spec.pipeline import Pipeline
from nightscore.training.matrix import row_key

LEVEL_CHARACTERS = 60
"""Characters of a level that a reason shows; free text may be long."""
VALUES, RARE = "inputs of the row", "which are rare"
"""Columns beside the key; no name in a spec has blanks."""


@dataclass(frozen=True)
class RowsOfNight:
    """What a publication was made of, as lazy frames that share the columns `key`."""

    key: Sequence[str]
    predictions: pl.LazyFrame
    features: pl.LazyFrame


def queue_night(
    workspace: Workspace, pipeline: Pipeline, night: date, reference: ReferenceProfile | None, run_id: str
) -> int:
    """Make the review queue of what readers see of `night`; returns how many rows were chosen.

    What nobody has answered of an earlier revision goes. Without `reference` no input is rare. Raises ObjectMissing
    when what the publication was made of is gone, DatabaseUnavailable.
    """
    made = _current(workspace, pipeline, night)
    if made is None or not _asks(pipeline.review):
        _store(workspace, pipeline, night, made, [])
        return 0
    with timed_step(workspace, pipeline.name, "review", [night], run_id) as log:
        items = choose_rows(pipeline, made, _open_rows(workspace, pipeline, made), reference)
        _store(workspace, pipeline, night, made, items)
        log.outcomes.append(NightOutcome(f"{pipeline.name}.review", night, "made", len(items)))
    return len(items)


def choose_rows(
    pipeline: Pipeline, made: Publication, rows: RowsOfNight, reference: ReferenceProfile | None
) -> list[ReviewItem]:
    """The rows of one publication that the spec asks for, by key; of more than `review.rows`, the same ones always."""
    review, key = pipeline.review, list(rows.key)
    profiles = _checked(pipeline, rows, reference) if review.rare_inputs else []
    wanted = [rows.features.filter(pl.any_horizontal(rare_inputs(one, review.rare_share) for one in profiles))
              .select(key).join(rows.predictions.select(key), on=key, how="semi")] if profiles else []  # fmt: skip
    if review.band is not None:
        wanted.append(rows.predictions.filter(pl.col("score").is_between(*review.band)).select(key))
    if not wanted:
        return []
    found = pl.concat([one.collect(engine="streaming") for one in wanted]).unique()
    chosen = _sample(found, made.score_date, review.rows).lazy()
    scores = rows.predictions.join(chosen, on=key, how="semi").select(*key, pl.col("score").cast(pl.Float64))
    frame = scores.join(_inputs(rows, chosen, profiles, review), on=key, how="left").sort(key).collect()
    return [_item(pipeline, made, row, rows.key, profiles) for row in frame.iter_rows(named=True)]


def _inputs(rows: RowsOfNight, chosen: pl.LazyFrame, profiles: Sequence[ColumnProfile], review: Review) -> pl.LazyFrame:
    """The key, the checked inputs as one list a row, and which of them are rare."""
    values = pl.struct(pl.lit(0).alias("none"), *(pl.col(one.name).alias(f"{at}") for at, one in enumerate(profiles)))
    rare = [rare_inputs(one, review.rare_share).alias(f"{at}") for at, one in enumerate(profiles)]
    flags = pl.struct(pl.lit(0).alias("none"), *rare)
    mine = rows.features.join(chosen, on=list(rows.key), how="semi")
    return mine.select(*rows.key, values.alias(VALUES), flags.alias(RARE))


def rare_inputs(profile: ColumnProfile, rare_share: float) -> pl.Expr:
    """Whether a row's value is one that the reference never had, or a level that it had in at most `rare_share`.

    A missing value is not rare. Levels beyond those that the profile lists are rare where all of them must be.
    """
    column = pl.col(profile.name)
    if profile.kind == "number":
        value = column.cast(pl.Float64, strict=False)
        outside = (value < profile.minimum) | (value > profile.maximum)
        return (value.is_finite() & outside).fill_null(value=False)
    level, most = column.cast(pl.String), rare_share * sum(profile.counts)
    listed = dict(zip(profile.levels, profile.counts, strict=False))
    if _most_unlisted(profile) <= most:
        common = [name for name, rows in listed.items() if rows > most]
        return column.is_not_null() & ~level.is_in(common).fill_null(value=True)
    return level.is_in([name for name, rows in listed.items() if rows <= most]).fill_null(value=False)


def sensitive_columns(pipeline: Pipeline) -> frozenset[str]:
    """Names that the spec declares sensitive, of a source's column or of a feature."""
    of_sources = {one.name for source in pipeline.sources.values() for one in source.columns if one.sensitive}
    return frozenset(of_sources | {one.name for one in pipeline.features.columns if one.sensitive})


def _asks(review: Review) -> bool:
    return review.band is not None or review.rare_inputs


def _current(workspace: Workspace, pipeline: Pipeline, night: date) -> Publication | None:
    with workspace.engine.connect() as connection:
        return current_publications(connection, pipeline.name, night, night).get(night)


def _open_rows(workspace: Workspace, pipeline: Pipeline, made: Publication) -> RowsOfNight:
    with workspace.engine.connect() as connection:
        receipt = receipt_by_id(connection, made.receipt_id)
    files = [made.content_md5, str(receipt.body["features"]["md5"])]
    predictions, features = (pl.scan_parquet(workspace.lake.store.verified_path(md5)) for md5 in files)
    return RowsOfNight(row_key(pipeline)[1:], predictions, features)


def _checked(pipeline: Pipeline, rows: RowsOfNight, reference: ReferenceProfile | None) -> list[ColumnProfile]:
    """Profiles of features that tell rows apart; those of the calendar and those without a value do not."""
    there = set(pipeline.feature_names) & set(rows.features.collect_schema())
    columns = reference.columns if reference is not None else ()
    return [one for one in columns if one.name in there and one.column_class != "calendar"
            and any(one.counts[:-1]) and (one.kind != "number" or one.minimum is not None)]  # fmt: skip


def _sample(found: pl.DataFrame, night: date, rows: int) -> pl.DataFrame:
    """By a hash of night and key: no row's chance depends on another, nor on the order of rows."""
    if found.height <= rows:
        return found
    keys = found.iter_rows(named=True)
    kept = heapq.nsmallest(rows, ((_digest(night, key), at) for at, key in enumerate(keys)))
    return found[[at for _, at in kept]]


def _digest(night: date, key: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps([night, key], sort_keys=True, default=str).encode()).hexdigest()


def _item(
    pipeline: Pipeline, made: Publication, row: Mapping[str, Any], key: Sequence[str],
    profiles: Sequence[ColumnProfile],
) -> ReviewItem:  # fmt: skip
    review, hidden = pipeline.review, sensitive_columns(pipeline)
    why = [] if review.band is None else _near(review.band, row["score"])
    why += [
        _say(one, row[VALUES][str(at)], one.name in hidden)
        for at, one in enumerate(profiles)
        if row[RARE] and row[RARE][str(at)]
    ]
    named = as_json_key({name: row[name] for name in key})
    return ReviewItem(pipeline.name, made.score_date, named, made.publication_id, row["score"], why)


def _near(band: tuple[float, float], score: float | None) -> list[str]:
    inside = score is not None and band[0] <= score <= band[1]
    return [f"score: in the review band from {band[0]:g} to {band[1]:g}"] if inside else []


def _say(profile: ColumnProfile, value: Any, hidden: bool) -> str:
    """Column and reason; the value and what tells of it are left out where it is sensitive."""
    if profile.kind == "number":
        above = value > (profile.maximum or 0.0)
        side, bound = ("above", profile.maximum) if above else ("below", profile.minimum)
        return f"{profile.name}: {side} all of the reference" + (
            "" if hidden else f" ({value:.10g}; {bound:.10g} there)"
        )
    text = str(value).lower() if profile.kind == "boolean" else str(value)
    rows = dict(zip(profile.levels, profile.counts, strict=False)).get(text, _most_unlisted(profile))
    if hidden:
        return f"{profile.name}: a level that the reference {'hardly' if rows else 'never'} had"
    level = text if len(text) <= LEVEL_CHARACTERS else f"{text[:LEVEL_CHARACTERS]}…"
    seen = f"in at most {rows:,} of {sum(profile.counts):,} reference rows" if rows else "never in the reference"
    return f"{profile.name}: {level}, {seen}"


def _most_unlisted(profile: ColumnProfile) -> int:
    """The most rows that the reference can have had of a level that the profile does not list."""
    others = profile.counts[-2]
    return min(others, profile.counts[len(profile.levels) - 1]) if profile.levels else others


def _store(
    workspace: Workspace, pipeline: Pipeline, night: date, made: Publication | None, items: Sequence[ReviewItem]
) -> None:  # fmt: skip
    """Unless readers see another revision by now: whoever published that queues it."""
    with workspace.engine.begin() as connection:
        lock_reviews(connection, pipeline.name)
        standing = current_publications(connection, pipeline.name, night, night).get(night)
        if standing == made:
            replace_items(connection, pipeline.name, night, items, workspace.clock.now())
