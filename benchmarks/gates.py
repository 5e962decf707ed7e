"""A gate's 57 expectations over one stored table: Great Expectations on pandas, and our counts judged by it.

Thirty columns beside the key, half of them with nulls. Each way in a process of its own, in turn; prints CPU seconds,
memory at the peak, and the median ratio; both reports are compared for equality. Options: rows, repetitions, and
`alone` for our way alone, where Great Expectations would not fit into memory.
"""

import json
import re
import resource
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from pydantic import TypeAdapter

from nightscore.lake.parquet import write_batches
from nightscore.quality.gate import gate, gate_file
from nightscore.quality.rules import Rules
from nightscore.spec.expectations import Expectation

NIGHT = date(2013, 4, 1)
BATCH_ROWS = 1 << 17
FLOATS, INTEGERS, CATEGORIES = 20, 6, 4


def make_rules() -> Rules:
    """Row count, a unique key, 21 x not null, 26 x between, 4 x in set, 4 x matches."""
    floats, integers = [f"x{at}" for at in range(FLOATS)], [f"n{at}" for at in range(INTEGERS)]
    texts = [f"c{at}" for at in range(CATEGORIES)]
    declared: list[dict[str, Any]] = [
        {"type": "row_count", "min": 1},
        {"type": "unique", "columns": ["id"]},
        {"type": "not_null", "columns": ["id", *floats[:10], *integers, *texts]},
        *({"type": "between", "column": name, "min": -5, "max": 5, "mostly": 0.99} for name in floats),
        *({"type": "between", "column": name, "min": 0, "max": 999, "severity": "quarantine"} for name in integers),
        *({"type": "in_set", "column": name, "values": [f"level{at}" for at in range(40)]} for name in texts),
        *({"type": "matches", "column": name, "pattern": r"level\d+$"} for name in texts),
    ]
    schema: dict[str, pl.DataType] = {"id": pl.String(), **dict.fromkeys(floats, pl.Float64())}
    schema |= dict.fromkeys(integers, pl.Int64()) | dict.fromkeys(texts, pl.String())
    rules = tuple(TypeAdapter(Expectation).validate_python(one) for one in declared)
    return Rules("bench.features", schema, ("id",), rules, "block", 0.01, filled=tuple(floats))


def make_batches(rows: int) -> Iterator[pl.DataFrame]:
    """Rows in order of their key."""
    levels = pl.Series([f"level{at}" for at in range(40)])
    for start in range(0, rows, BATCH_ROWS):
        random, size = np.random.default_rng(start), min(BATCH_ROWS, rows - start)
        floats = {f"x{at}": pl.Series(random.normal(size=size)) for at in range(FLOATS)}
        batch = pl.DataFrame({
            "id": pl.Series(np.arange(start, start + size)).cast(pl.String).str.zfill(10), **floats,
            **{f"n{at}": pl.Series(random.integers(0, 1000, size)) for at in range(INTEGERS)},
            **{f"c{at}": levels.gather(random.integers(0, 40, size)) for at in range(CATEGORIES)},
        })  # fmt: skip
        yield batch.with_columns(pl.when(pl.col(f"x{at}") < 1.5).then(f"x{at}") for at in range(10, FLOATS))


def judge(way: str, path: Path) -> None:
    """Judge the file one way and print what it took."""
    rules = make_rules()
    report = gate_file(path, rules, NIGHT).report if way == "ours" else gate(pl.read_parquet(path), rules, NIGHT).report
    assert report.passed
    used = resource.getrusage(resource.RUSAGE_SELF)
    peak = int(re.findall(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())[0]) / 1024
    told = json.dumps(report.as_json(), sort_keys=True)
    print(json.dumps({"cpu": used.ru_utime + used.ru_stime, "mb": peak, "report": told}))


def measure(way: str, path: Path) -> dict[str, Any]:
    """What one judgement takes in a process of its own."""
    command = [sys.executable, __file__, way, str(path)]
    return dict(json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout))


def main(rows: int, repetitions: int, ways: tuple[str, ...]) -> None:
    """Make the table, judge it in every way in turn, print figures and the ratio."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "table.parquet"
        write_batches(make_batches(rows), ("id",), path)
        taken = [{way: measure(way, path) for way in ways} for _ in range(repetitions)]
    assert len({one["report"] for repetition in taken for one in repetition.values()}) == 1
    for repetition in taken:
        print("   ".join(f"{way} {one['cpu']:.1f} CPU-s {one['mb']:.0f} MB" for way, one in repetition.items()))
    if len(ways) > 1:
        for figure in ("cpu", "mb"):
            ratio = statistics.median(one["whole"][figure] / one["ours"][figure] for one in taken)
            print(f"Great Expectations on pandas takes {ratio:.1f} times our {figure}; equal reports over {rows} rows")


if __name__ == "__main__":
    if sys.argv[1:2] in (["ours"], ["whole"]):
        judge(sys.argv[1], Path(sys.argv[2]))
    else:
        chosen = [int(one) for one in sys.argv[1:] if one.isdigit()]
        given = dict(zip(("rows", "repetitions"), chosen, strict=False))
        asked = ("ours",) if "alone" in sys.argv else ("ours", "whole")
        main(given.get("rows", 1_000_000), given.get("repetitions", 3), asked)
