"""Stub until the real loader lands."""
import yaml
from pathlib import Path
from collections.abc import Collection
from nightscore.spec.pipeline import Pipeline

def load_spec(path: Path, dbt_models: Collection[str] | None = None) -> Pipeline:
    return Pipeline.model_validate(yaml.safe_load(path.read_text()))

def load_specs(folder: Path, dbt_folder: Path | None = None) -> dict[str, Pipeline]:
    return {p.stem: load_spec(p) for p in sorted(folder.glob("*.yaml"))}

def find_dbt_models(dbt_folder: Path, pipeline: str) -> frozenset[str]:
    return frozenset(p.stem for p in (dbt_folder / "models" / pipeline).rglob("*.sql"))
