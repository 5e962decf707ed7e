"""What was made then against what was made again: the level of equality reached, and the first difference by layer.

Levels: `identical` (same bytes, same scores to the bit), which the same environment on the same kind of machine must
reach; `equivalent` (same function or columns, scores within 1e-12), which is what another processor or C library can
give. Anything less is not equal. Added here: another thing to compare. Not here: computing it.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import polars as pl

from nightscore.registry.capsule import CALIBRATION_FILE
from nightscore.registry.environment import PLATFORM_FACTS
from nightscore.registry.manifest import read_manifest
from nightscore.training.fit import EXPECTED
from nightscore.training.matrix import Vector

TOLERANCE = 1e-12
Level = Literal["identical", "equivalent"]
LAYERS = ("data", "code", "configuration", "environment", "platform", "numerics", "publication")
_NAMED = 5


@dataclass(frozen=True)
class Difference:
    """One difference, in the layer where it arises."""

    layer: str
    what: str


@dataclass(frozen=True)
class Comparison:
    """The level reached (None: not even equivalent), the one required, and every difference, in layer order."""

    level: Level | None
    required: Level
    differences: tuple[Difference, ...]

    @property
    def equal(self) -> bool:
        """Whether what was required was reached."""
        return self.level is not None and (self.level == "identical" or self.required == "equivalent")

    @property
    def first_difference(self) -> str | None:
        """The difference that explains the others, of something that is not equal."""
        if self.equal:
            return None
        first = self.differences[0] if self.differences else Difference("numerics", "no cause was found")
        return f"{first.layer}: {first.what}"


def compare_models(original: Path, again: Path, report: Mapping[str, Any], pinned: Path | None = None) -> Comparison:
    """A capsule against the one that was trained again; `report` is the child's.

    `pinned` is the training set of the time; where the one that was joined again beside `again` differs, it says how.
    """
    surroundings = list(environment_differences(_json(original / "environment.json"), report["environment"]))
    context, results = _json(original / "context.json"), report["results"]
    found = [*surroundings, *_code_difference(context["code_sha256"], report.get("code_sha256"))]
    found += _data_difference("the training set", context["training_set_content"], results["training_set_content"])
    if pinned is not None and found[-1:] and found[-1].layer == "data":
        joined, key = again.parent / pinned.name, _json(original / "features.json")["key"]
        found += [Difference("data", one) for one in _frames_between(pinned, joined, key)]
    found += _file_differences(original, again)
    change = _largest_change(original, again)
    if change is None or change > 0:
        rows = "other golden rows were drawn" if change is None else f"golden scores differ by up to {change:g}"
        found.append(Difference("numerics", rows))
    same_function = read_manifest(original).function_sha256 == results["function_sha256"]
    if not same_function:
        found.append(Difference("numerics", "the trees or coefficients are others"))
    same_bytes = all(one.layer in {"environment", "platform"} for one in found)
    close = same_function and change is not None and change <= TOLERANCE
    return _comparison("identical" if same_bytes else "equivalent" if close else None, surroundings, found)


def compare_nights(
    receipt: Mapping[str, Any], pinned: Path, again: Path, report: Mapping[str, Any], key: Sequence[str]
) -> Comparison:
    """A night's pinned features and predictions (`pinned`) against those that were made again (`again`)."""
    surroundings = list(environment_differences(receipt["environment"], report["environment"]))
    results = report["results"]
    code = _code_difference(receipt["code_sha256"], report.get("code_sha256"))
    found = [*surroundings, *code]
    features = _data_difference("the night's features", receipt["features"]["content"], results["features_content"])
    if features:
        found += [Difference("data", f"features made again: {one}") for one in _between(pinned, again, "features", key)]
    same = receipt["predictions_content"] == results["predictions_content"]
    if not same:
        found += [Difference("numerics", one) for one in _between(pinned, again, "predictions", key)]
    close = not features and (same or _close(pinned, again, key))
    identical = same and not features and not code
    return _comparison("identical" if identical else "equivalent" if close else None, surroundings, found)


def _comparison(level: Level | None, surroundings: Sequence[Difference], found: Sequence[Difference]) -> Comparison:
    required: Level = "equivalent" if surroundings else "identical"
    return Comparison(level, required, tuple(sorted(found, key=lambda one: LAYERS.index(one.layer))))


def environment_differences(then: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[Difference]:
    """Python, packages, thread settings and machine that are not what they were; extra packages do not matter."""
    if then["python"] != now["python"]:
        yield Difference("environment", f"Python was {then['python']}, is {now['python']}")
    for name, version in then["packages"].items():
        if name in now["packages"] and now["packages"][name] != version:
            yield Difference("environment", f"{name} was {version}, is {now['packages'][name]}")
    if then["threads"] != now["threads"]:
        yield Difference("environment", f"thread settings were {then['threads']}, are {now['threads']}")
    for fact in PLATFORM_FACTS:
        if then[fact] != now[fact]:
            yield Difference("platform", f"{fact} was {then[fact]}, is {now[fact]}")


def frame_differences(then: pl.DataFrame, now: pl.DataFrame, key: Sequence[str]) -> list[str]:
    """Sentences: columns, rows by key, and values that are not the same; NaN equals NaN, null equals null."""
    columns = sorted(set(then.columns) ^ set(now.columns))
    if columns:
        return [f"column {name} is only in one of them" for name in columns]
    lost = then.select(key).join(now.select(key), on=list(key), how="anti", nulls_equal=True).height
    new = now.select(key).join(then.select(key), on=list(key), how="anti", nulls_equal=True).height
    if lost or new:
        return [f"{lost} rows are gone and {new} are new"]
    return list(_value_differences(then.sort(key), now.sort(key), key))


def _value_differences(then: pl.DataFrame, now: pl.DataFrame, key: Sequence[str]) -> Iterator[str]:
    for name in then.columns:
        unequal = (then[name].ne_missing(now[name])).arg_true()
        if len(unequal):
            at = int(unequal[0])
            where = ", ".join(f"{column}={then[column][at]}" for column in key)
            values = f"{then[name][at]!r} then, {now[name][at]!r} now"
            yield f"column {name} differs in {len(unequal)} of {then.height} rows, first at {where}: {values}"


def _between(pinned: Path, again: Path, table: str, key: Sequence[str]) -> list[str]:
    return _frames_between(pinned / f"{table}.parquet", again / f"{table}.parquet", key)


def _frames_between(pinned: Path, again: Path, key: Sequence[str]) -> list[str]:
    then, now = (pl.read_parquet(path) for path in (pinned, again))
    return frame_differences(then, now, key)[:_NAMED] or ["the content hashes differ, the values do not"]


def _close(pinned: Path, again: Path, key: Sequence[str]) -> bool:
    then, now = (pl.read_parquet(folder / "predictions.parquet").sort(key) for folder in (pinned, again))
    if then.drop("score", "probability").equals(now.drop("score", "probability")):
        return bool(((then["score"] - now["score"]).abs() <= TOLERANCE).all())
    return False


def _data_difference(what: str, then: str | None, now: str) -> list[Difference]:
    return [] if then == now else [Difference("data", f"{what} has content {now[:12]}, had {str(then)[:12]}")]


def _code_difference(then: str, now: str | None) -> list[Difference]:
    """A release that does not report its code has none to compare."""
    if now is None or now == then:
        return []
    return [Difference("code", f"the engine that ran is {now[:12]}, it was {then[:12]}")]


def _file_differences(original: Path, again: Path) -> Iterator[Difference]:
    then, now = read_manifest(original).files, read_manifest(again).files
    layers = {"features.json": "configuration", "spec.yaml": "configuration", "metrics.json": "numerics"}
    layers |= {name: "numerics" for name in then if name.startswith("model.") or name == CALIBRATION_FILE}
    for name, layer in layers.items():
        if then[name] != now.get(name):
            yield Difference(layer, f"{name} has other bytes")


def _largest_change(original: Path, again: Path) -> float | None:
    """The largest change of a golden score, raw or final, or probability; None where the golden rows are others."""
    then, now = (pl.read_parquet(folder / "golden.parquet") for folder in (original, again))
    expected = [name for name in EXPECTED if name in then.columns]
    if set(then.columns) != set(now.columns):
        return None
    if not then.drop(expected).equals(now.drop(expected)):
        return None
    return max(_change(then[name].to_numpy(), now[name].to_numpy()) for name in expected)


def _change(then: Vector, now: Vector) -> float:
    if then.tobytes() == now.tobytes():
        return 0.0
    return float(np.max(np.abs(then - now), initial=np.nextafter(0, 1)))


def _json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))
