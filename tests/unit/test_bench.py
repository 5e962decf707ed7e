"""The benchmark's pure parts: medians and ratios, figures as text, the page, rows that are made, comparison by bits."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from benchmarks.bench.check import Agreement, WrongRows, compare
from benchmarks.bench.contestants import CONTESTANTS, chosen
from benchmarks.bench.figures import medians, ratio_text, round_ratios, short, table
from benchmarks.bench.page import render
from benchmarks.bench.rows import make_rows, matrix_of
from benchmarks.bench.spec import spec_text
from benchmarks.bench.work import FEATURES, KEY, Task, Work
from nightscore.spec.loader import load_spec


def a_run(wall_s: float, other_cores: float = 0.1) -> dict[str, float]:
    return {"wall_s": wall_s, "cpu_s": 2 * wall_s, "peak_mb": 100 * wall_s, "other_cores": other_cores}


def a_result() -> dict[str, object]:
    ours = {"title": "ours", "runs": [a_run(1.0), a_run(2.0)], "agreement": None, "prepared": None, "failed": ""}
    agreement = {"rows": 10, "other_bits": 3, "greatest": 2e-16, "others": {"decision": 0}}
    theirs = ours | {"title": "theirs", "runs": [a_run(10.0), a_run(30.0)], "agreement": agreement}
    broken = ours | {"title": "broken", "runs": [], "failed": "it ended with 1:\na trace"}
    race = {"nightscore": ours, "theirs": theirs, "broken": broken}
    predictor = {
        "runs": [{"wall_s": 2.0, "cpu_s": 4.0, "load_s": 0.1, "other_cores": 0.2}],
        "other_bits": 0,
        "greatest": 0.0,
    }
    night = {"measured": a_run(10.0), "steps": [{"step": "score", "seconds": 9.0, "rows": 10}]}
    return {"rows": 10, "threads": 2, "date": "2026-01-15", "race": race, "night": night,
            "predict": {"lightgbm": predictor}, "starts": {"python": [{"wall_s": 0.1, "cpu_s": 0.05}]},
            "sections": {"Publishing": "so and so many rows\n"}}  # fmt: skip


def test_medians_are_taken_figure_by_figure() -> None:
    runs = [{"wall": 3.0, "cpu": 1.0}, {"wall": 1.0, "cpu": 5.0}, {"wall": 2.0, "cpu": 9.0}]
    assert medians(runs) == {"wall": 2.0, "cpu": 5.0}


def test_ratios_are_taken_within_a_round() -> None:
    assert round_ratios([10, 40, 30], [1, 2, 10]) == (10, 3, 20)
    assert ratio_text([10, 40, 30], [1, 2, 10]) == "10.0× (3.00–20.0)"
    assert ratio_text([10], [4]) == "2.50×"


def test_ratios_of_different_numbers_of_rounds_are_refused() -> None:
    with pytest.raises(ValueError, match="shorter"):
        round_ratios([1, 2], [1])


@pytest.mark.parametrize(
    ("figure", "text"),
    [
        (0, "0"),
        (0.0123, "0.0123"),
        (0.5, "0.500"),
        (1.234, "1.23"),
        (12.34, "12.3"),
        (123.4, "123"),
        (12345.6, "12,346"),
    ],
)
def test_figures_have_three_digits(figure: float, text: str) -> None:
    assert short(figure) == text


def test_tables_are_markdown() -> None:
    assert table(["", "s"], [["a", "1"]]) == "|  | s |\n|---|---:|\n| a | 1 |"


def test_the_page_gives_ratios_to_ours_and_says_who_failed() -> None:
    page = render([a_result()], {"cores": "2"})
    assert "| theirs | 20.0 | 40.0 | 2,000 | 12.5× (10.0–15.0) | 12.5× (10.0–15.0) | 12.5× (10.0–15.0) |" in page
    assert "- broken failed: `it ended with 1:`" in page
    assert "| theirs | 3 | 2.0e-16 | 0 | not given | not given | not given |" in page
    assert "| orchestration, and starting the process | 1.00 | 10.0% |" in page
    assert "so and so many rows" in page


def test_a_page_of_another_part_alone_needs_no_race() -> None:
    result = {name: value for name, value in a_result().items() if name in ("rows", "threads", "date", "starts")}
    assert "| python | 0.100 | 0.0500 |" in render([result], {})


def test_contestants_are_chosen_by_name_in_the_table_s_order() -> None:
    assert [one.name for one in chosen("pandas, nightscore")] == ["nightscore", "pandas"]
    assert chosen("") == CONTESTANTS
    with pytest.raises(ValueError, match="unknown contestants: polars; known are nightscore,"):
        chosen("polars")


def test_every_environment_is_pinned_exactly() -> None:
    folder = Path(__file__).parents[2] / "benchmarks" / "bench"
    for name in {one.environment for one in CONTESTANTS} - {None}:
        lines = (folder / f"requirements-{name}.txt").read_text().splitlines()
        assert all("==" in line for line in lines)


def test_rows_are_the_same_for_the_same_seed_and_others_for_another_part() -> None:
    assert make_rows(1, 500, seed=1, part=2).equals(make_rows(1, 500, seed=1, part=2))
    assert not make_rows(1, 500, seed=1, part=2).equals(make_rows(1, 500, seed=1, part=3))


def test_the_matrix_holds_values_and_places_of_levels() -> None:
    frame = make_rows(1, 500, seed=1)
    matrix = matrix_of(frame)
    assert matrix.shape == (500, len(FEATURES))
    assert np.array_equal(np.isnan(matrix[:, 0]), frame["f00"].is_null().to_numpy())
    assert matrix[:, -1].tolist() == [float(level.removeprefix("level_")) for level in frame["c3"].cast(pl.String)]


def test_the_spec_is_a_pipeline(tmp_path: Path) -> None:
    path = tmp_path / "night.yaml"
    path.write_text(spec_text())
    assert load_spec(path).feature_names == FEATURES


def test_a_task_survives_the_command_line(monkeypatch: pytest.MonkeyPatch) -> None:
    task = Task(Work(Path("/some/folder"), 10, 2), Path("/some/target"), "lake")
    monkeypatch.setattr(sys, "argv", ["peer", task.as_json()])
    assert Task.from_arguments() == task


def test_predictions_are_compared_to_the_bit_in_any_order(tmp_path: Path) -> None:
    expected = pl.DataFrame(
        {KEY: [1, 2, 3], "score": [0.1, 0.2, 0.3], "decision": [False, False, True], "rank": [3, 2, 1]}
    )
    expected.write_parquet(tmp_path / "expected.parquet")
    scores = [np.nextafter(0.3, 1), 0.1, 0.2]
    found = pl.DataFrame({KEY: [3, 1, 2], "score": scores, "decision": [True, False, True]})
    (tmp_path / "parts").mkdir()
    found.write_parquet(tmp_path / "parts" / "one.parquet")
    agreement = compare(tmp_path / "parts", tmp_path / "expected.parquet")
    assert agreement == Agreement(3, 1, float(np.nextafter(0.3, 1) - 0.3), {"decision": 1})


def test_predictions_of_other_rows_are_refused(tmp_path: Path) -> None:
    for name, keys in {"expected": [1, 2], "found": [1, 1]}.items():
        pl.DataFrame({KEY: keys, "score": [0.1, 0.2]}).write_parquet(tmp_path / name)
    with pytest.raises(WrongRows, match="has 2 rows, or other keys, expected 2"):
        compare(tmp_path / "found", tmp_path / "expected")


BUSY = "import time; end = time.process_time() + 0.4\nwhile time.process_time() < end: pass"


MEASURE = """
import os, sys
from pathlib import Path
from benchmarks.bench.measure import measure
print(measure([sys.executable, "-c", sys.argv[1]], os.environ, Path(sys.argv[2])).cpu_s)
"""


def measured(code: str, log: Path) -> "subprocess.CompletedProcess[str]":
    """In a process of its own: measuring adopts and ends orphans, which must not be those of the tests."""
    command = [sys.executable, "-c", MEASURE, code, str(log)]
    return subprocess.run(command, check=False, capture_output=True, text=True)


def test_a_grandchild_that_is_left_behind_is_counted(tmp_path: Path) -> None:
    leaves = f"import subprocess, sys, time; subprocess.Popen([sys.executable, '-c', {BUSY!r}]); time.sleep(0.2)"
    assert float(measured(leaves, tmp_path / "log").stdout) >= 0.4


def test_a_command_that_fails_says_its_last_lines(tmp_path: Path) -> None:
    done = measured("raise SystemExit('no such model')", tmp_path / "log")
    assert done.returncode == 1
    assert "ended with 1:\nno such model" in done.stderr
