"""One asset a source: its rows as delivered, typed, kept in the lake, not judged yet."""

from collections.abc import Iterator

import dagster as dg

from assets.naming import daily_spec, key_of, table_schema
from nightscore.spec.pipeline import Pipeline
from orchestration.failures import Event, mapped_failures, report
from orchestration.partitions import POLICY, nights_of
from orchestration.resources import Engine


def build_source(pipeline: Pipeline, name: str) -> dg.AssetsDefinition:
    """The asset of one source."""
    source, key = pipeline.sources[name], key_of(pipeline, f"source_{name}")
    columns = [(column.name, column.type, column.description) for column in source.columns]
    spec = daily_spec(
        pipeline, f"source_{name}", f"As delivered: {source.description or name}",
        kinds={source.type, "parquet"}, metadata=table_schema(columns),
    )  # fmt: skip

    @dg.multi_asset(name=f"{pipeline.name}__source_{name}", specs=[spec], backfill_policy=POLICY)
    def source_asset(context: dg.AssetExecutionContext, engine: Engine) -> Iterator[Event]:
        from nightscore.sources.ingest import ingest_source

        workspace, nights = engine.workspace(), nights_of(context)
        with mapped_failures(context, workspace, pipeline.name, nights):
            outcomes = ingest_source(workspace, pipeline, name, nights, context.run.run_id)
        yield from report(context, key, outcomes)

    return source_asset
