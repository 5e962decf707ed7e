"""The rule: what it gives, what it may not say, and the same score whatever rows stand beside."""

import json
from functools import cache
from typing import Any

import numpy as np
import polars as pl
import pytest

from nightscore.errors import SpecError
from nightscore.spec.training import Rule
from nightscore.training.algorithms import read_model
from nightscore.training.matrix import Encoding, Examples, Vector, encode
from nightscore.training.rule import RuleModel, check_rule, fit_rule
from tests.unit.synthetic_flights import make_flights, make_pipeline, training_section

ENCODING = Encoding(
    names=("carrier", "hour", "wind", "weekend", "gate"),
    types=("category", "integer", "float", "boolean", "category"),
    levels={"carrier": ("AA", "UA"), "gate": (3, 7)},
)
ROWS = pl.DataFrame({
    "carrier": ["UA", "AA", None, "ZZ"],
    "hour": [7, 20, None, 9],
    "wind": [0.5, None, 2.0, 0.25],
    "weekend": [True, False, None, True],
    "gate": [7, 3, None, 99],
})  # fmt: skip
MATRIX = encode(ROWS, ENCODING)
MEAN = 0.25


def rule(score: str, task: str = "binary") -> RuleModel:
    labels = np.array([0.0, 0.0, 0.0, 1.0])
    return fit_rule(Rule(type="rule", score=score), Examples(MATRIX, labels, ENCODING), task)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("score", "expected"),
    [
        ("0.4", [0.4, 0.4, 0.4, 0.4]),
        ("wind", [0.5, MEAN, 1.0, 0.25]),
        ("wind - 0.5", [0, MEAN, 1.0, 0]),
        ("case when carrier = 'UA' then 0.6 else 0.1 end", [0.6, 0.1, 0.1, 0.1]),
        ("case when carrier = 'UA' then 0.6 when hour >= 20 then 0.3 end", [0.6, 0.3, MEAN, MEAN]),
        ("case when weekend then 0.9 when not weekend then 0.2 end", [0.9, 0.2, MEAN, 0.9]),
        ("gate * 0.1", [7 * 0.1, 3 * 0.1, MEAN, MEAN]),
        ("hour % 2 * 0.5", [0.5, 0, MEAN, 0.5]),
        ("coalesce(wind, 0.75)", [0.5, 0.75, 1, 0.25]),
        ("cast(weekend as double)", [1, 0, MEAN, 1]),
        ("ln(wind - 0.5)", [MEAN, MEAN, 0.4054651081081644, MEAN]),
    ],
)
def test_a_rule_scores_the_rows_as_the_features_had_them(score: str, expected: list[float]) -> None:
    np.testing.assert_allclose(rule(score).predict(MATRIX), expected, rtol=0, atol=1e-15)


def test_a_regression_rule_is_not_cut_off() -> None:
    assert rule("hour * -10", "regression").predict(MATRIX).tolist() == [-70, -200, MEAN, -90]


@pytest.mark.parametrize(
    ("score", "named"),
    [
        ("rain + hour", "rule (rain + hour) names rain, which is not one of carrier, hour, wind, weekend, gate"),
        ("_row", "rule (_row) names _row, which is not one of carrier, hour, wind, weekend, gate"),
        ("carrier", "rule (carrier) gives String, expected a number"),
        ("hour > 7", "rule (hour > 7) gives Boolean, expected a number"),
        ("null", "rule (null) gives Null, expected a number"),
        ("avg(wind)", "rule (avg(wind)) looks at other rows (Agg), expected a rule about one row"),
        ("count(*)", "rule (count(*)) looks at other rows (Len), expected a rule about one row"),
        ("quantile_cont(wind, 0.5)", "rule (quantile_cont(wind, 0.5)) looks at other rows (Quantile), "
                                     "expected a rule about one row"),
        ("sum(wind) over (partition by carrier)", "rule (sum(wind) over (partition by carrier)) looks at other rows "
                                                  "(Agg, Over), expected a rule about one row"),
    ],
)  # fmt: skip
def test_what_is_no_rule_about_one_row_is_named(score: str, named: str) -> None:
    with pytest.raises(SpecError) as failure:
        rule(score)
    assert failure.value.found == (named,)


@pytest.mark.parametrize("score", ["hour +", "*", "wind; drop table x", "magic(wind)"])
def test_a_rule_that_is_no_sql_is_named(score: str) -> None:
    with pytest.raises(SpecError) as failure:
        rule(score)
    assert failure.value.found[0].startswith(f"rule ({score}) is not valid: ")


def test_a_text_that_names_an_aggregate_is_a_text() -> None:
    assert rule("case when carrier = 'Agg' then 0.1 else 0.2 end").predict(MATRIX).tolist() == [0.2] * 4


def test_a_rule_that_fails_on_a_value_says_so() -> None:
    with pytest.raises(SpecError, match="rule \\(cast\\(carrier as int\\)\\): "):
        rule("cast(carrier as int)").predict(MATRIX)


@cache
def scored(score: str) -> tuple[RuleModel, Any, Vector]:
    frame = make_flights(dates=4).drop("score_date", "flight", "label")
    encoding = Encoding(ENCODING.names, ENCODING.types, {"carrier": ("AA", "B6", "DL"), "gate": tuple(range(1, 9))})
    matrix = encode(frame, encoding)
    algorithm = Rule(type="rule", score=score)
    model = fit_rule(algorithm, Examples(matrix, np.linspace(0, 1, len(matrix)), encoding), "binary")
    return model, matrix, model.predict(matrix)


@pytest.mark.parametrize("score", ["0.3", "wind * 0.013 + ln(hour) / 9", "gate / 12 + exp(-wind)"])
def test_chunks_row_order_and_storage_change_no_bit(score: str) -> None:
    model, matrix, whole = scored(score)
    for size in (1, 7):
        chunks = [model.predict(matrix[at : at + size], threads=2) for at in range(0, len(matrix), size)]
        assert np.concatenate(chunks).tobytes() == whole.tobytes()
    order = np.random.default_rng(0).permutation(len(matrix))
    assert model.raw(matrix[order]).tobytes() == whole[order].tobytes()
    again = read_model("rule", model.to_bytes(), model.encoding)
    assert (again, again.predict(matrix).tobytes()) == (model, whole.tobytes())
    assert again.function_text() == model.function_text()
    assert model.predict(matrix[:0]).shape == (0,)


@pytest.mark.parametrize(
    "change",
    [
        {"score": "rain"}, {"score": 1}, {"score": "avg(wind)"}, {"task": "ranking"}, {"mean": "1"},
        {"mean": float("nan")}, {"more": 1},
    ],
)  # fmt: skip
def test_a_damaged_rule_is_a_value_error(change: dict[str, Any]) -> None:
    stored = json.loads(rule("wind").to_bytes()) | change
    with pytest.raises(ValueError, match=r"."):
        RuleModel.from_bytes(json.dumps(stored).encode(), ENCODING)


@pytest.mark.parametrize("data", [b"", b"[]", b"3", rule("wind").to_bytes()[:-4]])
def test_a_file_that_is_no_rule_is_a_value_error(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        RuleModel.from_bytes(data, ENCODING)


def checked(*scores: str) -> tuple[str, ...]:
    baselines = [{"type": "rule", "score": score} for score in scores]
    try:
        check_rule(make_pipeline(training=training_section(baselines=[{"type": "constant"}, *baselines])))
    except SpecError as error:
        return error.found
    return ()


def test_a_spec_s_rules_are_checked_all_at_once() -> None:
    assert checked("wind / 40", "case when upper(carrier) = 'UA' then 0.5 end", "gate * 0.1") == ()
    assert checked("rain", "wind", "weekend") == (
        "rule (rain) names rain, which is not one of carrier, hour, wind, weekend, gate",
        "rule (weekend) gives Boolean, expected a number",
    )
