"""Charts of watched nights: what is drawn, that the same input gives the same bytes, and that nothing is no chart."""

from collections.abc import Callable
from datetime import date, timedelta
from xml.etree import ElementTree as Tree

import pytest

from nightscore.reports.figure_charts import (
    Point,
    RowCount,
    cost_chart,
    estimate_chart,
    maturity_chart,
    performance_chart,
    rows_chart,
)
from nightscore.reports.watch_charts import (
    Bin,
    Cell,
    Life,
    distribution_chart,
    drift_lines,
    drift_strip,
    incidents_chart,
    ranked_names,
    status_calendar,
)
from nightscore.reports.watch_facts import label_bins
from nightscore.spec.windows import nights_between

HOSTILE = '</text><script>alert("x")</script>'
LAST = date(2013, 7, 31)
NIGHTS = nights_between(LAST - timedelta(days=9), LAST)
CELLS = [Cell(night, name, ratio, ratio >= 1) for night in NIGHTS for name, ratio in (("wind", 0.7), ("hour", 1.4))]
BINS = [Bin("low", 60, 30), Bin("high", 40, 70)]
LIVES = [
    Life("range:distance (1)", "L1", date(2013, 7, 28), None),
    Life("score (2)", "L3", NIGHTS[0], NIGHTS[3], "accepted"),
    Life("before (3)", "L2", date(2013, 6, 1), date(2013, 6, 9)),
]  # fmt: skip
POINTS = [
    *(Point(night, 0.4 + at / 100) for at, night in enumerate(NIGHTS[:6])),
    Point(NIGHTS[6], 0.5, "provisional"), Point(NIGHTS[7], None, "insufficient"), Point(NIGHTS[8], None),
]  # fmt: skip
WINDOWS = [Point(night, 0.45, "mature", 0.43, 0.47) for night in NIGHTS[3:6]]
COUNTS = [RowCount(night, 900.0 + at, 700.0, 905.5) for at, night in enumerate(NIGHTS)]
SECONDS = {f"step{at}": dict.fromkeys(NIGHTS, 10.0 - at) for at in range(6)}


def marks(svg: str, mark: str) -> list[Tree.Element]:
    """The drawn marks of one kind, axes and legends left out."""
    root = Tree.fromstring(svg)
    groups = [one for one in root.iter() if one.get("class", "").startswith(f"mark-{mark} role-mark")]
    return [shape for group in groups for shape in group]


def words(svg: str) -> list[str]:
    return [one.text or "" for one in Tree.fromstring(svg).iter() if one.tag.endswith("text")]


CASES: dict[str, tuple[Callable[[], str], dict[str, int]]] = {
    "strip": (lambda: drift_strip(CELLS, NIGHTS), {"rect": 20, "symbol": 10}),
    "lines": (lambda: drift_lines(CELLS, NIGHTS), {"line": 2, "rule": 1}),
    "distribution": (lambda: distribution_chart(BINS), {"rect": 4}),
    "incidents": (lambda: incidents_chart(LIVES, NIGHTS[0], LAST), {"rect": 2}),
    "calendar": (lambda: status_calendar(dict.fromkeys(NIGHTS[1:], "held back"), NIGHTS[0], LAST), {"rect": 10}),
    "performance": (
        lambda: performance_chart(POINTS, WINDOWS, NIGHTS, "log_loss", 0.43, "14"),
        {"symbol": 10, "rule": 4, "text": 2},
    ),
    "maturity": (lambda: maturity_chart([(2, [(NIGHTS[0], 0.4), (NIGHTS[1], None)])], NIGHTS, "rmse"), {"line": 1}),
    "estimate": (lambda: estimate_chart({NIGHTS[0]: (0.7, 0.6), LAST: (0.7, None)}, NIGHTS, "roc_auc"), {"symbol": 1}),
    "rows": (lambda: rows_chart(COUNTS, NIGHTS), {"rect": 30}),
    "cost": (lambda: cost_chart(SECONDS, NIGHTS), {"rect": 50}),
}


@pytest.mark.parametrize("name", CASES)
def test_a_chart_has_a_title_and_the_expected_marks(name: str) -> None:
    draw, expected = CASES[name]
    svg = draw()
    assert {mark: len(marks(svg, mark)) for mark in expected} == expected
    assert any("role-title" in (one.get("class") or "") for one in Tree.fromstring(svg).iter())


@pytest.mark.parametrize("name", CASES)
def test_the_same_input_gives_the_same_bytes_without_ids_scripts_or_links(name: str) -> None:
    draw, _ = CASES[name]
    svg = draw()
    assert draw() == svg
    for forbidden in (" id=", "<script", "href", "url(", "<image", "<style"):
        assert forbidden not in svg


@pytest.mark.parametrize("timezone", ["Pacific/Auckland", "America/Los_Angeles"])
def test_no_time_zone_moves_a_night(timezone: str, monkeypatch: pytest.MonkeyPatch) -> None:
    before = drift_strip(CELLS, NIGHTS)
    monkeypatch.setenv("TZ", timezone)
    assert drift_strip(CELLS, NIGHTS) == before
    assert "07-31" in words(before)


@pytest.mark.parametrize(
    "svg",
    [
        drift_strip([], NIGHTS), drift_strip([Cell(date(2012, 1, 1), "old", 1.0, True)], NIGHTS),
        drift_strip([Cell(LAST, "a", float("nan"), False)], NIGHTS), drift_lines([], NIGHTS), distribution_chart([]),
        distribution_chart([Bin("all", 0, 9)]), distribution_chart([Bin("all", 9, 0)]),
        incidents_chart([], NIGHTS[0], LAST), incidents_chart(LIVES[2:], NIGHTS[0], LAST),
        status_calendar({}, NIGHTS[0], LAST), performance_chart([], [], NIGHTS, "rmse"),
        performance_chart([Point(LAST, None)], [], NIGHTS, "rmse", 0.4), maturity_chart([], NIGHTS, "rmse"),
        maturity_chart([(2, [(LAST, None)])], NIGHTS, "rmse"), estimate_chart({}, NIGHTS, "rmse"),
        estimate_chart({LAST: (None, None)}, NIGHTS, "rmse"), rows_chart([], NIGHTS), cost_chart({}, NIGHTS),
        cost_chart({"score": {LAST: 0.0}}, NIGHTS),
    ],
)  # fmt: skip
def test_nothing_to_draw_is_no_chart(svg: str) -> None:
    assert svg == ""


def test_a_single_night_can_be_drawn() -> None:
    assert len(marks(drift_strip(CELLS[-2:], [LAST]), "rect")) == 2
    assert len(marks(rows_chart([RowCount(LAST, 3.0)], [LAST]), "rect")) == 1


def test_a_label_is_text_and_never_markup() -> None:
    svg = drift_strip([Cell(LAST, HOSTILE, 2.0, True)], NIGHTS)
    assert "<script" not in svg
    assert any("alert" in word for word in words(svg))


def test_only_insufficient_figures_are_crosses_on_an_empty_field() -> None:
    svg = performance_chart([Point(night, 0.4, "insufficient") for night in NIGHTS], [], NIGHTS, "rmse", 0.4)
    assert [word for word in words(svg) if word == "×"] == ["×"] * 10
    assert marks(svg, "symbol") == []


def test_an_open_incident_runs_to_the_right_edge_with_an_arrow() -> None:
    svg = incidents_chart(LIVES, NIGHTS[0], LAST)
    assert [words(svg).count(word) for word in ("►", "accepted")] == [1, 1]


def test_columns_are_ranked_by_their_largest_ratio_then_by_name() -> None:
    cells = [
        Cell(LAST, "b", 1.0, True),
        Cell(LAST, "a", 1.0, True),
        Cell(LAST, "c", 0.2, False),
        Cell(LAST, "c", 3.0, True),
    ]
    assert ranked_names(cells) == ["c", "a", "b"]


@pytest.mark.parametrize(
    ("edges", "reference", "tonight", "expected"),
    [
        ([0.1, 0.25], [1, 2, 3, 0], [4, 5, 6, 0], (Bin("≤ 0.1", 1, 4), Bin("0.1–0.25", 2, 5), Bin("> 0.25", 3, 6))),
        ([], [7, 0], [8, 1], (Bin("all", 7, 8), Bin("missing", 0, 1))),
        ([5.0], [1, 2, 0], [0, 0, 0], (Bin("≤ 5", 1, 0), Bin("> 5", 2, 0))),
    ],
)  # fmt: skip
def test_bins_are_named_by_their_edges(
    edges: list[float], reference: list[int], tonight: list[int], expected: tuple[Bin, ...]
) -> None:
    assert label_bins(edges, reference, tonight) == expected
