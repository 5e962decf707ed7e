"""The marts over all pipelines: dbt models on Postgres, with their tests as asset checks."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import dagster as dg
from dagster_dbt import DagsterDbtTranslator, DbtProject, dbt_assets

from nightscore.spec.pipeline import Pipeline
from orchestration.resources import Engine


class MartTranslator(DagsterDbtTranslator):
    """Marts stand in a group of their own, downstream of every published table."""

    def __init__(self, pipelines: Sequence[Pipeline]) -> None:
        super().__init__()
        self._published = [dg.AssetKey([pipeline.name, "published"]) for pipeline in pipelines]

    def get_asset_spec(self, manifest: object, unique_id: str, project: DbtProject | None) -> dg.AssetSpec:
        """The mart's spec, with its real inputs instead of the catalog's tables."""
        spec = super().get_asset_spec(manifest, unique_id, project)  # type: ignore[arg-type]
        named = spec.replace_attributes(key=dg.AssetKey(["bi", spec.key.path[-1]]), group_name="bi")
        return named.replace_attributes(deps=self._published, kinds={"dbt", "postgres", "view"})


def build_marts(pipelines: Sequence[Pipeline], manifest: Path) -> dg.AssetsDefinition:
    """The mart assets, from dbt's manifest."""

    @dbt_assets(
        manifest=manifest, select="nightscore.marts", name="marts", dagster_dbt_translator=MartTranslator(pipelines)
    )
    def mart_assets(
        context: dg.AssetExecutionContext, engine: Engine
    ) -> Iterator[dg.MaterializeResult | dg.AssetCheckResult]:
        from nightscore.publishing.marts import build_marts as build

        for node in build(engine.workspace()):
            key = dg.AssetKey(["bi", node.model])
            if node.kind == "model":
                yield dg.MaterializeResult(asset_key=key, metadata={"dbt_seconds": node.seconds})
            else:
                yield dg.AssetCheckResult(asset_key=key, check_name=node.name, passed=node.status == "pass")

    return mart_assets
