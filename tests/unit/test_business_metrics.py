"""Metrics that a spec declares in SQL: what the spec refuses, and what a locked database makes of the rest."""

from datetime import date
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from nightscore.errors import SpecError
from nightscore.monitoring import business
from nightscore.monitoring.business import compute_metric
from nightscore.settings import Settings
from nightscore.spec.loader import load_spec
from nightscore.spec.metric_rules import columns_of_rows
from nightscore.spec.outcomes import BusinessMetric
from nightscore.spec.pipeline import Pipeline

SHOP = Path(__file__).parents[1] / "projects/shop/pipelines/visits.yaml"
ROWS = pl.DataFrame(
    {
        "score_date": [date(2024, 3, 9)] * 4,
        "score": [0.1, 0.2, 0.6, None],
        "decision": [True, False, True, False],
        "label": [0.0, 1.0, 1.0, None],
    }
)
COST = "sum(case when decision and label = 0 then 35 when not decision and label = 1 then 65 else 0 end)"


@pytest.fixture(scope="module")
def pipeline() -> Pipeline:
    return load_spec(SHOP)


def refusals(folder: Path, key: str, sql: str) -> tuple[str, ...]:
    """What the spec says of one metric, without the place in the file."""
    path = folder / "visits.yaml"
    path.write_text(f"{SHOP.read_text()}\nmetrics:\n  - name: made_up\n    {key}: |-\n      {sql}\n")
    try:
        load_spec(path)
    except SpecError as error:
        return tuple(one.split(": ", 1)[1] for one in error.found)
    return ()


@pytest.mark.parametrize(
    ("key", "sql"),
    [
        ("expression", "sum(score)"),
        ("expression", "count(*) filter (where decision)"),
        ("expression", "sum(case when decision then spend_tomorrow else 0 end) -- in euros"),
        ("expression", "quantile_cont(score, 0.5)"),
        ("expression", "list_sum(list_transform(list(score), one -> one * 2))"),
        ("expression", "sum(score) / (select max(score) from rows)"),
        ("sql", "select sum(score) from rows where city = 'Berlin'"),
        ("sql", "with berlin as (select * from rows where city = 'Berlin') select count(*) from berlin"),
    ],
)
def test_a_query_over_the_rows_is_accepted(tmp_path: Path, key: str, sql: str) -> None:
    assert refusals(tmp_path, key, sql) == ()


@pytest.mark.parametrize(
    ("key", "sql", "found"),
    [
        ("expression", "score", "found no aggregate"),
        ("expression", "sum(score), max(score)", "found several expressions"),
        ("expression", "sum(scores)", "found the column scores, expected one of score_date, score,"),
        ("expression", "1) from rows union select (2", "found several expressions"),
        ("expression", "1) from rows; select (2", "found 2 statements"),
        ("expression", "sum((select x from other))", "found a query of other, expected only rows to be read"),
        ("sql", "select 1; select 2", "found 2 statements, expected one select"),
        ("sql", "copy rows to 'x'", "found no query, expected one select"),
        ("sql", "drop table rows", "found no query"),
        ("sql", "insert into rows select * from rows", "found no query"),
        ("sql", "select count(*) from 'secrets.csv'", "found a query of"),
        ("sql", "select count(*) from read_csv('secrets.csv')", "found a query of READ_CSV"),
        ("sql", "select count(*) from mart.visits", "found a query of mart.visits"),
        ("sql", "select count( from rows", "found SQL that cannot be read"),
    ],
)
def test_anything_else_is_refused_with_the_line(tmp_path: Path, key: str, sql: str, found: str) -> None:
    (only,) = refusals(tmp_path, key, sql)
    assert only.startswith(f"metrics[0].{key}: {found}")


def test_the_rows_have_the_columns_that_the_spec_is_checked_with(pipeline: Pipeline) -> None:
    assert columns_of_rows(pipeline) == (
        "score_date", "score", "probability", "decision", "decision_reason", "rank", "decile", "model_version", "arm",
        "customer_id", "city", "spend_tomorrow", "label_source",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("metric", "value"),
    [
        ({"expression": COST}, 100.0),
        ({"expression": "count(*)"}, 4.0),
        ({"expression": "sum(score) -- a comment"}, 0.9),
        ({"expression": "bool_or(decision)"}, 1.0),
        ({"expression": "sum(score::decimal(4, 1))"}, 0.9),
        ({"expression": "sum(score) filter (where score > 1)"}, None),
        ({"expression": "sum(score) / count(*) filter (where label = 9)"}, None),
        ({"sql": "with yes as (select * from rows where decision) select avg(label) from yes"}, 0.5),
    ],
)
def test_a_metric_is_one_number_or_none(pipeline: Pipeline, metric: dict[str, Any], value: float | None) -> None:
    found = compute_metric(pipeline, BusinessMetric(name="made_up", **metric), ROWS, Settings())
    assert found == (None if value is None else pytest.approx(value, abs=1e-12))


def test_rows_may_come_in_any_order_and_may_be_none(pipeline: Pipeline) -> None:
    metric = BusinessMetric(name="cost", expression=COST)
    values = [compute_metric(pipeline, metric, rows, Settings()) for rows in (ROWS, ROWS.reverse(), ROWS.clear())]
    assert values == [100.0, 100.0, None]


@pytest.mark.parametrize(
    ("sql", "found"),
    [
        ("select score from rows", "it gives more than one row"),
        ("select score from rows where score > 1", "it gives 0 rows"),
        ("select 1, 2", "it gives 2 columns"),
        ("select max(score_date) from rows", "it gives date 2024-03-09"),
        ("select (1, 2)", "it gives tuple (1, 2)"),
        ("select sum(no_such_column) from rows", "Binder Error"),
        ("select error('no more')", "Invalid Input Error: no more"),
        ("select count(*) from read_csv('/etc/hostname')", "Permission Error"),
        ("select count(*) from pipeline", "Catalog Error"),
        ("set memory_limit = '90GB'", "Invalid Input Error: Cannot change configuration option"),
        ("copy rows to '/tmp/rows.csv'", "Permission Error"),
    ],
)
def test_a_metric_that_fails_names_itself_its_file_and_the_remedy(pipeline: Pipeline, sql: str, found: str) -> None:
    with pytest.raises(SpecError) as caught:
        compute_metric(pipeline, BusinessMetric(name="made_up", sql=sql), ROWS, Settings())
    error = caught.value
    assert (error.attempted, error.found[0].startswith(found)) == ("computing the metric made_up of visits", True)
    assert error.remedy == "correct metrics.made_up in pipelines/visits.yaml; no night was held back"


def test_a_metric_that_takes_too_long_is_ended(pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(business, "TIME_LIMIT_SECONDS", 0.2)
    endless = "select sum(a.i * b.i) from range(100000000) a(i), range(100000000) b(i)"
    with pytest.raises(SpecError, match="INTERRUPT"):
        compute_metric(pipeline, BusinessMetric(name="endless", sql=endless), ROWS, Settings())
