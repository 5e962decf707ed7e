"""Steps of a rollout: opened, grown, ended; each is one transaction with its alias, its history and the ledger.

A share grows 5 → 25 → 100 % (as the spec says), with at least a label horizon between steps, so that each step is
judged by labels of the one before. Added here: a step. Not here: the evidence that a step follows from
(`nightscore/monitoring/rollouts.py`), or who scores which row (`nightscore/scoring`).
"""

from collections.abc import Callable, Mapping
from datetime import date, datetime, timedelta
from typing import Any

import sqlalchemy as sa

from nightscore.catalog.decisions import Decision, record_decision
from nightscore.catalog.models import ModelVersion, holders_of, list_model_events, move_alias
from nightscore.catalog.publications import latest_publication
from nightscore.catalog.rollouts import (
    RUNNING,
    Rollout,
    append_rollout_event,
    change_rollout,
    insert_rollout,
    running_rollout,
)
from nightscore.errors import PromotionRefused
from nightscore.lake.workspace import Workspace
from nightscore.registry.aliases import require_alias
from nightscore.registry.names import CANARY, CHAMPION, SHADOW
from nightscore.registry.versions import open_capsule, require_clean
from nightscore.spec.pipeline import Pipeline

KIND = "rollout"


def newest_night(workspace: Workspace, pipeline: Pipeline) -> date | None:
    """The newest night that readers see; None before the first."""
    with workspace.engine.connect() as connection:
        latest = latest_publication(connection, pipeline.name)
    return None if latest is None else latest.score_date


def begin_rollout(workspace: Workspace, pipeline: Pipeline, version: ModelVersion, actor: str, reason: str) -> None:
    """The spec's rollout of `version`, after the newest published night; nothing when it runs already."""
    with workspace.engine.connect() as connection:
        running = running_rollout(connection, pipeline.name)
    if running is None or running.version != version.version:
        open_rollout(workspace, pipeline, version, newest_night(workspace, pipeline) or version.as_of, actor, reason)


def alias_of(kind: str) -> str:
    """The alias that the challenger of a rollout holds while it runs."""
    return SHADOW if kind == SHADOW else CANARY


def open_rollout(
    workspace: Workspace, pipeline: Pipeline, version: ModelVersion, night: date, actor: str, reason: str,
    kind: str | None = None,
) -> Rollout:  # fmt: skip
    """Begin: from the next scored night on, `version` scores in the shadow, or the first share of entities.

    `kind` is the spec's unless given; `night` is the newest one that is scored already. Raises PromotionRefused with
    every reason, AliasMissing without a champion.
    """
    kind = kind or (SHADOW if pipeline.rollout.kind == "direct" else pipeline.rollout.kind)
    champion = require_alias(workspace, pipeline.name, CHAMPION)
    require_clean(pipeline, version)
    open_capsule(workspace, version)
    values = {
        "pipeline": pipeline.name, "kind": kind, "version": version.version, "base_version": champion.version,
        "salt": version.name, "entity": list(pipeline.rollout.entity or pipeline.entity.key),
        "percent": 0.0 if kind == SHADOW else pipeline.rollout.steps[0], "step_from": night + timedelta(days=1),
        "status": RUNNING, "opened_by": actor, "opened_at": workspace.clock.now(),
    }  # fmt: skip
    with workspace.engine.begin() as connection:
        _require_free(connection, version, champion)
        opened = insert_rollout(connection, values)
        move_alias(connection, pipeline.name, alias_of(kind), version.version, actor, reason, workspace.clock.now())
        append_rollout_event(connection, opened, "opened", night, actor, reason, {}, workspace.clock.now())
        _tell(connection, opened, "started", night, actor, reason, {}, workspace.clock.now())
    return opened


def _require_free(connection: sa.Connection, version: ModelVersion, champion: ModelVersion) -> None:
    found = []
    running = running_rollout(connection, version.pipeline, lock=True)
    if running is not None:
        found.append(f"rollout {running.rollout_id} of {version.pipeline}@{running.version} is running")
    if version.version == champion.version:
        found.append(f"{version.name} is the champion already")
    if any(one["event"] == "rejected" for one in list_model_events(connection, version.pipeline, version.version)):
        found.append(f"{version.name} was rejected")
    if found:
        remedy = f"end what runs with `nightscore rollout stop {version.pipeline}`, or choose another version"
        raise PromotionRefused(f"Rolling out {version.name}", found, remedy)


def next_percent(pipeline: Pipeline, rollout: Rollout) -> float:
    """The share of the step after the one that runs; 100 at the end, and for a shadow."""
    return next((step for step in pipeline.rollout.steps if step > rollout.percent > 0), 100.0)


def days_to_wait(pipeline: Pipeline, rollout: Rollout, night: date) -> int:
    """Score dates until the running step may end: the spec's `min_days`, and never less than the label horizon."""
    needed = max(pipeline.rollout.min_days, pipeline.label.horizon_days)
    return max(needed - ((night - rollout.step_from).days + 1), 0)


def grow(
    workspace: Workspace, rollout: Rollout, percent: float, night: date, actor: str, reason: str,
    evidence: Mapping[str, Any],
) -> Rollout:  # fmt: skip
    """The next step: from the night after `night` on, `percent` of entities; entities of the steps before stay in."""
    with workspace.engine.begin() as connection:
        _require_same(connection, rollout)
        change_rollout(connection, rollout.rollout_id, percent=percent, step_from=night + timedelta(days=1))
        grown = running_rollout(connection, rollout.pipeline)
        assert grown is not None
        append_rollout_event(connection, grown, "advanced", night, actor, reason, evidence, workspace.clock.now())
        _tell(connection, grown, "grown", night, actor, reason, evidence, workspace.clock.now())
    return grown


def end_rollout(
    workspace: Workspace, rollout: Rollout, status: str, night: date, actor: str, reason: str,
    evidence: Mapping[str, Any], also: Callable[[sa.Connection], object] = lambda _: None,
) -> None:  # fmt: skip
    """The rollout ends as `completed`, `rolled_back` or `stopped`: its version scores no row from the next night on.

    `also` is done in the same transaction.
    """
    with workspace.engine.begin() as connection:
        _require_same(connection, rollout)
        close_rollout(connection, rollout, status, night, actor, reason, evidence, workspace.clock.now())
        _tell(connection, rollout, status, night, actor, reason, evidence, workspace.clock.now())
        also(connection)


def close_rollout(
    connection: sa.Connection, rollout: Rollout, status: str, night: date, actor: str, reason: str,
    evidence: Mapping[str, Any], now: datetime,
) -> None:  # fmt: skip
    """The same inside a transaction of the caller's, such as one that moves the champion."""
    change_rollout(connection, rollout.rollout_id, status=status)
    alias = alias_of(rollout.kind)
    if holders_of(connection, rollout.pipeline).get(alias) == rollout.version:
        move_alias(connection, rollout.pipeline, alias, None, actor, reason, now)
    append_rollout_event(connection, rollout, status, night, actor, reason, evidence, now)


def _tell(
    connection: sa.Connection, rollout: Rollout, verdict: str, night: date, actor: str, reason: str,
    evidence: Mapping[str, Any], now: datetime,
) -> None:  # fmt: skip
    told = {**evidence, "as_of": str(night), "rollout": rollout.rollout_id, "percent": rollout.percent}
    subject = f"{rollout.pipeline}@{rollout.version}"
    record_decision(connection, Decision(rollout.pipeline, KIND, subject, verdict, reason, told, actor, now))


def _require_same(connection: sa.Connection, rollout: Rollout) -> None:
    """Nobody has ended or grown it since it was read."""
    now = running_rollout(connection, rollout.pipeline, lock=True)
    if now != rollout:
        found = "it has ended" if now is None else f"it stands at {now.percent:g} % since {now.step_from}"
        raise PromotionRefused(
            f"Changing rollout {rollout.rollout_id} of {rollout.pipeline}", found, "see `nightscore rollout status`"
        )
