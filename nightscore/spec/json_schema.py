"""The JSON Schema of a pipeline spec, for editors; kept in `docs/pipeline.schema.json`.

Added here: what an editor needs beyond the models. Not here: rules that a schema cannot say (`pipeline.py`).
"""

import json
from typing import Any

from nightscore.spec.pipeline import Pipeline

DIALECT = "https://json-schema.org/draft/2020-12/schema"


def json_schema() -> dict[str, object]:
    """The schema, draft 2020-12; descriptions are the docstrings of the models."""
    schema: dict[str, Any] = Pipeline.model_json_schema()
    return {"$schema": DIALECT, **schema, "title": "Nightscore pipeline"}


def render_json_schema() -> str:
    """The schema as stable text: keys in declared order, two spaces, a final newline."""
    return json.dumps(json_schema(), indent=2, ensure_ascii=False) + "\n"
