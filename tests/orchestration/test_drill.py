"""Reproduction in Dagster: the drill's job and check, versions as partitions, and the commands beside them."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import dagster as dg
import pytest

from nightscore.catalog.models import list_versions
from nightscore.catalog.publications import publications_of_night, receipt_by_id
from nightscore.catalog.reproductions import list_reproductions
from nightscore.scoring.receipts import summarise
from orchestration.cli.launch import Launched, run_job
from orchestration.cli.night_runs import Session
from orchestration.resources import Engine
from orchestration.run_tags import nights_of_run
from tests.alert_receiver import Receiver, receiving
from tests.orchestration.conftest import call_here, checks, events, materialisations, run
from tests.shop import FIRST_NIGHT

# Apprise's plugins import it, not ours to mend.
pytestmark = pytest.mark.filterwarnings("ignore:'imghdr' is deprecated")
REPRODUCTION = dg.AssetKey(["visits", "reproduction"])
PLANNED = dg.DagsterEventType.ASSET_CHECK_EVALUATION_PLANNED


@pytest.fixture(scope="module")
def receiver() -> Iterator[Receiver]:
    with receiving() as opened:
        yield opened


@pytest.fixture(scope="module")
def scored(session: Session, receiver: Receiver) -> Iterator[Session]:
    """The shop with a published night, telling the receiver."""
    assert run(session, FIRST_NIGHT).message == ""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NIGHTSCORE_ALERT_URLS", receiver.url)
        yield session
        Engine().workspace().engine.dispose()


def drill(session: Session) -> Launched:
    return run_job(session.definitions, session.instance, "visits_drill", {})


def reproduce(session: Session, version: int, tags: dict[str, str] | None = None) -> dg.ExecuteInProcessResult:
    return session.definitions.resolve_implicit_global_asset_job_def().execute_in_process(
        instance=session.instance, asset_selection=[REPRODUCTION], partition_key=str(version), raise_on_error=False,
        tags=tags or {},
    )  # fmt: skip


@contextmanager
def damaged_training_set(session: Session) -> Iterator[None]:
    with session.workspace.engine.connect() as connection:
        (version,) = list_versions(connection, "visits")
    store = session.workspace.lake.store
    path = store.path(store.read_directory(version.snapshot_md5)["training_set.parquet"])
    content = path.read_bytes()
    path.chmod(0o644)
    path.write_bytes(content[:-9] + bytes([content[-9] ^ 1]) + content[-8:])
    yield
    path.write_bytes(content)


def attempts(session: Session) -> list[tuple[str, str]]:
    with session.workspace.engine.connect() as connection:
        return [(one.asked_by, one.outcome) for one in list_reproductions(connection, "visits")]


def test_a_drill_that_goes_well_passes_its_check_and_tells_nobody(scored: Session, receiver: Receiver) -> None:
    launched = drill(scored)
    assert (launched.message, launched.success) == ("", True)
    passed, shown = checks(scored, launched.run_id)["model"]
    rows = [(one.data["subject"], one.data["outcome"], one.data["level"]) for one in shown["attempts"].records]
    assert (passed, shown["streak"], shown["seed"], shown["skipped"]) == (True, 2, launched.run_id, [])
    assert rows == [("visits@1 2024-03-09", "reproduced", "identical"), ("visits@1", "reproduced", "identical")]
    assert shown["seconds"] == pytest.approx(sum(one.data["seconds"] for one in shown["attempts"].records))
    assert receiver.taken == []


def test_training_offers_the_version_as_a_partition_and_runs_no_drill(scored: Session) -> None:
    assert scored.instance.get_dynamic_partitions("visits_versions") == ["1"]
    launched = run_job(scored.definitions, scored.instance, "visits_train", {})
    assert (launched.message, events(scored, launched.run_id, PLANNED)) == ("", [])
    model = materialisations(scored, launched.run_id)["model", ""]
    with scored.workspace.engine.connect() as connection:
        (version,) = list_versions(connection, "visits")
    assert {name: model[name] for name in ("capsule", "manifest_sha256", "snapshot", "function_hash")} == {
        "capsule": version.capsule_md5, "manifest_sha256": version.manifest_sha256,
        "snapshot": version.snapshot_md5, "function_hash": version.function_hash,
    }  # fmt: skip
    assert model["provenance"] == version.provenance


def test_predictions_carry_what_a_reproduction_needs(scored: Session) -> None:
    night = FIRST_NIGHT.replace(day=FIRST_NIGHT.day + 1)
    shown = materialisations(scored, run(scored, night).run_id)["predictions", str(night)]
    with scored.workspace.engine.connect() as connection:
        (publication,) = publications_of_night(connection, "visits", night)
        receipt = receipt_by_id(connection, publication.receipt_id)
    assert (shown["receipt_id"], shown["snapshot"]) == (receipt.receipt_id, receipt.snapshot_md5)
    assert shown["receipt"] == summarise({"body": receipt.body})


def test_a_drill_offers_versions_that_were_there_before_partitions_were(scored: Session) -> None:
    scored.instance.delete_dynamic_partition("visits_versions", "1")
    assert drill(scored).success
    assert scored.instance.get_dynamic_partitions("visits_versions") == ["1"]


def test_a_partition_is_the_version_made_again(scored: Session) -> None:
    done = reproduce(scored, 1, {"user": "somebody"})
    assert done.success
    shown = materialisations(scored, done.run_id)["reproduction", "1"]
    with scored.workspace.engine.connect() as connection:
        (version,) = list_versions(connection, "visits")
    assert {name: shown[name] for name in shown if name != "seconds"} == {
        "version": "visits@1", "outcome": "reproduced", "level": "identical", "capsule": version.capsule_md5,
        "manifest_sha256": version.manifest_sha256, "snapshot": version.snapshot_md5,
        "function_hash": version.function_hash, "function_hash_again": version.function_hash,
        "provenance": version.provenance,
    }  # fmt: skip
    assert attempts(scored)[0] == ("somebody", "reproduced")


def test_a_broken_past_fails_the_check_once_loudly_and_the_partition(scored: Session, receiver: Receiver) -> None:
    known = scored.instance.get_materialized_partitions(REPRODUCTION)
    with damaged_training_set(scored):
        first, second, by_hand = drill(scored), drill(scored), reproduce(scored, 1)
        command = call_here("drill", "visits", "--json")
    for launched in (first, second):
        passed, shown = checks(scored, launched.run_id)["model"]
        assert (launched.success, passed, shown["streak"]) == (True, False, 0)
        assert "training_set.parquet: object" in shown["attempts"].records[1].data["first_difference"]
    (told,) = receiver.taken
    assert (told[0], told[1].splitlines()[-1]) == (
        "visits@1 cannot be made again", "Run it by hand: nightscore reproduce visits@1",
    )  # fmt: skip
    failure = by_hand.failure_data_for_node("visits__reproduction")
    assert failure is not None
    assert failure.user_failure_data is not None
    assert "ObjectCorrupt: training_set.parquet" in str(failure.user_failure_data.description)
    assert (scored.instance.get_materialized_partitions(REPRODUCTION), attempts(scored)[2]) == (
        known, ("dagster", "cannot"),
    )  # fmt: skip
    spoken = json.loads(command.stdout)
    assert (command.returncode, spoken["streak"], spoken["passed"]) == (6, 0, False)
    assert drill(scored).success
    assert len(receiver.taken) == 1


def test_the_commands_drill_and_list(scored: Session) -> None:
    done = call_here("drill", "visits", "--seed", "x")
    assert (done.returncode, "seed x" in done.stdout, "drill attempts in a row were reproduced" in done.stdout) == (
        0, True, True,
    )  # fmt: skip
    listed = json.loads(call_here("reproductions", "visits", "--json").stdout)
    assert [(one["kind"], one["asked_by"], one["outcome"]) for one in listed[:2]] == [
        ("model", "drill", "reproduced"), ("night", "drill", "reproduced"),
    ]  # fmt: skip
    assert "visits@1 2024-03-09" in call_here("reproductions", "visits").stdout


def test_before_the_first_night_the_check_is_not_evaluated_and_the_command_says_what_to_do(
    empty_session: Session,
) -> None:
    launched = drill(empty_session)
    assert (launched.message, checks(empty_session, launched.run_id)) == ("", {})
    done = call_here("drill", "visits")
    assert (done.returncode, "score a night first: `nightscore run visits`" in done.stderr) == (2, True)


@pytest.mark.parametrize(
    ("tags", "nights"),
    [({"dagster/partition": "1"}, None), ({}, None), ({"dagster/partition": "2024-03-09"}, (FIRST_NIGHT, FIRST_NIGHT))],
)
def test_a_run_about_a_version_is_about_no_night(tags: dict[str, str], nights: Any) -> None:
    assert nights_of_run(tags) == nights
