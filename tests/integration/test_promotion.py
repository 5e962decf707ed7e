"""Versions of a real shop proposed, approved, rejected, promoted and taken back; every step in the ledger."""

import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from nightscore.catalog.decisions import Decision, list_decisions
from nightscore.catalog.models import ModelVersion, holders_of, list_model_events
from nightscore.catalog.postgres import Server
from nightscore.catalog.rollouts import insert_rollout
from nightscore.errors import AliasMissing, CapsuleRejected, PartitionConflict, PromotionRefused
from nightscore.lake.partitions import candidate
from nightscore.lake.workspace import Workspace
from nightscore.registry.aliases import require_alias
from nightscore.registry.families import family_of, is_refresh
from nightscore.registry.names import CHALLENGER, PREVIOUS
from nightscore.registry.promotion import approve, promote, propose, reject, roll_back_alias
from nightscore.registry.register import train_version
from nightscore.registry.unseen import paired_rows, unseen_scores
from nightscore.registry.versions import open_capsule, require_version
from nightscore.spec.datasets import features_dataset
from nightscore.spec.pipeline import Pipeline
from nightscore.spec.training import Constant, LightGbm
from nightscore.spec.windows import nights_between
from tests.integration.night_chain import Begun, fresh_database, night_after, opened_shop, prepare, visits_of_shop
from tests.shop import FIRST_NIGHT

DAYS = 26
TRAINED = night_after(FIRST_NIGHT)
AS_OF = date(2024, 3, 24)
STRONG = LightGbm(type="lightgbm", trees=80, leaves=5, learning_rate=0.1, min_rows_in_leaf=5)
FIRST, BETTER, EQUAL, WORSE = 1, 2, 3, 4


def with_training(pipeline: Pipeline, **training: Any) -> Pipeline:
    return pipeline.model_copy(update={"training": pipeline.training.model_copy(update=training)})


def with_promotion(pipeline: Pipeline, rollout: str = "direct", **promotion: Any) -> Pipeline:
    settings = pipeline.promotion.model_copy(update={"max_gain": 0.99, **promotion})
    steps = pipeline.rollout.model_copy(update={"kind": rollout})
    return pipeline.model_copy(update={"promotion": settings, "rollout": steps})


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("promotion")


@pytest.fixture(scope="module")
def template(server: Server, begun: Begun, folder: Path) -> Iterator[str]:
    """A weak champion, two strong versions of other seeds, and a constant one; labels of two more weeks are known."""
    shutil.copytree(begun.folder, folder, dirs_exist_ok=True)
    with fresh_database(server, begun.database) as name:
        with opened_shop(server, name, folder, DAYS) as workspace:
            pipeline = visits_of_shop(workspace)
            prepare(workspace, pipeline, nights_between(TRAINED, AS_OF), "later")
            for recipe in (
                with_training(pipeline, algorithm=STRONG), with_training(pipeline, algorithm=STRONG, seed=8),
                with_training(pipeline, algorithm=Constant(type="constant")),
            ):  # fmt: skip
                train_version(workspace, recipe, TRAINED, "another recipe", "later")
        yield name


@dataclass(frozen=True)
class Shop:
    workspace: Workspace
    person: Pipeline
    auto: Pipeline

    def version(self, number: int) -> ModelVersion:
        return require_version(self.workspace, "visits", number)

    @property
    def holders(self) -> dict[str, int]:
        with self.workspace.engine.connect() as connection:
            return holders_of(connection, "visits")

    @property
    def ledger(self) -> list[Decision]:
        with self.workspace.engine.connect() as connection:
            return list_decisions(connection, "visits", kind="promotion")

    @property
    def story(self) -> list[tuple[str, str]]:
        return [(one.subject, one.verdict) for one in reversed(self.ledger)]

    def events(self, number: int) -> list[str]:
        with self.workspace.engine.connect() as connection:
            return [one["event"] for one in list_model_events(connection, "visits", number)]


@pytest.fixture
def shop(server: Server, template: str, folder: Path) -> Iterator[Shop]:
    with (
        fresh_database(server, template) as name,
        opened_shop(server, name, folder, DAYS) as workspace,
    ):
        pipeline = visits_of_shop(workspace)
        yield Shop(workspace, with_promotion(pipeline), with_promotion(pipeline, approve="auto"))


def test_a_better_version_waits_for_a_person_who_approves_it(shop: Shop) -> None:
    asked = propose(shop.workspace, shop.person, shop.version(BETTER), AS_OF, "ann")
    assert (asked.champion.version, asked.verdict.outcome, asked.action) == (FIRST, "better", "asked")
    assert shop.holders == {"champion": FIRST, "challenger": BETTER}
    (entry,) = shop.ledger
    assert (entry.subject, entry.verdict, entry.actor) == ("visits@2", "asked", "ann")
    told = {name: entry.evidence[name] for name in ("as_of", "by", "champion", "command")}
    command = "nightscore models approve visits@2"
    assert told == {"as_of": "2024-03-24", "by": "gate", "champion": "visits@1", "command": command}
    assert entry.evidence["gate"]["outcome"] == "better"
    assert len(json.dumps(entry.evidence)) < 100_000
    assert approve(shop.workspace, shop.person, shop.version(BETTER), "bob", "looks right") == "promoted"
    assert shop.holders == {"champion": BETTER, "previous": FIRST}
    assert (shop.story[-1], shop.events(BETTER)) == (("visits@2", "promoted"), ["approved"])
    assert shop.ledger[0].evidence["command"] == "nightscore models rollback visits"
    again = promote(shop.workspace, shop.person, shop.version(BETTER), "bob", "once more")
    assert (again.moved, again.reason, len(shop.ledger)) == (False, "visits@2 is the champion already", 2)


def test_the_gate_promotes_by_itself_within_cooldown_and_budget(shop: Shop) -> None:
    first = propose(shop.workspace, shop.auto, shop.version(BETTER), AS_OF, "gate")
    assert (first.action, shop.holders) == ("promoted", {"champion": BETTER, "previous": FIRST})
    lenient = {"approve": "auto", "calibration_margin": 1.0, "segment_loss": 1.0, "refresh_loss": 1.0}
    specs = {"waiting": {}, "asked": {"cooldown_days": 0, "max_in_30_days": 1}, "promoted": {"cooldown_days": 0}}
    for action, limits in specs.items():
        spec = with_promotion(shop.person, **{**lenient, **limits, "confidence": 0.999})
        found = propose(shop.workspace, spec, shop.version(EQUAL), AS_OF, "gate", as_new_recipe=False)
        assert (found.verdict.outcome, found.action) == ("not_worse", action)
    assert shop.holders == {"champion": EQUAL, "previous": BETTER}
    waited = shop.ledger[2]
    assert "0 score dates since the gate's last promotion, 14 are asked for" in waited.reason


def test_a_worse_version_is_rejected_and_only_goes_on_despite_the_gate(shop: Shop) -> None:
    found = propose(shop.workspace, shop.auto, shop.version(WORSE), AS_OF, "gate")
    assert (found.verdict.outcome, found.action, shop.holders) == ("worse", "rejected", {"champion": FIRST})
    with pytest.raises(PromotionRefused, match="the gate found it worse on 2024-03-24: credibly worse"):
        promote(shop.workspace, shop.auto, shop.version(WORSE), "ann", "I want it")
    with pytest.raises(PromotionRefused, match="the gate's last decision on it is rejected"):
        approve(shop.workspace, shop.auto, shop.version(WORSE), "ann", "I want it")
    assert promote(shop.workspace, shop.auto, shop.version(WORSE), "ann", "a test", despite_gate=True).moved
    assert (shop.holders, shop.ledger[0].evidence["despite_gate"]) == ({"champion": WORSE, "previous": FIRST}, True)
    assert shop.ledger[0].evidence["gate_outcome"] == "worse"


def test_too_few_mature_dates_keep_the_challenger_waiting_for_more(shop: Shop) -> None:
    early = night_after(TRAINED, 5)
    found = propose(shop.workspace, shop.auto, shop.version(BETTER), early, "gate")
    assert (found.verdict.outcome, found.action) == ("not_enough_evidence", "kept")
    assert shop.holders == {"champion": FIRST, "challenger": BETTER}
    left_out = shop.ledger[0].evidence["gate"]["left_out"]
    assert left_out["2024-03-05"] == "no unseen score of visits@1 and of visits@2"


def test_a_gain_too_good_to_be_true_is_held_back(shop: Shop) -> None:
    spec = with_promotion(shop.auto, approve="auto", max_gain=0.1)
    found = propose(shop.workspace, spec, shop.version(BETTER), AS_OF, "gate")
    assert (found.verdict.outcome, found.action, shop.holders) == ("held_back", "rejected", {"champion": FIRST})
    assert "too good to be true" in found.reason


def test_what_was_never_judged_or_against_another_champion_is_refused(shop: Shop) -> None:
    with pytest.raises(PromotionRefused, match="the gate has not judged it"):
        promote(shop.workspace, shop.person, shop.version(BETTER), "ann", "please")
    with pytest.raises(PromotionRefused, match="no version is compared with itself"):
        propose(shop.workspace, shop.person, shop.version(FIRST), AS_OF, "ann")
    propose(shop.workspace, shop.person, shop.version(BETTER), AS_OF, "ann")
    promote(shop.workspace, shop.person, shop.version(EQUAL), "ann", "first", despite_gate=True)
    with pytest.raises(PromotionRefused, match="compared it with visits@1, the champion is visits@3 now"):
        promote(shop.workspace, shop.person, shop.version(BETTER), "ann", "please")


def test_uncommitted_sources_are_refused_with_every_other_reason(shop: Shop) -> None:
    spec = with_promotion(shop.auto, approve="auto", allow_dirty=False)
    dirty = replace(shop.version(BETTER), provenance={"dirty": True})
    with pytest.raises(PromotionRefused) as refused:
        promote(shop.workspace, spec, dirty, "ann", "please")
    assert [reason[:20] for reason in refused.value.found] == ["it was trained from ", "the gate has not jud"]
    assert propose(shop.workspace, spec, dirty, AS_OF, "gate").action == "kept"
    assert shop.holders == {"champion": FIRST, "challenger": BETTER}


def test_rolling_back_twice_never_returns_to_a_bad_version(shop: Shop) -> None:
    for number in (BETTER, EQUAL):
        promote(shop.workspace, shop.person, shop.version(number), "ann", "a try", despite_gate=True)
    bad, good = roll_back_alias(shop.workspace, shop.person, "bob", "it was worse")
    assert (bad.version, good.version, shop.holders) == (EQUAL, BETTER, {"champion": BETTER, "previous": FIRST})
    bad, good = roll_back_alias(shop.workspace, shop.person, "bob", "so was this")
    assert (bad.version, good.version, shop.holders) == (BETTER, FIRST, {"champion": FIRST})
    with pytest.raises(AliasMissing, match="previous of visits"):
        roll_back_alias(shop.workspace, shop.person, "bob", "and further?")
    assert shop.story[-2:] == [("visits@3", "rolled_back"), ("visits@2", "rolled_back")]
    assert shop.events(EQUAL) == ["approved", "rolled_back"]


def test_a_version_that_was_taken_back_needs_a_new_judgement_and_a_person(shop: Shop) -> None:
    propose(shop.workspace, shop.auto, shop.version(BETTER), AS_OF, "gate")
    roll_back_alias(shop.workspace, shop.auto, "bob", "customers complained")
    with pytest.raises(PromotionRefused, match="or not since it was taken back"):
        promote(shop.workspace, shop.auto, shop.version(BETTER), "ann", "again")
    free = with_promotion(shop.auto, approve="auto", cooldown_days=0)
    assert propose(shop.workspace, free, shop.version(BETTER), AS_OF, "gate").action == "asked"
    assert approve(shop.workspace, free, shop.version(BETTER), "ann", "they were wrong") == "promoted"
    assert shop.holders == {"champion": BETTER, "previous": FIRST}


def test_a_rejected_version_is_ruled_out_for_good(shop: Shop) -> None:
    propose(shop.workspace, shop.person, shop.version(BETTER), AS_OF, "ann")
    reject(shop.workspace, shop.person, shop.version(BETTER), "bob", "it uses age")
    assert (shop.holders, shop.events(BETTER)) == ({"champion": FIRST}, ["rejected"])
    attempts = (
        lambda one: propose(shop.workspace, shop.person, one, AS_OF, "ann"),
        lambda one: promote(shop.workspace, shop.person, one, "ann", "please", despite_gate=True),
        lambda one: approve(shop.workspace, shop.person, one, "ann", "please"),
    )
    for attempt in attempts:
        with pytest.raises(PromotionRefused):
            attempt(shop.version(BETTER))
    with pytest.raises(PromotionRefused, match="roll it back first: nightscore models rollback visits"):
        reject(shop.workspace, shop.person, shop.version(FIRST), "bob", "bad")
    assert shop.holders == {"champion": FIRST}


def test_a_rollout_is_started_where_the_spec_has_one(shop: Shop) -> None:
    started: list[ModelVersion] = []
    spec = with_promotion(shop.auto, rollout="shadow", approve="auto")
    found = propose(shop.workspace, spec, shop.version(BETTER), AS_OF, "gate", start_rollout=started.append)
    assert (found.action, [one.version for one in started]) == ("rollout", [BETTER])
    assert shop.holders == {"champion": FIRST, "challenger": BETTER}
    asked = with_promotion(shop.person, rollout="canary")
    propose(shop.workspace, asked, shop.version(EQUAL), AS_OF, "ann", start_rollout=started.append)
    assert approve(shop.workspace, asked, shop.version(EQUAL), "bob", "go", started.append) == "rollout"
    assert [one.version for one in started] == [BETTER, EQUAL]
    assert shop.story == [("visits@2", "rollout"), ("visits@3", "asked"), ("visits@3", "rollout")]


def test_while_a_rollout_runs_no_other_version_overtakes_it(shop: Shop) -> None:
    running = {
        "pipeline": "visits", "kind": "canary", "version": EQUAL, "base_version": FIRST, "salt": "s", "entity": [],
        "percent": 5.0, "step_from": AS_OF, "status": "running", "opened_by": "gate",
        "opened_at": shop.workspace.clock.now(),
    }  # fmt: skip
    with shop.workspace.engine.begin() as connection:
        insert_rollout(connection, running)
    found = propose(shop.workspace, shop.auto, shop.version(BETTER), AS_OF, "gate")
    assert (found.action, found.reason.rpartition("; ")[2]) == ("waiting", "another rollout is under way")
    with pytest.raises(PromotionRefused, match="a rollout of visits@3 runs; stop it first"):
        promote(shop.workspace, shop.auto, shop.version(BETTER), "ann", "now", despite_gate=True)
    assert shop.holders == {"champion": FIRST, "challenger": BETTER}


def test_a_champion_that_changes_while_the_gate_judges_stops_the_proposal(shop: Shop) -> None:
    def meanwhile(_: ModelVersion) -> None:
        promote(shop.workspace, shop.person, shop.version(EQUAL), "bob", "faster", despite_gate=True)

    spec = with_promotion(shop.auto, rollout="shadow", approve="auto")
    with pytest.raises(PartitionConflict, match="the champion was visits@1 and is visits@3 now"):
        propose(shop.workspace, spec, shop.version(BETTER), AS_OF, "gate", start_rollout=meanwhile)
    assert (shop.holders, shop.story) == ({"champion": EQUAL, "previous": FIRST}, [("visits@3", "promoted")])


def test_a_damaged_capsule_moves_no_alias(shop: Shop) -> None:
    model = open_capsule(shop.workspace, shop.version(BETTER)).folder / "model.txt"
    whole = model.read_bytes()
    try:
        model.write_bytes(whole.replace(b"1", b"2", 1))
        with pytest.raises(CapsuleRejected):
            promote(shop.workspace, shop.person, shop.version(BETTER), "ann", "please", despite_gate=True)
    finally:
        model.write_bytes(whole)
    assert (shop.holders, shop.ledger) == ({"champion": FIRST}, [])


def test_features_that_lost_a_column_of_a_version_cannot_be_compared(shop: Shop) -> None:
    lake, dataset, night = shop.workspace.lake, features_dataset("visits"), night_after(AS_OF, -3)
    standing = lake.current(dataset, night, night)
    thinner = lake.scan([standing[night]]).drop("visits_3d").collect()
    stored = lake.put(thinner, ("score_date", "customer_id"))
    lake.commit([candidate(dataset, night, stored, thinner.height, "thinner", standing)], "test")
    with pytest.raises(PromotionRefused, match="no column visits_3d, which it learnt from"):
        propose(shop.workspace, shop.person, shop.version(BETTER), AS_OF, "ann")
    assert (shop.holders, shop.ledger) == ({"champion": FIRST}, [])


def test_a_date_is_judged_only_by_a_score_that_had_not_seen_its_labels(shop: Shop) -> None:
    version = shop.version(BETTER)
    learnt, held_out, later = date(2024, 3, 5), date(2024, 3, 8), date(2024, 3, 12)
    scores = unseen_scores(shop.workspace, shop.person, version, [learnt, held_out, later])
    sources = scores.group_by("score_date", "_source").len().sort("score_date").rows()
    assert [row[:2] for row in sources] == [(held_out, "held_out"), (later, "capsule")]
    kept = open_capsule(shop.workspace, version).held_out()
    assert kept is not None
    stored = kept.filter(pl.col("score_date") == held_out).sort("customer_id")["_score"].to_list()
    assert scores.filter(pl.col("_source") == "held_out")["_probability"].to_list() == stored


def test_rows_are_paired_on_the_newest_mature_dates_alone(shop: Shop) -> None:
    pair = shop.version(FIRST), shop.version(BETTER)
    rows = paired_rows(shop.workspace, shop.person, *pair, AS_OF)
    assert list(rows.dates) == nights_between(AS_OF - timedelta(days=14), AS_OF - timedelta(days=1))
    assert (rows.left_out, rows.new_features) == ({}, ())
    assert rows.frame.select(pl.all_horizontal(pl.all().is_not_null()).all()).item()
    longer = with_promotion(shop.person, dates=20)
    wide = paired_rows(shop.workspace, longer, *pair, AS_OF)
    assert (wide.dates[0], wide.dates[-1]) == (date(2024, 3, 8), rows.dates[-1])
    assert wide.left_out[date(2024, 3, 5)] == "no unseen score of visits@1 and of visits@2"


def test_an_alias_that_nobody_holds_fails_closed(shop: Shop) -> None:
    for alias in (CHALLENGER, PREVIOUS):
        with pytest.raises(AliasMissing, match=f"Looking up the {alias} of visits failed"):
            require_alias(shop.workspace, "visits", alias)


def test_a_family_is_the_recipe_without_data_date_and_words(shop: Shop) -> None:
    settings, pipeline = shop.workspace.settings, shop.person
    columns = tuple(one.model_copy(update={"title": "A", "segment": True}) for one in pipeline.features.columns)
    reworded = pipeline.model_copy(
        update={"features": pipeline.features.model_copy(update={"columns": columns}), "description": "other"}
    )
    family = family_of(settings, pipeline)
    assert family_of(settings, reworded) == family
    assert family_of(settings, with_training(pipeline, baselines=())) == family
    others = [with_training(pipeline, seed=8), with_training(pipeline, algorithm=STRONG)]
    assert len({family, *(family_of(settings, one) for one in others)}) == 3
    champion, challenger = (replace(shop.version(one), family=family) for one in (FIRST, BETTER))
    assert is_refresh(champion, challenger)
    assert not is_refresh(replace(champion, family=None), replace(challenger, family=None))
