"""Features give one result however often and on however many threads they are built; the lint knows which cannot."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import date, timedelta
from pathlib import Path

import polars as pl
import pytest

from nightscore.errors import Undetermined
from nightscore.features.compute import compute_features
from nightscore.features.determinism import find_undetermined, require_determined
from nightscore.lake.content import content_hash
from nightscore.settings import Settings
from nightscore.spec.loader import load_specs
from nightscore.spec.pipeline import Pipeline
from tests.integration.dbt_harness import sample_sources
from tests.shop import FIRST, make_shop, visits_of

RUNS = [(threads, run) for run in range(5) for threads in (1, 2)]
Files = Mapping[str, Mapping[date, Path]]


@pytest.fixture(scope="module")
def flights(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    return Settings(home=tmp_path_factory.mktemp("flights"))


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    folder = tmp_path_factory.mktemp("shop")
    return Settings(root=make_shop(folder / "shop", days=0), home=folder / "home")


def pipeline_of(settings: Settings) -> Pipeline:
    """The only pipeline of the deployment."""
    (pipeline,) = load_specs(settings.pipelines_path, settings.dbt_path).values()
    return pipeline


def hashes(settings: Settings, files: Files, nights: Sequence[date]) -> Iterator[dict[str, list[str]]]:
    """The content hash of every partition, for each of the runs."""
    pipeline = pipeline_of(settings)
    for threads, _ in RUNS:
        tables = compute_features(
            settings.model_copy(update={"threads": threads}), pipeline, files, settings.home_path / "lake", nights
        )
        key = ["score_date", *pipeline.entity.key]
        yield {name: [content_hash(frame, key) for frame in table.values()] for name, table in tables.items()}


def write_nights(settings: Settings, sources: Mapping[str, pl.DataFrame], nights: Sequence[date]) -> Files:
    """One file a source and night that knew it, as the lake has them."""
    lake = settings.home_path / "lake"
    lake.mkdir(parents=True)
    files: dict[str, dict[date, Path]] = {}
    for name, frame in sources.items():
        for night in nights:
            path = files.setdefault(name, {})[night] = lake / f"{name}-{night}.parquet"
            frame.filter(pl.col("known_on") == night).drop("known_on").write_parquet(path)
    return files


def edit_features(settings: Settings, old: str, new: str) -> None:
    path = settings.dbt_path / "models/visits/features/visits_features.sql"
    sql = path.read_text(encoding="utf-8")
    assert sql.count(old) == 1
    path.write_text(sql.replace(old, new), encoding="utf-8")


@pytest.mark.timeout(180)
def test_flight_features_are_one_result_in_ten_builds(flights: Settings) -> None:
    nights = [date(2013, 2, 28), date(2013, 3, 1)]
    known = [nights[0] + timedelta(days=offset) for offset in range(-30, 2)]
    found = list(hashes(flights, write_nights(flights, sample_sources(), known), nights))
    assert found == [found[0]] * len(RUNS)
    assert all(len(set(partitions)) == 2 for partitions in found[0].values())


def test_shop_features_are_one_result_in_ten_builds(shop: Settings) -> None:
    known = [FIRST + timedelta(days=offset) for offset in range(1, 8)]
    visits = pl.concat(visits_of(night - timedelta(days=1)).with_columns(known_on=night) for night in known)
    found = list(hashes(shop, write_nights(shop, {"visits": visits}, known), known[-3:]))
    assert found == [found[0]] * len(RUNS)
    assert all(len(set(partitions)) == 3 for partitions in found[0].values())


def test_the_projects_own_feature_sql_is_determined(flights: Settings, shop: Settings) -> None:
    assert [find_undetermined(one, pipeline_of(one)) for one in (flights, shop)] == [[], []]
    require_determined(shop, pipeline_of(shop))


def test_an_unordered_mean_of_doubles_is_named_with_its_model_and_column(tmp_path: Path) -> None:
    settings = Settings(root=make_shop(tmp_path / "shop", days=0), home=tmp_path / "home")
    edit_features(
        settings, "count(past.customer_id) as visits_3d", "avg(past.spend) as spend_3d, count(*) as visits_3d"
    )
    with pytest.raises(Undetermined) as caught:
        require_determined(settings, pipeline_of(settings))
    assert caught.value.found == (
        "visits_features.spend_3d: avg(past.spend): floating-point sums depend on the order of the rows, which changes "
        "with the threads (its argument is DOUBLE); cast the argument to decimal (macro exact), or say ORDER BY and a "
        "unique key inside the call",
    )
    edit_features(settings, "avg(past.spend)", "avg(past.spend order by past.known_on)")
    require_determined(settings, pipeline_of(settings))


def test_reading_the_sql_leaves_nothing_in_the_scratch_folder(shop: Settings) -> None:
    find_undetermined(shop, pipeline_of(shop))
    assert list((shop.home_path / "scratch").iterdir()) == []
