"""The settings that docs/scaling.md gives for Dagster's own scale-out are accepted by Dagster, and do what they say."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import yaml
from dagster._config import process_config, resolve_to_config_type
from dagster._core.instance.config import dagster_instance_config
from dagster._core.remote_origin import GrpcServerCodeLocationOrigin, RemoteJobOrigin, RemoteRepositoryOrigin
from dagster._core.run_coordinator import QueuedRunCoordinator
from dagster._core.test_utils import create_run_for_test
from dagster._daemon.run_coordinator.queued_run_coordinator_daemon import QueuedRunCoordinatorDaemon

from orchestration.run_tags import PIPELINE_TAG

PAGE = Path(__file__).parents[2] / "docs" / "scaling.md"
BLOCKS = re.findall(r"```yaml\n# ([^\n]+)\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
INSTANCES = [
    pytest.param(text, id=f"{title} {at}") for at, (title, text) in enumerate(BLOCKS) if "run config" not in title
]
LAUNCHERS = [pytest.param(yaml.safe_load(text), id=title) for title, text in BLOCKS if "run_launcher" in text]
EXECUTORS = [pytest.param(yaml.safe_load(text), id=title) for title, text in BLOCKS if "run config" in title]


def refusals(kind: Any, config: Mapping[str, Any]) -> list[str]:
    """What a configurable class or executor of Dagster's finds wrong with its configuration."""
    found = process_config(resolve_to_config_type(kind), config)
    return [] if found.success else [error.message for error in found.errors or ()]


@pytest.fixture
def home(tmp_path: Path, postgres_url: str, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DAGSTER_DATABASE_URL", postgres_url)
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path))
    return tmp_path


def test_the_page_has_every_block() -> None:
    assert [title.partition(" (")[2].rstrip(")") for title, _ in BLOCKS] == [
        "", "", "dagster-k8s", "dagster-docker", "dagster-celery", "dagster-celery-k8s",
    ]  # fmt: skip


@pytest.mark.parametrize("text", INSTANCES)
def test_every_block_is_an_instance_configuration(home: Path, text: str) -> None:
    (home / "dagster.yaml").write_text(text, encoding="utf-8")
    config, _ = dagster_instance_config(str(home))
    assert config.keys() == yaml.safe_load(text).keys()


@pytest.mark.parametrize("block", LAUNCHERS)
def test_launchers_accept_their_configuration(block: dict[str, Any]) -> None:
    launcher = block["run_launcher"]
    module = pytest.importorskip(launcher["module"])
    assert refusals(getattr(module, launcher["class"]).config_type(), launcher["config"]) == []


@pytest.mark.parametrize("block", EXECUTORS)
def test_executors_accept_their_configuration(block: dict[str, Any]) -> None:
    module = pytest.importorskip("dagster_celery")
    schema = module.celery_executor.config_schema.config_type
    assert refusals(schema, block["execution"]["config"]) == []


@pytest.mark.parametrize("at", [0, 1])
def test_one_run_a_pipeline_is_begun_at_once_on_a_real_storage(home: Path, at: int) -> None:
    storage, limits = (yaml.safe_load(BLOCKS[one][1]) for one in (0, at))
    (home / "dagster.yaml").write_text(yaml.safe_dump({"storage": storage["storage"], **limits}), encoding="utf-8")
    with dg.DagsterInstance.from_config(str(home)) as instance:
        assert isinstance(instance.run_coordinator, QueuedRunCoordinator)
        assert "Postgres" in type(instance.run_storage).__name__
        queue = instance.get_concurrency_config().run_queue_config
        assert queue is not None
        assert queue.max_concurrent_runs == 16
        assert queue.tag_concurrency_limits[0] == {
            "key": PIPELINE_TAG, "value": {"applyLimitPerUniqueValue": True}, "limit": 1,
        }  # fmt: skip
        assert [one.tags[PIPELINE_TAG] for one in _begun(instance, ["a", "a", "b", "c", "b"])] == ["a", "b", "c"]


def _begun(instance: dg.DagsterInstance, pipelines: list[str]) -> list[dg.DagsterRun]:
    """Which of the queued runs of `pipelines` the daemon would begin now."""
    location = GrpcServerCodeLocationOrigin(host="127.0.0.1", port=1, location_name="nightscore")
    origin = RemoteJobOrigin(RemoteRepositoryOrigin(location, "nightscore"), "nightly")
    for name in pipelines:
        create_run_for_test(
            instance, status=dg.DagsterRunStatus.QUEUED, tags={PIPELINE_TAG: name}, remote_job_origin=origin
        )
    daemon = QueuedRunCoordinatorDaemon(interval_seconds=1)
    return list(daemon._get_runs_to_dequeue(instance, instance.get_concurrency_config(), None))
