"""The watch of one large night, against pandas and scipy on the whole night.

A made-up night of one million rows and 30 features, or as many as `--rows` says (10000000), in Parquet as the lake
writes it, and its predictions. Both ways count every column in the reference's bins, its nulls, its mean and what is
out of range, and look for keys that stand twice and scores that are none. The watch draws a sample of rows too; pandas
and scipy also take an exact Kolmogorov-Smirnov distance of every number from 20,000 rows of the reference, with
`--no-ks` they do not. Prints seconds of wall and processor and the peak of memory above what the process had before,
each in a process of its own, interleaved, and medians and ratios. All counts are compared for equality.
"""

import argparse
import multiprocessing
import statistics
import tempfile
from collections.abc import Callable, Iterator
from datetime import date, timedelta
from pathlib import Path
from time import perf_counter, process_time
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import polars as pl
import pyarrow.parquet as pq

from benchmarks.drift_profiles import KINDS, make_night, peak_mb
from nightscore.measures.profiles import ColumnProfile, ReferenceProfile
from nightscore.measures.profiling import build_reference
from nightscore.spec.pipeline import Pipeline
from nightscore.watch.profile import make_profile
from nightscore.watch.scores import measure_scores

NIGHT = date(2026, 3, 2)
KEY = ["score_date", "entity_id"]
CHUNK = 1 << 17
REFERENCE_DATES, REFERENCE_ROWS, KS_ROWS = 20, 10_000, 20_000
VERSION = 3
# Only the names of features are asked of it.
PIPELINE = cast(Pipeline, SimpleNamespace(feature_names=tuple(KINDS)))
Found = tuple[dict[str, list[int]], int, int]
Way = Callable[[Path, ReferenceProfile, bool], Found]


def make_files(folder: Path, rows: int) -> None:
    """Features and predictions in the order of their key, written a row group at a time."""
    starts = range(0, rows, CHUNK)
    write(folder / "features.parquet", (make_features(at, min(CHUNK, rows - at)) for at in starts))
    write(folder / "predictions.parquet", (make_predictions(at, min(CHUNK, rows - at)) for at in starts))


def make_features(start: int, rows: int) -> pl.DataFrame:
    """Keys, then the columns of the benchmark of profiles."""
    return make_keys(start, rows).hstack(make_night(start, rows))


def make_predictions(start: int, rows: int) -> pl.DataFrame:
    """Keys, scores and the version that gave them."""
    scores = np.random.default_rng(start).random(rows)
    return make_keys(start, rows).with_columns(pl.Series("score", scores), pl.lit(VERSION).alias("model_version"))


def make_keys(start: int, rows: int) -> pl.DataFrame:
    """The night and ascending numbers."""
    return pl.DataFrame({"entity_id": np.arange(start, start + rows)}).select(pl.lit(NIGHT).alias(KEY[0]), KEY[1])


def write(path: Path, frames: Iterator[pl.DataFrame]) -> None:
    """As the lake's writer does."""
    first = next(frames).to_arrow(compat_level=pl.CompatLevel.oldest())
    with pq.ParquetWriter(
        path, first.schema, compression="zstd", compression_level=3, write_page_checksum=True
    ) as file:
        file.write_table(first)
        for frame in frames:
            file.write_table(frame.to_arrow(compat_level=pl.CompatLevel.oldest()))


def make_reference() -> ReferenceProfile:
    """Of twenty dates."""
    dates = [NIGHT - timedelta(30 - at) for at in range(REFERENCE_DATES)]
    score = pl.Series("score", np.random.default_rng(0).random(REFERENCE_ROWS))
    nights = [(day, make_night(-day.toordinal() % 2**31, REFERENCE_ROWS).with_columns(score)) for day in dates]
    return build_reference(lambda: nights, {**KINDS, "score": "number"})


def watch(folder: Path, reference: ReferenceProfile, ks: bool) -> Found:
    """The engine's way."""
    features, predictions = folder / "features.parquet", folder / "predictions.parquet"
    made = make_profile(PIPELINE, reference, VERSION, NIGHT, features, predictions)
    scores = measure_scores(predictions, KEY, "score")
    return {name: list(one.counts) for name, one in made.columns.items()}, scores.duplicate_keys, scores.not_finite


def pandas_and_scipy(folder: Path, reference: ReferenceProfile, ks: bool) -> Found:
    """Whole columns of whole frames."""
    import pandas as pd
    from scipy.stats import ks_2samp

    features, predictions = (pd.read_parquet(folder / f"{name}.parquet") for name in ("features", "predictions"))
    past = make_night(1, KS_ROWS)
    features["score"] = predictions["score"]
    counts = {}
    for one in reference.columns:
        counts[one.name] = count(one, features[one.name])
        if ks and one.kind == "number" and one.name in past.columns:
            ks_2samp(features[one.name].dropna(), past[one.name].drop_nulls().to_numpy())
    repeated = int(predictions.duplicated(KEY).sum())
    return counts, repeated, int((~np.isfinite(predictions["score"])).sum())


def count(profile: ColumnProfile, column: Any) -> list[int]:
    """Bins, nulls, mean and range of a pandas column."""
    import pandas as pd

    if profile.kind != "number":
        found = column.value_counts()
        known = [
            int(found.get(level if profile.kind == "category" else level == "true", 0)) for level in profile.levels
        ]
        return [*known, len(column) - int(column.isna().sum()) - sum(known), int(column.isna().sum())]
    column.mean()
    ((column < profile.minimum) | (column > profile.maximum)).mean()
    bins = pd.cut(column, [-np.inf, *profile.edges, np.inf], labels=False)
    inner = np.bincount(bins.dropna().astype(np.int64), minlength=len(profile.edges) + 1)
    return [*inner.tolist(), int(column.isna().sum())]


def measure(way: Way, folder: Path, reference: ReferenceProfile, ks: bool) -> tuple[float, float, float, Found]:
    """Seconds of wall and processor, peak MB above the start, and what was found."""
    before, begun, worked = peak_mb(), perf_counter(), process_time()
    found = way(folder, reference, ks)
    return perf_counter() - begun, process_time() - worked, peak_mb() - before, found


def compare(folder: Path, rows: int, repetitions: int, ks: bool) -> None:
    """Both ways in turn; prints seconds, memory and ratios."""
    ways: dict[str, Way] = {"watch": watch, "pandas, scipy": pandas_and_scipy}
    taken: dict[str, list[tuple[float, float, float]]] = {name: [] for name in ways}
    reference = make_reference()
    for _ in range(repetitions):
        answers = []
        for name, way in ways.items():
            with multiprocessing.get_context("spawn").Pool(1) as process:
                wall, work, peak, found = process.apply(measure, (way, folder, reference, ks))
            taken[name].append((wall, work, peak))
            answers.append(found)
        assert answers[0] == answers[1]
    for name, measured in taken.items():
        wall, work, peak = (statistics.median(one) for one in zip(*measured, strict=True))
        print(f"{rows:>10,} rows   {name:13}   {wall:6.2f} s   {work:6.2f} CPU s   {peak:6,.0f} MB", flush=True)
    pairs = list(zip(taken["pandas, scipy"], taken["watch"], strict=True))
    wall, work, peak = (statistics.median(other[at] / ours[at] for other, ours in pairs) for at in range(3))
    print(f"pandas and scipy: {wall:.1f} × the time, {work:.1f} × the processor, {peak:.1f} × the memory", flush=True)


def main() -> None:
    """Make the files, measure both ways."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--no-ks", action="store_true")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        make_files(Path(folder), given.rows)
        compare(Path(folder), given.rows, given.repetitions, not given.no_ks)


if __name__ == "__main__":
    main()
