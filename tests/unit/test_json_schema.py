"""The JSON Schema for editors: current, valid in itself, and of one mind with the loader on types and keys."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from nightscore.spec.json_schema import json_schema, render_json_schema

ROOT = Path(__file__).parents[2]
jsonschema = pytest.importorskip("jsonschema")


@pytest.fixture(scope="module")
def validator() -> Any:
    return jsonschema.Draft202012Validator(json_schema())


def _read(path: Path) -> object:
    return yaml.load(path.read_text(encoding="utf-8"), Loader=yaml.BaseLoader)


def test_the_schema_in_docs_is_current() -> None:
    assert (ROOT / "docs/pipeline.schema.json").read_text(encoding="utf-8") == render_json_schema()


def test_the_schema_is_valid_draft_2020_12() -> None:
    schema = json_schema()
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    jsonschema.Draft202012Validator.check_schema(schema)


def test_rendering_twice_gives_the_same_text_with_one_final_newline() -> None:
    text = render_json_schema()
    assert text == render_json_schema()
    assert text.endswith("}\n")
    assert json.loads(text) == json_schema()


def test_every_part_of_a_spec_is_described() -> None:
    parts: Any = json_schema()["$defs"]
    assert [name for name, part in parts.items() if not part.get("description")] == []


def test_the_example_fits_the_schema(validator: Any) -> None:
    from nightscore.spec.yaml_nodes import read_yaml

    example = read_yaml((ROOT / "pipelines/flight_delay.yaml").read_text(encoding="utf-8"))
    assert [error.message for error in validator.iter_errors(example.data)] == []


@pytest.mark.parametrize("case", ["label_without_a_horizon", "unknown_keys", "irreproducible_training", "bad_names"])
def test_an_editor_sees_faults_of_keys_and_types_too(case: str, validator: Any) -> None:
    faulty = _read(ROOT / f"tests/golden/spec_errors/{case}.yaml")
    assert not validator.is_valid(faulty)
