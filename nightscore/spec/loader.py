"""YAML files to specs, or one error that names every finding of every file.

Added here: a check that needs the file itself or the SQL beside it. Not here: notation (`yaml_nodes.py`), the wording
of findings (`translation.py`), rules of a section (`section_rules.py`) or between sections (`pipeline.py`).
"""

import json
from collections.abc import Collection, Iterator
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from nightscore.errors import SpecError
from nightscore.spec.learning_rules import check_learning
from nightscore.spec.metric_rules import check_metrics
from nightscore.spec.pipeline import Finding, Pipeline, check_sections
from nightscore.spec.section_rules import check_each_section
from nightscore.spec.sources import Source
from nightscore.spec.translation import translate
from nightscore.spec.yaml_nodes import Document, Fault, read_yaml, shorten, show

MAX_BYTES = 256 * 1024
REMEDY = "correct the lines named; `nightscore schema` prints what a spec may say"


def load_spec(path: Path, dbt_models: Collection[str] | None = None) -> Pipeline:
    """The spec in `path`; SpecError names every finding as `file:line: key path: found …, expected …`.

    With `dbt_models`, the names of the pipeline's SQL models, unknown models are findings too.
    """
    spec, faults = _read(path, dbt_models)
    if spec is None or faults:
        raise _refusal([path], [fault.render(_shown(path)) for fault in faults])
    return spec


def load_specs(folder: Path, dbt_folder: Path | None = None) -> dict[str, Pipeline]:
    """Every `*.yaml` of `folder` by name, sorted; SpecError names every finding of every file."""
    specs: dict[str, Pipeline] = {}
    findings = [f"{_shown(path)}:1: found the suffix .yml, expected .yaml" for path in sorted(folder.glob("*.yml"))]
    paths = sorted(folder.glob("*.yaml"))
    for path in paths:
        models = None if dbt_folder is None else find_dbt_models(dbt_folder, path.stem)
        spec, faults = _read(path, models)
        findings += [fault.render(_shown(path)) for fault in faults]
        if spec is not None:
            specs[path.stem] = spec
    if findings:
        raise _refusal(paths, findings)
    return specs


def find_dbt_models(dbt_folder: Path, pipeline: str) -> frozenset[str]:
    """The names of the SQL models of a pipeline, from the files alone."""
    return frozenset(path.stem for path in (dbt_folder / "models" / pipeline).rglob("*.sql"))


def _read(path: Path, dbt_models: Collection[str] | None) -> tuple[Pipeline | None, list[Fault]]:
    try:
        content = path.read_bytes()
    except OSError as error:
        return None, [Fault(1, (), f"no readable file ({error.strerror})", "a YAML file")]
    if len(content) > MAX_BYTES:
        return None, [Fault(1, (), f"{len(content):,} bytes", f"at most {MAX_BYTES:,}")]
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        return None, [Fault(line, (), "bytes that are not UTF-8", "UTF-8 text")]
    document = read_yaml(text)
    if not document.whole:
        return None, document.faults
    return _validate(document, path, dbt_models)


def _validate(
    document: Document, path: Path, dbt_models: Collection[str] | None
) -> tuple[Pipeline | None, list[Fault]]:
    try:
        # Strict JSON takes lists for tuples and ISO text for dates, and nothing else for anything else.
        spec = Pipeline.model_validate_json(json.dumps(document.data), strict=True)
    except ValidationError as error:
        rest = _salvage(document.data)
        return None, _located(document, [*translate(error), *_check(rest, path, dbt_models)])
    return spec, _located(document, _check(spec, path, dbt_models))


def _check(spec: Pipeline, path: Path, dbt_models: Collection[str] | None) -> list[Finding]:
    rules = (check_sections, check_each_section, check_learning, check_metrics)
    findings = [*(found for rule in rules for found in rule(spec)), *_check_files(spec, path, dbt_models)]
    return [(where, shorten(found), expected) for where, found, expected in findings]


def _salvage(data: object) -> Pipeline:
    """The sections of a faulty spec that are valid by themselves, so that rules between them are checked too."""
    given = data if isinstance(data, dict) else {}
    valid: dict[str, Any] = {}
    for name in given.keys() & Pipeline.model_fields.keys():
        field = Pipeline.model_fields[name]
        if found := _valid(field.rebuild_annotation(), given[name]):
            valid[name] = found[0]
    if "sources" in given and "sources" not in valid and isinstance(given["sources"], dict):
        one_by_one = ((name, _valid(Source, source)) for name, source in given["sources"].items())
        valid["sources"] = {name: found[0] for name, found in one_by_one if found}
    return Pipeline.model_construct(**valid)


def _valid(kind: Any, value: object) -> list[Any]:
    adapter: TypeAdapter[Any] = TypeAdapter(kind)
    try:
        return [adapter.validate_json(json.dumps(value), strict=True)]
    except ValidationError:
        return []


def _in_hole(document: Document, finding: Finding) -> bool:
    """Whether a finding only repeats a fault of notation, whose value could not be used."""
    return any(finding[0][: len(hole)] == hole for hole in document.holes)


def _located(document: Document, findings: list[Finding]) -> list[Fault]:
    usable = [finding for finding in findings if not _in_hole(document, finding)]
    found = [Fault(document.line_of(where), where, found, expected) for where, found, expected in usable]
    return sorted([*document.faults, *found], key=lambda fault: fault.line)


def _check_files(spec: Pipeline, path: Path, dbt_models: Collection[str] | None) -> Iterator[Finding]:
    there = vars(spec)
    if "name" in there and spec.name != path.stem:
        yield ("name",), show(spec.name), f"{path.stem!r}, the name of the file"
    if dbt_models is None:
        return
    for section in ("features", "label"):
        if section in there and (model := there[section].model) not in dbt_models:
            close = get_close_matches(model, dbt_models, n=1)
            known = f"did you mean {close[0]}?" if close else f"models are: {', '.join(sorted(dbt_models)) or 'none'}"
            yield (section, "model"), show(model), f"a model under dbt/models/{path.stem}; {known}"


def _shown(path: Path) -> str:
    return f"{path.parent.name}/{path.name}"


def _refusal(paths: list[Path], findings: list[str]) -> SpecError:
    named = str(paths[0]) if len(paths) == 1 else f"{len(paths)} specs"
    return SpecError(f"Reading {named}", findings, REMEDY)
