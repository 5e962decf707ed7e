"""The code location that `workspace.yaml` names. Loads the specs and builds; nothing else happens here."""

import dagster as dg

from nightscore.features.dbt import ensure_manifest_file
from nightscore.settings import Settings
from nightscore.spec.loader import load_specs
from orchestration.build import build_definitions


@dg.definitions
def defs() -> dg.Definitions:
    """All pipelines of the deployment."""
    settings = Settings()
    return build_definitions(load_specs(settings.pipelines_path), ensure_manifest_file(settings, "marts"))
