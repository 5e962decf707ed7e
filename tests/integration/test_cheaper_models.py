"""Cascades and slimmed versions in the registry: trained, scored with, judged and reproduced like any version."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest
from typer.testing import CliRunner

from nightscore.catalog.models import ModelVersion, list_versions
from nightscore.catalog.postgres import Server
from nightscore.errors import PromotionRefused, SpecError
from nightscore.lake.workspace import Workspace
from nightscore.publishing.revisions import choose_publication
from nightscore.registry.families import family_of, is_refresh
from nightscore.registry.promotion import propose
from nightscore.registry.register import train_version
from nightscore.registry.slimming import register_slimmed
from nightscore.registry.versions import open_capsule, require_version
from nightscore.reproduction.nights import reproduce_night
from nightscore.reproduction.versions import reproduce_version
from nightscore.spec.datasets import predictions_dataset
from nightscore.training.boosted import LightGbmModel
from nightscore.training.cascade import CascadeModel
from tests.integration.night_chain import Begun, bootstrap, copied_shop, fresh_database, opened_shop, visits_of_shop
from tests.shop import CUSTOMERS, FIRST_NIGHT

TREES = "{ type: lightgbm, trees: 10, leaves: 5, min_rows_in_leaf: 5 }"
CASCADE = f"{{ type: cascade, full: {TREES}, dates: 2, max_loss_share: 0.1, max_flip_share: 0.3 }}"


@pytest.fixture(scope="module")
def binary(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workspace]:
    """The shop asking who will spend much, by a cascade, after its first night."""
    with (
        fresh_database(server) as name,
        opened_shop(server, name, tmp_path_factory.mktemp("binary")) as workspace,
    ):
        ask_who_spends_much(workspace.settings.root, TREES, CASCADE)
        bootstrap(workspace, visits_of_shop(workspace))
        yield workspace


def ask_who_spends_much(root: Path, before: str, after: str) -> None:
    spec, sql = root / "pipelines/visits.yaml", root / "dbt/models/visits/labels/visits_labels.sql"
    change(spec, ("task: regression", "task: binary"), ("spend_tomorrow", "spends_much"), (before, after))
    change(sql, ("spend as spend_tomorrow", "(spend > 70)::bigint as spends_much"))


def change(path: Path, *pairs: tuple[str, str]) -> None:
    text = path.read_text()
    for before, after in pairs:
        assert text.count(before) == 1
        text = text.replace(before, after)
    path.write_text(text)


def version(workspace: Workspace, number: int) -> ModelVersion:
    return require_version(workspace, "visits", number)


def registered(workspace: Workspace) -> int:
    with workspace.engine.connect() as connection:
        return len(list_versions(connection, "visits"))


def test_a_cascade_is_trained_and_scores_a_night_and_both_are_reproduced(binary: Workspace) -> None:
    made, pipeline = version(binary, 1), visits_of_shop(binary)
    capsule, told = open_capsule(binary, made), made.metrics["cascade"]
    assert (made.algorithm, capsule.algorithm) == ("cascade", "cascade")
    assert isinstance(capsule.model, CascadeModel)
    assert (told["trees"], told["prefix"], told["rows"]) == (10, capsule.model.prefix, 2 * CUSTOMERS)
    assert (made.metrics["calibrate"]["dates"], made.metrics["fit"]["dates"]) == (2, 3)
    predictions = binary.lake.scan(binary.lake.require(predictions_dataset("visits"), [FIRST_NIGHT])).collect()
    assert predictions.height == CUSTOMERS
    assert predictions["score"].is_between(0, 1).all()
    publication = choose_publication(binary, "visits", FIRST_NIGHT)
    assert outcome(reproduce_night(binary, publication, "test")) == ("reproduced", "identical")
    assert outcome(reproduce_version(binary, made, "test")) == ("reproduced", "identical")
    assert train_version(binary, pipeline, FIRST_NIGHT, "again", "run").version == made


def test_a_cascade_is_a_refresh_of_its_full_model_and_the_gate_judges_it(binary: Workspace, tmp_path: Path) -> None:
    spec = binary.settings.pipelines_path / "visits.yaml"
    whole = spec.read_text()
    spec.write_text(whole.replace(CASCADE, TREES))
    try:
        alone = visits_of_shop(binary)
        full = train_version(binary, alone, FIRST_NIGHT, "the full one", "run").version
    finally:
        spec.write_text(whole)
    cascade, pipeline = version(binary, 1), visits_of_shop(binary)
    assert (full.algorithm, full.family) == ("lightgbm", cascade.family)
    assert is_refresh(full, cascade)
    assert family_of(binary.settings, pipeline) == family_of(binary.settings, alone)
    proposal = propose(binary, pipeline, full, FIRST_NIGHT, "test")
    assert (proposal.action, proposal.verdict.outcome) == ("kept", "not_enough_evidence")
    assert proposal.verdict.evidence["is_refresh"]


def outcome(made: object) -> tuple[str, str | None]:
    return made.outcome, made.level  # type: ignore[attr-defined]


@pytest.fixture(scope="module")
def shop(server: Server, begun: Begun, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workspace]:
    with copied_shop(server, begun, tmp_path_factory.mktemp("shop")) as workspace:
        yield workspace


def slim(workspace: Workspace, number: int = 1, max_loss: float = 0.6) -> ModelVersion:
    pipeline = visits_of_shop(workspace)
    return register_slimmed(workspace, pipeline, version(workspace, number), max_loss, "smaller", "test", "run")


def test_a_slimmed_version_is_a_refresh_that_is_reproduced_and_judged(shop: Workspace) -> None:
    full, made = version(shop, 1), slim(shop)
    told, model = made.metrics["slimming"], open_capsule(shop, made).model
    assert (made.version, made.algorithm, made.family, made.as_of) == (2, "lightgbm", full.family, full.as_of)
    assert (told["of"], told["full_trees"], told["metric"]) == (1, 10, "mse")
    assert isinstance(model, LightGbmModel)
    assert model.trees == told["trees"] < 10
    assert made.metrics["held_out"] == full.metrics["held_out"]
    assert slim(shop) == made
    found = reproduce_version(shop, made, "test")
    assert outcome(found) == ("reproduced", "identical")
    assert found.report["members"] == {"visits@1": "nightscore reproduce visits@1"}
    proposal = propose(shop, visits_of_shop(shop), made, FIRST_NIGHT, "test")
    assert (proposal.action, proposal.verdict.evidence["allowance"]) == ("kept", 0.6)


def test_what_cannot_be_slimmed_is_refused_and_nothing_is_registered(shop: Workspace) -> None:
    made = slim(shop)
    before = registered(shop)
    with pytest.raises(PromotionRefused, match="all 10 trees are needed; pruned 10, distilled never"):
        slim(shop, max_loss=1e-9)
    with pytest.raises(SpecError, match="it was made from visits@1 already; slim that one"):
        slim(shop, made.version)
    pipeline = visits_of_shop(shop)
    other = pipeline.model_copy(update={"training": pipeline.training.model_copy(update={"seed": 8})})
    constant = replace(version(shop, 1), algorithm="constant")
    for spec, full, loss, named in (
        (other, version(shop, 1), 0.1, "of another recipe than today's spec"),
        (pipeline, constant, 0.1, "it is of algorithm constant"),
        (pipeline, version(shop, 1), float("nan"), "the loss allowed is nan"),
    ):
        with pytest.raises(SpecError, match=named):
            register_slimmed(shop, spec, full, loss, "wrong", "test", "run")
    assert registered(shop) == before


def test_the_commands_slim_a_version_and_show_what_it_saves(shop: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    from orchestration.cli.app import app

    made = slim(shop)
    monkeypatch.setattr("nightscore.settings.Settings", lambda: shop.settings)
    monkeypatch.setattr("nightscore.lake.workspace.open_workspace", lambda _: shop)
    said = CliRunner().invoke(app, ["slim", "visits@1", "--max-loss", "0.6"])
    assert said.exit_code == 0, said.output
    told = made.metrics["slimming"]
    assert said.output.splitlines()[0] == f"visits@2 is visits@1 with {told['trees']} of 10 trees, {told['kind']}"
    assert said.output.splitlines()[2] == "Let the gate judge it: nightscore models propose visits@2"
    shown = CliRunner().invoke(app, ["models", "show", "visits@2"])
    assert f"Version 1 {'pruned' if told['kind'] == 'pruned' else 'distilled'}" in shown.output


def test_scores_of_a_slimmed_version_are_its_fewer_trees(shop: Workspace) -> None:
    capsule, full = (open_capsule(shop, version(shop, number)) for number in (2, 1))
    rows = pl.read_parquet((full.folder / "golden.parquet").read_bytes()).select(full.encoding.names)
    assert capsule.encoding == full.encoding
    assert capsule.predict(rows).tobytes() != full.predict(rows).tobytes()
