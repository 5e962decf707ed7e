"""The report of a night and the dashboard: texts, headlines, empty states, and what people may not write into them."""

from collections.abc import Callable
from dataclasses import replace
from datetime import date
from html.parser import HTMLParser
from pathlib import Path

import pytest

from nightscore.catalog.nights import NightStatus
from nightscore.errors import SettingsError
from nightscore.reports import dashboard, night_report
from nightscore.reports.files import write_report
from nightscore.reports.watch_facts import (
    NightFacts,
    PeriodFacts,
    drift_cells,
    newest_known,
    nights_of_decision,
    row_counts,
)
from tests.unit.watched_nights import (
    AT,
    HOSTILE,
    NIGHT,
    busy_night,
    decision,
    empty_period,
    figure,
    first_night,
    gate,
    incident,
    publication,
    quarter,
    regression_night,
    signals,
    watched,
)

GOLDEN = Path(__file__).parent.parent / "golden"
VOID = {"meta", "br"}
NIGHTS: dict[str, Callable[[], NightFacts]] = {
    "busy": busy_night, "first": first_night, "regression": regression_night,
    "unjudged": lambda: replace(first_night(), verdict=None, signals=()),
    "failed at its sources": lambda: NightFacts(
        "flights", "binary", NIGHT, 1, NightStatus(NIGHT, "failed", "the file is missing", "run-1", AT)
    ),
}  # fmt: skip
PAGES: dict[str, Callable[[], str]] = {
    **{name: lambda made=made: night_report.render_html(made()) for name, made in NIGHTS.items()},  # type: ignore[misc]
    "dashboard": lambda: dashboard.render_html(quarter()),
    "empty dashboard": lambda: dashboard.render_html(empty_period()),
}


class Balanced(HTMLParser):
    """Fails where an element is closed that is not open; keeps what is read."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: set[str] = set()
        self.text: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def parse(page: str) -> Balanced:
    parser = Balanced()
    parser.feed(page)
    parser.close()
    assert parser.open == []
    return parser


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("night_report.md", lambda: night_report.render_markdown(busy_night())),
        ("night_report_first.md", lambda: night_report.render_markdown(first_night())),
        ("dashboard.md", lambda: dashboard.render_markdown(quarter())),
    ],
)
def test_a_report_says_what_it_says(name: str, text: Callable[[], str]) -> None:
    assert text() == (GOLDEN / name).read_text(encoding="utf-8")


@pytest.mark.parametrize("name", PAGES)
def test_a_page_is_whole_without_scripts_or_links_and_the_same_each_time(name: str) -> None:
    page = PAGES[name]()
    parser = parse(page)
    assert PAGES[name]() == page
    assert not {"script", "link", "a", "img", "iframe", "object"} & parser.tags
    assert not [word for word in ("http://", "https://", "<script", "href", "src=") if word in page]


def hostile_night() -> NightFacts:
    facts = busy_night()
    broken = replace(facts.tonight[-1], cause=HOSTILE, column=HOSTILE, message=HOSTILE)
    return replace(
        facts, status=NightStatus(NIGHT, "gated", HOSTILE, HOSTILE, AT),
        verdict=watched(False, HOSTILE, notes=(HOSTILE,)),
        signals=(*facts.signals, broken), incidents=(incident(9, "L1", HOSTILE, NIGHT, messages=(HOSTILE,)),),
        gates=(gate(HOSTILE, False, HOSTILE),), decisions=(decision(HOSTILE, HOSTILE, HOSTILE, HOSTILE),),
        metrics=(*facts.metrics, figure(NIGHT, "business", HOSTILE, 1.0, "final", detail={"unit": HOSTILE}),
                 figure(NIGHT, "cost", f"seconds:{HOSTILE}", 1.0, "final")),
    )  # fmt: skip


def hostile_period() -> PeriodFacts:
    night = hostile_night()
    statuses = (night.status,) if night.status else ()
    return replace(quarter(), incidents=night.incidents, decisions=night.decisions, statuses=statuses,
                   metrics=night.metrics, signals=night.signals)  # fmt: skip


@pytest.mark.parametrize(
    ("page", "text"),
    [
        (night_report.render_html(hostile_night()), night_report.render_markdown(hostile_night())),
        (dashboard.render_html(hostile_period()), dashboard.render_markdown(hostile_period())),
    ],
)
def test_what_people_write_is_never_markup(page: str, text: str) -> None:
    parser = parse(page)
    assert "script" not in parser.tags
    assert any("<script>alert('x')</script>" in one for one in parser.text)
    assert "\x1b" not in page + text
    assert "](http" not in text.replace("\\]", "")
    assert "<script" not in text.replace("\\<", "")


HEADLINES = {
    "held back over an older revision": (
        busy_night, "bad",
        "Held back: distance: 64 % of the rows lie outside the reference's range, and at most 1 % is normal. Readers "
        "still see revision 2: 967 rows scored by flights@3, published 2013-08-01 04:12 UTC.",
    ),
    "held back and nothing there": (
        lambda: replace(busy_night(), current=None, latest=publication(date(2013, 7, 30))), "bad",
        "Held back: distance: 64 % of the rows lie outside the reference's range, and at most 1 % is normal. Readers "
        "see nothing of this night; the newest night that they see is 2013-07-30.",
    ),
    "published": (
        first_night, "good",
        "Published. Readers see revision 1: 967 rows scored by flights@3, published 2013-08-01 04:12 UTC.",
    ),
    "published with an incident": (
        lambda: replace(first_night(), incidents=(incident(1, "L3", "psi_week:hour", NIGHT),)), "warned",
        "Published, with 1 open incident. Readers see revision 1: 967 rows scored by flights@3, published 2013-08-01 "
        "04:12 UTC.",
    ),
    "judged only": (
        lambda: replace(first_night(), status=None, current=None, latest=None), "warned",
        "Not published: the night is judged fit to be published, but not published. Readers see nothing of this night, "
        "nor of any other yet.",
    ),
    "failed": (
        NIGHTS["failed at its sources"], "bad",
        "Failed: the file is missing. Readers see nothing of this night, nor of any other yet.",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", HEADLINES)
def test_the_headline_says_what_became_of_the_night_and_what_readers_see(case: str) -> None:
    facts, tone, text = HEADLINES[case]
    found = night_report.headline(facts())
    assert (found.tone, found.text) == (tone, text)


def test_a_night_without_labels_estimates_or_incidents_says_so() -> None:
    text = night_report.render_markdown(first_night())
    for said in (
        "## Incidents open tonight\n\nNone.", "No labels have come yet", "No estimate without labels: none was made.",
        "The spec declares no metric", "No run time is recorded.", "None: no retraining",
        "Nothing of 8 figures is over",
    ):  # fmt: skip
        assert said in text


def test_a_regression_has_no_estimate_and_its_own_figures() -> None:
    text = night_report.render_markdown(regression_night())
    assert "No estimate without labels: a regression has none." in text
    assert "| RMSE | 14, to 2013-07-27 | 0.4547 (0.4350 to 0.4620) | 0.4312 |" in text
    assert "log loss" not in text


def test_incidents_are_those_that_were_open_on_the_night() -> None:
    facts = replace(busy_night(), night=date(2013, 7, 24))
    assert [one.incident_id for one in facts.open_incidents] == ["inc-2"]
    assert [one.incident_id for one in busy_night().open_incidents] == ["inc-3"]


def test_an_empty_period_says_so() -> None:
    text = dashboard.render_markdown(empty_period())
    for said in ("No incident is open. Published: 0 of 31", "Nothing is recorded", "None in this period.",
                 "No figures are kept of these nights.", "Nothing was decided"):  # fmt: skip
        assert said in text


def test_the_budget_counts_false_incidents_of_the_last_91_days() -> None:
    false = {"status": "closed", "false_alarm": True}
    found = (
        incident(1, "L2", "a", date(2013, 5, 2), closed=date(2013, 5, 9), **false),
        incident(2, "L2", "b", date(2013, 5, 1), closed=date(2013, 5, 9), **false),
        incident(3, "L2", "c", NIGHT, closed=NIGHT, **false), incident(4, "L2", "d", NIGHT),
    )  # fmt: skip
    facts = replace(quarter(), incidents=found)
    assert [one.incident_id for one in dashboard.false_incidents(facts)] == ["inc-1", "inc-3"]
    assert "2 false incidents in 91 days; 1 tolerated. The budget is overspent." in dashboard.render_markdown(facts)


def test_the_newest_figure_that_was_known_by_a_night_counts() -> None:
    early, late, later = (
        figure(date(2013, 7, 1), "model", "rmse", float(day), "provisional", known_on=date(2013, 7, day))
        for day in (2, 4, 9)
    )
    assert newest_known([later, early, late], date(2013, 7, 5)) == (late,)
    assert newest_known([later, early, late], date(2013, 7, 1)) == ()


def test_the_largest_ratio_of_a_column_is_its_cell() -> None:
    one = signals(nights=1, broken_from=NIGHT)
    cells = {cell.name: cell for cell in drift_cells(one)}
    assert (cells["distance"].ratio, cells["distance"].fires) == (64.0, True)
    assert sorted(cells) == ["carrier", "dep_hour", "distance", "plane_age", "rows", "score", "wind_speed"]


def test_rows_come_from_the_watch_and_else_from_what_is_published() -> None:
    before = date(2013, 7, 30)
    found = row_counts(signals(nights=1), {before: publication(before), NIGHT: publication()})
    assert [tuple(one) for one in found] == [(before, 967, None, None), (NIGHT, 940, 700.0, 1300.0)]


@pytest.mark.parametrize(
    ("evidence", "expected"),
    [
        ({"as_of": "2013-07-03"}, {date(2013, 7, 3)}), ({"affected": {"2013-07-01": [], "2013-07-02": []}},
         {date(2013, 7, 1), date(2013, 7, 2)}), ({}, {AT.date()}), ({"as_of": None, "affected": 3}, {AT.date()}),
        ({"as_of": "soon"}, {AT.date()}),
    ],
)  # fmt: skip
def test_a_decision_belongs_to_the_nights_of_its_evidence(evidence: dict[str, object], expected: set[date]) -> None:
    assert nights_of_decision(replace(decision("retrain", "attempt", "flights", ""), evidence=evidence)) == expected


def test_a_report_replaces_the_one_before_and_leaves_nothing_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "report.html"
    write_report(path, "first", make_folder=True)
    write_report(path, "second")
    assert [(one.name, one.read_text()) for one in path.parent.iterdir()] == [("report.html", "second")]


def test_a_report_that_cannot_be_written_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="give a file in a folder that you may write to"):
        write_report(tmp_path / "missing" / "report.html", "text")
    with pytest.raises(SettingsError, match="Writing"):
        write_report(tmp_path, "text")
    assert list(tmp_path.iterdir()) == []
