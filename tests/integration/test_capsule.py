"""Capsules: the same bytes in every process, and no damaged or forged one is loaded or ends the process."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from nightscore.errors import CapsuleRejected, FeatureBuildFailed
from nightscore.measures.calibration import NO_CALIBRATION
from nightscore.registry.capsule import Capsule, CapsuleId, function_hash, write_capsule
from nightscore.registry.manifest import MANIFEST_FILE, FileEntry, Manifest, read_manifest
from nightscore.registry.verify import load_capsule, verify_capsule
from nightscore.scoring.arms import Arms
from nightscore.training.algorithms import MODEL_FILES
from nightscore.training.fit import EXPECTED, EXPECTED_PROBABILITY, EXPECTED_SCORE, Trained, train
from tests.integration.scored import predict_night, score_chunks
from tests.unit.synthetic_flights import ALGORITHMS, LIGHTGBM, make_flights, make_pipeline, training_section

ROOT = Path(__file__).parents[2]
FLIGHTS = make_flights()
CONTEXT = {"snapshot": "abc", "as_of": "2013-04-01", "parent": None, "creator": "tests"}
Change = Callable[[bytes], bytes]
RULE = {"type": "rule", "score": "case when carrier in ('WN', 'UA') then 0.6 when hour > 12 then 0.4 end"}


def fit(algorithm: str, task: str = "binary") -> Trained:
    section = training_section(algorithm=ALGORITHMS[algorithm], baselines=[])
    return train(make_flights(task=task), make_pipeline(algorithm, task, training=section))


def fit_calibrated(method: str, algorithm: dict[str, Any] = LIGHTGBM) -> Trained:
    calibration = {"method": method, "dates": 6}
    section = training_section(algorithm=algorithm, baselines=[], calibration=calibration)
    return train(FLIGHTS, make_pipeline(training=section))


def write(folder: Path, algorithm: str, task: str = "binary") -> CapsuleId:
    return write_capsule(folder, fit(algorithm, task), "name: flights\n", CONTEXT, {"source.tar": b"tar"})


@pytest.fixture(scope="module")
def originals(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, CapsuleId]]:
    root = tmp_path_factory.mktemp("capsules")
    return {name: (root / name, write(root / name, name)) for name in ALGORITHMS}


@pytest.fixture(scope="module")
def loaded(originals: dict[str, tuple[Path, CapsuleId]]) -> dict[str, Capsule]:
    return {
        name: load_capsule(folder, identity.manifest_sha256, None) for name, (folder, identity) in originals.items()
    }


@pytest.fixture
def copy(originals: dict[str, tuple[Path, CapsuleId]], tmp_path: Path) -> Callable[[str], tuple[Path, CapsuleId]]:
    def copied(algorithm: str) -> tuple[Path, CapsuleId]:
        folder, identity = originals[algorithm]
        return Path(shutil.copytree(folder, tmp_path / algorithm)), identity

    return copied


def forge(folder: Path) -> str:
    """Make the manifest match whatever the files are now; its new identity."""
    files = {path.name: FileEntry.of(path.read_bytes()) for path in folder.iterdir() if path.name != MANIFEST_FILE}
    manifest = Manifest(files, read_manifest(folder).function_sha256)
    (folder / MANIFEST_FILE).write_text(manifest.as_text())
    return manifest.sha256


def reasons(folder: Path, identity: str, marker: Path | None = None, **settings: Any) -> tuple[str, ...]:
    with pytest.raises(CapsuleRejected) as failure:
        load_capsule(folder, identity, marker, **settings)
    return failure.value.found


def test_a_capsule_holds_all_that_explains_its_model(originals: dict[str, tuple[Path, CapsuleId]]) -> None:
    folder, identity = originals["lightgbm"]
    manifest = verify_capsule(folder, identity.manifest_sha256)
    assert sorted(manifest.files) == [
        "calibration.json", "context.json", "environment.json", "features.json", "golden.parquet", "held_out.parquet",
        "metrics.json", "model.txt", "source.tar", "spec.yaml",
    ]  # fmt: skip
    assert manifest.function_sha256 == identity.function_sha256
    assert json.loads((folder / "context.json").read_text()) == CONTEXT
    assert json.loads((folder / "metrics.json").read_text())["held_out"]["rows"] == 1200


TRAIN_AND_WRITE = """
import sys
from pathlib import Path
from tests.integration.test_capsule import ALGORITHMS, write
for name in ALGORITHMS:
    print(name, write(Path(sys.argv[1]) / name, name))
"""


def test_two_processes_train_and_write_the_same_bytes(
    originals: dict[str, tuple[Path, CapsuleId]], tmp_path: Path
) -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONHASHSEED": "77"}
    command = [sys.executable, "-c", TRAIN_AND_WRITE, str(tmp_path)]
    said = subprocess.run(command, env=environment, capture_output=True, text=True, check=True, cwd=ROOT).stdout
    assert said.splitlines() == [f"{name} {identity}" for name, (_, identity) in originals.items()]
    for name, (folder, _) in originals.items():
        assert {p.name: p.read_bytes() for p in folder.iterdir()} == {
            p.name: p.read_bytes() for p in (tmp_path / name).iterdir()
        }


@pytest.mark.parametrize("threads", ["1", "4"])
def test_threads_that_the_environment_asks_for_change_no_function(
    originals: dict[str, tuple[Path, CapsuleId]], tmp_path: Path, threads: str
) -> None:
    asked = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "POLARS_MAX_THREADS"), threads)
    command = [sys.executable, "-c", TRAIN_AND_WRITE, str(tmp_path)]
    subprocess.run(command, env={**os.environ, **asked, "PYTHONPATH": str(ROOT)}, check=True, cwd=ROOT,
                   capture_output=True)  # fmt: skip
    found = {name: read_manifest(tmp_path / name).function_sha256 for name in originals}
    assert found == {name: identity.function_sha256 for name, (_, identity) in originals.items()}


def test_a_version_goes_on_scoring_beside_features_it_never_learnt(loaded: dict[str, Capsule], tmp_path: Path) -> None:
    pipeline, path = make_pipeline(), tmp_path / "features.parquet"
    FLIGHTS.drop("label").write_parquet(path)
    learnt = predict_night(pipeline, Arms(1, loaded["lightgbm"]), path, 1)
    FLIGHTS.drop("label").with_columns(pl.lit(1.0).alias("a_new_feature")).write_parquet(path)
    assert predict_night(pipeline, Arms(1, loaded["lightgbm"]), path, 1).equals(learnt)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("task", ["binary", "regression"])
def test_a_loaded_capsule_scores_as_the_trained_model_did(algorithm: str, task: str, tmp_path: Path) -> None:
    trained = fit(algorithm, task)
    identity = write_capsule(tmp_path / "capsule", trained, "", {})
    capsule = load_capsule(tmp_path / "capsule", identity.manifest_sha256, tmp_path / "trust")
    scores = capsule.predict(trained.golden.drop(EXPECTED))
    assert scores.tobytes() == trained.golden[EXPECTED_SCORE].to_numpy().tobytes()
    assert (capsule.algorithm, capsule.task, capsule.key) == (algorithm, task, ("score_date", "carrier", "flight"))
    assert capsule.model.to_bytes() == (tmp_path / "capsule" / MODEL_FILES[algorithm]).read_bytes()
    assert identity.function_sha256 == function_hash(trained)


@pytest.mark.parametrize("method", ["isotonic", "sigmoid"])
@pytest.mark.parametrize("algorithm", [LIGHTGBM, RULE])
def test_a_loaded_capsule_calibrates_as_when_trained(method: str, algorithm: dict[str, Any], tmp_path: Path) -> None:
    trained = fit_calibrated(method, algorithm)
    identity = write_capsule(tmp_path / "capsule", trained, "", {})
    capsule = load_capsule(tmp_path / "capsule", identity.manifest_sha256, None)
    probabilities = capsule.probability(capsule.predict(trained.golden.drop(EXPECTED)))
    assert probabilities.tobytes() == trained.golden[EXPECTED_PROBABILITY].to_numpy().tobytes()
    assert (capsule.calibrator, capsule.calibrator.method) == (trained.calibrator, method)
    held_out = capsule.held_out()
    assert held_out is not None
    assert held_out.equals(trained.held_out)


def make_old(folder: Path) -> str:
    """What a release without calibration wrote."""
    (folder / "calibration.json").unlink()
    (folder / "held_out.parquet").unlink()
    pl.read_parquet(folder / "golden.parquet").drop(EXPECTED_PROBABILITY).write_parquet(folder / "golden.parquet")
    return forge(folder)


def test_a_capsule_of_an_older_release_still_loads(copy: Callable[[str], tuple[Path, CapsuleId]]) -> None:
    folder, _ = copy("lightgbm")
    capsule = load_capsule(folder, make_old(folder), None)
    scores = capsule.predict(FLIGHTS.head(20))
    assert capsule.calibrator == NO_CALIBRATION
    assert capsule.probability(scores).tobytes() == scores.tobytes()
    assert capsule.held_out() is None


@pytest.mark.parametrize(
    ("stored", "named"),
    [
        ('{"method": "sigmoid", "x": [2.0, 0.5], "y": []}', "200 of 200 golden rows have another probability; row 0"),
        ('{"method": "magic", "x": [], "y": []}', "it cannot be loaded: ValueError: method is 'magic'"),
        ('{"method"', "it cannot be loaded: JSONDecodeError"),
        ("[]", "it cannot be loaded: ValueError"),
    ],
)
def test_a_changed_calibration_with_a_matching_manifest_is_rejected(
    copy: Callable[[str], tuple[Path, CapsuleId]], stored: str, named: str
) -> None:
    folder, _ = copy("lightgbm")
    (folder / "calibration.json").write_text(stored)
    assert reasons(folder, forge(folder))[0].startswith(named)


def test_a_calibration_is_part_of_the_function() -> None:
    calibrated = fit_calibrated("sigmoid")
    moved = replace(calibrated.calibrator, x=(calibrated.calibrator.x[0], calibrated.calibrator.x[1] + 1e-9))
    hashes = {function_hash(replace(calibrated, calibrator=one)) for one in (calibrated.calibrator, moved)}
    assert len(hashes | {function_hash(replace(calibrated, calibrator=NO_CALIBRATION))}) == 3


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_chunks_threads_and_row_order_change_no_bit(loaded: dict[str, Capsule], algorithm: str) -> None:
    capsule = loaded[algorithm]
    frame = FLIGHTS.head(600).drop("label")
    whole = pl.concat(score_chunks(capsule, [frame]))
    assert whole.columns == ["score_date", "carrier", "flight", "score", "probability"]
    assert whole.drop("score", "probability").equals(frame.select(capsule.key))
    for rows, threads in ((1, 1), (7, 2), (600, 2)):
        assert pl.concat(score_chunks(capsule, [frame], rows, threads)).equals(whole)
    shuffled = frame.sample(fraction=1, shuffle=True, seed=9)
    parts = [shuffled.head(400), shuffled.slice(400)]
    assert pl.concat(score_chunks(capsule, parts, 77)).sort(capsule.key).equals(whole)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_night_without_rows_has_no_scores(loaded: dict[str, Capsule], algorithm: str) -> None:
    (scored,) = score_chunks(loaded[algorithm], [FLIGHTS.clear()])
    assert scored.columns == ["score_date", "carrier", "flight", "score", "probability"]
    assert scored.height == 0


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize(
    "change",
    [pl.col("carrier").cast(pl.Enum(sorted(FLIGHTS["carrier"].unique()))), pl.col("hour").cast(pl.String)],
)
def test_a_column_that_would_abort_the_library_is_named(
    loaded: dict[str, Capsule], algorithm: str, change: pl.Expr
) -> None:
    with pytest.raises(FeatureBuildFailed, match="expected"):
        loaded[algorithm].predict(FLIGHTS.with_columns(change))


def swap_columns(data: bytes) -> bytes:
    return data.replace(b"carrier hour wind", b"wind hour carrier", 1)


def change_leaf(data: bytes) -> bytes:
    return re.sub(rb"(leaf_value=-?\d\.)(\d)", lambda m: m[1] + (b"9" if m[2] == b"1" else b"1"), data, count=1)


def flip_bit(data: bytes) -> bytes:
    return data[:500] + bytes([data[500] ^ 1]) + data[501:]


DAMAGES: dict[str, Change] = {
    "truncated": lambda data: data[: len(data) // 2],
    "flipped": flip_bit,
    "digit": change_leaf,
    "swapped": swap_columns,
    "emptied": lambda data: b"",
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_model_is_rejected_by_its_hash(
    copy: Callable[[str], tuple[Path, CapsuleId]], damage: str, tmp_path: Path
) -> None:
    folder, identity = copy("lightgbm")
    model = folder / "model.txt"
    model.write_bytes(DAMAGES[damage](model.read_bytes()))
    found = reasons(folder, identity.manifest_sha256, tmp_path / "trust")
    assert [reason.split(" ")[0] for reason in found] == ["model.txt"]
    assert not (tmp_path / "trust").exists()


@pytest.mark.parametrize("damage", ["truncated", "digit", "swapped", "emptied"])
def test_a_damaged_model_with_a_matching_manifest_ends_only_the_child(
    copy: Callable[[str], tuple[Path, CapsuleId]], damage: str, tmp_path: Path
) -> None:
    folder, _ = copy("lightgbm")
    model = folder / "model.txt"
    model.write_bytes(DAMAGES[damage](model.read_bytes()))
    found = reasons(folder, forge(folder), tmp_path / "trust")
    expected = {
        "truncated": "loading it ended the child process with",
        "digit": "of 200 golden rows score differently",
        "swapped": "the model's columns are ['wind', 'hour', 'carrier'",
        "emptied": "it cannot be loaded: ValueError: LightGBM says",
    }
    assert (len(found), expected[damage] in found[0]) == (1, True), found
    assert not (tmp_path / "trust").exists()


@pytest.mark.parametrize("algorithm", ["linear", "constant"])
def test_other_truncated_models_with_a_matching_manifest_are_rejected(
    copy: Callable[[str], tuple[Path, CapsuleId]], algorithm: str
) -> None:
    folder, _ = copy(algorithm)
    model = folder / MODEL_FILES[algorithm]
    model.write_bytes(model.read_bytes()[:-9])
    assert reasons(folder, forge(folder))[0].startswith("it cannot be loaded: ")


def test_golden_rows_that_expect_other_scores_are_rejected(copy: Callable[[str], tuple[Path, CapsuleId]]) -> None:
    folder, _ = copy("constant")
    golden = pl.read_parquet(folder / "golden.parquet")
    moved = golden.with_columns(pl.Series(EXPECTED_SCORE, np.nextafter(golden[EXPECTED_SCORE].to_numpy(), 1)))
    moved.write_parquet(folder / "golden.parquet")
    assert reasons(folder, forge(folder))[0].startswith("200 of 200 golden rows score differently; row 0 gives ")


def test_a_linear_model_that_names_a_strange_type_is_rejected(copy: Callable[[str], tuple[Path, CapsuleId]]) -> None:
    import skops.io
    from sklearn.preprocessing import FunctionTransformer

    folder, _ = copy("linear")
    (folder / "model.skops").write_bytes(skops.io.dumps(FunctionTransformer(os.getcwd)))
    found = reasons(folder, forge(folder))
    assert "types that are not trusted" in found[0]


def test_every_difference_is_named_at_once(copy: Callable[[str], tuple[Path, CapsuleId]]) -> None:
    folder, identity = copy("constant")
    (folder / "spec.yaml").unlink()
    (folder / "context.json").write_text("{}")
    (folder / "source.tar").write_bytes(b"rat")
    (folder / "evil.pkl").write_bytes(b"")
    (folder / "golden.parquet").unlink()
    (folder / "golden.parquet").symlink_to(folder / "metrics.json")
    with pytest.raises(CapsuleRejected) as failure:
        verify_capsule(folder, "0" * 64)
    assert [reason.split(" has ")[0] for reason in failure.value.found] == [
        f"the manifest is {identity.manifest_sha256}, expected {'0' * 64}",
        "evil.pkl is not in the manifest",
        "context.json",
        "golden.parquet is not a regular file",
        "source.tar",
        "spec.yaml is missing",
    ]


@pytest.mark.parametrize(
    ("text", "named"),
    [
        (None, "MANIFEST.json is missing"),
        ("{", "MANIFEST.json is unreadable: JSONDecodeError"),
        ("[]", "MANIFEST.json is unreadable: TypeError"),
        ('{"files": {}, "function_sha256": "", "manifest_sha256": "x"}', "MANIFEST.json says it is x"),
    ],
)
def test_a_manifest_that_cannot_be_read_is_named(
    copy: Callable[[str], tuple[Path, CapsuleId]], text: str | None, named: str
) -> None:
    folder, identity = copy("constant")
    (folder / MANIFEST_FILE).unlink()
    if text is not None:
        (folder / MANIFEST_FILE).write_text(text)
    assert reasons(folder, identity.manifest_sha256)[0].startswith(named)


def test_a_manifest_cannot_point_outside_its_folder(copy: Callable[[str], tuple[Path, CapsuleId]]) -> None:
    folder, _ = copy("constant")
    manifest = Manifest({"../secret": FileEntry.of(b"")}, "")
    (folder / MANIFEST_FILE).write_text(manifest.as_text())
    assert reasons(folder, manifest.sha256) == ("MANIFEST.json names '../secret', which is not a plain file name",)


def test_a_trial_that_takes_too_long_is_rejected(copy: Callable[[str], tuple[Path, CapsuleId]]) -> None:
    folder, identity = copy("constant")
    found = reasons(folder, identity.manifest_sha256, timeout_s=0.01)
    assert found == ("loading it in a child process took longer than 0.01 s",)


def test_a_capsule_is_tried_once_and_the_trust_is_its_own(
    copy: Callable[[str], tuple[Path, CapsuleId]], tmp_path: Path
) -> None:
    marker = tmp_path / "trust" / "marker"
    folder, identity = copy("constant")
    load_capsule(folder, identity.manifest_sha256, marker)
    load_capsule(folder, identity.manifest_sha256, marker, timeout_s=0.01)
    other, other_identity = copy("linear")
    assert "took longer" in reasons(other, other_identity.manifest_sha256, marker, timeout_s=0.01)[0]


def test_the_child_sees_no_settings_of_this_process(
    copy: Callable[[str], tuple[Path, CapsuleId]], monkeypatch: pytest.MonkeyPatch
) -> None:
    from nightscore.registry.verify import _probe_environment

    monkeypatch.setenv("NIGHTSCORE_DATABASE_URL", "postgresql://secret")
    assert set(_probe_environment()) <= {"PATH", "LANG", "LC_ALL", "LD_LIBRARY_PATH", "TMPDIR", "TZ", "PYTHONPATH",
                                         "PYTHONDONTWRITEBYTECODE", "OMP_NUM_THREADS"}  # fmt: skip


@pytest.mark.parametrize("name", ["model.txt", "MANIFEST.json", "../x", "a/b", ""])
def test_an_extra_file_may_not_take_a_name_of_the_capsule(tmp_path: Path, name: str) -> None:
    with pytest.raises(CapsuleRejected, match="is not a free file name"):
        write_capsule(tmp_path / "capsule", fit("constant"), "", {}, {name: b""})
    assert not (tmp_path / "capsule").exists()


def test_a_capsule_is_never_written_over(originals: dict[str, tuple[Path, CapsuleId]]) -> None:
    with pytest.raises(CapsuleRejected, match="is not empty"):
        write(originals["constant"][0], "constant")
