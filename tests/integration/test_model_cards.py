"""A model card from a real catalog and a real capsule."""

import json
from datetime import timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa

from nightscore.catalog.decisions import Decision, record_decision
from nightscore.catalog.models import ModelVersion, append_model_event, insert_version, move_alias
from nightscore.catalog.reproductions import Reproduction, record_reproduction
from nightscore.errors import ObjectMissing
from nightscore.lake.workspace import Workspace
from nightscore.reports.card_facts import CardFacts, LifeEvent, read_card
from nightscore.reports.model_card import render_html, render_markdown
from tests.conftest import NOW
from tests.unit.test_model_card import version

SPEC = Path(__file__).parent.parent.parent / "pipelines" / "flight_delay.yaml"


def register(workspace: Workspace, number: int, spec: str) -> ModelVersion:
    store = workspace.lake.store
    files = {"spec.yaml": spec, "context.json": json.dumps({"left_out": {"2013-03-08": "snow"}})}
    entries = {name: store.put_bytes(text.encode()).md5 for name, text in files.items()}
    made = version(pipeline="flight_delay", version=number, recipe_hash=str(number), parent=None, created_at=NOW,
                   capsule_md5=store.put_directory(entries).md5)  # fmt: skip
    with workspace.engine.begin() as connection:
        insert_version(connection, made)
    return made


def move(connection: sa.Connection, number: int | None, hours: int) -> None:
    at = NOW + timedelta(hours=hours)
    assert move_alias(connection, "flight_delay", "champion", number, "ben", f"to {number}", at)


def attempt(number: int, kind: str, outcome: str) -> Reproduction:
    night = NOW.date() if kind == "night" else None
    return Reproduction(
        "flight_delay", kind, number, night, None, outcome, None, None, {}, "drill", "r", 1.0, NOW  # type: ignore[arg-type]
    )  # fmt: skip


def test_a_card_holds_what_became_of_its_version_and_of_no_other(workspace: Workspace) -> None:
    first, second = (register(workspace, number, SPEC.read_text(encoding="utf-8")) for number in (1, 2))
    verdicts = [
        Decision("flight_delay", "promotion", subject, verdict, "why", {}, "gate", NOW)
        for subject, verdict in ((first.name, "wait"), (first.name, "promote"), (second.name, "worse"))
    ]
    outcomes = ((1, "model", "cannot"), (1, "model", "reproduced"), (1, "night", "reproduced"),
                (1, "night", "reproduced"), (2, "model", "not equal"))  # fmt: skip
    with workspace.engine.begin() as connection:
        append_model_event(connection, first, "approved", "ana", "looks right", NOW + timedelta(hours=1))
        append_model_event(connection, second, "rejected", "ana", "looks wrong", NOW + timedelta(hours=1))
        for number, hours in ((1, 2), (2, 3), (1, 4), (None, 5)):
            move(connection, number, hours)
        for one in verdicts:
            record_decision(connection, one)
        for one in outcomes:
            record_reproduction(connection, attempt(*one))
    facts = read_card(workspace, first)
    assert facts.life == (
        LifeEvent(NOW, "registered", "ana", "weekly refresh"),
        LifeEvent(NOW + timedelta(hours=1), "approved", "ana", "looks right"),
        LifeEvent(NOW + timedelta(hours=2), "became champion", "ben", "to 1"),
        LifeEvent(NOW + timedelta(hours=3), "no longer champion; @2 has it now", "ben", "to 2"),
        LifeEvent(NOW + timedelta(hours=4), "became champion, after @2", "ben", "to 1"),
        LifeEvent(NOW + timedelta(hours=5), "no longer champion", "ben", "to None"),
    )
    assert (facts.aliases, facts.gate, facts.left_out) == ((), verdicts[1], {"2013-03-08": "snow"})
    assert facts.reproduction is not None
    assert (facts.reproduction.outcome, facts.nights_reproduced) == ("reproduced", 1)
    assert facts.spec is not None
    assert facts.titles["carrier"] == "airline"
    assert "Chance that a flight departing New York today" in render_markdown(facts)
    assert render_html(facts).count("<svg") == 4


def test_a_spec_of_another_schema_leaves_the_rest_of_the_card(workspace: Workspace) -> None:
    made = register(workspace, 1, "name: flight_delay\nsorcery: true\n")
    facts = read_card(workspace, made)
    assert facts == CardFacts(made, None, {"2013-03-08": "snow"}, (), facts.life)
    assert "Its spec cannot be read by today's schema" in render_markdown(facts)


def test_a_version_whose_capsule_is_gone_has_no_card(workspace: Workspace) -> None:
    made = register(workspace, 1, "")
    workspace.lake.store.path(made.capsule_md5).unlink()
    with pytest.raises(ObjectMissing):
        read_card(workspace, made)
