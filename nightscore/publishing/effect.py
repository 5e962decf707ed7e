"""The effect of a restatement on the nights that were staged as a sample: how many of their rows move, and how.

Added here: another figure of a sample. Not here: what follows from it (`restatement.py`).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

import polars as pl

from nightscore.catalog.changesets import Item, items_of
from nightscore.catalog.partitions import versions_by_id
from nightscore.catalog.publications import publication_by_id
from nightscore.lake.workspace import Workspace
from nightscore.publishing.difference import NightDifference, merge
from nightscore.spec.pipeline import Pipeline
from nightscore.training.matrix import row_key


@dataclass(frozen=True)
class Effect:
    """Of `rows` of the sampled `nights`, before or after, `moved` did.

    `blocked`: nights whose predictions were held back. `figures`: the difference of the nights, as a review gives it.
    """

    nights: tuple[date, ...]
    rows: int
    moved: int
    blocked: tuple[str, ...]
    figures: dict[str, Any]

    @property
    def share(self) -> float:
        """The share of rows that moved; 0 where there is no row."""
        return self.moved / self.rows if self.rows else 0.0


def measure_effect(workspace: Workspace, pipeline: Pipeline, changeset_id: int, nights: Sequence[date]) -> Effect:
    """The effect that a changeset would have on `nights`, which it has staged."""
    with workspace.engine.connect() as connection:
        items = items_of(connection, changeset_id, nights)
    compared = [one for one in items if one.difference is not None]
    counts = [_count_night(workspace, pipeline, one) for one in compared]
    blocked = tuple(f"{one.score_date}: {one.reason}" for one in items if one.outcome == "blocked")
    rows, moved = sum(rows for _, rows in counts), sum(moved for moved, _ in counts)
    return Effect(tuple(nights), rows, moved, blocked, _figures(compared) if compared else {})


def _count_night(workspace: Workspace, pipeline: Pipeline, item: Item) -> tuple[int, int]:
    with workspace.engine.connect() as connection:
        (after,) = versions_by_id(connection, [item.predictions_id or 0])
        before = publication_by_id(connection, item.base_publication_id or 0)
    frames = [pl.read_parquet(workspace.lake.store.verified_path(md5)) for md5 in (before.content_md5, after.md5)]
    return count_moved(frames[0], frames[1], row_key(pipeline), pipeline.restatement.min_shift)


def count_moved(before: pl.DataFrame, after: pl.DataFrame, key: Sequence[str], min_shift: float) -> tuple[int, int]:
    """Rows that moved, and rows of either side, which are unique by `key`.

    A row moves when only one side has it, its decision flips, or its score shifts by more than `min_shift`.
    """
    sides = [
        frame.select(*key, pl.col("score").cast(pl.Float64).alias(f"score {side}"),
                     pl.col("decision").alias(f"decision {side}"), pl.lit(True).alias(side))
        for frame, side in ((before, "before"), (after, "after"))
    ]  # fmt: skip
    paired = sides[0].join(sides[1], on=list(key), how="full", coalesce=True, nulls_equal=True)
    old, new = pl.col("score before"), pl.col("score after")
    moved = pl.any_horizontal(
        pl.col("before").is_null(), pl.col("after").is_null(),
        pl.col("decision before").ne_missing(pl.col("decision after")),
        old.is_null() != new.is_null(), (new - old).abs().fill_null(0.0) > min_shift,
    )  # fmt: skip
    return int(paired.select(moved.sum()).item()), paired.height


def _figures(items: Sequence[Item]) -> dict[str, Any]:
    merged = merge(NightDifference.from_json(one.difference or {}) for one in items)
    tally = merged.tally
    return {
        "rows": vars(tally.rows), "flips": vars(tally.flips), "shift": tally.shift_quantiles, "psi": tally.psi,
        "churn": tally.churn, "states": merged.states,
    }  # fmt: skip
