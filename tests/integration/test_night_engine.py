"""A whole chain of nights by engine calls: accounts, reuse, ranges, receipts, revisions and growing views."""

from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import date

import polars as pl
import pytest
import sqlalchemy as sa

from nightscore.catalog.gates import accounts_of_night
from nightscore.catalog.models import ModelVersion, alias_holder, insert_version, list_versions
from nightscore.catalog.postgres import Server
from nightscore.catalog.publications import Publication, current_publications, find_receipt
from nightscore.lake.fingerprints import code_hash
from nightscore.lake.workspace import Workspace
from nightscore.registry.aliases import require_alias
from nightscore.registry.names import CHAMPION
from nightscore.registry.register import Registration, train_version
from nightscore.registry.versions import make_first_champion
from nightscore.spec.pipeline import Pipeline
from nightscore.spec.serving import Decision, TopK
from nightscore.spec.windows import nights_between
from tests.integration.night_chain import (
    NOW,
    bootstrap,
    finish,
    fresh_database,
    night_after,
    opened_shop,
    prepare,
    run_night,
    visits_of_shop,
)
from tests.shop import CUSTOMERS, FIRST, FIRST_NIGHT

pytestmark = pytest.mark.timeout(120)

READER_COLUMNS = [
    "publication_id", "score_date", "customer_id", "city", "score", "probability", "decision", "decision_reason",
    "rank", "decile", "model_version", "arm", "scored_at",
]  # fmt: skip


@pytest.fixture(scope="module")
def workspace(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workspace]:
    """One shop for the module; every test has nights of its own."""
    with fresh_database(server) as name, opened_shop(server, name, tmp_path_factory.mktemp("engine")) as opened:
        yield opened


@pytest.fixture(scope="module")
def pipeline(workspace: Workspace) -> Pipeline:
    return visits_of_shop(workspace)


@pytest.fixture(scope="module")
def first(workspace: Workspace, pipeline: Pipeline) -> Registration:
    return bootstrap(workspace, pipeline)


def accounts(workspace: Workspace, night: date) -> dict[str, tuple[int, int, int, Mapping[str, int]]]:
    with workspace.engine.connect() as connection:
        found = accounts_of_night(connection, "visits", night)
    return {one.dataset: (one.rows_in, one.rows_out, one.quarantined, one.excluded) for one in found}


def published(workspace: Workspace, night: date) -> Publication:
    with workspace.engine.connect() as connection:
        return current_publications(connection, "visits", night, night)[night]


def count(workspace: Workspace, query: str) -> int:
    with workspace.engine.connect() as connection:
        return int(connection.scalar(sa.text(query)) or 0)


def md5s(workspace: Workspace, dataset: str, first_night: date, last: date) -> dict[date, str]:
    return {night: one.md5 for night, one in workspace.lake.current(dataset, first_night, last).items()}


def view(workspace: Workspace, name: str, where: str = "true") -> list[dict[str, object]]:
    with workspace.engine.connect() as connection:
        rows = connection.execute(sa.text(f"select * from bi.{name} where {where} order by score_date, customer_id"))
        return [dict(row) for row in rows.mappings()]


def test_every_step_of_the_first_night_accounts_for_every_row(workspace: Workspace, first: Registration) -> None:
    whole = (CUSTOMERS, CUSTOMERS, 0, {})
    none_excluded = {"date with too few labels": 0, "never labelled": 0}
    # The pipeline's first night knows nothing yet, so seven of the eight dates of the window have rows.
    assert accounts(workspace, FIRST_NIGHT) == {
        "visits.source.visits": whole, "visits.clean.visits": whole, "visits.features": whole,
        "visits.labels": whole, "visits.training_set": (7 * CUSTOMERS, 7 * CUSTOMERS, 0, none_excluded),
        "visits.predictions": whole,
    }  # fmt: skip


def test_the_first_version_is_the_champion(workspace: Workspace, first: Registration) -> None:
    with workspace.engine.connect() as connection:
        assert (first.version.version, first.is_new, alias_holder(connection, "visits", "champion")) == (1, True, 1)


def test_the_same_recipe_on_the_same_data_is_the_same_version(
    workspace: Workspace, pipeline: Pipeline, first: Registration
) -> None:
    again = train_version(workspace, pipeline, FIRST_NIGHT, "again", "again")
    assert (again.version, again.is_new) == (first.version, False)
    with workspace.engine.connect() as connection:
        assert list_versions(connection, "visits") == [first.version]


def test_a_version_whose_run_died_before_crowning_it_becomes_champion_next_time(
    server: Server, workspace: Workspace, pipeline: Pipeline, first: Registration
) -> None:
    with workspace.engine.begin() as connection:
        connection.execute(sa.text("delete from nightscore.alias_event where pipeline = 'visits'"))
    again = train_version(workspace, pipeline, FIRST_NIGHT, "again", "again")
    with workspace.engine.connect() as connection:
        assert (again.is_new, alias_holder(connection, "visits", "champion")) == (False, 1)


def test_a_rerun_reuses_everything_and_publishes_nothing(
    workspace: Workspace, pipeline: Pipeline, first: Registration
) -> None:
    datasets = ("visits.source.visits", "visits.clean.visits", "visits.features", "visits.labels", "visits.predictions")
    before = {name: md5s(workspace, name, FIRST, FIRST_NIGHT) for name in datasets}
    counted = "select count(*) from nightscore.publication"
    publications = count(workspace, counted)
    outcomes = run_night(workspace, pipeline, FIRST_NIGHT, "rerun")
    assert [(one.dataset, one.night, one.result, one.rows) for one in outcomes] == [
        (name, FIRST_NIGHT, "reused", CUSTOMERS) for name in (*datasets, "visits.published")
    ]
    assert {name: md5s(workspace, name, FIRST, FIRST_NIGHT) for name in datasets} == before
    assert count(workspace, counted) == publications


def test_a_receipt_says_what_made_the_predictions(
    workspace: Workspace, pipeline: Pipeline, first: Registration
) -> None:
    features = workspace.lake.current("visits.features", FIRST_NIGHT, FIRST_NIGHT)[FIRST_NIGHT]
    predictions = workspace.lake.current("visits.predictions", FIRST_NIGHT, FIRST_NIGHT)[FIRST_NIGHT]
    history = workspace.lake.current("visits.clean.visits", date(2024, 3, 6), FIRST_NIGHT)
    with workspace.engine.connect() as connection:
        receipt = find_receipt(connection, "visits", FIRST_NIGHT, predictions.fingerprint)
    assert receipt is not None
    body = {name: value for name, value in receipt.body.items() if name not in {"rules_sha256", "environment"}}
    assert body == {
        "features": {"version_id": features.version_id, "md5": features.md5, "rows": CUSTOMERS,
                     "content": features.content_sha256},
        "features_inputs": [one.version_id for one in history.values()],
        "model": {"name": "visits@1", "manifest_sha256": first.version.manifest_sha256},
        "spec": pipeline.model_dump(mode="json", include={"decision", "publish", "task", "entity"}),
        "code_sha256": code_hash(), "rows": {"in": CUSTOMERS, "out": CUSTOMERS, "quarantined": 0},
        "engines": [{"version": 1, "engine": "lightgbm", "instructions": None, "reason": "fewer than 50,000 rows",
                     "checked": 0, "differing": 0, "reused": 0, "reused_from": None}],
        "predictions_md5": predictions.md5, "predictions_content": predictions.content_sha256,
        "provenance": first.version.provenance,
    }  # fmt: skip
    assert receipt.snapshot_md5 is not None
    assert sorted(workspace.lake.store.read_directory(receipt.snapshot_md5)) == [
        "features.parquet", *(f"inputs/visits/{night}.parquet" for night in history), "predictions.parquet",
        "requirements.lock", "source.tar",
    ]  # fmt: skip
    facts = (receipt.predictions_id, receipt.model_version, receipt.run_id, receipt.made_at)
    assert facts == (predictions.version_id, 1, "bootstrap", NOW)


def test_published_rows_are_the_rows_of_the_lake(workspace: Workspace, first: Registration) -> None:
    made = published(workspace, FIRST_NIGHT)
    stored = workspace.lake.read("visits.predictions", FIRST_NIGHT, FIRST_NIGHT).collect().sort("customer_id")
    own = pl.lit(made.publication_id).alias("publication_id"), pl.lit(NOW).alias("scored_at")
    expected = stored.with_columns(*own).select(READER_COLUMNS).to_dicts()
    assert view(workspace, "visits_current", f"score_date = '{FIRST_NIGHT}'") == expected
    assert len(expected) == made.rows == CUSTOMERS


def test_the_decision_follows_the_rules_of_the_spec(workspace: Workspace, first: Registration) -> None:
    night = workspace.lake.read("visits.predictions", FIRST_NIGHT, FIRST_NIGHT).collect()
    ages = workspace.lake.read("visits.features", FIRST_NIGHT, FIRST_NIGHT).select("customer_id", "age").collect()
    rows = night.join(ages, on="customer_id")
    child = pl.col("age") < 18
    reason = pl.when(child).then(pl.lit("children_get_no_mail")).otherwise(pl.lit("top_k"))
    wanted = rows.select(((pl.col("rank") <= 5) & ~child).alias("decision"), reason.alias("decision_reason"))
    assert rows.select("decision", "decision_reason").equals(wanted)
    assert sorted(night["rank"]) == list(range(1, CUSTOMERS + 1))


def test_a_range_in_one_call_equals_its_nights_one_by_one(
    server: Server, tmp_path_factory: pytest.TempPathFactory, workspace: Workspace, pipeline: Pipeline,
    first: Registration,
) -> None:  # fmt: skip
    nights = nights_between(FIRST, FIRST_NIGHT)
    with fresh_database(server) as name, opened_shop(server, name, tmp_path_factory.mktemp("single")) as other:
        for night in nights:
            prepare(other, pipeline, [night], f"night {night}")
        train_version(other, pipeline, FIRST_NIGHT, "first", "training")
        finish(other, pipeline, [FIRST_NIGHT], "publish")
        for dataset in ("visits.clean.visits", "visits.features", "visits.labels", "visits.predictions"):
            assert md5s(other, dataset, FIRST, FIRST_NIGHT) == md5s(workspace, dataset, FIRST, FIRST_NIGHT)


def test_a_changed_decision_is_a_new_revision_and_changing_it_back_is_another(
    workspace: Workspace, pipeline: Pipeline, first: Registration
) -> None:
    night = night_after(FIRST_NIGHT)
    generous = pipeline.model_copy(update={"decision": Decision(rule=TopK(type="top_k", k=7))})
    seen = []
    for spec in (pipeline, generous, pipeline):
        run_night(workspace, spec, night, "decision")
        made = published(workspace, night)
        rows = view(workspace, "visits_current", f"score_date = '{night}'")
        assert rows == view(workspace, "visits_latest")
        assert {row["publication_id"] for row in rows} == {made.publication_id}
        seen.append((made.revision, len(rows), sum(bool(row["decision"]) for row in rows), made.content_md5))
    assert [(revision, rows) for revision, rows, _, _ in seen] == [(1, CUSTOMERS), (2, CUSTOMERS), (3, CUSTOMERS)]
    assert (seen[1][2], seen[2][2:]) == (7, seen[0][2:])
    status = count(
        workspace, f"select count(*) from bi.partition_status where score_date = '{night}' and status = 'restated'"
    )
    assert status == 1


def test_a_new_column_is_appended_and_readers_keep_the_old_order(
    workspace: Workspace, pipeline: Pipeline, first: Registration
) -> None:
    night = night_after(FIRST_NIGHT, 2)
    publish = pipeline.publish.model_copy(update={"columns": ("city", "visits_3d")})
    run_night(workspace, pipeline.model_copy(update={"publish": publish}), night, "wider")
    for name in ("visits_current", "visits_latest"):
        assert list(view(workspace, name)[0]) == [*READER_COLUMNS, "visits_3d"]
    latest = view(workspace, "visits_latest")
    assert [(row["score_date"], row["visits_3d"]) for row in latest] == [(night, 3)] * CUSTOMERS
    older = view(workspace, "visits_current", f"score_date = '{FIRST_NIGHT}'")
    assert [row["visits_3d"] for row in older] == [None] * CUSTOMERS


def test_a_column_that_is_no_longer_published_stays_in_the_view_without_values(
    workspace: Workspace, pipeline: Pipeline, first: Registration
) -> None:
    night = night_after(FIRST_NIGHT, 3)
    narrow = pipeline.publish.model_copy(update={"columns": ()})
    run_night(workspace, pipeline.model_copy(update={"publish": narrow}), night, "narrower")
    latest = view(workspace, "visits_latest")
    assert list(latest[0])[: len(READER_COLUMNS)] == READER_COLUMNS
    assert [(row["score_date"], row["city"]) for row in latest] == [(night, None)] * CUSTOMERS


def test_of_several_first_versions_one_becomes_champion_once(workspace: Workspace, pipeline: Pipeline) -> None:
    made = [a_version(workspace, number) for number in (1, 2)]
    with ThreadPoolExecutor(4) as pool:
        crowned = list(pool.map(lambda one: make_first_champion(workspace, pipeline, one, "test", "first"), made * 2))
    assert sorted(crowned) == [False, False, False, True]
    assert require_alias(workspace, "crowded", CHAMPION).version == made[crowned.index(True) % 2].version


def a_version(workspace: Workspace, number: int) -> ModelVersion:
    version = ModelVersion(
        "crowded", number, "c", "m", "f", f"recipe {number}", "s", "constant", "regression", date(2024, 3, 9), None,
        "registered", {}, "test", "test", "run", workspace.clock.now(),
    )  # fmt: skip
    with workspace.engine.begin() as connection:
        insert_version(connection, version)
    return version
