"""One asset a source: the rows that passed its gate; the bad ones are quarantined, a bad night is not readable."""

from collections.abc import Iterator

import dagster as dg

from assets.naming import daily_spec, key_of, table_schema
from nightscore.spec.pipeline import Pipeline
from orchestration.failures import Event, mapped_failures, report
from orchestration.partitions import POLICY, nights_of
from orchestration.resources import Engine


def build_clean(pipeline: Pipeline, name: str) -> dg.AssetsDefinition:
    """The gated asset of one source."""
    source, key = pipeline.sources[name], key_of(pipeline, f"clean_{name}")
    columns = [(column.name, column.type, column.description) for column in source.columns]
    spec = daily_spec(
        pipeline, f"clean_{name}", f"Gated: {source.description or name}", deps=[key_of(pipeline, f"source_{name}")],
        kinds={"greatexpectations", "parquet"}, metadata=table_schema(columns),
    )  # fmt: skip
    gate = dg.AssetCheckSpec("gate", asset=key, blocking=True, description="the source's expectations")

    @dg.multi_asset(name=f"{pipeline.name}__clean_{name}", specs=[spec], check_specs=[gate], backfill_policy=POLICY)
    def clean_asset(context: dg.AssetExecutionContext, engine: Engine) -> Iterator[Event]:
        from nightscore.quality.clean import clean_source

        workspace, nights = engine.workspace(), nights_of(context)
        with mapped_failures(context, workspace, pipeline.name, nights):
            outcomes = clean_source(workspace, pipeline, name, nights, context.run.run_id)
        yield from report(context, key, outcomes, "gate")

    return clean_asset
