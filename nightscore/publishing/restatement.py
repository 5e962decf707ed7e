"""Restatement: published nights whose inputs changed are ignored, restated or asked about, by the spec's policy.

Every verdict is in the decision ledger with its evidence; the same change of inputs is decided on once.
Added here: a rule of that decision. Not here: which nights are affected (`catalog/affected.py`), what a sample shows
(`effect.py`), or how a changeset is staged and approved.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any, Literal

import sqlalchemy as sa

from nightscore.catalog.affected import Replaced, replaced_inputs
from nightscore.catalog.changesets import items_of, list_changesets
from nightscore.catalog.decisions import Decision, list_decisions, record_decision
from nightscore.catalog.partitions import PartitionVersion, versions_by_id
from nightscore.errors import ChangesetRefused, ContractViolation
from nightscore.features.build import build_features
from nightscore.lake.workspace import Workspace
from nightscore.publishing.backfill import AS_PUBLISHED, open_changeset, plan_backfill
from nightscore.publishing.changesets import approve, discard
from nightscore.publishing.effect import Effect, measure_effect
from nightscore.publishing.staging import stage_publications
from nightscore.scoring.staging import stage_predictions
from nightscore.spec.pipeline import Pipeline

KIND = "restatement"
Verdict = Literal["unaffected", "decided", "ignored", "restated", "asked"]


@dataclass(frozen=True)
class Outcome:
    """What became of the affected nights; `decided`: nothing new, they were decided on before.

    `changeset_id` is one that is staged or approved.
    """

    verdict: Verdict
    nights: tuple[date, ...] = ()
    reason: str = ""
    changeset_id: int | None = None
    effect: Effect | None = None


@dataclass(frozen=True)
class _Case:
    """The nights to be decided on, with what replaced their inputs, and for whom."""

    workspace: Workspace
    pipeline: Pipeline
    replaced: Mapping[date, Replaced]
    run_id: str
    actor: str

    @property
    def nights(self) -> tuple[date, ...]:
        return tuple(self.replaced)

    @property
    def command(self) -> str:
        """What a person runs to restate all of it."""
        dates = f"--from {self.nights[0]} --to {self.nights[-1]}"
        return (
            f'nightscore backfill {self.pipeline.name} {dates} --model {AS_PUBLISHED} --only all --reason "late data"'
        )


def find_affected(workspace: Workspace, pipeline: Pipeline) -> dict[date, tuple[PartitionVersion, ...]]:
    """The published nights whose readers see what was made of inputs that were replaced since, with those inputs."""
    with workspace.engine.connect() as connection:
        replaced = replaced_inputs(connection, pipeline.name)
        ids = sorted({version for one in replaced.values() for version in one})
        versions = {one.version_id: one for one in versions_by_id(connection, ids)}
    return {night: tuple(versions[version] for version in one) for night, one in replaced.items()}


def restate(workspace: Workspace, pipeline: Pipeline, run_id: str, actor: str) -> Outcome:
    """Decide on nights whose inputs changed and that were not decided on as they are now; one at a time a pipeline.

    Features of affected nights are made anew, which readers do not see. Raises what scoring raises; what was staged by
    then is given up by the next call.
    """
    with _turn(workspace, pipeline):
        with workspace.engine.connect() as connection:
            affected = replaced_inputs(connection, pipeline.name)
            decided = _decided(connection, pipeline.name)
        due = {night: one for night, one in affected.items() if decided.get(night) != _pairs(one)}
        if not due:
            return Outcome("decided" if affected else "unaffected", tuple(affected))
        case = _Case(workspace, pipeline, due, run_id, actor)
        _discard_superseded(case)
        outcome = _judge(case)
        _record(case, outcome)
    return outcome


@contextmanager
def _turn(workspace: Workspace, pipeline: Pipeline) -> Iterator[None]:
    name = {"name": f"restatement:{pipeline.name}"}
    with workspace.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(sa.text("select pg_advisory_lock(hashtext(:name))"), name)
        try:
            yield
        finally:
            connection.execute(sa.text("select pg_advisory_unlock(hashtext(:name))"), name)


def _pairs(replaced: Replaced) -> list[list[int]]:
    return [[old, new] for old, new in sorted(replaced.items())]


def _decided(connection: sa.Connection, pipeline: str) -> dict[date, list[list[int]]]:
    """Night → the replaced inputs that the newest decision on it was about."""
    newest_last = reversed(list_decisions(connection, pipeline, kind=KIND))
    return {
        date.fromisoformat(night): pairs for one in newest_last for night, pairs in one.evidence["affected"].items()
    }


def _discard_superseded(case: _Case) -> None:
    """Give up restatements that a killed run left half staged, and waiting ones whose inputs changed once more."""
    with case.workspace.engine.connect() as connection:
        waiting = [
            (one, {item.score_date for item in items_of(connection, one.changeset_id)})
            for one in list_changesets(connection, case.pipeline.name)
            if one.kind == KIND and one.model_policy == AS_PUBLISHED and one.status in {"staging", "staged"}
        ]
    for one, nights in waiting:
        if one.status == "staging" or nights <= set(case.nights):
            discard(case.workspace, one.changeset_id, case.actor, "its nights are decided on anew")


def _judge(case: _Case) -> Outcome:
    policy, nights = case.pipeline.restatement, case.nights
    sample = spread(nights, policy.sample_nights)
    held = _rebuild(case, sample)
    if held:
        return Outcome("asked", nights, f"features are held back: {'; '.join(held)}")
    changeset_id = _open(case)
    effect = _stage(case, changeset_id, sample)
    moved = f"{effect.moved} of {effect.rows} rows of {len(sample)} sampled nights move"
    if effect.share <= policy.tolerance and not effect.blocked:
        return _give_up(case, changeset_id, "ignored", f"{moved}, within the tolerance of {policy.tolerance}", effect)
    if len(nights) > policy.budget_nights:
        said = f"{moved}; {len(nights)} nights are more than the budget of {policy.budget_nights}"
        return _give_up(case, changeset_id, "asked", said, effect)
    rest = [night for night in nights if night not in sample]
    held = _rebuild(case, rest)
    if held:
        return _give_up(case, changeset_id, "asked", f"features are held back: {'; '.join(held)}", effect)
    blocked = (*effect.blocked, *(_stage(case, changeset_id, rest).blocked if rest else ()))
    return _hand_over(case, changeset_id, moved, effect, blocked)


def spread(nights: Sequence[date], count: int) -> list[date]:
    """`count` of `nights` from the first to the last, as evenly as they go; all where there are no more."""
    if len(nights) <= count:
        return list(nights)
    if count == 1:
        return [nights[len(nights) // 2]]
    return [nights[round(at * (len(nights) - 1) / (count - 1))] for at in range(count)]


def _rebuild(case: _Case, nights: Sequence[date]) -> list[str]:
    """Make the features of `nights` from the inputs as they are now; the reasons why some are not good."""
    held: list[str] = []
    for stretch in _stretches(nights):
        try:
            outcomes = build_features(case.workspace, case.pipeline, stretch, case.run_id)
        except ContractViolation as error:
            held += error.found
        else:
            held += [f"{one.dataset} {one.night}: {why}" for one in outcomes for why in one.reasons]
    return held


def _stretches(nights: Sequence[date]) -> list[list[date]]:
    """`nights` cut where one is left out, so that no history between them is asked for."""
    found: list[list[date]] = []
    for night in nights:
        if found and found[-1][-1] + timedelta(days=1) == night:
            found[-1].append(night)
        else:
            found.append([night])
    return found


def _open(case: _Case) -> int:
    plan = plan_backfill(case.workspace, case.pipeline, case.nights, AS_PUBLISHED, "predictions")
    reason = f"inputs of {len(case.nights)} published nights were corrected"
    return open_changeset(case.workspace, plan, reason, case.actor, KIND).changeset_id


def _stage(case: _Case, changeset_id: int, nights: Sequence[date]) -> Effect:
    stage_predictions(case.workspace, case.pipeline, changeset_id, nights, case.run_id)
    stage_publications(case.workspace, case.pipeline, changeset_id, nights, case.run_id)
    return measure_effect(case.workspace, case.pipeline, changeset_id, nights)


def _give_up(case: _Case, changeset_id: int, verdict: Verdict, reason: str, effect: Effect) -> Outcome:
    discard(case.workspace, changeset_id, case.actor, reason)
    return Outcome(verdict, case.nights, reason, None, effect)


def _hand_over(case: _Case, changeset_id: int, moved: str, effect: Effect, blocked: Sequence[str]) -> Outcome:
    """Approve what is staged where the spec says so and every night is good; else it waits for a person."""
    waiting = f"{moved}; changeset {changeset_id} is staged"
    if blocked:
        said = f"{waiting}, but for nights whose predictions are held back: {'; '.join(blocked)}"
        return Outcome("asked", case.nights, said, changeset_id, effect)
    if case.pipeline.restatement.approve == "person":
        return Outcome("asked", case.nights, f"{waiting} for approval", changeset_id, effect)
    try:
        approve(case.workspace, changeset_id, case.actor, f"approved by the spec: {moved}")
    except ChangesetRefused as error:
        return Outcome("asked", case.nights, f"{waiting}: {'; '.join(error.found)}", changeset_id, effect)
    return Outcome("restated", case.nights, f"{moved}; changeset {changeset_id} is approved", changeset_id, effect)


def _record(case: _Case, outcome: Outcome) -> None:
    counted = "1 night" if len(case.nights) == 1 else f"{len(case.nights)} nights"
    subject = f"{counted}, {case.nights[0]} to {case.nights[-1]}"
    with case.workspace.engine.begin() as connection:
        evidence = {
            "affected": {str(night): _pairs(one) for night, one in case.replaced.items()},
            "inputs": _inputs(connection, case), "sample": _sample(outcome.effect), "changeset": outcome.changeset_id,
            "command": _command(case, outcome), "policy": case.pipeline.restatement.model_dump(mode="json"),
        }  # fmt: skip
        name, now = case.pipeline.name, case.workspace.clock.now()
        record_decision(
            connection,
            Decision(name, KIND, subject, outcome.verdict, outcome.reason, evidence, case.actor, now),
        )


def _command(case: _Case, outcome: Outcome) -> str | None:
    if outcome.verdict != "asked":
        return None
    return case.command if outcome.changeset_id is None else f"nightscore changes diff {outcome.changeset_id}"


def _inputs(connection: sa.Connection, case: _Case) -> list[dict[str, Any]]:
    replaced = {old: new for one in case.replaced.values() for old, new in one.items()}
    return [
        {"dataset": one.dataset, "night": str(one.score_date), "replaced": one.version_id,
         "by": replaced[one.version_id]}
        for one in versions_by_id(connection, sorted(replaced))
    ]  # fmt: skip


def _sample(effect: Effect | None) -> dict[str, Any] | None:
    if effect is None:
        return None
    nights = [str(night) for night in effect.nights]
    return {
        "nights": nights, "rows": effect.rows, "moved": effect.moved, "share": effect.share,
        "blocked": list(effect.blocked), "difference": effect.figures,
    }  # fmt: skip
