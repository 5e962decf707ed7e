"""What counts as equal, and which layer is named first when something is not."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from nightscore.registry.manifest import FileEntry, Manifest
from nightscore.reproduction.compare import (
    Comparison,
    compare_models,
    compare_nights,
    environment_differences,
    frame_differences,
)

HERE = {
    "python": "3.11.7", "implementation": "CPython", "platform": "Linux", "libc": "glibc 2.36",
    "packages": {"lightgbm": "4.7.0", "polars": "2.1.0"}, "machine": "x86_64", "cpu_flags": ["avx2", "fma"],
    "blas": ["openblas 0.3.31 Haswell"], "threads": {"OMP_NUM_THREADS": None},
}  # fmt: skip
ELSEWHERE = HERE | {"cpu_flags": ["avx2"]}
NIGHT = pl.DataFrame({"id": [1, 2, 3], "score": [0.25, 0.5, 0.75], "probability": [0.25, 0.5, 0.75], "rank": [3, 2, 1]})


def capsule(folder: Path, scores: list[float], function: str = "f", **files: str) -> Path:
    """A capsule's files as far as they are compared."""
    folder.mkdir()
    texts = {"model.txt": "tree", "metrics.json": "{}", "features.json": "[]", "spec.yaml": "name: x"} | files
    texts |= {
        "environment.json": json.dumps(HERE),
        "context.json": json.dumps({"training_set_content": "data", "code_sha256": "code"}),
    }
    for name, text in texts.items():
        (folder / name).write_text(text)
    golden = pl.DataFrame({"a": [1.0, 2.0], "_expected_score": scores, "_expected_raw": [0.0, 1.0]})
    golden.write_parquet(folder / "golden.parquet")
    manifest = Manifest({name: FileEntry.of((folder / name).read_bytes()) for name in texts}, function)
    (folder / "MANIFEST.json").write_text(manifest.as_text())
    return folder


def report(
    environment: Mapping[str, Any] = HERE, data: str = "data", function: str = "f", code: str = "code"
) -> dict[str, Any]:
    return {
        "environment": environment,
        "code_sha256": code,
        "results": {"training_set_content": data, "function_sha256": function},
    }


def summary(one: Comparison) -> tuple[str | None, str, bool, str | None]:
    return one.level, one.required, one.equal, one.first_difference


@pytest.mark.parametrize(
    ("again", "said", "expected"),
    [
        ({}, report(), ("identical", "identical", True, None)),
        (
            {}, report(code="newer code"),
            ("equivalent", "identical", False, "code: the engine that ran is newer code, it was code"),
        ),
        ({}, report(ELSEWHERE), ("identical", "equivalent", True, None)),
        (
            {"model_txt": "tree of another release"}, report(),
            ("equivalent", "identical", False, "numerics: model.txt has other bytes"),
        ),
        ({"model_txt": "tree of another release"}, report(ELSEWHERE), ("equivalent", "equivalent", True, None)),
        (
            {"scores": [0.25, np.nextafter(0.5, 1)]}, report(),
            ("equivalent", "identical", False, "numerics: golden scores differ by up to 1.11022e-16"),
        ),
        (
            {"scores": [0.25, 0.6]}, report(ELSEWHERE),
            (None, "equivalent", False, "platform: cpu_flags was ['avx2', 'fma'], is ['avx2']"),
        ),
        (
            {"model_txt": "other", "function": "g"}, report(function="g"),
            (None, "identical", False, "numerics: model.txt has other bytes"),
        ),
        (
            {"model_txt": "other", "function": "g", "features_json": "[1]"}, report(function="g"),
            (None, "identical", False, "configuration: features.json has other bytes"),
        ),
        (
            {"model_txt": "other", "function": "g"}, report(data="late data", function="g"),
            (None, "identical", False, "data: the training set has content late data, had data"),
        ),
        (
            {"scores": [0.25, 0.6]}, report(HERE | {"packages": {"lightgbm": "4.6.0"}}),
            (None, "equivalent", False, "environment: lightgbm was 4.7.0, is 4.6.0"),
        ),
    ],
)  # fmt: skip
def test_a_model_made_again_reaches_a_level_and_names_the_first_layer(
    again: dict[str, Any], said: dict[str, Any], expected: object, tmp_path: Path
) -> None:
    files = {name.replace("_", "."): text for name, text in again.items() if name not in {"scores", "function"}}
    original = capsule(tmp_path / "original", [0.25, 0.5])
    made = capsule(tmp_path / "again", again.get("scores", [0.25, 0.5]), again.get("function", "f"), **files)
    assert summary(compare_models(original, made, said)) == expected


def night(folder: Path, frame: pl.DataFrame) -> Path:
    folder.mkdir()
    for table in ("features", "predictions"):
        frame.write_parquet(folder / f"{table}.parquet")
    return folder


RECEIPT = {"code_sha256": "code", "environment": HERE, "features": {"content": "f"}, "predictions_content": "p"}


@pytest.mark.parametrize(
    ("frame", "environment", "features", "expected"),
    [
        (NIGHT, HERE, "f", ("identical", "identical", True, None)),
        (
            NIGHT.with_columns(pl.col("score") + 1e-16), ELSEWHERE, "f", ("equivalent", "equivalent", True, None),
        ),
        (
            NIGHT.with_columns(pl.col("score") + 0.5), HERE, "f",
            (None, "identical", False,
             "numerics: column score differs in 3 of 3 rows, first at id=1: 0.25 then, 0.75 now"),
        ),
        (
            NIGHT.with_columns(pl.col("rank") + 1), ELSEWHERE, "f",
            (None, "equivalent", False, "platform: cpu_flags was ['avx2', 'fma'], is ['avx2']"),
        ),
        (
            NIGHT.head(2), HERE, "other",
            (None, "identical", False, "data: features made again: 1 rows are gone and 0 are new"),
        ),
    ],
)  # fmt: skip
def test_a_night_made_again_reaches_a_level_and_names_the_first_layer(
    frame: pl.DataFrame, environment: Mapping[str, Any], features: str, expected: object, tmp_path: Path
) -> None:
    pinned, again = night(tmp_path / "pinned", NIGHT), night(tmp_path / "again", frame)
    content = "p" if frame is NIGHT else "other"
    results = {"features_content": features, "predictions_content": content}
    said = {"environment": environment, "results": results, "code_sha256": "code"}
    assert summary(compare_nights(RECEIPT, pinned, again, said, ["id"])) == expected


def test_packages_that_came_on_top_are_no_difference() -> None:
    more = HERE | {"packages": {**HERE["packages"], "rich": "15"}}  # type: ignore[dict-item]
    assert list(environment_differences(HERE, more)) == []
    assert [one.what for one in environment_differences(more, HERE | {"python": "3.11.9"})] == [
        "Python was 3.11.7, is 3.11.9"
    ]


def test_nothing_and_not_a_number_equal_themselves_and_not_each_other() -> None:
    then = pl.DataFrame({"id": [1, 2], "value": [None, float("nan")]})
    assert frame_differences(then, then.reverse(), ["id"]) == []
    assert frame_differences(then, then.with_columns(pl.col("value").fill_nan(None)), ["id"]) == [
        "column value differs in 1 of 2 rows, first at id=2: nan then, None now"
    ]
    assert frame_differences(then, then.drop("value"), ["id"]) == ["column value is only in one of them"]
