"""`nightscore validate` and `schema`: the spec as a person and as an editor check it; and specs by name.

Added here: a command about specs. Not here: a rule of the spec.
"""

import sys
from pathlib import Path
from typing import Annotated

import typer

from nightscore.errors import SpecError
from nightscore.settings import Settings
from nightscore.spec.pipeline import Pipeline
from orchestration.cli.output import JSON_OPTION, print_json


def find_pipeline(settings: Settings, name: str) -> Pipeline:
    """The spec of one pipeline, checked with its SQL; SpecError lists the pipelines that exist."""
    from nightscore.scoring.decide import check_decision
    from nightscore.spec.loader import find_dbt_models, load_spec
    from nightscore.training.rule import check_rule

    require_pipeline_name(settings, name)
    pipeline = load_spec(settings.pipelines_path / f"{name}.yaml", find_dbt_models(settings.dbt_path, name))
    check_decision(pipeline)
    check_rule(pipeline)
    return pipeline


def require_pipeline_name(settings: Settings, name: str) -> None:
    """Nothing when there is such a pipeline, else a SpecError that lists those there are."""
    known = sorted(path.stem for path in settings.pipelines_path.glob("*.yaml"))
    if name not in known:
        found = f"there is no {settings.pipelines_path / name}.yaml; pipelines are: {', '.join(known) or 'none'}"
        raise SpecError(f"Finding pipeline {name}", found, "check the name")


def parse_version(text: str) -> tuple[str, int]:
    """`pipeline@7` as its two parts."""
    name, at, number = text.partition("@")
    if not (name and at and number.isdigit()):
        raise SpecError("Reading the version", f"found {text!r}", "write it as pipeline@number: flight_delay@1")
    return name, int(number)


def validate(
    file: Annotated[Path | None, typer.Argument(help="One spec; every spec under pipelines/ when absent.")] = None,
    as_json: Annotated[bool, JSON_OPTION] = False,
) -> None:
    """Check specs against the schema, themselves and the SQL they name; every finding at once.

    SQL whose result may differ from run to run is refused too, naming the model and the column.
    """
    from nightscore.features.determinism import require_determined
    from nightscore.scoring.decide import check_decision
    from nightscore.spec.loader import find_dbt_models, load_spec, load_specs
    from nightscore.training.rule import check_rule

    settings = Settings()
    if file is not None:
        loaded = {file.stem: load_spec(file, find_dbt_models(settings.dbt_path, file.stem))}
    else:
        loaded = load_specs(settings.pipelines_path, settings.dbt_path)
    for pipeline in loaded.values():
        check_decision(pipeline)
        check_rule(pipeline)
        require_determined(settings, pipeline)
    if as_json:
        print_json([pipeline.model_dump(mode="json") for pipeline in loaded.values()])
        return
    for name, pipeline in loaded.items():
        columns = len(pipeline.features.columns)
        sys.stdout.write(f"{name}: valid; {len(pipeline.sources)} sources, {columns} features, {pipeline.task}\n")


def schema() -> None:
    """Print the JSON Schema of a pipeline spec, for editors."""
    from nightscore.spec.json_schema import render_json_schema

    sys.stdout.write(render_json_schema())
