"""Nights cut into shards and put together again: whatever the order and the cut, what one process would give."""

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from nightscore.errors import ObjectCorrupt
from nightscore.lake.objects import ObjectStore
from nightscore.lake.remotes import open_remote
from nightscore.lake.transfer import fetch_object, send_objects
from nightscore.scoring.arms import Arms
from nightscore.scoring.engine import EngineUse
from nightscore.scoring.scores import Scores
from nightscore.scoring.shards import ScoredShard, Span, cut, put_scores, put_together
from nightscore.settings import Execution, Settings


class Capsule:
    """As much of a capsule as putting scores together asks for."""

    def __init__(self, task: str) -> None:
        self.task = task


def arms(task: str = "binary") -> Arms:
    return Arms(3, Capsule(task))  # type: ignore[arg-type]


def features(path: Path, rows: int, group_rows: int) -> Path:
    pl.DataFrame({"at": np.arange(rows)}).write_parquet(path, row_group_size=group_rows)
    return path


@pytest.mark.parametrize(
    ("rows", "shard_rows", "expected"),
    [
        (40, 10, [Span((0,), 0, 10), Span((1,), 10, 20), Span((2,), 20, 30), Span((3,), 30, 40)]),
        (40, 11, [Span((0, 1), 0, 20), Span((2, 3), 20, 40)]),
        (35, 30, [Span((0, 1, 2), 0, 30), Span((3,), 30, 35)]),
        (35, 36, [Span((0, 1, 2, 3), 0, 35)]),
        (1, 1, [Span((0,), 0, 1)]),
        (0, 1, []),
    ],
)
def test_a_night_is_cut_between_row_groups(tmp_path: Path, rows: int, shard_rows: int, expected: list[Span]) -> None:
    assert cut(features(tmp_path / "features.parquet", rows, 10), shard_rows) == expected


def night(rows: int, kind: str, seed: int) -> Scores:
    random = np.random.default_rng(seed)
    score = random.choice([0.0, -0.0, 5e-324, 0.1, 1.0, np.nextafter(1.0, 0.0)], rows)
    probability = {"value": None, "plain": score, "own": random.random(rows)}[kind]
    return Scores(score, probability, random.integers(0, 2, rows, dtype=np.uint8))


def part_of(whole: Scores, places: slice) -> Scores:
    score = whole.score[places]
    plain = whole.probability is whole.score
    probability = score if plain else None if whole.probability is None else whole.probability[places]
    return Scores(score, probability, whole.arm[places])


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    bounds=st.lists(st.integers(0, 50), max_size=5), kind=st.sampled_from(["value", "plain", "own"]),
    seed=st.integers(0, 9), data=st.data(),
)  # fmt: skip
def test_shards_in_any_order_give_the_night_to_the_bit(
    tmp_path: Path, bounds: list[int], kind: str, seed: int, data: st.DataObject
) -> None:
    store, whole, edges = ObjectStore(tmp_path), night(50, kind, seed), [0, *sorted(bounds), 50]
    spans = [Span((at,), start, stop) for at, (start, stop) in enumerate(itertools.pairwise(edges))]
    parts: list[Any] = []
    for span in data.draw(st.permutations(spans)):
        md5 = put_scores(store, part_of(whole, slice(span.start, span.stop)))
        parts.append((span, ScoredShard(md5, (EngineUse(3, "own", None, "", checked=1),)), store.path(md5)))
    made = put_together(arms("regression" if kind == "value" else "binary"), 50, parts)
    assert made.score.tobytes() == whole.score.tobytes()
    assert made.arm.tobytes() == whole.arm.tobytes()
    assert made.merit.tobytes() == whole.merit.tobytes()
    assert (made.probability is made.score, made.probability is None) == (kind == "plain", kind == "value")
    assert sum(one.checked for one in made.engines) == len({span.start for span in spans})


def test_a_second_try_gives_the_same_object(tmp_path: Path) -> None:
    one, other = (put_scores(ObjectStore(tmp_path / name), night(1000, "own", 4)) for name in "ab")
    assert one == other


def test_engines_are_told_once_where_they_were_the_same_and_in_the_order_of_the_arms(tmp_path: Path) -> None:
    store, kernel = ObjectStore(tmp_path), EngineUse(3, "quickscorer", "AVX2", "", 10)
    small, second = EngineUse(3, "lightgbm", None, "few rows"), EngineUse(2, "own", None, "linear")
    md5 = put_scores(store, night(10, "plain", 1))
    uses = [(kernel, second), (kernel, second), (small, second)]
    parts = [
        (Span((at,), 10 * at, 10 * at + 10), ScoredShard(md5, found), store.path(md5)) for at, found in enumerate(uses)
    ]
    assert put_together(arms(), 30, reversed(parts)).engines == (
        EngineUse(3, "quickscorer", "AVX2", "", 20), small, second
    )  # fmt: skip


def test_a_cached_object_that_was_damaged_is_fetched_again_and_a_damaged_remote_refused(tmp_path: Path) -> None:
    lake, cache, remote = (
        ObjectStore(tmp_path / "lake"),
        ObjectStore(tmp_path / "cache"),
        open_remote(str(tmp_path / "r")),
    )
    files = {name: lake.put_bytes(name.encode()).md5 for name in ("a", "b")}
    directory = lake.put_directory(files).md5
    send_objects(lake, remote, [directory])
    assert remote.sizes().keys() == {directory, *files.values()}
    path = fetch_object(cache, remote, files["a"])
    path.chmod(0o644)
    path.write_bytes(b"?")
    assert fetch_object(cache, remote, files["a"]).read_bytes() == b"a"
    Path(remote.path(files["b"])).chmod(0o644)
    Path(remote.path(files["b"])).write_bytes(b"?")
    with pytest.raises(ObjectCorrupt, match=files["b"]):
        fetch_object(cache, remote, files["b"])
    assert not cache.has(files["b"])
    remote.remove(files["b"])
    remote.remove(files["b"])
    assert (remote.has(files["a"]), remote.has(files["b"])) == (True, False)


def test_execution_is_read_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    assert Settings().execution == Execution(engine="local", shard_rows=1 << 20)
    for name, value in {"ENGINE": "dask", "ADDRESS": "tcp://scheduler:8786", "SHARD_ROWS": "5"}.items():
        monkeypatch.setenv(f"NIGHTSCORE_EXECUTION__{name}", value)
    assert Settings().execution == Execution(engine="dask", address="tcp://scheduler:8786", shard_rows=5)


@pytest.mark.parametrize(("engine", "said"), [("ray", "not chosen"), ("spark", "there is no such engine")])
def test_an_engine_that_is_not_there_names_those_that_are(
    engine: str, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from orchestration.cli.app import _settings_error

    monkeypatch.setenv("NIGHTSCORE_EXECUTION__ENGINE", engine)
    with pytest.raises(ValidationError) as failure:
        Settings()
    (found,) = _settings_error(failure.value).found
    assert found.startswith("NIGHTSCORE_EXECUTION__ENGINE: ")
    assert said in found
    assert "choose 'local' or 'dask'" in found
