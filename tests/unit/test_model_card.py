"""The model card: its whole text, what it says of figures that nobody measured, and that nobody can write into it."""

from collections import Counter
from dataclasses import replace
from datetime import UTC, date, datetime
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from nightscore.catalog.decisions import Decision
from nightscore.catalog.models import ModelVersion
from nightscore.catalog.reproductions import Reproduction
from nightscore.reports.card_facts import CardFacts, LifeEvent, credible_gain, find_limits, name_some
from nightscore.reports.model_card import render_html, render_markdown
from nightscore.spec.pipeline import Pipeline
from tests.unit.synthetic_flights import LIGHTGBM, make_pipeline, training_section

GOLDEN = Path(__file__).parent.parent / "golden" / "model_card.md"
AT = datetime(2013, 4, 15, 3, 0, tzinfo=UTC)
HOSTILE = "<script>alert('x')</script> | [click](javascript:1) `& *more*\x1b[2J\n# of_it"
FIGURES = {
    "log_loss": 0.4312, "brier": 0.1388, "roc_auc": 0.7421, "calibration_error": 0.0123, "mean_bias": -0.0031,
    "precision": None,
}  # fmt: skip
BASELINE = {
    "log_loss": 0.4701, "brier": 0.1512, "roc_auc": 0.6603, "calibration_error": 0.0098, "mean_bias": 0.0,
    "precision": 0.5012,
}  # fmt: skip


def interval(value: float | None, reach: float = 0.01) -> dict[str, float | None]:
    return {
        "value": value,
        "lower": None if value is None else value - reach,
        "upper": None if value is None else value + reach,
    }


def measured(figures: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"overall": figures, "intervals": {name: interval(value) for name, value in figures.items()}, **more}


def level(name: object, rows: int, loss: float | None) -> dict[str, Any]:
    return {"level": name, "rows": rows, "log_loss": loss, "roc_auc": 0.7}


OWN = measured(
    FIGURES,
    by_date=[{"score_date": "2013-04-07", "rows": 150, "log_loss": 0.4}],
    by_week=[
        {"week": "2013-04-01", "rows": 1050, "log_loss": 0.42, "roc_auc": 0.75},
        {"week": "2013-04-08", "rows": 150, "log_loss": 0.44, "roc_auc": None},
    ],
    segments={
        "carrier": [level("AA", 700, 0.41), level("UA", 460, 0.47), level("WN", 30, 0.9), level(None, 10, None)],
        "weekend": [level(False, 900, 0.43), level(True, 300, 0.44)],
    },
)
METRICS: dict[str, Any] = {
    "algorithm": "lightgbm",
    "algorithms": {"rule": measured(BASELINE), "lightgbm": OWN},
    "worth": {
        "against": "rule", "metric": "log_loss",
        "gain": {"dates": 8, "rows": 1200, "gain": 0.0827, "lower": 0.0512, "upper": 0.1121},
        "value": {"unit": "EUR", "model": -0.21, "baseline": -0.25, "gain": interval(0.04)},
    },
    "calibration": {
        "method": "isotonic",
        "dates": {"first": "2013-03-20", "last": "2013-04-02", "dates": 14, "rows": 2100},
        "before": {"log_loss": 0.44, "calibration_error": 0.03},
        "after": {"log_loss": 0.4312, "calibration_error": 0.0123},
    },
    "reliability": [
        {"rows": 600, "mean_probability": 0.11, "share": 0.1},
        {"rows": 600, "mean_probability": 0.52, "share": 0.55},
    ],
    "groups": {"age_group": {
        "old": {"rows": 400, "selection_rate": 0.2, "accuracy": 0.8, "precision": None, "recall": 0.3, "log_loss": 0.4},
    }},
    "fairness": {"age_group": [
        {"measure": "selection_rate_ratio", **interval(0.84), "worst": "65+", "best": "18-64", "levels": {}},
        {"measure": "accuracy_difference", **interval(None), "worst": None, "best": None, "levels": {}},
    ]},
    "curve": {"metric": "log_loss", "iterations": [1, 25], "fit": [0.6, 0.4], "held_out": [0.61, 0.43]},
    "fit": {"first": "2013-03-05", "last": "2013-04-02", "dates": 22, "rows": 3300},
    "calibrate": {"first": "2013-03-20", "last": "2013-04-02", "dates": 14, "rows": 2100},
    "held_out": {"first": "2013-04-03", "last": "2013-04-10", "dates": 8, "rows": 1200},
    "all": {"first": "2013-03-05", "last": "2013-04-10", "dates": 36, "rows": 5400},
    "importance": {"carrier": 100.0, "hour": 300.0, "wind": 600.0, "age_group": 0.0},
}  # fmt: skip


def spec(**sections: Any) -> Pipeline:
    base: dict[str, Any] = {
        "features": {"model": "features", "columns": [
            {"name": "carrier", "type": "category", "segment": True, "description": "who flies"},
            {"name": "hour", "type": "integer", "title": "hour of departure", "description": "local time"},
            {"name": "wind", "type": "float", "may_be_null": True},
            {"name": "age_group", "type": "category", "sensitive": True, "description": "of the passenger"},
        ]},
        "label": {"model": "labels", "column": "label", "horizon_days": 1,
                  "description": "1 when it arrived 15 or more minutes late; cancelled flights never get a label"},
        "decision": {"rule": {"type": "threshold", "value": 0.4},
                     "business_rules": [{"name": "last_flights", "when": "hour > 22", "decision": True}],
                     "costs": {"false_alarm": 1, "miss": 5, "unit": "EUR"}},
        "promotion": {"fairness": {"limits": [{"measure": "selection_rate_ratio", "limit": 0.8}]}},
        "training": training_section(
            tuning={"trials": 30, "minutes": 10, "folds": 2, "space": {"leaves": {"low": 7, "high": 31}}}
        ),
    }  # fmt: skip
    return make_pipeline(**(base | sections))


def version(**changes: Any) -> ModelVersion:
    made = ModelVersion(
        pipeline="flights", version=7, capsule_md5="c4.dir", manifest_sha256="ab12", function_hash="f00d",
        recipe_hash="beef", snapshot_md5="5eed.dir", algorithm="lightgbm", task="binary", as_of=date(2013, 4, 11),
        parent=6, status="registered", metrics=METRICS, created_by="ana", purpose="weekly refresh", run_id="r1",
        created_at=AT, provenance={"commit": "0123abc", "dirty": False, "python": "3.11.9"},
    )  # fmt: skip
    return replace(made, **changes)


def reproduction(**changes: Any) -> Reproduction:
    made = Reproduction(
        "flights", "model", 7, None, None, "reproduced", "identical", None, {}, "drill", "r2", 41.6,
        datetime(2013, 4, 21, 5, 0, tzinfo=UTC),
    )  # fmt: skip
    return replace(made, **changes)


FACTS = CardFacts(
    version=version(),
    spec=spec(),
    left_out={"2013-03-09": "only 12.0% of its rows have labels", "2013-03-08": "only 31.0% of its rows have labels"},
    aliases=("champion",),
    life=(
        LifeEvent(AT, "registered", "ana", "weekly refresh"),
        LifeEvent(datetime(2013, 4, 16, 9, 30, tzinfo=UTC), "approved", "ben", "the gate and I agree"),
        LifeEvent(datetime(2013, 4, 16, 9, 30, tzinfo=UTC), "became champion, after @6", "ben", "the gate and I agree"),
    ),
    gate=Decision(
        "flights", "promotion", "flights@7", "promote", "Lower 90 % bound of the gain is 1.2 %.",
        {"gate": {"paired": {"gain": 0.03, "lower": 0.012, "upper": 0.05}, "by_date": [
            {"score_date": f"2013-04-{day:02}", "rows": 150, "champion_loss": 0.5, "challenger_loss": 0.45 + day / 200}
            for day in range(3, 11)
        ]}}, "gate", datetime(2013, 4, 15, 4, 0, tzinfo=UTC),
    ),
    reproduction=reproduction(),
    nights_reproduced=2,
)  # fmt: skip
OLD = CardFacts(
    version(metrics={"algorithm": "lightgbm", "algorithms": {"lightgbm": {"overall": {"log_loss": 0.43}}},
                     "held_out": METRICS["held_out"]}, provenance=None, parent=None),
    spec(),
)  # fmt: skip
BARE = CardFacts(version(metrics={}, provenance=None, parent=None), None)


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


def section(text: str, heading: str) -> str:
    return text.partition(f"## {heading}\n\n")[2].partition("\n\n## ")[0]


def test_the_card_is_this_text() -> None:
    assert render_markdown(FACTS) == GOLDEN.read_text(encoding="utf-8")


def test_the_page_has_the_same_sections_and_every_chart() -> None:
    page = Page(render_html(FACTS))
    headings = [line.removeprefix("## ") for line in render_markdown(FACTS).splitlines() if line.startswith("## ")]
    assert page.tags["h2"] == len(headings)
    assert all(heading in page.text for heading in headings)
    assert page.tags["svg"] == 5


def test_the_page_needs_nothing_from_elsewhere_and_comes_out_the_same_twice() -> None:
    page = render_html(FACTS)
    found = Page(page)
    assert page == render_html(FACTS)
    assert not {"script", "link", "img", "iframe", "a", "use", "image"} & set(found.tags)
    assert not {"src", "href", "xlink:href", "onload", "onclick"} & found.attributes
    assert "://" not in page
    assert "url(" not in page


@pytest.mark.parametrize("facts", [OLD, BARE], ids=["old", "bare"])
def test_what_nobody_measured_is_said_to_be_so(facts: CardFacts) -> None:
    text, page = render_markdown(facts), Page(render_html(facts))
    assert section(text, "Is it worth a model") == "Not measured."
    assert section(text, "Segments") == f"Not measured{'' if facts.spec else ': the spec declares no segment'}."
    assert section(text, "What it looks at") == "Not measured for lightgbm."
    assert "How often it comes true is not measured by probability." in text
    assert "It was never reproduced." in text
    assert "The promotion gate has not judged it." in text
    assert page.tags["svg"] == 0


def test_a_card_without_any_figure_says_so_first_among_its_limits() -> None:
    assert section(render_markdown(BARE), "Performance") == "Not measured."
    assert find_limits(BARE) == [
        "How well it scores is not measured.",
        "Rows that never got a label were neither learnt from nor measured.",
        "Its scores are not calibrated: of rows with a score of 0.7, another share than 70 % may come true.",
        "It was not measured by segment, so it may be bad in one part of the rows without anyone having seen it.",
        "How it treats the levels of sensitive columns is not measured.",
        "Its spec cannot be read by today's schema; see spec.yaml in its capsule.",
        "Nobody has tried yet to train it again and compare.",
    ]


def test_figures_without_intervals_are_called_so() -> None:
    assert section(render_markdown(OLD), "Performance") == (
        "On held-out score dates; intervals are not measured:\n\n"
        "| figure | lightgbm |\n| --- | ---: |\n| log loss, nats (lower is better) | 0.4300 |"
    )


@pytest.mark.parametrize(
    ("outcome", "limit"),
    [
        (reproduction(), None),
        (None, "Nobody has tried yet to train it again and compare."),
        (reproduction(outcome="not equal", level=None, first_difference="numerics: metrics.json"),
         "The newest attempt to train it again came out as 'not equal': numerics: metrics.json."),
        (reproduction(outcome="cannot", level=None),
         "The newest attempt to train it again came out as 'cannot'."),
    ],
)  # fmt: skip
def test_the_last_limit_is_what_reproduction_did_not_prove(outcome: Reproduction | None, limit: str | None) -> None:
    found = find_limits(replace(FACTS, reproduction=outcome))
    assert (found[-1] if len(found) > len(find_limits(FACTS)) else None) == limit


def test_uncommitted_changes_are_a_limit() -> None:
    dirty = version(provenance={"commit": "0123abc", "dirty": True})
    expected = "It was trained from changes that were not committed, so nobody has reviewed its code."
    assert set(find_limits(replace(FACTS, version=dirty))) - set(find_limits(FACTS)) == {expected}
    assert "| commit | 0123abc, with uncommitted changes |" in render_markdown(replace(FACTS, version=dirty))


@pytest.mark.parametrize(
    ("lower", "upper", "credible", "verdict"),
    [(0.01, 0.1, True, "Yes: "), (-0.2, -0.1, False, "No, it is worse: "), (-0.1, 0.1, None, "Not shown: "),
     (None, None, None, "Not shown: ")],
)  # fmt: skip
def test_only_bounds_make_a_gain(lower: float | None, upper: float | None, credible: bool | None, verdict: str) -> None:
    worth = METRICS["worth"] | {"gain": METRICS["worth"]["gain"] | {"lower": lower, "upper": upper}}
    facts = replace(FACTS, version=version(metrics=METRICS | {"worth": worth}))
    assert credible_gain(worth) is credible
    assert section(render_markdown(facts), "Is it worth a model").startswith(
        f"{verdict}against the rule baseline it saves 8.3 %"
    )
    assert ("That it is better than doing without a model is not shown." in find_limits(facts)) is not credible


def test_a_regression_speaks_of_its_own_figures() -> None:
    result = measured({"rmse": 1234.5, "r2": 0.5}, by_date=[{"score_date": "2013-04-07", "rows": 150, "rmse": 1200.0}])
    metrics = {"algorithm": "lightgbm", "algorithms": {"lightgbm": result}, "held_out": METRICS["held_out"]}
    facts = CardFacts(version(task="regression", metrics=metrics), make_pipeline(task="regression"))
    text = render_markdown(facts)
    assert section(text, "Calibration") == "A regression has no probabilities to calibrate."
    assert "| RMSE (lower is better) | 1,234.50 (1,234.49 to 1,234.51) |" in text
    assert section(text, "Performance").endswith(
        "| score date | rows | RMSE |\n| --- | ---: | ---: |\n| 2013-04-07 | 150 | 1,200.00 |"
    )
    assert "yes where the score is 30.0 or more" in text


def test_texts_that_people_wrote_are_text_on_the_page() -> None:
    hostile = replace(
        FACTS,
        version=version(purpose=HOSTILE, created_by=HOSTILE),
        life=(LifeEvent(AT, HOSTILE, HOSTILE, HOSTILE),),
        left_out={HOSTILE: HOSTILE},
        spec=spec(description=HOSTILE, entity={"name": "flight", "key": ["carrier"], "description": HOSTILE}),
    )
    page = Page(render_html(hostile))
    assert "script" not in page.tags
    assert "<script>alert('x')</script> | [click](javascript:1) `& *more* [2J # of_it" in page.text
    assert "\x1b" not in page.text
    assert page.tags == Page(render_html(replace(hostile, version=version(), life=FACTS.life[:1]))).tags


def test_texts_that_people_wrote_are_text_in_markdown() -> None:
    row = section(render_markdown(replace(FACTS, version=version(purpose=HOSTILE))), "What it is for").splitlines()[7]
    escaped = r"\<script\>alert('x')\</script\> \| \[click\](javascript:1) \`\& \*more\* \[2J # of_it"
    assert row == f"| purpose of this version | {escaped} |"


def test_an_algorithm_that_the_spec_does_not_name_has_no_settings_of_it() -> None:
    text = section(render_markdown(replace(FACTS, version=version(algorithm="ensemble"))), "Recipe")
    assert "| algorithm | ensemble |" in text
    assert "learning rate" not in text
    assert "learning rate" in section(render_markdown(FACTS), "Recipe")
    assert str(LIGHTGBM["learning_rate"]) in section(render_markdown(FACTS), "Recipe")


def test_many_names_are_counted() -> None:
    assert name_some("abc") == "a, b, c"
    assert name_some("abcdefgh") == "a, b, c, d, e, f and 2 more"
