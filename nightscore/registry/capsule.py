"""A model capsule: a folder with a model and all that is needed to trust, explain and use it.

`write_capsule` makes one; `Capsule` is one that was loaded, which only `verify.load_capsule` should do.
Added here: a file of the capsule. Not here: where capsules are kept, versions and aliases (`versions.py`).
"""

import hashlib
import io
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from nightscore.errors import CapsuleRejected
from nightscore.measures.calibration import NO_CALIBRATION, Calibrator
from nightscore.registry.environment import describe_environment
from nightscore.registry.manifest import FILE_NAME, MANIFEST_FILE, FileEntry, Manifest, as_json_text
from nightscore.spec.base import Task
from nightscore.training.algorithms import MODEL_FILES, Model, algorithm_of, read_model
from nightscore.training.fit import EXPECTED, EXPECTED_PROBABILITY, EXPECTED_RAW, EXPECTED_SCORE, Trained
from nightscore.training.matrix import SCORE_DATE, Encoding, Vector, encode, row_key
from nightscore.training.reference import REFERENCE_FILE, SAMPLE_FILE, Reference

CALIBRATION_FILE, HELD_OUT_FILE = "calibration.json", "held_out.parquet"
OWN_FILES = frozenset(
    {*MODEL_FILES.values(), "features.json", "spec.yaml", "metrics.json", "golden.parquet", "environment.json",
     "context.json", CALIBRATION_FILE, HELD_OUT_FILE, REFERENCE_FILE, SAMPLE_FILE, MANIFEST_FILE}
)  # fmt: skip


@dataclass(frozen=True)
class CapsuleId:
    """The two identities of a model version: its bytes, and the function it computes."""

    manifest_sha256: str
    function_sha256: str


@dataclass(frozen=True)
class Capsule:
    """A loaded capsule. `key`: score_date and the entity key, which may stand beside features, as may the label."""

    folder: Path
    algorithm: str
    task: Task
    key: tuple[str, ...]
    label: str
    encoding: Encoding
    model: Model
    calibrator: Calibrator = NO_CALIBRATION

    @property
    def entity(self) -> tuple[str, ...]:
        """The key without the score date."""
        return tuple(name for name in self.key if name != SCORE_DATE)

    def predict(self, frame: pl.DataFrame, threads: int = 1) -> Vector:
        """Scores (rows,) in the order of `frame`: probabilities for a binary task, values for regression.

        Raises FeatureBuildFailed naming every column that does not fit.
        """
        return self.model.predict(encode(frame, self.encoding, (*self.key, self.label)), threads)

    def probability(self, scores: Vector) -> Vector:
        """Calibrated probabilities (rows,) of `scores` (rows,); the scores themselves without a calibration."""
        return self.calibrator.apply(scores)

    def held_out(self) -> pl.DataFrame | None:
        """Key, label, `_score` and `_probability` of the held-out rows, see `Trained`; None where none were kept."""
        path = self.folder / HELD_OUT_FILE
        return pl.read_parquet(path.read_bytes()) if path.is_file() else None

    def reference(self) -> Reference | None:
        """What later nights are compared with; None where none was kept."""
        return Reference.from_folder(self.folder)


def write_capsule(
    folder: Path,
    trained: Trained,
    pipeline_yaml: str,
    context: Mapping[str, object],
    extra_files: Mapping[str, bytes] | None = None,
) -> CapsuleId:
    """Write `trained` into `folder`, which must be empty or absent; the manifest comes last.

    `context` is kept as given: snapshot, as-of date, parent, creator. `extra_files` (name → bytes) may not take the
    name of one of the capsule's own files. The same input on the same machine gives the same identity.
    """
    _require_room(folder, extra_files or {})
    files = {**_files(trained, pipeline_yaml, context), **(extra_files or {})}
    manifest = Manifest({name: FileEntry.of(data) for name, data in files.items()}, function_hash(trained))
    folder.mkdir(parents=True, exist_ok=True)
    for name, data in files.items():
        (folder / name).write_bytes(data)
    (folder / MANIFEST_FILE).write_text(manifest.as_text(), encoding="utf-8")
    return CapsuleId(manifest.sha256, manifest.function_sha256)


def function_hash(trained: Trained) -> str:
    """SHA-256 of what decides scores (splits and leaf values, or coefficients), calibration and raw golden scores.

    Two models with this hash in common score alike, whatever their parameters, counts or file format.
    """
    text, raw = trained.model.function_text(), trained.golden[EXPECTED_RAW].to_numpy()
    if trained.calibrator != NO_CALIBRATION:
        text += "\n" + as_json_text(trained.calibrator.as_json())
    return hashlib.sha256(text.encode() + b"\n" + raw.tobytes()).hexdigest()


def read_capsule(folder: Path) -> Capsule:
    """The capsule in `folder`, unverified: damaged bytes can end the process. Use `verify.load_capsule`."""
    content = json.loads((folder / "features.json").read_text(encoding="utf-8"))
    encoding = Encoding.from_json(content["columns"])
    model = read_model(content["algorithm"], (folder / MODEL_FILES[content["algorithm"]]).read_bytes(), encoding)
    return Capsule(
        folder=folder,
        algorithm=content["algorithm"],
        task=content["task"],
        key=tuple(content["key"]),
        label=content["label"],
        encoding=encoding,
        model=model,
        calibrator=_calibrator(folder / CALIBRATION_FILE),
    )


def _calibrator(path: Path) -> Calibrator:
    """Capsules of older releases have no such file, and no calibration."""
    return Calibrator.from_json(json.loads(path.read_text(encoding="utf-8"))) if path.is_file() else NO_CALIBRATION


def golden_differences(folder: Path) -> list[str]:
    """Load the capsule in `folder`, unverified, and say which golden rows it scores otherwise than when written."""
    golden = pl.read_parquet((folder / "golden.parquet").read_bytes())
    if not golden.height:
        return ["golden.parquet has no rows"]
    capsule = read_capsule(folder)
    scores = capsule.predict(golden.drop(EXPECTED, strict=False))
    found = _differences(golden[EXPECTED_SCORE].to_numpy(), scores, "score differently")
    if not found and EXPECTED_PROBABILITY in golden.columns:
        expected = golden[EXPECTED_PROBABILITY].to_numpy()
        found = _differences(expected, capsule.probability(scores), "have another probability")
    return found


def _differences(expected: Vector, found: Vector, what: str) -> list[str]:
    different = np.flatnonzero(expected.view(np.int64) != found.view(np.int64))
    if not len(different):
        return []
    first = int(different[0])
    values = f"row {first} gives {found[first]!r}, expected {expected[first]!r}"
    return [f"{len(different)} of {len(expected)} golden rows {what}; {values}"]


def _require_room(folder: Path, extra_files: Mapping[str, bytes]) -> None:
    found = [f"{name!r} is not a free file name" for name in extra_files if not _is_free(name)]
    if folder.exists() and any(folder.iterdir()):
        found.append(f"{folder} is not empty")
    if found:
        raise CapsuleRejected("writing a model capsule", found, "give an empty folder and other names to extra files")


def _is_free(name: str) -> bool:
    return FILE_NAME.fullmatch(name) is not None and name not in OWN_FILES


def _files(trained: Trained, pipeline_yaml: str, context: Mapping[str, object]) -> dict[str, bytes]:
    texts = {
        "features.json": as_json_text(_features(trained)),
        "spec.yaml": pipeline_yaml,
        "metrics.json": as_json_text({**trained.metrics, "importance": trained.importance}),
        "environment.json": as_json_text(describe_environment()),
        "context.json": as_json_text(dict(context)),
        CALIBRATION_FILE: as_json_text(trained.calibrator.as_json()),
    }
    return {
        trained.model.file_name: trained.model.to_bytes(),
        "golden.parquet": _parquet(trained.golden),
        HELD_OUT_FILE: _parquet(trained.held_out),
        **(trained.reference.as_files() if trained.reference else {}),
        **{name: text.encode() for name, text in texts.items()},
    }


def _features(trained: Trained) -> dict[str, object]:
    return {
        "algorithm": algorithm_of(trained.model),
        "task": trained.pipeline.task,
        "key": row_key(trained.pipeline),
        "label": trained.pipeline.label.column,
        "columns": trained.encoding.as_json(),
    }


def _parquet(frame: pl.DataFrame) -> bytes:
    target = io.BytesIO()
    frame.write_parquet(target, compression="zstd", compression_level=3, statistics=False, row_group_size=1024)
    return target.getvalue()
