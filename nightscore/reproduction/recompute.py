"""Run as `python -P -m nightscore.reproduction.recompute PLAN.json`: do a piece of the past again, in its own code.

The process that asks unpacks the sources of that time and starts this module from them, in the environment of that
time; so the plan and the report are a contract between releases: keys may be added, none may change its meaning.
It sees files only: no catalog, no lake, no clock. Added here: another thing that can be done again.
Not here: comparing (`compare.py`), or preparing the ground (`sandbox.py`).
"""

import json
import sys
from collections.abc import Mapping
from datetime import date
from pathlib import Path
from time import perf_counter
from typing import Any

import polars as pl

from nightscore.errors import NightscoreError
from nightscore.lake.fingerprints import code_hash
from nightscore.lake.parquet import write_batches, write_parquet
from nightscore.registry.capsule import Capsule, read_capsule
from nightscore.registry.environment import describe_environment
from nightscore.registry.verify import verify_capsule
from nightscore.scoring.arms import Arms, Share
from nightscore.settings import Settings
from nightscore.spec.loader import load_spec
from nightscore.spec.pipeline import Pipeline
from nightscore.training.matrix import row_key

CONTRACT = 1
FAILED = 3
"""Exit code when the work itself failed; the report says why."""


def main(plan_path: Path) -> int:
    """Carry out the plan and write `report.json` beside it."""
    plan, begun = json.loads(plan_path.read_text(encoding="utf-8")), perf_counter()
    report: dict[str, Any] = {"contract": CONTRACT, "environment": describe_environment(), "code_sha256": code_hash()}
    try:
        report["results"] = _WORK[plan["kind"]](plan, plan_path.parent)
        report["foreign_modules"] = _foreign_modules(Path(plan["sources"]))
    except NightscoreError as error:
        report["error"] = {"attempted": error.attempted, "found": list(error.found), "remedy": error.remedy}
    report["seconds"] = perf_counter() - begun
    (plan_path.parent / "report.json").write_text(json.dumps(report, default=str), encoding="utf-8")
    return FAILED if "error" in report else 0


def retrain(plan: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """Join the training set anew, train on it, and write the capsule's own files to `folder/capsule`."""
    from nightscore.registry.capsule import write_capsule
    from nightscore.training.fit import train
    from nightscore.training.reference import read_partitions, with_reference
    from nightscore.training.training_set import join_labels

    pipeline, inputs = _pipeline(plan), Path(plan["inputs"])
    joined = join_labels(pipeline, _scan(inputs / "features"), _scan(inputs / "labels"))
    content = write_parquet(joined.frame, row_key(pipeline), folder / "training_set.parquet")
    read = read_partitions({date.fromisoformat(path.stem): path for path in (inputs / "features").glob("*.parquet")})
    trained = with_reference(train(joined.frame, pipeline), read)
    identity = write_capsule(folder / "capsule", trained, _spec_text(plan), {})
    return {"training_set_content": content, "function_sha256": identity.function_sha256}


def reassemble(plan: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """Put an ensemble together anew from its members' capsules, and write its own files to `folder/capsule`."""
    from nightscore.registry.capsule import write_capsule
    from nightscore.registry.ensembles import CAPSULE_FOLDER, Part, content_of, make_ensemble
    from nightscore.registry.register import TRAINING_SET_FILE

    inputs, parts = Path(plan["inputs"]), []
    for one in plan["members"]:
        own = inputs / f"member_{one['version']}"
        capsule = _capsule(own / CAPSULE_FOLDER, one["manifest_sha256"])
        parts.append(Part(one["version"], one["weight"], one["manifest_sha256"], capsule, own / TRAINING_SET_FILE))
    trained = make_ensemble(_pipeline(plan), parts)
    identity = write_capsule(folder / "capsule", trained, _spec_text(plan), {})
    return {"training_set_content": content_of(parts), "function_sha256": identity.function_sha256}


def reslim(plan: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """Make a version smaller again from its own capsule and training set; its own files go to `folder/capsule`."""
    from nightscore.registry.capsule import write_capsule
    from nightscore.registry.register import TRAINING_SET_FILE
    from nightscore.registry.slimming import FULL_FOLDER, Source, make_slimmed

    inputs, told = Path(plan["inputs"]), plan["slimming"]
    capsule = _capsule(inputs / FULL_FOLDER, told["manifest_sha256"])
    features = {date.fromisoformat(path.stem): path for path in (inputs / "features").glob("*.parquet")}
    source = Source(told["of"], told["manifest_sha256"], capsule, inputs / TRAINING_SET_FILE, features)
    trained = make_slimmed(_pipeline(plan), source, told["max_loss"])
    identity = write_capsule(folder / "capsule", trained, _spec_text(plan), {})
    context = json.loads((capsule.folder / "context.json").read_text(encoding="utf-8"))
    return {"training_set_content": context["training_set_content"], "function_sha256": identity.function_sha256}


def rescore(plan: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """Build a night's features anew from its clean inputs, and its predictions from the pinned features."""
    from nightscore.scoring.predictions import predict_night

    pipeline, inputs, night = _pipeline(plan), Path(plan["inputs"]), date.fromisoformat(plan["night"])
    features = _features(plan, pipeline, inputs, night)
    scored = predict_night(pipeline, _arms(plan), inputs / "features.parquet", plan["threads"])
    key = row_key(pipeline)
    return {
        "features_content": write_parquet(features, key, folder / "features.parquet"),
        "predictions_content": write_batches(scored.batches(), key, folder / "predictions.parquet").content_sha256,
    }


def _arms(plan: Mapping[str, Any]) -> Arms:
    champion = _capsule(Path(plan["capsule"]), plan["manifest_sha256"])
    if plan.get("share") is None:
        return Arms(plan["version"], champion)
    share = Share.from_json(plan["share"])
    return Arms(plan["version"], champion, share, _capsule(Path(plan["challenger"]), share.manifest_sha256))


def _capsule(folder: Path, manifest_sha256: str) -> Capsule:
    verify_capsule(folder, manifest_sha256)
    return read_capsule(folder)  # nothing is lost if it ends this process


def _features(plan: Mapping[str, Any], pipeline: Pipeline, inputs: Path, night: date) -> pl.DataFrame:
    from nightscore.features.compute import compute_features
    from nightscore.quality.masks import accepted_rows
    from nightscore.quality.rules import feature_rules
    from nightscore.spec.datasets import features_dataset

    sources = sorted(path for path in (inputs / "inputs").iterdir() if path.is_dir())
    files = {
        source.name: {date.fromisoformat(path.stem): path for path in sorted(source.glob("*.parquet"))}
        for source in sources
    }
    settings = Settings(root=Path(plan["sources"]), home=Path(plan["home"]), threads=plan["threads"])
    tables = compute_features(settings, pipeline, files, inputs, [night])
    return accepted_rows(tables[features_dataset(pipeline.name)][night], feature_rules(pipeline, night).expectations)


def _pipeline(plan: Mapping[str, Any]) -> Pipeline:
    return load_spec(Path(plan["sources"]) / "pipelines" / f"{plan['pipeline']}.yaml")


def _spec_text(plan: Mapping[str, Any]) -> str:
    return (Path(plan["sources"]) / "pipelines" / f"{plan['pipeline']}.yaml").read_text(encoding="utf-8")


def _scan(folder: Path) -> pl.LazyFrame:
    return pl.scan_parquet(sorted(folder.glob("*.parquet")))


def _foreign_modules(sources: Path) -> list[str]:
    """Modules of the engine that were not loaded from the unpacked sources; there must be none."""
    root = sources.resolve()
    engine = [(name, module) for name, module in sys.modules.items() if name.split(".")[0] == "nightscore"]
    return sorted(
        f"{name} from {module.__file__}"
        for name, module in engine
        if module.__file__ is not None and not Path(module.__file__).resolve().is_relative_to(root)
    )


_WORK = {"model": retrain, "ensemble": reassemble, "slimmed": reslim, "night": rescore}


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
