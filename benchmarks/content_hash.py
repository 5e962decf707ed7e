"""The content hash of a frame in order against the same rows shuffled, and of a Parquet file streamed against loaded.

Ten columns of five kinds. Prints rows a second of each repetition, the median ratios, and the memory that a process
which hashes the file takes at its peak, streamed and loaded; all digests are compared for equality.
"""

import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from time import perf_counter

import numpy as np
import polars as pl

from nightscore.lake.content import content_hash, content_hash_of_file
from nightscore.lake.parquet import write_parquet

ROWS = 10_000_000
REPETITIONS = 3
KEY = ["id"]
MEASURED = """
import re, sys
from pathlib import Path
import polars as pl
import pyarrow.parquet
from nightscore.lake.content import content_hash, content_hash_of_file
def peak():
    return int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) // 1024
path, before = Path(sys.argv[1]), peak()
{statement}
print(before, peak())
"""
STREAMED = "content_hash_of_file(path, ['id'])"
LOADED = "content_hash(pl.read_parquet(path), ['id'])"


def make_frame(rows: int) -> pl.DataFrame:
    """Rows in order of `id`: identifiers, floats with nulls, short strings, a category, flags and times."""
    random = np.random.default_rng(7)
    began = datetime(2024, 5, 1, tzinfo=UTC)
    codes = pl.Series([f"N{number:05}" for number in range(5000)])
    columns = {
        "id": pl.arange(rows, eager=True),
        **{f"x{number}": pl.Series(random.normal(size=rows)) for number in range(4)},
        "small": pl.Series(random.integers(0, 100, rows, np.int32)),
        "code": codes.gather(random.integers(0, len(codes), rows)),
        "kind": pl.Series(["AA", "DL", "UA"], dtype=pl.Categorical).gather(random.integers(0, 3, rows)),
        "flag": pl.Series(random.integers(0, 2, rows)).cast(pl.Boolean),
        "at": pl.Series(random.integers(0, 10**12, rows)).cast(pl.Duration("us")) + began,
    }
    return pl.DataFrame(columns).with_columns(x3=pl.when(pl.col("x3") < 1).then("x3"))


def measure(work: Callable[[], str]) -> tuple[float, str]:
    """Seconds, and the digest."""
    begun = perf_counter()
    digest = work()
    return perf_counter() - begun, digest


def measure_memory(statement: str, path: Path) -> str:
    """MiB at the peak of a process that hashes the file, and before it began."""
    command = [sys.executable, "-c", MEASURED.format(statement=statement), str(path)]
    before, peak = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
    return f"{peak} MiB ({before} before)"


def main() -> None:
    """Make the frame and the file, measure the four ways in turn, print rows a second and ratios."""
    frame = make_frame(ROWS)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "table.parquet"
        write_parquet(frame, KEY, path)
        shuffled = frame.sample(fraction=1.0, shuffle=True, seed=7)
        ways: dict[str, Callable[[], str]] = {
            "in order": lambda: content_hash(frame, KEY),
            "shuffled": lambda: content_hash(shuffled, KEY),
            "streamed": lambda: content_hash_of_file(path, KEY),
            "loaded": lambda: content_hash(pl.read_parquet(path), KEY),
        }
        taken = [{name: measure(work) for name, work in ways.items()} for _ in range(REPETITIONS)]
        memory = [f"{name} {measure_memory(work, path)}" for name, work in (("streamed", STREAMED), ("loaded", LOADED))]
    assert len({digest for repetition in taken for _, digest in repetition.values()}) == 1
    for repetition in taken:
        print("   ".join(f"{name} {ROWS / seconds / 1e6:5.1f} M rows/s" for name, (seconds, _) in repetition.items()))
    for slow, fast in (("shuffled", "in order"), ("streamed", "loaded")):
        ratio = statistics.median(repetition[slow][0] / repetition[fast][0] for repetition in taken)
        print(f"{slow} takes {ratio:.1f} times as long as {fast}")
    print(f"peak memory: {', '.join(memory)}; equal digests")


if __name__ == "__main__":
    main()
