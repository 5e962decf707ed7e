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
from nightscore.registry.environment import describe_environment
from nightscore.registry.manifest import FILE_NAME, MANIFEST_FILE, FileEntry, Manifest, as_json_text
from nightscore.spec.base import Task
from nightscore.training.algorithms import MODEL_FILES, Model, read_model
from nightscore.training.fit import EXPECTED, EXPECTED_RAW, EXPECTED_SCORE, Trained
from nightscore.training.matrix import Encoding, Vector, encode, row_key

OWN_FILES = frozenset(
    {*MODEL_FILES.values(), "features.json", "spec.yaml", "metrics.json", "golden.parquet", "environment.json",
     "context.json", MANIFEST_FILE}
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

    def predict(self, frame: pl.DataFrame, threads: int = 1) -> Vector:
        """Scores (rows,) in the order of `frame`: probabilities for a binary task, values for regression.

        Raises FeatureBuildFailed naming every column that does not fit.
        """
        return self.model.predict(encode(frame, self.encoding, (*self.key, self.label)), threads)


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
    """SHA-256 of what decides scores (splits and leaf values, or coefficients) and of the raw golden scores.

    Two models with this hash in common score alike, whatever their parameters, counts or file format.
    """
    text, raw = trained.model.function_text().encode(), trained.golden[EXPECTED_RAW].to_numpy()
    return hashlib.sha256(text + b"\n" + raw.tobytes()).hexdigest()


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
    )


def golden_differences(folder: Path) -> list[str]:
    """Load the capsule in `folder`, unverified, and say which golden rows it scores otherwise than when written."""
    golden = pl.read_parquet((folder / "golden.parquet").read_bytes())
    expected = golden[EXPECTED_SCORE].to_numpy()
    scores = read_capsule(folder).predict(golden.drop(EXPECTED))
    if not golden.height:
        return ["golden.parquet has no rows"]
    different = np.flatnonzero(expected.view(np.int64) != scores.view(np.int64))
    if not len(different):
        return []
    first = int(different[0])
    values = f"row {first} gives {scores[first]!r}, expected {expected[first]!r}"
    return [f"{len(different)} of {golden.height} golden rows score differently; {values}"]


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
    }
    return {
        trained.model.file_name: trained.model.to_bytes(),
        "golden.parquet": _parquet(trained.golden),
        **{name: text.encode() for name, text in texts.items()},
    }


def _features(trained: Trained) -> dict[str, object]:
    return {
        "algorithm": trained.pipeline.training.algorithm.type,
        "task": trained.pipeline.task,
        "key": row_key(trained.pipeline),
        "label": trained.pipeline.label.column,
        "columns": trained.encoding.as_json(),
    }


def _parquet(frame: pl.DataFrame) -> bytes:
    target = io.BytesIO()
    frame.write_parquet(target, compression="zstd", compression_level=3, statistics=False, row_group_size=1024)
    return target.getvalue()
