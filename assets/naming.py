"""Asset keys, groups and what every asset says of itself: owner, kinds, table schema.

Added here: an attribute that all assets of a pipeline share. Not here: an asset.
"""

from typing import Any

import dagster as dg

from nightscore.spec.pipeline import Pipeline
from orchestration.partitions import partitions_of


def key_of(pipeline: Pipeline, name: str) -> dg.AssetKey:
    """`<pipeline>/<name>`."""
    return dg.AssetKey([pipeline.name, name])


def daily_spec(pipeline: Pipeline, name: str, description: str, **more: Any) -> dg.AssetSpec:
    """The spec of an asset with one partition a night; its metadata links to the pipeline's spec and SQL."""
    links = {
        "spec": dg.MetadataValue.path(f"pipelines/{pipeline.name}.yaml"),
        "sql": dg.MetadataValue.path(f"dbt/models/{pipeline.name}"),
    }
    return dg.AssetSpec(
        key_of(pipeline, name), description=description, group_name=pipeline.name, owners=[pipeline.owner],
        partitions_def=partitions_of(pipeline), metadata=links | more.pop("metadata", {}), **more,
    )  # fmt: skip


def table_schema(columns: list[tuple[str, str, str]]) -> dict[str, dg.TableSchema]:
    """Asset metadata that shows columns as (name, type, description)."""
    listed = [dg.TableColumn(name, kind, description=about or None) for name, kind, about in columns]
    return {"dagster/column_schema": dg.TableSchema(listed)}
