"""Ensembles as versions: old and new versions of a pipeline, averaged by weight, in a capsule that needs none of them.

Nothing is fitted, so an ensemble is measured on rows whose labels none of its members had seen.
Added here: a rule of who may be a member, another fact about the whole. Not here: how members' scores become one
(`nightscore/training/ensemble.py`), or whether the ensemble may be champion (`gate.py`).
"""

import hashlib
import json
import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from nightscore.catalog.models import ModelVersion, version_of_recipe
from nightscore.errors import SpecError
from nightscore.lake.workspace import Workspace
from nightscore.measures.calibration import NO_CALIBRATION, reliability
from nightscore.registry.capsule import Capsule
from nightscore.registry.provenance import Provenance, find_provenance
from nightscore.registry.register import TRAINING_SET_FILE, Draft, insert_draft, keep_commit_of
from nightscore.registry.versions import open_capsule
from nightscore.spec.pipeline import Pipeline
from nightscore.training.ensemble import ENSEMBLE, EnsembleModel, Member, shares, union_encoding, weighted_mean
from nightscore.training.evaluate import Scored, evaluate, labels_of, measure_fairness, measure_groups
from nightscore.training.fit import EXPECTED, HELD_OUT_PROBABILITY, HELD_OUT_SCORE, Trained
from nightscore.training.matrix import SCORE_DATE, Vector, encode, row_key
from nightscore.training.reference import read_frame, with_reference

CAPSULE_FOLDER = "capsule"
"""Where an ensemble's snapshot keeps a member's capsule, beside what that member learnt from."""
_PREDICTION = "_prediction"


@dataclass(frozen=True)
class Part:
    """A member on the way into an ensemble: its opened capsule, and the training set it was fitted to."""

    version: int
    weight: float
    manifest_sha256: str
    capsule: Capsule
    training_set: Path

    @property
    def folder(self) -> str:
        """Its place in the ensemble's snapshot, and the name of its figures."""
        return f"member_{self.version}"

    @cached_property
    def metrics(self) -> dict[str, Any]:
        """Its own metrics, with `importance`."""
        found: dict[str, Any] = json.loads((self.capsule.folder / "metrics.json").read_text(encoding="utf-8"))
        return found

    @property
    def last(self) -> date:
        """The last score date whose labels it knows."""
        return date.fromisoformat(self.metrics["all"]["last"])

    def unseen(self, rows: pl.DataFrame) -> pl.DataFrame:
        """Key and prediction of those of `rows` whose labels it had not seen: held out once, or after its last date."""
        key, names = list(self.capsule.key), self.capsule.encoding.names
        known = rows.select(*key).with_columns(pl.lit(None, pl.Float64).alias(_PREDICTION)).clear()
        if (stored := self.capsule.held_out()) is not None:
            kept = stored.select(*key, pl.col(HELD_OUT_PROBABILITY).alias(_PREDICTION))
            known = rows.select(key).join(kept, on=key)
        later = rows.filter(pl.col(SCORE_DATE) > self.last)
        if not set(names) <= set(rows.columns):
            return known
        scores = self.capsule.probability(self.capsule.predict(later.select(list(dict.fromkeys((*key, *names))))))
        return pl.concat([known, later.select(*key, pl.Series(_PREDICTION, scores, dtype=pl.Float64))])


def register_ensemble(
    workspace: Workspace, pipeline: Pipeline, members: Sequence[tuple[ModelVersion, float]], purpose: str, actor: str,
    run_id: str,
) -> ModelVersion:  # fmt: skip
    """Register the weighted mean of `members` (version, weight above 0) as a version; weights are divided by their sum.

    The same members with the same weights, in whatever order, are the version they were before. Raises SpecError with
    every reason why they cannot be one, CapsuleRejected for a damaged member.
    """
    ordered = sorted(members, key=lambda one: one[0].version)
    parts = [_open(workspace, version, weight) for version, weight in ordered]
    if found := list(_refusals(pipeline, ordered, parts)):
        remedy = f"choose other members: `nightscore models list {pipeline.name}`"
        raise SpecError(f"Making an ensemble of {pipeline.name}", found, remedy)
    recipe = _recipe(parts)
    with workspace.engine.connect() as connection:
        known = version_of_recipe(connection, pipeline.name, recipe)
    version = known or _register(workspace, pipeline, ordered, parts, recipe, purpose, actor, run_id)
    open_capsule(workspace, version)
    return version


def make_ensemble(pipeline: Pipeline, parts: Sequence[Part]) -> Trained:
    """The ensemble of `parts`, which stand in the order of their versions, measured on rows that all had not seen.

    `importance` is the weighted mean of members' shares of gain. A golden row has nulls where its member knew no such
    column. Raises ValueError where the members' columns exclude each other.
    """
    model = EnsembleModel.of(
        [Member(p.weight, p.capsule.encoding, p.capsule.calibrator, p.capsule.model) for p in parts]
    )
    rows, scored = _unseen_by_all(pipeline, parts, [one.weight for one in model.members])
    made = Trained(
        pipeline=pipeline,
        model=model,
        encoding=model.encoding,
        calibrator=NO_CALIBRATION,
        metrics=_measure(_answerable(pipeline, rows), parts, model, rows, scored),
        importance=_importance(parts, model),
        golden=_golden(parts, model),
        held_out=rows.select(
            *row_key(pipeline),
            pipeline.label.column,
            pl.Series(HELD_OUT_SCORE, scored[ENSEMBLE].scores),
            pl.Series(HELD_OUT_PROBABILITY, scored[ENSEMBLE].probabilities),
        ),
    )
    return with_reference(made, read_frame(_learnt(pipeline, parts)))


def _learnt(pipeline: Pipeline, parts: Sequence[Part]) -> pl.DataFrame:
    """The rows that any member learnt from; a date is as the newest member that knows it has it."""
    found: list[pl.DataFrame] = []
    dates: set[date] = set()
    for part in sorted(parts, key=lambda part: (part.last, part.version), reverse=True):
        rows = pl.read_parquet(part.training_set).filter(~pl.col(SCORE_DATE).is_in(sorted(dates)))
        found.append(rows)
        dates |= set(rows[SCORE_DATE].to_list())
    return pl.concat(found, how="diagonal_relaxed").sort(row_key(pipeline))


def content_of(parts: Sequence[Part]) -> str:
    """SHA-256 over the contents of the members' training sets: the data that the ensemble stands on."""
    texts = [(part.capsule.folder / "context.json").read_text(encoding="utf-8") for part in parts]
    return _hash([json.loads(text)["training_set_content"] for text in texts])


def _open(workspace: Workspace, version: ModelVersion, weight: float) -> Part:
    capsule = open_capsule(workspace, version)
    store = workspace.lake.store
    entries = store.read_directory(version.snapshot_md5)
    # An ensemble has no such file, and is refused as a member.
    training_set = store.verified_path(entries[TRAINING_SET_FILE]) if TRAINING_SET_FILE in entries else Path()
    return Part(version.version, weight, version.manifest_sha256, capsule, training_set)


def _refusals(
    pipeline: Pipeline, members: Sequence[tuple[ModelVersion, float]], parts: Sequence[Part]
) -> Iterator[str]:
    if len(members) < 2:
        yield f"{len(members)} members, expected at least 2"
    names = Counter(version.name for version, _ in members)
    yield from (f"{name} is a member {times} times" for name, times in names.items() if times > 1)
    for (version, weight), part in zip(members, parts, strict=True):
        yield from (f"{version.name} {reason}" for reason in _unfit(pipeline, version, weight, part))
    try:
        union_encoding([part.capsule.encoding for part in parts])
    except ValueError as error:
        yield from str(error).split("; ")


def _unfit(pipeline: Pipeline, version: ModelVersion, weight: float, part: Part) -> Iterator[str]:
    if not (math.isfinite(weight) and weight > 0):
        yield f"has weight {weight}, expected a number above 0"
    if version.pipeline != pipeline.name:
        yield f"is no version of {pipeline.name}"
    if version.algorithm == ENSEMBLE:
        yield "is an ensemble itself; name its members instead"
    elif part.training_set == Path():
        yield f"has no {TRAINING_SET_FILE} in its snapshot"
    found = (part.capsule.task, part.capsule.label, part.capsule.key)
    wanted = (pipeline.task, pipeline.label.column, row_key(pipeline))
    for what, own, asked in zip(("task", "label", "key"), found, wanted, strict=True):
        if own != asked:
            yield f"has {what} {_shown(own)}, the spec says {_shown(asked)}"


def _shown(value: str | Sequence[str]) -> str:
    return value if isinstance(value, str) else ", ".join(value)


def _recipe(parts: Sequence[Part]) -> str:
    weights = shares([part.weight for part in parts])
    members = [[part.manifest_sha256, weight.hex()] for part, weight in zip(parts, weights, strict=True)]
    return _hash([ENSEMBLE, members])


def _hash(value: object) -> str:
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()


def _register(
    workspace: Workspace, pipeline: Pipeline, members: Sequence[tuple[ModelVersion, float]], parts: Sequence[Part],
    recipe: str, purpose: str, actor: str, run_id: str,
) -> ModelVersion:  # fmt: skip
    versions = [version for version, _ in members]
    trained, provenance = make_ensemble(pipeline, parts), find_provenance(workspace.settings.root, pipeline.name)
    draft = Draft(
        recipe, _snapshot(workspace, versions, parts), ENSEMBLE, max(one.as_of for one in versions), purpose, actor,
        run_id, facts_of_derived(versions, provenance), None,
    )  # fmt: skip
    context = {"members": trained.metrics["members"], "training_set_content": content_of(parts), "left_out": {}}
    version = insert_draft(workspace, pipeline, trained, draft, context, provenance)
    keep_commit_of(workspace, version)
    return version


def facts_of_derived(versions: Sequence[ModelVersion], provenance: Provenance) -> dict[str, Any]:
    """A version is as clean as those it is made of: uncommitted changes must not become champion by way of one."""
    dirty = [version.name for version in versions if (version.provenance or {}).get("dirty")]
    return provenance.facts | ({"dirty": True, "dirty_members": dirty} if dirty else {})


def _snapshot(workspace: Workspace, versions: Sequence[ModelVersion], parts: Sequence[Part]) -> str:
    """Pin the members' capsules and what they learnt from; nothing is copied."""
    store = workspace.lake.store
    entries: dict[str, str] = {}
    for version, part in zip(versions, parts, strict=True):
        capsule, learnt = store.read_directory(version.capsule_md5), store.read_directory(version.snapshot_md5)
        entries |= {f"{part.folder}/{CAPSULE_FOLDER}/{name}": md5 for name, md5 in capsule.items()}
        entries |= {f"{part.folder}/{name}": md5 for name, md5 in learnt.items()}
    return store.put_directory(entries).md5


def _unseen_by_all(
    pipeline: Pipeline, parts: Sequence[Part], weights: Sequence[float]
) -> tuple[pl.DataFrame, dict[str, Scored]]:
    """Labelled rows, sorted by key, that every member has an unseen prediction of; those of the ensemble come first.

    Whoever learnt latest has seen all other dates, so they are among its held-out ones.
    """
    key, newest = list(row_key(pipeline)), max(parts, key=lambda part: (part.last, part.version))
    rows = pl.read_parquet(newest.training_set)
    for part in parts:
        found = part.unseen(rows).filter(pl.col(_PREDICTION).is_finite())
        rows = rows.join(found.rename({_PREDICTION: f"_{part.folder}"}), on=key)
    rows = rows.sort(key)
    single = {part.folder: rows[f"_{part.folder}"].to_numpy() for part in parts}
    mean = weighted_mean(weights, list(single.values()))
    return rows, {name: Scored(scores, scores) for name, scores in {ENSEMBLE: mean, **single}.items()}


def _answerable(pipeline: Pipeline, rows: pl.DataFrame) -> Pipeline:
    """The pipeline without features that the rows do not have, which the spec may have gained since."""
    known = tuple(column for column in pipeline.features.columns if column.name in rows.columns)
    return pipeline.model_copy(update={"features": pipeline.features.model_copy(update={"columns": known})})


def _measure(
    pipeline: Pipeline, parts: Sequence[Part], model: EnsembleModel, rows: pl.DataFrame, scored: dict[str, Scored]
) -> dict[str, Any]:
    """As of a trained version, with each member's figures on the same rows; without rows there are none."""
    some, binary = rows.height > 0, pipeline.task == "binary"
    own = scored[ENSEMBLE]
    learnt = pl.concat([pl.read_parquet(part.training_set, columns=list(row_key(pipeline))) for part in parts])
    return {
        "algorithm": ENSEMBLE,
        "algorithms": {name: evaluate(rows, one, pipeline) for name, one in scored.items()} if some else {},
        "members": [
            {"version": part.version, "weight": member.weight, "manifest_sha256": part.manifest_sha256}
            for part, member in zip(parts, model.members, strict=True)
        ],
        "worth": None,
        "calibration": None,
        "reliability": reliability(labels_of(rows, pipeline), own.probabilities) if some and binary else None,
        "fairness": measure_fairness(rows, own, pipeline) if some else {},
        "groups": measure_groups(rows, own, pipeline),
        "held_out": _span(rows),
        "all": _span(learnt.unique()),
        "curve": None,
    }


def _span(rows: pl.DataFrame) -> dict[str, Any]:
    dates = [str(one) for one in rows[SCORE_DATE].unique().sort()]
    first, last = (dates[0], dates[-1]) if dates else ("none", "none")
    return {"first": first, "last": last, "dates": len(dates), "rows": rows.height}


def _importance(parts: Sequence[Part], model: EnsembleModel) -> dict[str, float]:
    found = dict.fromkeys(model.encoding.names, 0.0)
    for part, member in zip(parts, model.members, strict=True):
        gains = part.metrics.get("importance") or {}
        for name, gain in gains.items():
            found[name] += member.weight * gain / (math.fsum(gains.values()) or 1.0)
    return found if any(found.values()) else {}


def _golden(parts: Sequence[Part], model: EnsembleModel) -> pl.DataFrame:
    own = [pl.read_parquet((part.capsule.folder / "golden.parquet").read_bytes()) for part in parts]
    rows = pl.concat([one.drop(EXPECTED, strict=False) for one in own], how="diagonal_relaxed")
    golden = rows.select(model.encoding.names)
    scores: Vector = np.asarray(model.predict(encode(golden, model.encoding)))
    return golden.with_columns(pl.Series(name, scores) for name in EXPECTED)
