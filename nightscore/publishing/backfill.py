"""Plan a backfill: which nights, scored by which version, what is there already, what it will cost, what is in its way.

Added here: a question that a plan answers. Not here: staging (`staging.py`), or decisions (`changesets.py`).
"""

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from zoneinfo import ZoneInfo

import sqlalchemy as sa

from nightscore.catalog.changesets import DONE, Changeset, insert_changeset, items_of, list_changesets
from nightscore.catalog.costs import Cost, costs_of_steps
from nightscore.catalog.models import ModelVersion, alias_events, alias_holder
from nightscore.catalog.partitions import PartitionVersion
from nightscore.catalog.publications import Publication, current_publications
from nightscore.errors import AliasMissing, SpecError
from nightscore.lake.workspace import Workspace
from nightscore.registry.names import CHAMPION
from nightscore.registry.versions import open_capsule, require_version
from nightscore.spec.datasets import features_dataset
from nightscore.spec.pipeline import Pipeline

AS_PUBLISHED = "as-published"
PREPARE, SCORE = ("source ", "clean ", "features"), ("score", "publish")
STAGE = ("stage predictions", "stage publications")


@dataclass(frozen=True)
class Plan:
    """What a backfill would do; nothing has been done yet. `versions`: night → model version."""

    pipeline: str
    nights: tuple[date, ...]
    model_policy: str
    scope: str
    versions: Mapping[date, int]
    to_prepare: tuple[date, ...]
    bases: Mapping[date, int | None]
    rows: int | None
    seconds: float | None
    bytes: int | None
    basis: str
    free_bytes: int
    conflicts: tuple[str, ...]


def plan_backfill(workspace: Workspace, pipeline: Pipeline, nights: Sequence[date], policy: str, scope: str) -> Plan:
    """What a backfill of `nights` would do.

    Raises SpecError for a policy that is none or a version whose features are gone, AliasMissing for a version or alias
    that does not exist.
    """
    name, first, last = pipeline.name, min(nights), max(nights)
    with workspace.engine.connect() as connection:
        published = current_publications(connection, name, first, last)
        costs = costs_of_steps(connection, name)
        open_ones = [one for one in list_changesets(connection, name) if one.status in {"staging", "staged"}]
    features = workspace.lake.current(features_dataset(name), first, last)
    missing = tuple(night for night in nights if night not in features or scope != "predictions")
    seconds, size, basis = _estimate(costs, len(missing), len(nights))
    versions = choose_versions(workspace, pipeline, nights, policy, published)
    _require_features(workspace, pipeline, versions, features)
    there = [features[night].rows for night in nights if night in features]
    rows = round(sum(there) / len(there) * len(nights)) if there else None
    return Plan(
        name, tuple(nights), policy, scope, versions, missing,
        {night: published[night].publication_id if night in published else None for night in nights},
        rows, seconds, size, basis, shutil.disk_usage(workspace.settings.home_path).free,
        tuple(_conflicts(open_ones, first, last)),
    )  # fmt: skip


def open_changeset(workspace: Workspace, plan: Plan, reason: str, created_by: str, kind: str = "backfill") -> Changeset:
    """Write the plan into the catalog as a changeset whose nights are to be staged."""
    values = {
        "pipeline": plan.pipeline, "kind": kind, "first_date": min(plan.nights), "last_date": max(plan.nights),
        "model_policy": plan.model_policy, "scope": plan.scope, "reason": reason, "created_by": created_by,
        "created_at": workspace.clock.now(),
    }  # fmt: skip
    with workspace.engine.begin() as connection:
        return insert_changeset(connection, values, plan.versions, plan.bases)


def _require_features(
    workspace: Workspace, pipeline: Pipeline, versions: Mapping[date, int], features: Mapping[date, PartitionVersion]
) -> None:
    """A version can score what it has learnt from: the columns of the night, or of the spec where it is not built."""
    found: list[str] = []
    for number in sorted(set(versions.values())):
        version = require_version(workspace, pipeline.name, number)
        learnt = open_capsule(workspace, version).encoding.names
        nights = [night for night, one in versions.items() if one == number and night in features]
        built = (
            workspace.lake.scan([features[nights[0]]]).collect_schema().names() if nights else pipeline.feature_names
        )
        found += [f"{version.name} has learnt from {name}, which is gone" for name in learnt if name not in built]
    if found:
        remedy = "choose a version of today's features, or bring these back"
        raise SpecError(f"Planning a backfill of {pipeline.name}", found, remedy)


def choose_versions(
    workspace: Workspace, pipeline: Pipeline, nights: Sequence[date], policy: str,
    published: Mapping[date, Publication],
) -> dict[date, int]:  # fmt: skip
    """Which version scores each night: one number, an alias as it stands now, or whoever scored the night then.

    `as-published`: the version of the publication that readers see; for a night without one, the champion of its
    evening, or the first one where there was none yet.
    """
    if policy == AS_PUBLISHED:
        return {
            night: published[night].model_version if night in published else _champion_of(workspace, pipeline, night)
            for night in nights
        }
    return dict.fromkeys(nights, _version_of(workspace, pipeline, policy).version)


def _version_of(workspace: Workspace, pipeline: Pipeline, policy: str) -> ModelVersion:
    if policy.isdigit():
        return require_version(workspace, pipeline.name, int(policy))
    if policy not in {CHAMPION, "challenger"}:
        expected = "write as-published, champion, challenger, or the number of a version"
        raise SpecError(f"Choosing a model for {pipeline.name}", f"found {policy!r}", expected)
    with workspace.engine.connect() as connection:
        holder = alias_holder(connection, pipeline.name, policy)
    if holder is None:
        raise AliasMissing(
            f"Choosing a model for {pipeline.name}",
            f"no version holds the alias {policy}",
            "see `nightscore models list`",
        )
    return require_version(workspace, pipeline.name, holder)


def _champion_of(workspace: Workspace, pipeline: Pipeline, night: date) -> int:
    evening = datetime.combine(night, time.max, ZoneInfo(pipeline.score_dates.timezone)).astimezone(UTC)
    with workspace.engine.connect() as connection:
        events = alias_events(connection, pipeline.name, CHAMPION)
    if not events:
        raise AliasMissing(
            f"Choosing the champion of {night}",
            "no version ever held the alias",
            f"run `nightscore train {pipeline.name}`",
        )
    held = [version for at, version in events if at <= evening]
    return held[-1] if held else events[0][1]


def _estimate(costs: Mapping[str, Cost], prepared: int, scored: int) -> tuple[float | None, int | None, str]:
    prepare = [cost for step, cost in costs.items() if step.startswith(PREPARE)]
    # A staged night takes longer than a nightly one, since it is compared; where any was measured, those count.
    wanted = STAGE if costs.keys() & set(STAGE) else SCORE
    score = [cost for step, cost in costs.items() if step in wanted]
    if not score or (prepared and not prepare):
        return None, None, "no night of this pipeline was measured yet"
    seconds = prepared * sum(one.seconds for one in prepare) + scored * sum(one.seconds for one in score)
    size = sum((prepared if step.startswith(PREPARE) else scored) * cost.bytes for step, cost in costs.items())
    nights = min(one.nights for one in score)
    return seconds, size, f"measured on {nights} nights of this pipeline"


def _conflicts(open_ones: Sequence[Changeset], first: date, last: date) -> list[str]:
    return [
        f"{one.title} is {one.status}; of two, the one that is approved later stands"
        for one in open_ones
        if one.first_date <= last and first <= one.last_date
    ]


def unfinished_nights(connection: sa.Connection, changeset_id: int) -> list[date]:
    """The nights of a changeset that are still to be staged, in order."""
    return [one.score_date for one in items_of(connection, changeset_id, differences=False) if one.outcome not in DONE]
