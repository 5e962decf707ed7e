"""The review of a changeset: what it says, that it needs nothing from elsewhere, and that nobody can write into it."""

from collections import Counter
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from html.parser import HTMLParser

import numpy as np
import polars as pl
import pytest

from nightscore.publishing.compare import compare_night
from nightscore.publishing.difference import ChangesetDifference, NightDifference, merge
from nightscore.reports.changeset import ChangesetFacts, Cost, render_html, render_text
from tests.unit.decided import decide
from tests.unit.synthetic_flights import make_pipeline

PIPELINE = make_pipeline()
FIRST = date(2013, 4, 1)
HOSTILE = "<script>alert('x')</script> & \"more\"\x1b[2J\n\u202eof it"
SHOWN = "<script>alert('x')</script> & \"more\" [2J of it"
FACTS = ChangesetFacts(
    id=7, pipeline="flights", first=FIRST, last=date(2013, 4, 4), reason="weather feed repaired", model="champion",
    created_by="ops@example.org", created_at=datetime(2013, 5, 1, 3, 0, tzinfo=UTC), status="staged",
    cost=Cost(12.34, 4_100_000, 1600), base="what was published on 2013-05-01",
)  # fmt: skip


def predictions(seed: int, version: int, carrier: str = "AA") -> pl.DataFrame:
    rows = 400
    scores = np.random.default_rng(seed).uniform(0, 1, rows)
    frame = pl.DataFrame({"score_date": [FIRST] * rows, "carrier": carrier, "flight": range(rows), "score": scores})
    made = pl.lit(version, pl.Int64).alias("model_version"), pl.lit("champion").alias("arm")
    return decide(frame.with_columns(probability="score"), PIPELINE).with_columns(made)


def night(at: int, before: pl.DataFrame | None, after: pl.DataFrame, labelled: bool = False) -> NightDifference:
    keys = after.select("score_date", "carrier", "flight")
    labels = keys.with_columns(label=pl.col("flight") % 2) if labelled else None
    levels = pl.when(pl.col("flight") % 2 == 0).then(pl.lit("<b>weekend</b>"))
    found = compare_night(PIPELINE, before, after, keys.with_columns(weekend=levels), labels)
    return replace(found, night=FIRST + timedelta(days=at))


@pytest.fixture(scope="module")
def difference() -> ChangesetDifference:
    old, new = predictions(1, 1), predictions(2, 2)
    return merge([night(0, old, new, True), night(1, old, old), night(2, None, new), night(3, old, new[:300])])


class Page(HTMLParser):
    """The tags of a page, checked to close in the order in which they open, and its text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: Counter[str] = Counter()
        self.attributes: set[str] = set()
        self.text = ""
        self.open: list[str] = []
        self.feed(page)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag] += 1
        self.attributes |= {name for name, _ in attrs}
        if tag != "meta":
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag] += 1

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def test_the_text_fits_one_screen_and_says_what_changes(difference: ChangesetDifference) -> None:
    lines = render_text(FACTS, difference).splitlines()
    assert len(lines) <= 50
    assert max(map(len, lines)) <= 110
    assert lines[:6] == [
        "Changeset 7 of flights: staged, 2013-04-01 to 2013-04-04",
        "  reason         weather feed repaired",
        "  model          champion",
        "  compared with  what was published on 2013-05-01",
        "  made           2013-05-01 03:00 UTC by ops@example.org",
        "  cost           12.3 s, 4.1 MB, 1,600 rows",
    ]
    assert lines[7:10] == [
        "Rows of 4 nights (1 new, 2 changed, 1 identical)",
        "  before  after  added  removed  changed  identical",
        "   1,200  1,500    400      100      700        400",
    ]
    assert [line for line in lines if line.startswith("  @")] == [
        "  @1        1,200    400", "  @2            0  1,100",
    ]  # fmt: skip


def test_figures_without_labels_are_called_immature() -> None:
    text = render_text(FACTS, merge([night(0, predictions(1, 1), predictions(2, 2))]))
    assert text.endswith("         labelled rows\n  before       immature\n  after        immature\n")


def test_the_page_has_a_chart_of_each_kind_and_a_tooltip_on_every_shape(difference: ChangesetDifference) -> None:
    page = Page(render_html(FACTS, difference))
    assert page.tags["svg"] == 5
    assert page.tags["rect"] + page.tags["circle"] == page.tags["title"] - 1
    for expected in ("2013-04-01: 400 changed", "2013-04-02: 0", "2013-04-03: 400 added", "unknown: ", "Shift of the"):
        assert expected in page.text


def test_the_page_needs_nothing_from_elsewhere(difference: ChangesetDifference) -> None:
    page = render_html(FACTS, difference)
    found = Page(page)
    assert not {"script", "link", "img", "iframe", "a", "use", "image"} & set(found.tags)
    assert not {"src", "href", "xlink:href", "onload", "onclick"} & found.attributes
    assert "://" not in page
    assert "url(" not in page
    assert "@import" not in page


def test_what_people_write_is_shown_as_text_and_never_run(difference: ChangesetDifference) -> None:
    facts = replace(FACTS, reason=HOSTILE, model=HOSTILE, created_by=HOSTILE, base=HOSTILE, status=HOSTILE)
    page = render_html(facts, difference)
    found = Page(page)
    assert found.tags["script"] == found.tags["b"] == 0
    assert found.text.count(SHOWN) == 6
    assert "<b>weekend</b>" in found.text
    text = render_text(facts, difference)
    assert not {"\x1b", "\u202e"} & {*text, *page}
    assert len(text.splitlines()) == len(render_text(FACTS, difference).splitlines())


def test_a_changeset_without_nights_is_shown_too() -> None:
    empty = merge([])
    assert "Rows of 0 nights (0 new, 0 changed, 0 identical)" in render_text(FACTS, empty)
    assert Page(render_html(FACTS, empty)).tags["svg"] == 0


def test_a_changeset_that_changes_nothing_shows_one_bar_at_zero() -> None:
    frame = predictions(1, 1)
    page = Page(render_html(FACTS, merge([night(0, frame, frame)])))
    assert "0: 400 rows" in page.text
    assert "Columns that differ, rowsnone" in page.text


def test_a_year_of_nights_stays_readable(difference: ChangesetDifference) -> None:
    old, new = predictions(1, 1), predictions(2, 2)
    one = night(0, old, new)
    year = merge([replace(one, night=FIRST + timedelta(days=at)) for at in range(365)])
    assert len(render_text(FACTS, year).splitlines()) <= 50
    page = render_html(FACTS, year)
    assert len(page) < 300_000
    assert Page(page).tags["circle"] == 365


def test_the_page_is_the_same_for_nights_in_any_order(difference: ChangesetDifference) -> None:
    old, new = predictions(1, 1), predictions(2, 2)
    nights = [night(0, old, new, True), night(1, old, old), night(2, None, new), night(3, old, new[:300])]
    assert render_html(FACTS, merge(reversed(nights))) == render_html(FACTS, difference)
    stored = ChangesetDifference.from_json(difference.as_json())
    assert render_html(FACTS, stored) == render_html(FACTS, difference)
