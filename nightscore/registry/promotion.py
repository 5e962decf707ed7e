"""How a version comes to be champion and how it is taken back: each change is one transaction with the decision ledger.

`propose` lets the gate judge a version; `approve`, `reject` and `promote` are a person's; `roll_back_alias` undoes.
Added here: another move of aliases between versions. Not here: the verdict (`gate.py`), the steps of a rollout, or
what is published again afterwards.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from typing import Any, Literal

import sqlalchemy as sa

from nightscore.catalog.decisions import Decision, list_decisions, record_decision
from nightscore.catalog.models import (
    ModelVersion,
    append_model_event,
    holders_of,
    list_model_events,
    move_alias,
)
from nightscore.catalog.rollouts import running_rollout
from nightscore.clock import local_date
from nightscore.errors import PartitionConflict, PromotionRefused
from nightscore.lake.workspace import Workspace
from nightscore.registry.aliases import champion_before, require_alias
from nightscore.registry.families import is_refresh
from nightscore.registry.gate import PROMOTABLE, Verdict, judge
from nightscore.registry.names import CHALLENGER, CHAMPION, PREVIOUS, TRIALS
from nightscore.registry.rollout import close_rollout
from nightscore.registry.unseen import paired_rows
from nightscore.registry.versions import open_capsule, require_clean
from nightscore.spec.pipeline import Pipeline

KIND = "promotion"
GATE, PERSON = "gate", "person"
ROLLED_BACK = "rolled_back"
Action = Literal["promoted", "rollout", "asked", "waiting", "kept", "rejected"]
StartRollout = Callable[[ModelVersion], None]
_LEDGER_DEPTH = 1000
"""Decisions that are looked back on, newest first."""
_RECENT_DAYS = 30
_DESPITE = "let the gate judge it first, or promote it despite the gate, which the ledger will say"


@dataclass(frozen=True)
class Proposal:
    """What the gate said of a version against the pinned champion, and what was done about it."""

    version: ModelVersion
    champion: ModelVersion
    verdict: Verdict
    action: Action
    reason: str


@dataclass(frozen=True)
class Promoted:
    """A version that is champion now, and the one that was; `moved` is false when it was champion already."""

    version: ModelVersion
    before: str | None
    moved: bool
    reason: str


@dataclass(frozen=True)
class _Change:
    """One transaction on a pipeline's aliases, alone in it; everything written carries one instant and one actor."""

    workspace: Workspace
    connection: sa.Connection
    pipeline: Pipeline
    actor: str
    reason: str

    @property
    def holders(self) -> dict[str, int]:
        return holders_of(self.connection, self.pipeline.name)

    def move(self, alias: str, version: int | None) -> None:
        now, name = self.workspace.clock.now(), self.pipeline.name
        move_alias(self.connection, name, alias, version, self.actor, self.reason, now)

    def give_back(self, version: ModelVersion, aliases: Sequence[str]) -> None:
        for alias, held in self.holders.items():
            if alias in aliases and held == version.version:
                self.move(alias, None)

    def crown(self, version: ModelVersion) -> None:
        """The rollout that led here is over; one of another version was refused before."""
        self.end_rollout("completed")
        before = self.holders.get(CHAMPION)
        self.move(CHAMPION, version.version)
        if before is not None:
            self.move(PREVIOUS, before)
        self.give_back(version, TRIALS)

    def end_rollout(self, status: str) -> None:
        """No night may find a rollout that began with another champion."""
        running = running_rollout(self.connection, self.pipeline.name, lock=True)
        if running is not None:
            now = self.workspace.clock.now()
            night = local_date(self.workspace.clock, self.pipeline.score_dates.timezone)
            close_rollout(self.connection, running, status, night, self.actor, self.reason, {}, now)

    def note(self, version: ModelVersion, event: str) -> None:
        append_model_event(self.connection, version, event, self.actor, self.reason, self.workspace.clock.now())

    def record(self, version: ModelVersion, verdict: str, evidence: Mapping[str, Any]) -> None:
        made = Decision(
            self.pipeline.name, KIND, version.name, verdict, self.reason, evidence, self.actor,
            self.workspace.clock.now(),
        )  # fmt: skip
        record_decision(self.connection, made)


def propose(
    workspace: Workspace, pipeline: Pipeline, version: ModelVersion, as_of: date, actor: str,
    as_new_recipe: bool | None = None, start_rollout: StartRollout | None = None, ask: str = "",
) -> Proposal:  # fmt: skip
    """Judge `version` against the champion by the night `as_of`, and do what the spec says follows.

    `as_new_recipe` overrules whether both are of one family. `start_rollout` begins the rollout where the spec has one,
    before the decision is recorded, so it must bear being called again. `ask` says why a person decides in any case.
    Raises PromotionRefused for the champion, a rejected version, or one that cannot be compared; AliasMissing without a
    champion; PartitionConflict when the champion changed meanwhile. The verdict is recorded whatever it says.
    """
    champion = require_alias(workspace, pipeline.name, CHAMPION)
    _require_proposable(workspace, version, champion)
    refresh = is_refresh(champion, version) if as_new_recipe is None else not as_new_recipe
    verdict = judge(pipeline, paired_rows(workspace, pipeline, champion, version, as_of), refresh)
    action, reason = _action(workspace, pipeline, version, verdict, as_of, ask)
    if action == "promoted":
        open_capsule(workspace, version)
    if action == "rollout" and start_rollout is not None:
        start_rollout(version)
    proposal = Proposal(version, champion, verdict, action, reason)
    with _changing(workspace, pipeline, actor, reason) as change:
        _require_same_champion(change, champion)
        _apply(change, proposal, as_of)
    return proposal


def promote(
    workspace: Workspace, pipeline: Pipeline, version: ModelVersion, actor: str, reason: str,
    despite_gate: bool = False, by: Literal["gate", "person"] = "person", as_of: date | None = None,
    readout: Mapping[str, Any] | None = None,
) -> Promoted:  # fmt: skip
    """Make `version` champion now; the champion so far becomes `previous`.

    PromotionRefused, with every reason, for a version that was rejected, is of uncommitted sources where the spec asks
    for committed ones, or that the gate has not found good against today's champion, unless `despite_gate`, which the
    ledger then says. CapsuleRejected when the capsule does not open; no alias moves then. `by`: whose promotion counts.
    `readout`: what a rollout has shown, for the ledger.
    """
    open_capsule(workspace, version)
    with _changing(workspace, pipeline, actor, reason) as change:
        before = change.holders.get(CHAMPION)
        if before == version.version:
            return Promoted(version, version.name, False, f"{version.name} is the champion already")
        judged = _last_judgement(change.connection, version)
        _require_promotable(change, version, judged, despite_gate)
        change.crown(version)
        if by == PERSON:
            change.note(version, "approved")
        evidence = {
            "as_of": str(as_of) if as_of else _as_of(judged), "by": by, "champion": _name(pipeline, before),
            "despite_gate": despite_gate, "gate_outcome": _outcome_of(judged), "readout": dict(readout or {}),
            "command": _roll_back_command(pipeline),
        }  # fmt: skip
        change.record(version, "promoted", evidence)
    return Promoted(version, _name(pipeline, before), True, reason)


def approve(
    workspace: Workspace, pipeline: Pipeline, version: ModelVersion, actor: str, reason: str,
    start_rollout: StartRollout | None = None,
) -> Action:  # fmt: skip
    """Let a version go on that waits for a person or for its time: promoted, or by the steps of the spec's rollout.

    PromotionRefused for a version that does not wait, and for whatever `promote` refuses.
    """
    with workspace.engine.connect() as connection:
        judged = _last_judgement(connection, version)
    if judged is None or judged.verdict not in ("asked", "waiting"):
        found = "the gate never judged it" if judged is None else f"the gate's last decision on it is {judged.verdict}"
        raise PromotionRefused(f"Approving {version.name}", found, _DESPITE)
    if pipeline.rollout.kind == "direct":
        promote(workspace, pipeline, version, actor, reason)
        return "promoted"
    with _changing(workspace, pipeline, actor, reason) as change:
        _require_promotable(change, version, judged, despite_gate=False)
    if start_rollout is not None:
        start_rollout(version)
    with _changing(workspace, pipeline, actor, reason) as change:
        change.note(version, "approved")
        evidence = {"as_of": _as_of(judged), "by": PERSON, "champion": judged.evidence["champion"], "command": None}
        change.record(version, "rollout", evidence | {"gate_outcome": _outcome_of(judged)})
    return "rollout"


def reject(workspace: Workspace, pipeline: Pipeline, version: ModelVersion, actor: str, reason: str) -> None:
    """Rule `version` out for good; the aliases it holds on its way, and `previous`, are given back.

    PromotionRefused for the champion, which is rolled back first.
    """
    with _changing(workspace, pipeline, actor, reason) as change:
        champion = change.holders.get(CHAMPION)
        if champion == version.version:
            remedy = f"roll it back first: {_roll_back_command(pipeline)}"
            raise PromotionRefused(f"Rejecting {version.name}", "it is the champion", remedy)
        judged = _last_judgement(change.connection, version)
        running = running_rollout(change.connection, pipeline.name)
        if running is not None and running.version == version.version:
            change.end_rollout("stopped")
        change.note(version, "rejected")
        change.give_back(version, (*TRIALS, PREVIOUS))
        evidence = {"as_of": _as_of(judged), "by": PERSON, "champion": _name(pipeline, champion), "command": None}
        change.record(version, "rejected", evidence | {"gate_outcome": _outcome_of(judged)})


def roll_back_alias(
    workspace: Workspace, pipeline: Pipeline, actor: str, reason: str, as_of: date | None = None
) -> tuple[ModelVersion, ModelVersion]:
    """Take the champion's place back to `previous`; returns the version that was champion, and the one that is.

    `previous` then names the champion before that which was never taken back, or nobody, so that going back twice does
    not return to the bad one. AliasMissing when there is no previous one, CapsuleRejected when it does not open: no
    alias moves then.
    """
    bad, good = (require_alias(workspace, pipeline.name, alias) for alias in (CHAMPION, PREVIOUS))
    open_capsule(workspace, good)
    with _changing(workspace, pipeline, actor, reason) as change:
        _require_same_champion(change, bad)
        change.end_rollout("stopped")
        change.note(bad, ROLLED_BACK)
        change.move(CHAMPION, good.version)
        change.move(PREVIOUS, champion_before(change.connection, good))
        change.give_back(good, TRIALS)
        evidence = {
            "as_of": str(as_of) if as_of else None, "by": PERSON, "champion": good.name,
            "command": f"nightscore models promote {bad.name}",
        }  # fmt: skip
        change.record(bad, ROLLED_BACK, evidence)
    return bad, good


@contextmanager
def _changing(workspace: Workspace, pipeline: Pipeline, actor: str, reason: str) -> Iterator[_Change]:
    """One transaction that no other change of the pipeline's versions overlaps."""
    with workspace.engine.begin() as connection:
        lock = sa.text("select pg_advisory_xact_lock(hashtext(:name))")
        connection.execute(lock, {"name": f"promotion:{pipeline.name}"})
        yield _Change(workspace, connection, pipeline, actor, reason)


def _apply(change: _Change, proposal: Proposal, as_of: date) -> None:
    version, action = proposal.version, proposal.action
    change.move(CHALLENGER, version.version)
    if action == "rejected":
        change.give_back(version, (CHALLENGER,))
    if action == "promoted":
        change.crown(version)
    commands = {
        "asked": f"nightscore models approve {version.name}", "waiting": f"nightscore models approve {version.name}",
        "promoted": _roll_back_command(change.pipeline),
    }  # fmt: skip
    evidence = {
        "as_of": str(as_of), "by": GATE, "champion": proposal.champion.name, "gate": proposal.verdict.as_json(),
        "command": commands.get(action, f"nightscore models show {version.name}"),
    }  # fmt: skip
    change.record(version, action, evidence)


def _action(
    workspace: Workspace, pipeline: Pipeline, version: ModelVersion, verdict: Verdict, as_of: date, ask: str
) -> tuple[Action, str]:
    """What follows from a verdict, and why."""
    said = "; ".join(verdict.reasons)
    if not verdict.promotable:
        kept = verdict.outcome == "not_enough_evidence"
        return ("kept", f"{said}; it stays challenger") if kept else ("rejected", said)
    with workspace.engine.connect() as connection:
        action, why = _policy(connection, pipeline, version, as_of, ask)
    return action, f"{said}; {why}"


def _policy(
    connection: sa.Connection, pipeline: Pipeline, version: ModelVersion, as_of: date, ask: str
) -> tuple[Action, str]:
    """What the spec says of a version that the gate found good."""
    promotion, crowned, kind = pipeline.promotion, _crowned_by_gate(connection, pipeline), pipeline.rollout.kind
    since = (as_of - max(crowned.values())).days if crowned else promotion.cooldown_days
    recent = sum((as_of - night).days < _RECENT_DAYS for night in crowned.values())
    rollout, unclean = running_rollout(connection, pipeline.name), _unclean(pipeline, version)
    taken_back = ROLLED_BACK in _events(connection, version)[-1:]
    cooldown = f"{since} score dates since the gate's last promotion, {promotion.cooldown_days} are asked for"
    too_many = f"the gate promoted {recent} versions in {_RECENT_DAYS} days already, so a person decides"
    steps: list[tuple[bool, Action, str]] = [
        (bool(unclean), "kept", f"but it cannot be champion: {'; '.join(unclean)}"),
        (bool(ask) or promotion.approve == "person", "asked", ask or "the spec wants a person to approve"),
        (taken_back, "asked", "it was champion and taken back, so a person decides"),
        (rollout is not None, "waiting", "another rollout is under way"),
        (since < promotion.cooldown_days, "waiting", cooldown),
        (recent >= promotion.max_in_30_days, "asked", too_many),
        (kind == "direct", "promoted", "promoted by the spec"),
        (True, "rollout", f"it goes on by the spec's rollout: {kind}"),
    ]
    return next((action, why) for holds, action, why in steps if holds)


def _crowned_by_gate(connection: sa.Connection, pipeline: Pipeline) -> dict[str, date]:
    """Versions that the gate promoted, at once or by a rollout, with the newest score date of that."""
    made = reversed(list_decisions(connection, pipeline.name, _LEDGER_DEPTH, KIND))
    return {
        one.subject: date.fromisoformat(one.evidence["as_of"])
        for one in made
        if one.verdict in ("promoted", "rollout") and one.evidence.get("by") == GATE and one.evidence.get("as_of")
    }


def _last_judgement(connection: sa.Connection, version: ModelVersion) -> Decision | None:
    """The gate's newest decision on a version; None when it was taken back since, which no evidence had foreseen."""
    for one in list_decisions(connection, version.pipeline, _LEDGER_DEPTH, KIND):
        if one.subject == version.name and one.verdict == ROLLED_BACK:
            return None
        if one.subject == version.name and "gate" in one.evidence:
            return one
    return None


def _require_proposable(workspace: Workspace, version: ModelVersion, champion: ModelVersion) -> None:
    with workspace.engine.connect() as connection:
        found = ["it was rejected"] if "rejected" in _events(connection, version) else []
    if version.version == champion.version:
        found.append("it is the champion, and no version is compared with itself")
    if found:
        raise PromotionRefused(f"Proposing {version.name}", found, "train another version and propose that")


def _require_promotable(change: _Change, version: ModelVersion, judged: Decision | None, despite_gate: bool) -> None:
    found = ["it was rejected"] if "rejected" in _events(change.connection, version) else []
    found.extend(_unclean(change.pipeline, version))
    rollout = running_rollout(change.connection, version.pipeline)
    if rollout is not None and rollout.version != version.version:
        found.append(f"a rollout of {version.pipeline}@{rollout.version} runs; stop it first")
    if not despite_gate:
        found.extend(_unproven(change, judged))
    if found:
        raise PromotionRefused(f"Promoting {version.name}", found, _DESPITE)


def _unproven(change: _Change, judged: Decision | None) -> Iterator[str]:
    if judged is None:
        yield "the gate has not judged it, or not since it was taken back"
        return
    champion = _name(change.pipeline, change.holders.get(CHAMPION))
    if judged.evidence["champion"] != champion:
        yield f"the gate compared it with {judged.evidence['champion']}, the champion is {champion} now"
    if judged.evidence["gate"]["outcome"] not in PROMOTABLE:
        outcome = judged.evidence["gate"]["outcome"].replace("_", " ")
        yield f"the gate found it {outcome} on {judged.evidence['as_of']}: {judged.reason}"


def _require_same_champion(change: _Change, pinned: ModelVersion) -> None:
    now = change.holders.get(CHAMPION)
    if now != pinned.version:
        found = f"the champion was {pinned.name} and is {_name(change.pipeline, now)} now"
        raise PartitionConflict(f"Changing the champion of {change.pipeline.name}", found, "look again, and try again")


def _unclean(pipeline: Pipeline, version: ModelVersion) -> tuple[str, ...]:
    try:
        require_clean(pipeline, version)
    except PromotionRefused as refused:
        return refused.found
    return ()


def _events(connection: sa.Connection, version: ModelVersion) -> list[str]:
    return [event["event"] for event in list_model_events(connection, version.pipeline, version.version)]


def _as_of(judged: Decision | None) -> str | None:
    return None if judged is None else judged.evidence["as_of"]


def _outcome_of(judged: Decision | None) -> str | None:
    return None if judged is None else judged.evidence["gate"]["outcome"]


def _name(pipeline: Pipeline, version: int | None) -> str | None:
    return None if version is None else f"{pipeline.name}@{version}"


def _roll_back_command(pipeline: Pipeline) -> str:
    return f"nightscore models rollback {pipeline.name}"
