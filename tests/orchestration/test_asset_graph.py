"""The asset graph of the real project, as one golden text; a change of it is a change that a reviewer sees.

Regenerate: `python -m tests.orchestration.test_asset_graph > tests/golden/asset_graph.txt`.
"""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import dagster as dg

from nightscore.features.dbt import ensure_manifest_file
from nightscore.settings import Settings
from nightscore.spec.loader import load_specs
from orchestration.build import build_definitions

GOLDEN = Path(__file__).parents[1] / "golden" / "asset_graph.txt"


def describe(definitions: dg.Definitions) -> str:
    """Every asset with what the UI shows of it, then checks, jobs, schedules and sensors."""
    return "\n".join([*_assets(definitions), "", *_rest(definitions)]) + "\n"


def _assets(definitions: dg.Definitions) -> Iterator[str]:
    graph = definitions.resolve_asset_graph()
    for key in sorted(graph.get_all_asset_keys()):
        node = graph.get(key)
        partitions = type(node.partitions_def).__name__ if node.partitions_def else "none"
        policy = node.backfill_policy.max_partitions_per_run if node.backfill_policy else None
        checks = sorted(check.name for check in node.check_keys)
        yield key.to_user_string()
        yield f"  group {node.group_name}; owners {sorted(node.owners)}; kinds {sorted(node.kinds)}"
        yield f"  partitions {partitions}; nights a run {policy}; checks {checks}"
        for parent in sorted(node.parent_keys):
            mapping = node.partition_mappings.get(parent)
            offset = f" [{mapping.start_offset}..{mapping.end_offset}]" if hasattr(mapping, "start_offset") else ""
            yield f"  from {parent.to_user_string()}{offset}"


def _rest(definitions: dg.Definitions) -> Iterator[str]:
    repository = definitions.get_repository_def()
    for job in sorted(repository.get_all_jobs(), key=lambda job: job.name):
        if not job.name.startswith("__"):
            keys = sorted(key.to_user_string() for key in job.asset_layer.executable_asset_keys)
            steps = sorted(node.name for node in job.graph.nodes)
            yield f"job {job.name}: {', '.join(keys or steps)}"
    for schedule in repository.schedule_defs:
        yield f"schedule {schedule.name}: {schedule.cron_schedule} {schedule.execution_timezone}"
    for sensor in repository.sensor_defs:
        yield f"sensor {sensor.name}"


def real_definitions(home: Path) -> dg.Definitions:
    settings = Settings(home=home)
    specs = load_specs(settings.pipelines_path, settings.dbt_path)
    return build_definitions(specs, ensure_manifest_file(settings, "marts"))


def test_the_asset_graph_is_the_golden_one(tmp_path: Path) -> None:
    assert describe(real_definitions(tmp_path)) == GOLDEN.read_text(encoding="utf-8")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        print(describe(real_definitions(Path(folder))), end="")  # noqa: T201
