"""Families of recipes: two versions of one family differ in their data and night alone, so one refreshes the other.

Added here: another ingredient that makes a recipe another one. Not here: what a refresh must show (`gate.py`).
"""

import hashlib
import json
from typing import Any

from nightscore.catalog.models import ModelVersion
from nightscore.features.dbt import dbt_files_hash
from nightscore.registry.locks import installed_versions
from nightscore.settings import Settings
from nightscore.spec.pipeline import Pipeline

NUMERIC_PACKAGES = ("duckdb", "lightgbm", "numpy", "polars", "pyarrow", "scikit-learn", "scipy")
"""Another release of one of these is another recipe, since it may give another model."""

_SPEC: dict[str, Any] = {
    # Found settings move with the data and baselines only measure, so neither makes a recipe another one.
    "training": {"tuning", "baselines"},
    "features": {"columns": {"__all__": {"title", "description", "segment", "sensitive"}}},
    "label": {"description"},
    "entity": {"description"},
}


def family_of(settings: Settings, pipeline: Pipeline) -> str:
    """SHA-256 of the recipe without data and date: what the spec learns and predicts, the SQL, and the packages."""
    parts = pipeline.model_dump(mode="json", include={*_SPEC, "task"}, exclude=_SPEC)
    # A cascade is its full model, evaluated for less: it must be not worse, and cannot be better.
    parts["training"]["algorithm"] = parts["training"]["algorithm"].get("full", parts["training"]["algorithm"])
    recipe = {"spec": parts, "sql": dbt_files_hash(settings, pipeline.name), "packages": numeric_releases()}
    return hashlib.sha256(json.dumps(recipe, sort_keys=True).encode()).hexdigest()


def numeric_releases() -> dict[str, str | None]:
    """The installed release of each of `NUMERIC_PACKAGES`; None where it is absent."""
    installed = installed_versions()
    return {name: installed.get(name) for name in NUMERIC_PACKAGES}


def allowance(champion: ModelVersion, challenger: ModelVersion) -> float:
    """The share of the loss that a challenger of the champion's family may cost for being cheaper to score with.

    0 where the champion is a cheaper one itself: a little given up each time would become much.
    """
    spared = [
        (version.metrics.get("slimming") or version.metrics.get("cascade") or {}).get("max_loss_share", 0.0)
        for version in (champion, challenger)
    ]
    return float(spared[1]) if is_refresh(champion, challenger) and not spared[0] else 0.0


def is_refresh(champion: ModelVersion, challenger: ModelVersion) -> bool:
    """Whether both are of one known family."""
    return champion.family is not None and champion.family == challenger.family
