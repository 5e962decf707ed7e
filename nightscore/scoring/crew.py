"""Who scores: the champion, and the version of a running rollout, both read at one instant and pinned for a run.

A rollout whose alias names another version, or none, fails closed.
Added here: another role in scoring. Not here: how rows are divided (`arms.py`), or who gets a role (`registry`).
"""

from dataclasses import dataclass

from nightscore.catalog.models import ModelVersion, holders_of
from nightscore.catalog.rollouts import Rollout, running_rollout
from nightscore.errors import AliasMissing
from nightscore.lake.workspace import Workspace
from nightscore.registry.aliases import require_alias
from nightscore.registry.names import CANARY, CHAMPION, SHADOW
from nightscore.registry.versions import open_capsule, require_version
from nightscore.scoring.arms import Arms, Share
from nightscore.spec.pipeline import Pipeline


@dataclass(frozen=True)
class Crew:
    """The champion, and of a rollout its version and its share: none while it only scores in the shadow."""

    champion: ModelVersion
    challenger: ModelVersion | None = None
    share: Share | None = None


def read_crew(workspace: Workspace, pipeline: Pipeline) -> Crew:
    """Who scores now; AliasMissing where there is no champion, or the aliases contradict the rollout."""
    with workspace.engine.connect() as connection, connection.begin():
        rollout = running_rollout(connection, pipeline.name)
        holders = holders_of(connection, pipeline.name)
    if CHAMPION not in holders:
        return Crew(require_alias(workspace, pipeline.name, CHAMPION))
    champion = require_version(workspace, pipeline.name, holders[CHAMPION])
    if rollout is None:
        return Crew(champion)
    _require_agreement(rollout, holders)
    challenger = require_version(workspace, pipeline.name, rollout.version)
    return Crew(champion, challenger, _share_of(rollout, challenger))


def crew_of_version(version: ModelVersion) -> Crew:
    """One version for all rows."""
    return Crew(version)


def open_arms(workspace: Workspace, crew: Crew) -> Arms:
    """The capsules of those who score rows."""
    opened = Arms(crew.champion.version, open_capsule(workspace, crew.champion))
    if crew.share is None or crew.challenger is None:
        return opened
    return Arms(opened.version, opened.capsule, crew.share, open_capsule(workspace, crew.challenger))


def _share_of(rollout: Rollout, challenger: ModelVersion) -> Share | None:
    if rollout.kind == SHADOW or not rollout.percent:
        return None
    return Share(
        CANARY if rollout.kind == CANARY else "b", rollout.version, challenger.manifest_sha256, rollout.percent,
        rollout.salt, rollout.entity,
    )  # fmt: skip


def _require_agreement(rollout: Rollout, holders: dict[str, int]) -> None:
    alias = SHADOW if rollout.kind == SHADOW else CANARY
    named = {"champion": (holders[CHAMPION], rollout.base_version), alias: (holders.get(alias), rollout.version)}
    found = [f"{name} is @{now}, the rollout began with @{then}" for name, (now, then) in named.items() if now != then]
    if found:
        raise AliasMissing(
            f"Reading who scores {rollout.pipeline}, where rollout {rollout.rollout_id} runs", found,
            f"end the rollout with `nightscore rollout stop {rollout.pipeline}`",
        )  # fmt: skip
