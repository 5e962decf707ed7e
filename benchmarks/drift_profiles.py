"""A reference profile of batches in bounded memory, against numpy and scipy on whole columns.

One million made-up rows of 30 features in 20 dates, or as many as the argument says (10000000), in Parquet, a file a
date: read twice in batches, or once whole. Both ways give deciles, percentiles, counts by date and bin, nulls, moments,
extremes and moments by date; the profile also left-out thresholds. Prints seconds of wall and processor and the peak of
memory above what the process had before, each in a process of its own, interleaved, and median ratios (a minute for
one million). Counts are compared for equality where the profile's sample is all rows.
"""

import multiprocessing
import statistics
import sys
import tempfile
from collections.abc import Callable, Iterator
from datetime import date, timedelta
from pathlib import Path
from time import perf_counter, process_time

import numpy as np
import polars as pl
from scipy import stats

from nightscore.measures.profiles import Kind, ReferenceProfile
from nightscore.measures.profiling import build_reference
from nightscore.measures.sampling import SAMPLE_ROWS, Batch

DATES = 20
ROWS = 1_000_000
BATCH = 50_000
REPETITIONS = 3
NUMBERS, FLAGS, CATEGORIES = 22, 4, 4
KINDS: dict[str, Kind] = {
    **{f"number_{at}": "number" for at in range(NUMBERS)},
    **{f"flag_{at}": "boolean" for at in range(FLAGS)},
    **{f"category_{at}": "category" for at in range(CATEGORIES)},
}  # fmt: skip
LEVELS = (6, 24, 50, 8)
Counts = dict[str, list[int]]
Way = Callable[[Path], Counts]


def make_night(day: int, rows: int) -> pl.DataFrame:
    """Numbers of several shapes, one in four with nulls; flags; levels of uneven shares."""
    random = np.random.default_rng(day)
    columns: dict[str, pl.Series] = {}
    for at in range(NUMBERS):
        values = random.normal(at, 1, rows) if at % 3 else random.integers(0, 50, rows).astype(np.float64)
        columns[f"number_{at}"] = pl.Series(np.where(random.random(rows) < 0.08 * (at % 4 == 0), np.nan, values))
    for at in range(FLAGS):
        columns[f"flag_{at}"] = pl.Series(random.random(rows) < 0.3)
    for at, levels in enumerate(LEVELS):
        places = np.minimum(random.geometric(4 / levels, rows), levels)
        columns[f"category_{at}"] = pl.Series([f"level {one}" for one in range(levels + 1)]).gather(places)
    return pl.DataFrame(columns).fill_nan(None)


def day_of(path: Path) -> date:
    """The score date in a file's name."""
    return date.fromisoformat(path.stem)


def read_batches(folder: Path) -> Iterator[Batch]:
    """Every date's rows, some at a time."""
    for path in sorted(folder.iterdir()):
        for start in range(0, pl.scan_parquet(path).select(pl.len()).collect().item(), BATCH):
            yield day_of(path), pl.scan_parquet(path).slice(start, BATCH).collect()


def profile(folder: Path) -> Counts:
    """The engine's way: counts of each column."""
    found: ReferenceProfile = build_reference(lambda: read_batches(folder), KINDS)
    return {column.name: [len(column.edges), *column.counts] for column in found.columns}


def whole_columns(folder: Path) -> Counts:
    """Each whole column at once."""
    frame = pl.concat([pl.read_parquet(path).with_columns(date=day_of(path)) for path in sorted(folder.iterdir())])
    days = frame["date"].rank("dense").cast(pl.Int64).to_numpy() - 1
    return {name: of_number(frame[name], days) if kind == "number" else of_levels(frame[name], days)
            for name, kind in KINDS.items()}  # fmt: skip


def of_number(column: pl.Series, days: np.ndarray) -> list[int]:
    """Percentiles, moments and counts by numpy and scipy."""
    values = column.cast(pl.Float64).to_numpy()
    known = np.isfinite(values)
    finite, dated = values[known], days[known]
    edges = np.unique(np.quantile(finite, np.arange(1, 10) / 10))
    np.quantile(finite, np.arange(101) / 100)
    stats.describe(finite, ddof=0)
    for statistic in ("mean", "std"):
        stats.binned_statistic(dated, finite, statistic, bins=DATES)
    bins = np.searchsorted(edges, finite, side="left")
    counts = np.bincount(dated * (len(edges) + 1) + bins, minlength=DATES * (len(edges) + 1)).reshape(DATES, -1)
    return [len(edges), *counts.sum(axis=0).tolist(), int((~known).sum())]


def of_levels(column: pl.Series, days: np.ndarray) -> list[int]:
    """Counts of codes by numpy, which polars makes of texts; the most frequent first, as in a profile."""
    texts = column.cast(pl.String)
    levels = texts.unique().sort()
    codes = texts.cast(pl.Enum(levels)).to_physical().to_numpy()
    counts = np.bincount(days * len(levels) + codes, minlength=DATES * len(levels)).reshape(DATES, -1).sum(axis=0)
    order = np.arange(len(levels)) if column.dtype == pl.Boolean else np.argsort(-counts, kind="stable")
    return [0, *counts[order].tolist(), 0, 0]


def peak_mb() -> float:
    """The most memory of this process so far. That of `getrusage` would be its parent's, where that had more."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024


def measure(way: Way, folder: Path) -> tuple[float, float, float, Counts]:
    """Seconds of wall and processor, peak MB above the start, and the counts."""
    before, begun, worked = peak_mb(), perf_counter(), process_time()
    found = way(folder)
    return perf_counter() - begun, process_time() - worked, peak_mb() - before, found


def compare(folder: Path, rows: int) -> None:
    """Both ways in turn; prints seconds, memory and ratios."""
    ways: dict[str, Way] = {"profile": profile, "whole columns": whole_columns}
    taken: dict[str, list[tuple[float, float, float]]] = {name: [] for name in ways}
    for _ in range(REPETITIONS):
        counts = []
        for name, way in ways.items():
            with multiprocessing.get_context("spawn").Pool(1) as process:
                *figures, found = process.apply(measure, (way, folder))
            taken[name].append(tuple(figures))
            counts.append(found)
        check(*counts, rows * DATES)
    for name, measured in taken.items():
        wall, work, peak = (statistics.median(one) for one in zip(*measured, strict=True))
        print(f"{rows * DATES:>9,} rows   {name:13}   {wall:6.2f} s   {work:6.2f} CPU s   {peak:6,.0f} MB", flush=True)
    pairs = list(zip(taken["whole columns"], taken["profile"], strict=True))
    wall, work = (statistics.median(whole[at] / ours[at] for whole, ours in pairs) for at in (0, 1))
    print(f"whole columns take {wall:.1f} times as long, {work:.1f} times the processor", flush=True)


def check(ours: Counts, whole: Counts, rows: int) -> None:
    """Every row is counted once; in the same bins unless deciles are those of a sample. Ties may change places."""
    assert all(sum(one[1:]) == rows for each in (ours, whole) for one in each.values())
    if rows <= SAMPLE_ROWS:
        assert {name: sorted(one) for name, one in ours.items()} == {name: sorted(one) for name, one in whole.items()}


def main() -> None:
    """Make the files, measure both ways."""
    rows = int(sys.argv[1]) if len(sys.argv) > 1 else ROWS
    with tempfile.TemporaryDirectory() as folder:
        for at in range(DATES):
            day = date(2026, 1, 1) + timedelta(at)
            make_night(at, rows // DATES).write_parquet(Path(folder) / f"{day}.parquet")
        compare(Path(folder), rows // DATES)


if __name__ == "__main__":
    main()
