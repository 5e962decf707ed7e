"""Which SQL can promise one result: every rule, and the column that a finding names."""

from collections.abc import Iterator

import pytest

from nightscore.features.determinism import Finding, Model, find_in
from nightscore.features.undetermined import NEED_ORDER, NEVER, SUMS

SOURCES = {
    "visits": {
        "customer_id": "BIGINT", "age": "INTEGER", "spend": "DOUBLE", "amount": "DECIMAL(18,4)", "city": "VARCHAR",
        "seen": "TIMESTAMP WITH TIME ZONE", "bought": "BOOLEAN", "known_on": "DATE",
    }
}  # fmt: skip


def find(*queries: str) -> list[Finding]:
    """The findings of models m1, m2, ..., each of one query."""
    return find_in([Model("features", f"m{at}", sql) for at, sql in enumerate(queries, 1)], SOURCES)


def columns(*queries: str) -> list[str]:
    return [f"{one.model}.{one.column}" for one in find(*queries)]


def aggregate(expression: str) -> str:
    return f"select customer_id, {expression} as x from clean.visits group by customer_id"


@pytest.mark.parametrize(
    "expression",
    [
        "sum(age)", "avg(age)", "sum(amount)", "avg(amount)", "mean(amount)", "sum(bought)", "sum(amount * age)",
        "sum(amount * 0.5)", "sum(age * 0.5)", "sum(cast(spend as decimal(18, 4)))", "sum(round(amount, 2))",
        "sum(case when bought then 1 else 0 end)", "sum(distinct age)", "sum(age) filter (where spend > 1.5)",
        "sum(spend order by known_on, seen)", "avg(spend order by seen) filter (where bought)",
        "stddev(spend order by seen)", "list(city order by seen)", "string_agg(city, ',' order by seen)",
        "percentile_cont(0.5) within group (order by spend)", "first(city order by seen)",
        "any_value(city order by seen)", "arg_max(city, age order by seen)",
        "mode(city order by city)", "count(*)", "count(distinct city)",
        "min(spend)", "max(spend)", "max(spend) - min(spend)", "median(spend)", "mad(spend)",
        "quantile_cont(spend, 0.9)", "quantile_disc(spend, 0.9)", "bool_and(bought)", "bool_or(bought)",
        "count_if(bought)", "bit_xor(age)", "histogram(age)", "regr_count(spend, age)", "sum(year(known_on))",
        "sum(date_diff('day', known_on, date '2024-03-01'))", "avg(known_on)",
        "cast(sum(age) as double) / nullif(count(age), 0)", "sum(length(city))", "sum(coalesce(age, 0))",
    ],
)  # fmt: skip
def test_exact_or_ordered_aggregates_are_no_findings(expression: str) -> None:
    assert find(aggregate(expression)) == []


@pytest.mark.parametrize(
    "expression",
    [
        "sum(spend)", "avg(spend)", "mean(spend)", "avg(spend) filter (where bought)", "sum(distinct spend)",
        "sum(amount * spend)", "sum(amount / 2)", "sum(age / 2)", "sum(age * 1e0)", "sum(spend::float)",
        "sum(extract(epoch from seen))", "sum(coalesce(age, spend))", "sum(case when bought then 1 else spend end)",
        "sum(greatest(age, spend))", "sum(round(spend, 2))", "sum(sqrt(age))", "sum(ln(amount))", "sum(-spend)",
        "avg(cast(age as uhugeint))", "sum(cast(age as uhugeint))", "2 * sum(spend) / count(*)",
        "stddev(spend)", "stddev(age)", "variance(amount)", "var_pop(age)", "corr(age, amount)",
        "regr_slope(age, amount)", "regr_sxy(age, amount)", "fsum(amount)", "favg(amount)", "kahan_sum(spend)",
        "kurtosis(age)", "skewness(age)", "product(age)", "entropy(age)", "covar_pop(age, age)", "geomean(spend)",
        "weighted_avg(spend, age)", "first(city)", "last(city)", "any_value(city)", "arbitrary(city)",
        "arg_max(city, age)", "arg_min(city, age)", "max_by(city, age)", "min_by(city, age)", "mode(city)",
        "mode() within group (order by city)", "list(city)", "array_agg(city)", "string_agg(city, ',')",
        "group_concat(city)", "listagg(city, ',')", "approx_count_distinct(city)", "approx_quantile(spend, 0.5)",
        "approx_quantile(spend, 0.5 order by seen)", "reservoir_quantile(spend, 0.5)", "max(random())", "max(uuid())",
        "max(gen_random_uuid())", "max(now())", "max(current_date)", "max(current_timestamp)", "max(today())",
        "max(age(seen::timestamp))", "max(current_localtimestamp())", "min(get_current_timestamp())",
    ],
)  # fmt: skip
def test_what_may_differ_is_a_finding_of_its_column(expression: str) -> None:
    assert columns(aggregate(expression)) == ["m1.x"]


@pytest.mark.parametrize(
    ("call", "expected"),
    [
        ("sum(age) over (partition by city)", []),
        ("count(*) over (partition by city)", []),
        ("rank() over (order by age)", []),
        ("dense_rank() over (partition by city)", []),
        ("sum(spend) over (partition by city order by seen)", []),
        ("sum(spend) over (partition by city)", ["m1.x"]),
        ("avg(spend) over ()", ["m1.x"]),
        ("avg(spend) filter (where bought) over (partition by city)", ["m1.x"]),
        *((f"{call} over (partition by city)", ["m1.x"]) for call in ("row_number()", "ntile(4)", "lag(age)")),
        *((f"{call} over (partition by city order by seen)", []) for call in ("row_number()", "ntile(4)", "lag(age)")),
        *((f"{call}(spend) over (partition by city)", ["m1.x"]) for call in ("lead", "first_value", "last_value")),
        ("nth_value(spend, 2) over (partition by city)", ["m1.x"]),
        ("first_value(spend ignore nulls) over (partition by city order by seen)", []),
        ("first_value(spend order by seen) over (partition by city)", []),
        ("row_number() over ordered", []),
        ("row_number() over grouped", ["m1.x"]),
        ("row_number() over (grouped order by seen)", []),
    ],
)
def test_windows_that_count_rows_or_add_floats_need_an_order(call: str, expected: list[str]) -> None:
    named = "window ordered as (partition by city order by seen), grouped as (partition by city)"
    assert columns(f"select customer_id, {call} as x from clean.visits {named}") == expected


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("select age from clean.visits limit 3", ["m1.*"]),
        ("select age from clean.visits order by age limit 3", []),
        ("select age from clean.visits offset 3", ["m1.*"]),
        ("(select age from clean.visits) union all (select age from clean.visits) limit 3", ["m1.*"]),
        ("with few as (select age from clean.visits limit 3) select age from few", ["m1.few.*"]),
        ("select age from (select age from clean.visits limit 3) as few", ["m1.few.*"]),
        ("select (select age from clean.visits limit 1) as any_age", ["m1.any_age"]),
        ("select 1 as one where exists (select 1 from clean.visits limit 1)", []),
        ("select distinct on (city) city, age from clean.visits", ["m1.*"]),
        ("select distinct on (city) city, age from clean.visits order by city", ["m1.*"]),
        ("select distinct on (city) city, age from clean.visits order by city, seen", []),
        ("select distinct city from clean.visits", []),
        ("select age from clean.visits using sample 10%", ["m1.*"]),
        ("select age from clean.visits tablesample 10%", ["m1.*"]),
        ("select a.age from clean.visits as a positional join clean.visits as b", ["m1.*"]),
        ("select age from clean.visits where random() < 0.5", ["m1.*"]),
        ("select age from clean.visits qualify row_number() over (partition by city) = 1", ["m1.*"]),
        ("select age from clean.visits qualify row_number() over (partition by city order by seen) = 1", []),
    ],
)
def test_clauses_that_choose_rows_by_chance_are_findings(query: str, expected: list[str]) -> None:
    assert columns(query) == expected


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("with s as (select city, avg(spend) as a, sum(age) as n from clean.visits group by all) "
         "select city, a as mean, 2 * a as twice, n from s", ["m1.mean", "m1.twice"]),
        ("with s as (select city, avg(spend) as a from clean.visits group by all), t as (select * from s) "
         "select * from t order by all", ["m1.a"]),
        ("with s as (select city, avg(spend) as a from clean.visits group by all) select city from s where a > 1",
         ["m1.s.a"]),
        ("select s.* from (select city, avg(spend) as a from clean.visits group by all) as s", ["m1.a"]),
        ("select city, (select avg(spend) from clean.visits) as overall from clean.visits", ["m1.overall"]),
        ("select city as k, age as x from clean.visits union all select city, sum(spend) from clean.visits group by 1",
         ["m1.x"]),
        ("with u as (select age as x from clean.visits union all select avg(spend) from clean.visits) "
         "select x + 1 as y from u", ["m1.y"]),
        ("with s as (select avg(spend) as a from clean.visits) select age, (select a from s) as b from clean.visits",
         ["m1.b"]),
        ("with recursive r as (select 1 as n, 0 as x union all select n + 1, x from r where n < 3) "
         "select sum(n) as total, avg(x) as mean from r", []),
        ("select v.city, l.total, l.exact from (select distinct city from clean.visits) as v left join lateral "
         "(select sum(w.spend) as total, sum(w.amount) as exact from clean.visits as w where w.city = v.city) as l "
         "on true", ["m1.total"]),
        ("select city, sum(sum(amount)) over () as x, sum(sum(spend) ) over () as y from clean.visits group by city",
         ["m1.y"]),
    ],
)  # fmt: skip
def test_a_finding_names_the_output_columns_that_carry_it(query: str, expected: list[str]) -> None:
    assert list(dict.fromkeys(columns(query))) == expected


def test_types_are_followed_from_model_to_model() -> None:
    halves = "select city, amount, cast(amount as double) / 2 as half from clean.visits"
    sums = "select city, sum(half) as halves, sum(amount) as amounts from features.m1 group by city"
    assert columns(halves, sums) == ["m2.halves"]


def test_a_finding_says_what_why_and_what_to_write() -> None:
    assert find(aggregate("avg(spend)")) == [
        Finding(
            "m1", "x", "avg(visits.spend)",
            "floating-point sums depend on the order of the rows, which changes with the threads "
            "(its argument is DOUBLE)",
            "cast the argument to decimal (macro exact), or say ORDER BY and a unique key inside the call",
        )
    ]  # fmt: skip


@pytest.mark.parametrize(
    "sql", ["select nothing from clean.visits", "select from from", "from read_csv('x.csv')", None]
)
def test_a_model_that_cannot_be_read_is_a_finding(sql: str | None) -> None:
    found = find_in([Model("features", "m1", sql), Model("features", "m2", "select 1 as one")], SOURCES)
    assert [(one.model, one.column) for one in found] == [("m1", "*")]


DETERMINED = """
    bit_and bit_or bit_xor bitstring_agg bool_and bool_or count count_if count_star countif histogram histogram_exact
    mad max median min quantile quantile_cont quantile_disc regr_count
"""
OF_THE_DEPLOYMENT = "current_database current_schema current_schemas error in_search_path sleep_ms write_log"


def _functions(where: str) -> Iterator[str]:
    import duckdb

    with duckdb.connect() as database:
        rows = database.execute(f"select distinct function_name from duckdb_functions() where {where}").fetchall()
    yield from (name for (name,) in rows)


def test_the_rules_know_every_aggregate_of_the_installed_duckdb() -> None:
    known = SUMS | set(NEED_ORDER) | set(NEVER) | set(DETERMINED.split())
    assert set(_functions("function_type = 'aggregate'")) - known == set()


def test_the_rules_know_every_volatile_function_of_the_installed_duckdb() -> None:
    volatile = set(_functions("function_type = 'scalar' and stability <> 'CONSISTENT'"))
    assert volatile - set(NEVER) - set(OF_THE_DEPLOYMENT.split()) == set()
