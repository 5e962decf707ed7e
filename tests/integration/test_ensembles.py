"""Ensembles in the registry: made of versions, scored with, traced and reproduced like any version, and refused."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from typer.testing import CliRunner

from nightscore.catalog.models import ModelVersion, move_alias
from nightscore.catalog.postgres import Server
from nightscore.catalog.reproductions import Reproduction, list_reproductions
from nightscore.errors import CannotReproduce, CapsuleRejected, SpecError
from nightscore.lake.workspace import Workspace
from nightscore.publishing.revisions import choose_publication
from nightscore.registry.capsule import Capsule, write_capsule
from nightscore.registry.ensembles import Part, make_ensemble, register_ensemble
from nightscore.registry.manifest import MANIFEST_FILE, FileEntry, Manifest, read_manifest
from nightscore.registry.register import train_version
from nightscore.registry.unseen import unseen_scores
from nightscore.registry.verify import load_capsule
from nightscore.registry.versions import open_capsule, require_version
from nightscore.reproduction.nights import reproduce_night
from nightscore.reproduction.trace import trace_row
from nightscore.reproduction.versions import reproduce_version
from nightscore.spec.windows import nights_between
from nightscore.training.ensemble import EnsembleModel
from nightscore.training.fit import EXPECTED, train
from tests.integration.night_chain import Begun, copied_shop, night_after, prepare, run_night, visits_of_shop
from tests.integration.scored import score_chunks
from tests.shop import CUSTOMERS, FIRST, FIRST_NIGHT, visits_of, write_day
from tests.unit.synthetic_flights import ALGORITHMS, make_flights, make_pipeline, training_section

LATER = night_after(FIRST_NIGHT, 3)
SQL = "dbt/models/visits/features/visits_features"
NEW_CITY, GONE_CITY = "Aachen", "Köln"


@pytest.fixture(scope="module")
def history(server: Server, begun: Begun, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workspace]:
    """Version 1, of trees; then visits from another city, one feature more, and version 2, linear, which knows both."""
    with copied_shop(server, begun, tmp_path_factory.mktemp("shop")) as workspace:
        root = workspace.settings.root
        moved = pl.when(pl.col("city") == GONE_CITY).then(pl.lit(NEW_CITY)).otherwise("city").alias("city")
        for day in (night_after(FIRST_NIGHT, at) for at in range(-9, 3)):
            write_day(root, day, visits_of(day).with_columns(moved))
        add_feature(root)
        pipeline = visits_of_shop(workspace)
        prepare(workspace, pipeline, nights_between(FIRST, LATER), "later")
        train_version(workspace, pipeline, LATER, "second", "second")
        yield workspace


def add_feature(root: Path) -> None:
    sql, spec, column = root / f"{SQL}.sql", root / "pipelines/visits.yaml", "    - { name: visits_3d"
    for path, before, after in (
        (sql, "tonight.spend as", "tonight.spend / 2 as half_spend, tonight.spend as"),
        (spec, column, f"    - {{ name: half_spend, type: float }}\n{column}"),
        (spec, "lightgbm, trees: 10, leaves: 5, min_rows_in_leaf: 5", "linear"),
    ):
        text = path.read_text()
        assert text.count(before) == 1
        path.write_text(text.replace(before, after))


def version(workspace: Workspace, number: int) -> ModelVersion:
    return require_version(workspace, "visits", number)


def make(workspace: Workspace, *weights: tuple[int, float], purpose: str = "old and new") -> ModelVersion:
    members = [(version(workspace, number), weight) for number, weight in weights]
    return register_ensemble(workspace, visits_of_shop(workspace), members, purpose, "test", "run")


@pytest.fixture(scope="module")
def ensemble(history: Workspace) -> ModelVersion:
    return make(history, (1, 1.0), (2, 3.0))


def entries(workspace: Workspace, made: ModelVersion) -> dict[str, str]:
    return workspace.lake.store.read_directory(made.capsule_md5)


def crown(workspace: Workspace, made: ModelVersion) -> None:
    with workspace.engine.begin() as connection:
        move_alias(connection, "visits", "champion", made.version, "test", "a test", workspace.clock.now())


def outcome(made: Reproduction) -> tuple[str, str | None, str | None]:
    return made.outcome, made.level, made.first_difference


def test_an_ensemble_is_a_version_of_its_own(history: Workspace, ensemble: ModelVersion) -> None:
    assert (ensemble.version, ensemble.algorithm, ensemble.task, ensemble.as_of, ensemble.parent, ensemble.family) == (
        3, "ensemble", "regression", LATER, 1, None,
    )  # fmt: skip
    one, two = version(history, 1), version(history, 2)
    assert ensemble.metrics["members"] == [
        {"version": 1, "weight": 0.25, "manifest_sha256": one.manifest_sha256},
        {"version": 2, "weight": 0.75, "manifest_sha256": two.manifest_sha256},
    ]
    assert ensemble.metrics["all"]["last"] == two.metrics["all"]["last"]
    capsule = open_capsule(history, ensemble)
    names = ("age", "city", "spend_yesterday", "visits_3d", "half_spend")
    assert (capsule.algorithm, capsule.encoding.names) == ("ensemble", names)
    assert capsule.encoding.levels == {"city": (NEW_CITY, "Berlin", GONE_CITY)}


def test_the_same_ensemble_again_is_the_same_version(history: Workspace, ensemble: ModelVersion) -> None:
    assert make(history, (2, 0.75), (1, 0.25), purpose="again").version == ensemble.version
    assert make(history, (1, 1.0), (2, 3.0)).version == ensemble.version


def test_it_is_measured_on_rows_that_no_member_had_seen(history: Workspace, ensemble: ModelVersion) -> None:
    metrics, newest = ensemble.metrics, version(history, 2).metrics
    assert metrics["held_out"] == newest["held_out"]
    assert list(metrics["algorithms"]) == ["ensemble", "member_1", "member_2"]
    assert metrics["algorithms"]["member_2"]["overall"] == newest["algorithms"]["linear"]["overall"]
    assert [one["level"] for one in metrics["algorithms"]["ensemble"]["segments"]["city"]] == [NEW_CITY, "Berlin"]
    held_out = open_capsule(history, ensemble).held_out()
    assert held_out is not None
    nights = held_out["score_date"].unique().sort().to_list()
    of = [unseen_scores(history, visits_of_shop(history), one, nights)
          for one in (version(history, 1), version(history, 2), ensemble)]  # fmt: skip
    one, two, both = (frame.sort("score_date", "customer_id")["_probability"].to_numpy() for frame in of)
    assert np.allclose(both, 0.25 * one + 0.75 * two, rtol=0, atol=1e-12)
    assert both.tobytes() == held_out["_score"].to_numpy().tobytes()


def test_an_ensemble_scores_publishes_is_traced_and_its_night_is_reproduced(
    history: Workspace, ensemble: ModelVersion
) -> None:
    champion = version(history, 1)
    crown(history, ensemble)
    try:
        run_night(history, visits_of_shop(history), LATER, "with the ensemble")
    finally:
        crown(history, champion)
    publication = choose_publication(history, "visits", LATER)
    assert publication.rows == CUSTOMERS
    assert outcome(reproduce_night(history, publication, "test")) == ("reproduced", "identical", None)
    traced = trace_row(history, publication, ["customer_id=7"], "test")
    assert (traced.verdict, traced.model.name) == ("EQUAL", ensemble.name)


def test_an_ensemble_is_reproduced_and_says_how_its_members_are(history: Workspace, ensemble: ModelVersion) -> None:
    made = reproduce_version(history, ensemble, "test")
    assert outcome(made) == ("reproduced", "identical", None)
    assert made.report["members"] == {f"visits@{at}": f"nightscore reproduce visits@{at}" for at in (1, 2)}
    with history.engine.connect() as connection:
        (newest,) = list_reproductions(connection, "visits", limit=1)
    assert (newest.version, newest.outcome, newest.level) == (ensemble.version, "reproduced", "identical")


def test_a_member_that_is_gone_is_named(history: Workspace, ensemble: ModelVersion) -> None:
    path = history.lake.store.path(entries(history, version(history, 1))["model.txt"])
    content = path.read_bytes()
    path.unlink()
    try:
        with pytest.raises(CannotReproduce, match=r"ObjectMissing: member_1/capsule/model\.txt: object \w+ is missing"):
            reproduce_version(history, ensemble, "test")
    finally:
        path.write_bytes(content)


def test_an_ensemble_that_was_put_together_otherwise_is_not_equal(history: Workspace, ensemble: ModelVersion) -> None:
    """A registered capsule whose model has another weight than its context says."""
    files = {name: history.lake.store.path(md5).read_bytes() for name, md5 in entries(history, ensemble).items()}
    context = json.loads(files["context.json"])
    context["members"][0]["weight"], context["members"][1]["weight"] = 0.26, 0.74
    files["context.json"] = json.dumps(context).encode()
    hashes = {name: FileEntry.of(data) for name, data in files.items() if name != MANIFEST_FILE}
    manifest = Manifest(hashes, ensemble.function_hash)
    files[MANIFEST_FILE] = manifest.as_text().encode()
    stored = {name: history.lake.store.put_bytes(data).md5 for name, data in files.items()}
    forged = replace(
        ensemble, capsule_md5=history.lake.store.put_directory(stored).md5, manifest_sha256=manifest.sha256
    )  # fmt: skip
    made = reproduce_version(history, forged, "test")
    assert (made.outcome, made.level) == ("not equal", None)
    assert {one["what"] for one in made.report["differences"]} >= {
        "model.ensemble.json has other bytes", "held_out.parquet has other bytes", "metrics.json has other bytes",
    }  # fmt: skip


def test_every_reason_against_an_ensemble_is_given_at_once(history: Workspace, ensemble: ModelVersion) -> None:
    other = visits_of_shop(history)
    other = other.model_copy(update={"task": "binary", "label": other.label.model_copy(update={"column": "bought"})})
    members = [(version(history, 2), 0.0), (ensemble, 1.0), (ensemble, 1.0)]
    with pytest.raises(SpecError) as failure:
        register_ensemble(history, other, members, "wrong", "test", "run")
    mistaken = ["has task regression, the spec says binary", "has label spend_tomorrow, the spec says bought"]
    of_ensemble = ["is an ensemble itself; name its members instead", *mistaken]
    assert list(failure.value.found) == [
        "visits@3 is a member 2 times",
        *(f"visits@2 {one}" for one in ["has weight 0.0, expected a number above 0", *mistaken]),
        *(f"visits@3 {one}" for one in of_ensemble * 2),
    ]
    with pytest.raises(SpecError, match="1 members, expected at least 2"):
        make(history, (1, 1.0))


def test_the_command_registers_an_ensemble(
    history: Workspace, ensemble: ModelVersion, monkeypatch: pytest.MonkeyPatch
) -> None:
    import typer

    from orchestration.cli.ensembles import ensemble as command

    monkeypatch.setattr("nightscore.settings.Settings", lambda: history.settings)
    monkeypatch.setattr("nightscore.lake.workspace.open_workspace", lambda _: history)
    app = typer.Typer()
    app.command()(command)
    said = CliRunner().invoke(app, ["visits", "1=1", "2=3", "--purpose", "again"])
    assert said.output.splitlines() == [
        "visits@3 is the weighted mean of visits@1 (0.25), visits@2 (0.75)",
        "Unseen by all of them: 120 labelled rows",
        "See it: nightscore models show visits@3",
    ]
    wrong = CliRunner().invoke(app, ["visits", "1", "two=3"])
    assert isinstance(wrong.exception, SpecError)
    assert wrong.exception.found == ("'1' is not VERSION=WEIGHT", "'two=3' is not VERSION=WEIGHT")


def flights_part(folder: Path, number: int, algorithm: str, carriers: list[str], method: str | None) -> Part:
    """A version of the made-up airport, of some carriers alone, as a member."""
    calibration = {"calibration": {"method": method, "dates": 4}} if method else {}
    section = training_section(algorithm=ALGORITHMS[algorithm], baselines=[], **calibration)
    frame = make_flights().filter(pl.col("carrier").is_in(carriers))
    identity = write_capsule(folder / "capsule", train(frame, make_pipeline(training=section)), "", {})
    frame.write_parquet(folder / "training_set.parquet")
    capsule = load_capsule(folder / "capsule", identity.manifest_sha256, None)
    return Part(number, 0.5, identity.manifest_sha256, capsule, folder / "training_set.parquet")


@pytest.fixture(scope="module")
def flights(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A capsule of two calibrated classifiers that know other carriers: its folder and identity."""
    folder = tmp_path_factory.mktemp("flights")
    for name in ("1", "2"):
        (folder / name).mkdir()
    parts = [
        flights_part(folder / "1", 1, "lightgbm", ["AA", "B6", "DL"], "isotonic"),
        flights_part(folder / "2", 2, "linear", ["B6", "DL", "UA", "WN"], "sigmoid"),
    ]
    made = make_ensemble(make_pipeline(), parts)
    return folder / "made", write_capsule(folder / "made", made, "", {}).manifest_sha256


@pytest.fixture
def loaded(flights: tuple[Path, str]) -> Capsule:
    return load_capsule(*flights, None)


def test_a_binary_ensemble_survives_its_capsule_and_the_trial(loaded: Capsule) -> None:
    golden = pl.read_parquet(loaded.folder / "golden.parquet")
    scores = loaded.predict(golden.drop(EXPECTED))
    assert [golden[name].to_numpy().tobytes() for name in EXPECTED] == [scores.tobytes()] * 3
    assert loaded.probability(scores) is scores
    assert (scores.min() >= 0, scores.max() <= 1, golden.height) == (True, True, 400)
    held_out, metrics = loaded.held_out(), json.loads((loaded.folder / "metrics.json").read_text())
    assert held_out is not None
    assert sorted(held_out["carrier"].unique()) == ["B6", "DL"]
    assert metrics["held_out"]["rows"] == held_out.height
    assert len(metrics["reliability"]) == 10
    assert metrics["algorithms"]["ensemble"]["overall"]["roc_auc"] > 0.6


def test_chunks_threads_and_row_order_change_no_bit_of_a_capsule(loaded: Capsule) -> None:
    frame = make_flights().head(600).drop("label")
    whole = pl.concat(score_chunks(loaded, [frame]))
    for rows, threads in ((1, 1), (7, 2), (600, 2)):
        assert pl.concat(score_chunks(loaded, [frame], rows, threads)).equals(whole)
    shuffled = frame.sample(fraction=1, shuffle=True, seed=9)
    assert pl.concat(score_chunks(loaded, [shuffled], 77)).sort(loaded.key).equals(whole)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda data: data[: len(data) // 2], "it cannot be loaded: ValueError: the ensemble is damaged"),
        (lambda data: data.replace(b'"weight": 0.5', b'"weight": 0.4', 1), "weights add up to 0.9, expected 1"),
        (lambda data: data.replace(b'"DL"', b'"DM"'), "do not make the capsule's"),
        (lambda data: data.replace(b"leaf_value=0", b"leaf_value=1"), "golden rows score differently"),
        (lambda data: data.replace(b"Tree=3", b"T"), ""),
    ],
)  # fmt: skip
def test_a_changed_ensemble_with_a_matching_manifest_ends_only_the_child(
    loaded: Capsule, tmp_path: Path, change: object, named: str
) -> None:
    import shutil

    folder = Path(shutil.copytree(loaded.folder, tmp_path / "copy"))
    model = folder / "model.ensemble.json"
    assert callable(change)
    before = model.read_bytes()
    model.write_bytes(change(before))
    assert model.read_bytes() != before
    files = {path.name: FileEntry.of(path.read_bytes()) for path in folder.iterdir() if path.name != MANIFEST_FILE}
    manifest = Manifest(files, read_manifest(folder).function_sha256)
    (folder / MANIFEST_FILE).write_text(manifest.as_text())
    with pytest.raises(CapsuleRejected) as failure:
        load_capsule(folder, manifest.sha256, None)
    assert named in failure.value.found[0]


def test_members_without_a_common_unseen_row_make_an_ensemble_without_figures(tmp_path: Path) -> None:
    for name in ("1", "2"):
        (tmp_path / name).mkdir()
    parts = [
        flights_part(tmp_path / "1", 1, "lightgbm", ["AA", "B6"], None),
        flights_part(tmp_path / "2", 2, "constant", ["UA", "WN"], None),
    ]
    made = make_ensemble(make_pipeline(), parts)
    assert (made.metrics["algorithms"], made.metrics["held_out"]["rows"], made.held_out.height) == ({}, 0, 0)
    identity = write_capsule(tmp_path / "made", made, "", {})
    capsule = load_capsule(tmp_path / "made", identity.manifest_sha256, None)
    assert isinstance(capsule.model, EnsembleModel)
