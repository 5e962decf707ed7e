"""The page of results: what was measured, as Markdown. Pure: results in, text out.

Added here: a table. Not here: figures (`figures.py`), measuring, files.
"""

import statistics
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from benchmarks.bench.figures import medians, ratio_text, short, table

Results = Mapping[str, Any]
FIGURES = ("wall_s", "cpu_s", "peak_mb")
BASE = ("nightscore", "nightscore-lake")
"""Ratios are to the first of these that ran."""
INTRODUCTION = """# Results of `make bench`

Made by `make bench`; do not edit. Every contestant reads the same 16 Parquet files (30 features: 20 floats, five of
them with nulls, 6 integers, 4 categories) and scores them with the same LightGBM model of 300 trees of 63 leaves, in a
process of its own: imports, reading, scoring and writing are all in its figures. Contestants run in turn, round by
round; figures are medians over rounds, ratios are medians of the ratios of each round with their least and greatest.
CPU counts the whole tree of processes. Memory is the greatest proportional set size of that tree, sampled.
"""
NOT_COMPARABLE = """## What is not comparable

- Ray Data, Dask and Spark give key, score and decision alone: a rank over all rows would cost them a shuffle. They are
  made for many machines, and pay here for starting up; the greater the number of rows, the less that weighs.
- lleaves compiles, and ONNX Runtime converts, the model beforehand; that is not in their figures but in a line below.
- ONNX Runtime computes in float32 and moves rows across splits; lleaves differs in the last bits.
- Nightscore proves about 10,000 of the rows with LightGBM in every run and writes a predictions partition (zstd-1,
  checksums, content hash, four more columns, the top k left out); others prove nothing and write plain Parquet. From
  its lake it reads one file of Float64, Int64 and String columns with page checksums.
- Reading and writing alone ranks nothing; it is a floor, not a contestant.
- Keys ascend over the files, so that "ties go to the smaller key" costs nobody a sort.
- Everybody has the page cache warm; nothing here measures disks or networks.
"""


def render(results: Sequence[Results], machine: Mapping[str, str]) -> str:
    """The whole page; `results` in the order of their rows, each as `__main__` keeps it."""
    facts = "\n".join(f"- {name}: {value}" for name, value in machine.items())
    parts = [INTRODUCTION, facts, *(section for one in results for section in _sections(one)), NOT_COMPARABLE]
    return "\n\n".join(part.strip("\n") for part in parts) + "\n"


def _sections(result: Results) -> Iterator[str]:
    yield (f"## {result['rows']:,} rows, {result['date']}\n\n{result['threads']} threads; {_other_load(result)}")
    if result.get("race"):
        yield "### End to end\n\n" + race_table(result["race"])
        yield from _remarks(result["race"])
        yield "### The same rows?\n\n" + agreement_table(result["race"], result["rows"])
    if result.get("predict"):
        yield "### Prediction alone, 200,000 rows in memory\n\n" + predictor_table(result["predict"])
    if result.get("starts"):
        yield "### Imports and help\n\n" + start_table(result["starts"])
    if result.get("night"):
        yield "### A whole night, from source files to readers\n\n" + night_text(result["night"], result["rows"])
    for title, text in result.get("sections", {}).items():
        yield f"### {title}\n\n```\n{text.strip()}\n```"


def _other_load(result: Results) -> str:
    runs = [one["runs"] for one in result.get("race", {}).values()]
    loads = [run["other_cores"] for one in runs for run in one]
    if not loads:
        return "no race."
    least, middle, most = min(loads), statistics.median(loads), max(loads)
    rounds = max(map(len, runs))
    told = "1 round" if rounds == 1 else f"{rounds} rounds"
    return f"{told}; others used {middle:.2f} cores meanwhile ({least:.2f} to {most:.2f})."


def base_of(contestants: Mapping[str, Any]) -> str | None:
    """Whom the others are compared with."""
    return next((name for name in BASE if name in contestants and contestants[name]["runs"]), None)


def race_table(contestants: Mapping[str, Any]) -> str:
    """Absolute figures, and ratios to ours."""
    base = base_of(contestants)
    heads = ["", "wall s", "CPU s", "peak MB", "wall / ours", "CPU / ours", "memory / ours"]
    rows = []
    for one in contestants.values():
        if not one["runs"]:
            rows.append([one["title"], *["failed" if one["failed"] else "-"] * 6])
            continue
        middle = medians(one["runs"])
        mine = contestants[base]["runs"] if base else []
        ratios = [_ratio(one["runs"], mine, figure) for figure in FIGURES]
        rows.append([one["title"], *(short(middle[figure]) for figure in FIGURES), *ratios])
    return table(heads, rows)


def _ratio(theirs: Sequence[Mapping[str, float]], ours: Sequence[Mapping[str, float]], figure: str) -> str:
    if len(theirs) != len(ours):
        return "-"
    return ratio_text([run[figure] for run in theirs], [run[figure] for run in ours])


def _remarks(contestants: Mapping[str, Any]) -> Iterator[str]:
    lines = [
        f"- {one['title']}: preparing the model took {short(one['prepared']['cpu_s'])} CPU s and "
        f"{short(one['prepared']['peak_mb'])} MB, once a model."
        for one in contestants.values()
        if one["prepared"]
    ]
    lines += _floor(contestants)
    lines += [
        f"- {one['title']} failed: `{one['failed'].splitlines()[0]}`" for one in contestants.values() if one["failed"]
    ]
    if lines:
        yield "\n".join(lines)


def _floor(contestants: Mapping[str, Any]) -> Iterator[str]:
    base, floor = base_of(contestants), contestants.get("null", {}).get("runs", [])
    if base and len(contestants[base]["runs"]) == len(floor):
        wall, cpu = (_ratio(contestants[base]["runs"], floor, figure) for figure in ("wall_s", "cpu_s"))
        yield f"- {contestants[base]['title']} takes {wall} the wall and {cpu} the CPU of reading and writing alone."


def agreement_table(contestants: Mapping[str, Any], rows: int) -> str:
    """How many rows differ from LightGBM's own scores and what follows from them."""
    given = ("decision", "rank", "decile", "topk")
    lines = []
    for one in contestants.values():
        found = one["agreement"]
        if found is not None:
            others = [f"{found['others'][name]:,}" if name in found["others"] else "not given" for name in given]
            lines.append([one["title"], f"{found['other_bits']:,}", _difference(found["greatest"]), *others])
    heads = [f"rows of {rows:,} with", "another score", "greatest difference", *(f"another {name}" for name in given)]
    return table(heads, lines)


def _difference(greatest: float) -> str:
    return f"{greatest:.1e}" if greatest else "0"


def predictor_table(predictors: Mapping[str, Any]) -> str:
    """Speed of each beside LightGBM's, and the bits."""
    base, rows = predictors["lightgbm"]["runs"], []
    for name, one in predictors.items():
        middle = medians(one["runs"])
        faster = [
            ratio_text([run[figure] for run in base], [run[figure] for run in one["runs"]])
            for figure in ("wall_s", "cpu_s")
        ]
        rows.append([
            name, f"{200_000 / middle['wall_s']:,.0f}", short(middle["cpu_s"] * 5), *faster, short(middle["load_s"]),
            f"{one['other_bits']:,}", _difference(one["greatest"]),
        ])  # fmt: skip
    heads = ["", "rows/s", "CPU µs a row", "times LightGBM, wall", "times LightGBM, CPU", "load s", "other bits",
             "greatest difference"]  # fmt: skip
    loads = [run["other_cores"] for one in predictors.values() for run in one["runs"]]
    return table(heads, rows) + f"\n\nOthers used {statistics.median(loads):.2f} cores meanwhile."


def start_table(starts: Mapping[str, Any]) -> str:
    """Seconds to begin."""
    middles = {name: medians(runs) for name, runs in starts.items()}
    return table(
        ["", "wall s", "CPU s"], ([name, short(one["wall_s"]), short(one["cpu_s"])] for name, one in middles.items())
    )


def night_text(night: Mapping[str, Any], rows: int) -> str:
    """The steps of a night and what is left beside them."""
    measured, steps = night["measured"], night["steps"]
    rest = measured["wall_s"] - sum(one["seconds"] for one in steps)
    lines = [[one["step"], short(one["seconds"]), f"{one['seconds'] / measured['wall_s']:.1%}"] for one in steps]
    lines.append(["orchestration, and starting the process", short(rest), f"{rest / measured['wall_s']:.1%}"])
    total = (
        f"`nightscore run` of {rows:,} rows, the database on the same machine: {short(measured['wall_s'])} s, "
        f"{short(measured['cpu_s'])} CPU s with the database, {short(measured['peak_mb'])} MB, "
        f"others {measured['other_cores']:.2f} cores."
    )
    return table(["step", "s", "share"], lines) + "\n\n" + total
