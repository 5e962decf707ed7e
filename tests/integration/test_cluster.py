"""A night in shards on a real cluster: the same bytes as in one process, whatever becomes of workers and objects."""

import os
import shutil
import signal
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import sqlalchemy as sa

from nightscore.catalog.connect import Database
from nightscore.catalog.models import ModelVersion
from nightscore.catalog.partitions import PartitionVersion
from nightscore.clock import FixedClock
from nightscore.errors import CapsuleRejected, ClusterUnavailable, ObjectCorrupt, SettingsError
from nightscore.lake.objects import ObjectStore
from nightscore.lake.partitions import Lake
from nightscore.lake.remotes import open_remote
from nightscore.lake.transfer import send_objects
from nightscore.lake.workspace import Workspace
from nightscore.registry.capsule import write_capsule
from nightscore.registry.manifest import read_manifest
from nightscore.scoring import cluster, execution
from nightscore.scoring.arms import Share
from nightscore.scoring.crew import Crew, open_arms
from nightscore.scoring.engine import EngineUse
from nightscore.scoring.execution import open_execution
from nightscore.scoring.night import score_nights
from nightscore.scoring.predictions import Predictions, predict_night
from nightscore.settings import Execution, Settings
from nightscore.spec.datasets import predictions_dataset
from nightscore.training.fit import train
from tests.integration.dask_cluster import dask_cluster
from tests.integration.night_chain import FIRST_NIGHT, Begun, Server, copied_shop, night_after, prepare, visits_of_shop
from tests.integration.s3_server import s3_server
from tests.unit.synthetic_flights import LINEAR, make_flights, make_pipeline, training_section

pytestmark = pytest.mark.timeout(240)

BUCKET = "lake-of-shards"
KEY = ("score_date", "carrier", "flight")
ROWS, GROUP_ROWS = 120_000, 50_000
NOW = datetime(2013, 1, 3, tzinfo=UTC)
FOREST = {"type": "lightgbm", "trees": 30, "leaves": 31, "learning_rate": 0.1, "min_rows_in_leaf": 20}
PIPELINE = make_pipeline(publish={"columns": ["gate"]})


@pytest.fixture(scope="module")
def s3() -> Iterator[dict[str, str]]:
    with s3_server(BUCKET) as variables:
        yield variables


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The state folder that the workers have, which the driver of some tests has as well."""
    return tmp_path_factory.mktemp("shared")


@pytest.fixture(scope="module")
def address(s3: dict[str, str], shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    variables = {**s3, "NIGHTSCORE_HOME": str(shared), "NIGHTSCORE_THREADS": "1"}
    with dask_cluster(tmp_path_factory.mktemp("cluster"), variables) as found:
        yield found


@pytest.fixture(scope="module")
def capsules(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """A calibrated forest, and a linear model without a calibration."""
    root, flights = tmp_path_factory.mktemp("capsules"), make_flights()
    for name, algorithm, calibration in (
        ("forest", FOREST, {"method": "isotonic", "dates": 6}), ("linear", LINEAR, None)
    ):  # fmt: skip
        section = training_section(algorithm=algorithm, baselines=[], calibration=calibration)
        write_capsule(root / name, train(flights, make_pipeline(training=section)), "", {})
    return [root / "forest", root / "linear"]


def night_rows(seed: int) -> pl.DataFrame:
    return make_flights(1, ROWS, seed).drop("label")


@pytest.fixture(scope="module")
def night() -> pl.DataFrame:
    return night_rows(1)


class Deployment:
    """A lake with a night's features and two registered versions, without a catalog."""

    def __init__(self, home: Path, rows: pl.DataFrame, capsules: list[Path], **settings: Any) -> None:
        engine = sa.create_engine("postgresql+psycopg://nobody@127.0.0.1:1/none")
        options, clock = Settings(home=home, **settings), FixedClock(NOW)
        lake = Lake(ObjectStore(options.lake_path), engine, clock)
        self.workspace = Workspace(options, clock, Database("", "", ""), engine, lake)
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr("nightscore.lake.parquet.ROW_GROUP_ROWS", GROUP_ROWS)
            stored = lake.put(rows, KEY)
        self.features = PartitionVersion(
            1, "flights.features", date(2013, 1, 1), stored.md5, rows.height, stored.bytes, "", (), "", NOW, None, None
        )  # fmt: skip
        self.versions = [self._register(number, folder) for number, folder in enumerate(capsules, 1)]

    def _register(self, number: int, folder: Path) -> ModelVersion:
        store = self.workspace.lake.store
        entries = {path.name: store.put_bytes(path.read_bytes()).md5 for path in folder.iterdir()}
        manifest = read_manifest(folder).sha256
        return ModelVersion(
            "flights", number, store.put_directory(entries).md5, manifest, "", "", "", "", "binary", date(2013, 1, 1),
            None, "registered", {}, "", "", "", NOW,
        )  # fmt: skip

    def crew(self, percent: float = 0.0) -> Crew:
        if not percent:
            return Crew(self.versions[0])
        share = Share("canary", 2, self.versions[1].manifest_sha256, percent, "salt", ("carrier", "flight"))
        return Crew(self.versions[0], self.versions[1], share)

    def predict(self, crew: Crew | None = None) -> Predictions:
        crew = crew or self.crew()
        path = self.workspace.lake.store.verified_path(self.features.md5)
        with open_execution(self.workspace) as place:
            return predict_night(
                PIPELINE, open_arms(self.workspace, crew), path, 2, score=place.of(crew, self.features)
            )

    def store(self, made: Predictions) -> str:
        """The MD5 of the predictions' object."""
        return self.workspace.lake.put_batches(made.batches(), KEY).md5


def on_cluster(address: str | None, **settings: Any) -> Execution:
    return Execution(engine="dask", address=address, shard_rows=GROUP_ROWS, **settings)


@pytest.fixture
def local(tmp_path: Path, night: pl.DataFrame, capsules: list[Path]) -> Deployment:
    return Deployment(tmp_path / "local", night, capsules)


def objects_in(root: Path) -> set[str]:
    return {path.parent.name + path.name for path in root.glob("files/md5/*/*")}


def capsule_files(there: Deployment) -> set[str]:
    store = there.workspace.lake.store
    return {md5 for version in there.versions for md5 in store.read_directory(version.capsule_md5).values()}


def test_workers_on_the_same_lake_give_the_same_object(
    local: Deployment, address: str, shared: Path, night: pl.DataFrame, capsules: list[Path]
) -> None:
    there = Deployment(shared, night, capsules, execution=on_cluster(address))
    made, expected = there.predict(), local.predict()
    assert there.store(made) == local.store(expected)
    kernel, own = made.engines
    assert replace(kernel, checked=0) == replace(expected.engines[0], checked=0)
    assert (kernel.checked, own) == (20_000, EngineUse(1, "lightgbm", None, "fewer than 50,000 rows"))
    assert not (shared / "shards").exists()


def test_workers_that_only_reach_s3_give_the_same_object_and_leave_no_scores_there(
    local: Deployment, address: str, shared: Path, tmp_path: Path, night: pl.DataFrame, capsules: list[Path]
) -> None:
    url = f"s3://{BUCKET}/{os.urandom(6).hex()}"
    there = Deployment(tmp_path / "driver", night, capsules, execution=on_cluster(address), remote=url)
    shutil.rmtree(shared / "capsules", ignore_errors=True)
    assert there.store(there.predict(there.crew(30.0))) == local.store(local.predict(local.crew(30.0)))
    sent = {there.features.md5, *(one.capsule_md5 for one in there.versions)}
    assert sent <= open_remote(url).sizes().keys()
    assert open_remote(f"{url}/shards").sizes() == {}
    assert {there.features.md5, *capsule_files(there)} <= objects_in(shared / "shards")


def test_processes_of_this_machine_give_the_same_object(
    local: Deployment, tmp_path: Path, night: pl.DataFrame, capsules: list[Path]
) -> None:
    there = Deployment(tmp_path / "there", night, capsules, execution=on_cluster(None))
    assert there.store(there.predict()) == local.store(local.predict())


def test_a_worker_that_is_killed_in_the_middle_is_survived(
    local: Deployment, address: str, shared: Path, night: pl.DataFrame, capsules: list[Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    there = Deployment(shared, night, capsules, execution=on_cluster(address))
    killed: list[int] = []

    def kill_one_that_works(client: Any, *arguments: Any) -> Iterator[Any]:
        pids = client.run(os.getpid)
        for done in cluster.score_shards(client, *arguments):
            if not killed:
                busy = [worker for worker, tasks in client.processing().items() if tasks]
                killed.append(pids[busy[0]])
                os.kill(killed[0], signal.SIGKILL)
            yield done

    monkeypatch.setattr(execution, "score_shards", kill_one_that_works)
    assert there.store(there.predict()) == local.store(local.predict())
    assert len(killed) == 1


def test_a_damaged_object_of_the_remote_is_refused_by_name(address: str, tmp_path: Path, capsules: list[Path]) -> None:
    url = f"s3://{BUCKET}/{os.urandom(6).hex()}"
    there = Deployment(tmp_path / "driver", night_rows(2), capsules, execution=on_cluster(address), remote=url)
    remote, md5 = open_remote(url), there.features.md5
    send_objects(there.workspace.lake.store, remote, [md5])
    remote.filesystem.pipe_file(remote.path(md5), b"other bytes")
    with pytest.raises(ObjectCorrupt) as failure:
        there.predict()
    assert md5 in failure.value.attempted
    assert failure.value.found == (f"the copy on {url} has another hash than its name",)


def test_a_capsule_with_another_manifest_is_refused(
    address: str, shared: Path, night: pl.DataFrame, capsules: list[Path]
) -> None:
    there = Deployment(shared, night, capsules, execution=on_cluster(address))
    arms, other = open_arms(there.workspace, there.crew()), replace(there.versions[0], manifest_sha256="0" * 64)
    path = there.workspace.lake.store.verified_path(there.features.md5)
    with open_execution(there.workspace) as place:
        score = place.of(Crew(other), there.features)
        with pytest.raises(CapsuleRejected, match="expected 000000"):
            score(arms, path, 2)


def test_a_scheduler_that_does_not_answer_is_something_to_try_again(
    tmp_path: Path, night: pl.DataFrame, capsules: list[Path]
) -> None:
    there = Deployment(tmp_path, night, capsules, execution=on_cluster("tcp://127.0.0.1:1", patience_seconds=1))
    with pytest.raises(ClusterUnavailable, match="Reaching the cluster at tcp"):
        there.predict()


def test_workers_that_reach_neither_lake_nor_remote_say_so(
    address: str, tmp_path: Path, night: pl.DataFrame, capsules: list[Path]
) -> None:
    there = Deployment(tmp_path, night, capsules, execution=on_cluster(address))
    with pytest.raises(SettingsError, match="sees neither the driver's lake"):
        there.predict()


def test_a_worker_that_runs_other_code_scores_nothing(
    address: str, shared: Path, night: pl.DataFrame, capsules: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(execution, "code_hash", lambda: "f" * 64)
    there = Deployment(shared, night, capsules, execution=on_cluster(address))
    with pytest.raises(SettingsError, match="the driver ffffffffffff"):
        there.predict()


def test_a_scheduler_without_workers_is_not_waited_for_without_end(
    tmp_path: Path, night: pl.DataFrame, capsules: list[Path]
) -> None:
    from distributed import LocalCluster

    with LocalCluster(n_workers=0, processes=True, host="127.0.0.1", dashboard_address="127.0.0.1:0") as empty:
        where = on_cluster(empty.scheduler_address, patience_seconds=1)
        there = Deployment(tmp_path, night, capsules, execution=where)
        with pytest.raises(ClusterUnavailable, match="Only 0/1 workers arrived"):
            there.predict()


def test_a_night_of_the_shop_is_committed_once_and_as_one_process_does(
    server: Server, begun: Begun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nightscore.lake.parquet.ROW_GROUP_ROWS", 16)
    found = {}
    for name, where in (("local", Execution()), ("dask", Execution(engine="dask", shard_rows=16))):
        with copied_shop(server, begun, tmp_path / name) as opened:
            workspace = replace(opened, settings=opened.settings.model_copy(update={"execution": where}))
            pipeline, night = visits_of_shop(workspace), night_after(FIRST_NIGHT)
            prepare(workspace, pipeline, [night], "second")
            (outcome,) = score_nights(workspace, pipeline, [night], "second")
            dataset = predictions_dataset(pipeline.name)
            versions = workspace.lake.history(dataset, night)
            found[name] = [outcome.result, outcome.facts["engine"], [(one.md5, one.content_sha256) for one in versions]]
    assert found["dask"] == found["local"]
