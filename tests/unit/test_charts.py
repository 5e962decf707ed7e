"""Charts of models: what is drawn, that the same input gives the same bytes, and that nothing to draw is nothing."""

import base64
from collections.abc import Callable
from typing import Any
from xml.etree import ElementTree as Tree

import pytest

from nightscore.reports.charts import (
    as_markdown_image,
    calibration_chart,
    importance_chart,
    learning_curve_chart,
    paired_chart,
    ranked_shares,
    segments_chart,
)

CURVE = {"metric": "log_loss", "iterations": [1, 2, 3], "fit": [0.6, 0.5, 0.4], "held_out": [0.61, 0.56, 0.55]}
IMPORTANCE = {"hour": 30.0, "wind": 60.0, "gate": 0.0, "carrier": 10.0}
RELIABILITY = [{"rows": 100, "mean_probability": at / 10, "share": at / 11} for at in range(1, 8)]
DATES = [
    {"score_date": f"2013-04-{day:02}", "rows": 900, "champion_loss": 0.5, "challenger_loss": 0.4 + day / 100}
    for day in range(1, 15)
]
SEGMENTS = [{"label": "carrier AA", "value": 0.6}, {"label": "carrier UA", "value": 0.4}]
HOSTILE = '</text><script>alert("x")</script>'


def marks(svg: str, mark: str) -> list[Tree.Element]:
    """The drawn marks of one kind, axes and legends left out."""
    root = Tree.fromstring(svg)
    groups = [one for one in root.iter() if one.get("class", "").startswith(f"mark-{mark} role-mark")]
    return [shape for group in groups for shape in group]


def words(svg: str) -> list[str]:
    return [one.text or "" for one in Tree.fromstring(svg).iter() if one.tag.endswith("text")]


CASES: dict[str, tuple[Callable[[], str], dict[str, int]]] = {
    "learning curve": (lambda: learning_curve_chart(CURVE), {"line": 2}),
    "importance": (lambda: importance_chart(IMPORTANCE, {}), {"rect": 3}),
    "calibration": (lambda: calibration_chart(RELIABILITY), {"line": 2, "symbol": 7}),
    "paired": (lambda: paired_chart(DATES, 0.05, 0.01, 0.09), {"symbol": 14, "rect": 1, "rule": 2}),
    "paired without bounds": (lambda: paired_chart(DATES, 0.05, None, None), {"symbol": 14, "rect": 0, "rule": 2}),
    "segments": (lambda: segments_chart(SEGMENTS, "log_loss", 0.5), {"rect": 2, "rule": 1}),
    "segments without a line": (lambda: segments_chart(SEGMENTS), {"rect": 2, "rule": 0}),
}


@pytest.mark.parametrize("name", CASES)
def test_a_chart_is_a_picture_of_fixed_width_with_the_expected_marks(name: str) -> None:
    draw, expected = CASES[name]
    svg = draw()
    assert Tree.fromstring(svg).get("width") == "560"
    assert {mark: len(marks(svg, mark)) for mark in expected} == expected


@pytest.mark.parametrize("name", CASES)
def test_the_same_input_gives_the_same_bytes_without_ids_scripts_or_links(name: str) -> None:
    draw, _ = CASES[name]
    svg = draw()
    assert draw() == svg
    for forbidden in (" id=", "<script", "href", "url(", "<image", "<style"):
        assert forbidden not in svg


@pytest.mark.parametrize(
    "svg",
    [
        learning_curve_chart(None), learning_curve_chart({}), importance_chart({}, {}),
        importance_chart({"a": 0.0}, {}), calibration_chart(None), calibration_chart([]),
        paired_chart([], 0.1, 0.0, 0.2),
        paired_chart([{"score_date": "2013-04-01", "champion_loss": 0.0}], None, None, None),
        segments_chart([]), segments_chart([{"label": "AA", "value": None}]),
    ],
)  # fmt: skip
def test_nothing_to_draw_is_no_chart(svg: str) -> None:
    assert svg == ""


def test_points_without_a_finite_value_are_left_out() -> None:
    broken: list[dict[str, Any]] = [
        {"rows": 1, "mean_probability": None, "share": 0.1},
        {"rows": 1, "mean_probability": float("nan"), "share": 0.1},
        {"rows": 1, "mean_probability": 0.1, "share": None},
    ]
    assert calibration_chart([*RELIABILITY, *broken]) == calibration_chart(RELIABILITY)


def test_features_are_ranked_by_share_and_called_by_their_titles() -> None:
    assert ranked_shares(IMPORTANCE) == [("wind", 0.6), ("hour", 0.3), ("carrier", 0.1)]
    svg = importance_chart(IMPORTANCE, {"wind": "wind at noon, mph", "hour": ""}, top=2)
    assert [word for word in words(svg) if word in {"wind at noon, mph", "hour", "carrier", "wind"}] == [
        "wind at noon, mph", "hour",
    ]  # fmt: skip


def test_two_features_of_one_title_keep_a_bar_each() -> None:
    assert len(marks(importance_chart(IMPORTANCE, dict.fromkeys(IMPORTANCE, "same")), "rect")) == 3


def test_texts_that_people_wrote_are_text() -> None:
    svg = importance_chart(IMPORTANCE, {"wind": HOSTILE})
    assert "<script" not in svg
    assert f"{HOSTILE[:31]}…" in words(svg)


def test_an_image_of_markdown_holds_the_chart_itself() -> None:
    image = as_markdown_image("<svg/>", "gain ](x) of\n@7")
    assert image == "![gain (x) of@7](data:image/svg+xml;base64," + base64.b64encode(b"<svg/>").decode() + ")"
    assert as_markdown_image("", "nothing") == ""
