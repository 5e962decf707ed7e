"""Specs from YAML: every fault is found at once and named by line, and nothing is read in two ways."""

import copy
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nightscore.errors import SpecError
from nightscore.spec.loader import MAX_BYTES, find_dbt_models, load_spec, load_specs
from nightscore.spec.pipeline import Pipeline
from nightscore.spec.yaml_nodes import read_yaml, resolve_scalar

ROOT = Path(__file__).parents[2]
CASES = sorted((ROOT / "tests/golden/spec_errors").glob("*.yaml"))
MODELS = {"shop_features", "shop_labels"}
SHOP: dict[str, Any] = {
    "name": "shop",
    "description": "Chance that a customer buys within 30 days",
    "owner": "team:sales",
    "task": "binary",
    "entity": {"name": "customer", "key": ["customer"]},
    "score_dates": {"start": "2013-01-01", "end": "2013-12-31", "timezone": "Europe/London"},
    "sources": {
        "orders": {
            "type": "file",
            "path": "orders.csv",
            "key": ["customer"],
            "event_date": "ordered_on",
            "columns": [{"name": "customer", "type": "integer"}, {"name": "kind", "type": "string"}],
            "expectations": [{"type": "in_set", "column": "kind", "values": ["NO", "012", 7]}],
        }
    },
    "features": {"model": "shop_features", "columns": [{"name": "orders", "type": "integer"}]},
    "label": {"model": "shop_labels", "column": "bought", "horizon_days": 30},
    "training": {"window_days": 90, "algorithm": {"type": "lightgbm"}, "baselines": [{"type": "linear", "l2": 1}]},
    "decision": {"rule": {"type": "threshold", "value": 0.5}},
}
in_one_folder = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=25)


def write(folder: Path, content: object, name: str = "shop") -> Path:
    path = folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump(content, sort_keys=False, allow_unicode=True), encoding="utf-8")
    return path


def findings_of(load: Callable[[], object]) -> list[str]:
    """Every finding, its path shortened to the name of the file."""
    with pytest.raises(SpecError) as caught:
        load()
    return [line[line.partition(":")[0].rfind("/") + 1 :] for line in caught.value.found]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.stem)
def test_a_faulty_spec_gets_exactly_these_findings(case: Path) -> None:
    expected = case.with_suffix(".expected").read_text(encoding="utf-8").splitlines()
    assert findings_of(lambda: load_spec(case, MODELS)) == expected


def test_every_golden_case_has_its_findings() -> None:
    assert {case.stem for case in CASES} == {path.stem for path in CASES[0].parent.glob("*.expected")}
    assert len(CASES) >= 25


def test_the_example_pipeline_is_valid_with_its_sql() -> None:
    assert "flight_delay" in load_specs(ROOT / "pipelines", ROOT / "dbt")


def test_a_missing_file_is_a_finding(tmp_path: Path) -> None:
    expected = "absent.yaml:1: found no readable file (No such file or directory), expected a YAML file"
    assert findings_of(lambda: load_spec(tmp_path / "absent.yaml")) == [expected]


def test_a_file_over_256_kib_is_refused_and_one_of_exactly_that_size_is_read(tmp_path: Path) -> None:
    path = write(tmp_path, SHOP)
    path.write_bytes(path.read_bytes().ljust(MAX_BYTES, b"\n"))
    assert load_spec(path).name == "shop"
    path.write_bytes(path.read_bytes() + b"\n")
    assert findings_of(lambda: load_spec(path)) == ["shop.yaml:1: found 262,145 bytes, expected at most 262,144"]


def test_all_files_report_at_once_and_a_name_must_be_that_of_its_file(tmp_path: Path) -> None:
    write(tmp_path, {**SHOP, "name": "b", "task": "rank"}, "b")
    write(tmp_path, SHOP, "a")
    (tmp_path / "c.yml").write_text("", encoding="utf-8")
    assert findings_of(lambda: load_specs(tmp_path)) == [
        "c.yml:1: found the suffix .yml, expected .yaml",
        "a.yaml:1: name: found 'shop', expected 'a', the name of the file",
        "b.yaml:4: task: found 'rank', expected 'binary' or 'regression'",
    ]


def test_specs_come_sorted_by_name(tmp_path: Path) -> None:
    for name in ("b", "a"):
        write(tmp_path, {**SHOP, "name": name}, name)
    assert list(load_specs(tmp_path)) == ["a", "b"]


def test_dbt_models_are_those_of_the_pipeline_alone(tmp_path: Path) -> None:
    for file in ("shop/features/shop_features.sql", "shop/shop_labels.sql", "shop/notes.yml", "other/x.sql"):
        (tmp_path / "models" / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "models" / file).touch()
    assert find_dbt_models(tmp_path, "shop") == MODELS
    assert find_dbt_models(tmp_path, "absent") == frozenset()


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("true", True), ("false", False), ("null", None), ("~", None), ("", None),
        ("0", 0), ("-7", -7), ("+7", 7), ("0.05", 0.05), ("1.0e-2", 0.01), ("-1.", -1.0),
        ("yes", "yes"), ("no", "no"), ("on", "on"), ("off", "off"), ("True", "True"), ("NULL", "NULL"),
        ("012", "012"), ("0o14", "0o14"), ("0x1F", "0x1F"), ("1_000", "1_000"), ("12:30", "12:30"), ("1e5", "1e5"),
        (".inf", ".inf"), (".nan", ".nan"), ("1.0e+999", "1.0e+999"), ("5.6e-245", 5.6e-245),
        ("2013-01-01", "2013-01-01"), ("9" * 19, "9" * 19),
    ],
)  # fmt: skip
def test_a_plain_word_is_typed_only_where_all_versions_of_yaml_agree(text: str, value: object) -> None:
    read = resolve_scalar(text, quoted=False)
    assert (read, type(read)) == (value, type(value))
    assert resolve_scalar(text, quoted=True) == text


def test_an_alias_bomb_is_never_expanded() -> None:
    lines = ["a0: &a0 [x, x]", *(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 40))]
    document = read_yaml("\n".join(lines))
    assert len(document.faults) == 40 + 39 * 9


@pytest.mark.parametrize("opening", ["[", "- ", "{a: ", "? ", "{<<: ", "{[a]: ", "&a [", "!t {a: "])
def test_nesting_as_deep_as_a_file_allows_is_one_more_finding(opening: str) -> None:
    document = read_yaml(opening * (MAX_BYTES // len(opening)))
    assert not document.whole
    assert document.faults[-1].found == "nesting too deep to read"


def _shuffled(value: object, order: random.Random) -> object:
    if isinstance(value, dict):
        keys = order.sample(sorted(value), len(value))
        return {key: _shuffled(value[key], order) for key in keys}
    return [_shuffled(item, order) for item in value] if isinstance(value, list) else value


@given(order=st.randoms(use_true_random=False))
@in_one_folder
def test_the_order_of_keys_means_nothing(tmp_path: Path, order: random.Random) -> None:
    assert load_spec(write(tmp_path, _shuffled(SHOP, order))) == load_spec(write(tmp_path, SHOP))


PRINTABLE = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=30)
TRAPS = st.sampled_from(["no", "012", "1e5", "12:30", "2013-01-01", "null", "~", "true", "<<", "=", "- a", "a: b", "#"])


@given(
    description=PRINTABLE | TRAPS,
    values=st.lists(PRINTABLE | TRAPS | st.integers(-(10**17), 10**17), min_size=1, max_size=4),
    low=st.floats(-1e30, 1e30),
    end=st.dates(min_value=yaml.safe_load("2013-01-01")) | st.none(),
    rule=st.builds(lambda k: {"type": "top_k", "k": k}, st.integers(1, 10**6)) | st.just(SHOP["decision"]["rule"]),
)
@in_one_folder
def test_a_spec_survives_being_written_and_read(
    tmp_path: Path, description: str, values: list[object], low: float, end: object, rule: dict[str, object]
) -> None:
    shop = copy.deepcopy(SHOP)
    shop["description"] = description
    shop["sources"]["orders"]["expectations"][0]["values"] = values
    shop["score_dates"]["end"] = end
    shop["decision"] = {"rule": rule, "score_min": low}
    spec = Pipeline.model_validate(shop)
    assert load_spec(write(tmp_path, spec.model_dump(mode="json"))) == spec


def _paths(value: object, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    steps = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(inner for step, item in steps for inner in _paths(item, (*path, step)))]


JUNK = st.none() | st.booleans() | st.integers(-9, 10**6) | st.floats(-9, 9) | PRINTABLE | TRAPS
MAPPINGS = st.dictionaries(st.text("abty", min_size=1, max_size=4), JUNK, max_size=2)


@given(where=st.sampled_from(_paths(SHOP)[1:]), junk=JUNK | st.lists(JUNK, max_size=2) | MAPPINGS)
@settings(in_one_folder, max_examples=120)
def test_whatever_is_wrong_is_named_where_it_is_in_plain_words(
    tmp_path: Path, where: tuple[Any, ...], junk: object
) -> None:
    shop = copy.deepcopy(SHOP)
    parent: Any = shop
    for step in where[:-1]:
        parent = parent[step]
    parent[where[-1]] = junk
    path = write(tmp_path, shop)
    lines = len(path.read_text(encoding="utf-8").splitlines())
    for finding in _findings_if_any(path):
        assert 1 <= int(finding.split(":")[1]) <= lines
        assert "\n" not in finding
        assert "Input should" not in finding


def _findings_if_any(path: Path) -> tuple[str, ...]:
    try:
        load_spec(path, MODELS)
    except SpecError as error:
        return error.found
    return ()
