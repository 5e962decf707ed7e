"""Promotion in Dagster: the gate's verdict on a version, and a person's decisions on versions, as materialisations.

Added here: what the UI shows of a verdict or a decision. Not here: verdicts and decisions (`nightscore/registry`).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING, Any

import dagster as dg

from assets.naming import key_of
from nightscore.catalog.decisions import list_decisions
from nightscore.catalog.models import ModelVersion, alias_events, list_versions
from nightscore.errors import AliasMissing
from nightscore.lake.workspace import Workspace
from nightscore.spec.pipeline import Pipeline
from orchestration.failures import Event, mapped_failures
from orchestration.resources import Engine
from orchestration.run_tags import USER_TAG

if TYPE_CHECKING:
    from nightscore.registry.promotion import Proposal

SETTLED = "settled"
"""The action on a version that there is nothing to decide about: the first one, or one that was judged before."""


class PromotionConfig(dg.Config):
    """What is judged: `version`, else the one that the same run has trained, else the newest; `as_of` a night.

    Without a night it is judged by what was known on the night that it was trained for. `ask` says why a person is to
    decide about it even when the gate finds it good and the spec would let it go on.
    """

    as_of: str | None = None
    version: int | None = None
    reason: str = "proposed by hand"
    ask: str = ""


class ModelDecisionConfig(dg.Config):
    """What is decided (approve, reject, promote or rollback), about which version, and why; rollback needs none."""

    decision: str
    reason: str
    version: int | None = None
    despite_gate: bool = False


@dataclass(frozen=True)
class _Asked:
    """A version to judge as known on a night; `settled` says why there is nothing to judge."""

    version: ModelVersion
    as_of: date
    settled: str


def build_promotion(pipeline: Pipeline) -> dg.AssetsDefinition:
    """The asset whose materialisations are the gate's verdicts, with the check that says whether it let go on."""
    spec = dg.AssetSpec(
        key_of(pipeline, "promotion"), deps=[key_of(pipeline, "model")], group_name=pipeline.name,
        owners=[pipeline.owner], kinds={"postgres"},
        description="The gate between a version and the champion: its verdict, its evidence, and what followed",
    )  # fmt: skip
    gate = dg.AssetCheckSpec(
        "promotion_gate", asset=spec.key, blocking=False,
        description="The version is better than the champion, or a refresh that is not worse",
    )  # fmt: skip

    @dg.multi_asset(name=f"{pipeline.name}__promotion", specs=[spec], check_specs=[gate])
    def promotion_asset(context: dg.AssetExecutionContext, config: PromotionConfig, engine: Engine) -> Iterator[Event]:
        workspace = engine.workspace()
        with mapped_failures(context, workspace, pipeline.name, []):
            asked = _resolve(context, workspace, pipeline, config)
            proposal = None if asked.settled else _propose(context, workspace, pipeline, asked, config)
        facts = {"as_of": str(asked.as_of), "version": asked.version.name, "why": config.reason}
        yield dg.MaterializeResult(asset_key=spec.key, metadata=facts | _facts(asked, proposal))
        yield _judged(spec.key, asked, proposal)

    return promotion_asset


def build_model_decisions(pipeline: Pipeline) -> dg.AssetsDefinition:
    """The asset whose materialisations are a person's decisions on a pipeline's versions."""
    spec = dg.AssetSpec(
        key_of(pipeline, "model_decisions"), group_name=pipeline.name, owners=[pipeline.owner], kinds={"postgres"},
        description="Decisions on versions: approved, rejected, promoted, rolled back",
    )  # fmt: skip

    @dg.multi_asset(name=f"{pipeline.name}__model_decisions", specs=[spec])
    def model_decisions_asset(
        context: dg.AssetExecutionContext, config: ModelDecisionConfig, engine: Engine
    ) -> dg.MaterializeResult:
        from nightscore.publishing.model_decisions import decide_model

        workspace, actor = engine.workspace(), context.run.tags.get(USER_TAG, "dagster")
        with mapped_failures(context, workspace, pipeline.name, []):
            done = decide_model(
                workspace, pipeline, config.decision, config.version, actor, config.reason.strip(),
                config.despite_gate, context.run.run_id,
            )  # fmt: skip
        shown = {"decision": config.decision, "reason": config.reason, "done": done}
        return dg.MaterializeResult(
            asset_key=spec.key, metadata=shown | {"command": f"nightscore models history {pipeline.name}"}
        )

    return model_decisions_asset


def _resolve(
    context: dg.AssetExecutionContext, workspace: Workspace, pipeline: Pipeline, config: PromotionConfig
) -> _Asked:
    from nightscore.registry.versions import require_version

    number = config.version or _trained_here(context, pipeline) or _newest(workspace, pipeline)
    version = require_version(workspace, pipeline.name, number)
    as_of = date.fromisoformat(config.as_of) if config.as_of else version.as_of
    return _Asked(version, as_of, "" if config.version else _why_settled(workspace, version, as_of))


def _trained_here(context: dg.AssetExecutionContext, pipeline: Pipeline) -> int | None:
    """The version that the model asset of the same run has made, or found to be there."""
    made = dg.DagsterEventType.ASSET_MATERIALIZATION
    for record in context.instance.get_records_for_run(context.run.run_id, of_type=made).records:
        found = record.asset_materialization
        if found is not None and found.asset_key == key_of(pipeline, "model"):
            return int(str(found.metadata["version"].value).rpartition("@")[2])
    return None


def _newest(workspace: Workspace, pipeline: Pipeline) -> int:
    with workspace.engine.connect() as connection:
        versions = list_versions(connection, pipeline.name)
    if not versions:
        raise AliasMissing(
            f"Looking for the newest version of {pipeline.name}",
            "there is none",
            f"run `nightscore train {pipeline.name}`",
        )
    return versions[-1].version


def _why_settled(workspace: Workspace, version: ModelVersion, as_of: date) -> str:
    """Why a version that nobody named is not judged; "" when it is."""
    with workspace.engine.connect() as connection:
        crowned = any(holder == version.version for _, holder in alias_events(connection, version.pipeline, "champion"))
        made = list_decisions(connection, version.pipeline, limit=1000, kind="promotion")
    if crowned:
        return (
            "it is the first, and has no champion to be compared with" if version.parent is None else "it was champion"
        )
    judged = [one for one in made if one.subject == version.name and one.evidence.get("as_of") == str(as_of)]
    return f"it was judged as of {as_of} already: {judged[0].verdict}" if judged else ""


def _propose(
    context: dg.AssetExecutionContext, workspace: Workspace, pipeline: Pipeline, asked: _Asked,
    config: PromotionConfig,
) -> "Proposal":  # fmt: skip
    from nightscore.registry.promotion import propose
    from nightscore.registry.rollout import begin_rollout

    actor = context.run.tags.get(USER_TAG, "dagster")

    def start_rollout(version: ModelVersion) -> None:
        begin_rollout(workspace, pipeline, version, actor, config.reason)

    version, as_of, ask = asked.version, asked.as_of, config.ask
    return propose(workspace, pipeline, version, as_of, actor, start_rollout=start_rollout, ask=ask)


def _facts(asked: _Asked, proposal: "Proposal | None") -> dict[str, Any]:
    """Verdict, action and reason, with the evidence by date, guardrail and segment, and its chart."""
    if proposal is None:
        return {"verdict": SETTLED, "action": SETTLED, "reason": asked.settled}
    from nightscore.reports.verdict import render_chart, render_evidence

    verdict, told = proposal.verdict, proposal.verdict.evidence
    paired = told["paired"] or {}
    shown = {
        "champion": proposal.champion.name, "verdict": verdict.outcome, "action": proposal.action,
        "reason": proposal.reason, **{name: paired.get(name) for name in ("dates", "gain", "lower", "upper")},
        "power": told["power"], "evidence": dg.MetadataValue.md(render_evidence(told)),
        "command": f"nightscore models show {asked.version.name}",
    }  # fmt: skip
    chart = render_chart(told)
    present = {name: value for name, value in shown.items() if value is not None}
    return present | ({"chart": dg.MetadataValue.md(chart)} if chart else {})


def _judged(key: dg.AssetKey, asked: _Asked, proposal: "Proposal | None") -> dg.AssetCheckResult:
    reasons = [asked.settled] if proposal is None else list(proposal.verdict.reasons)
    return dg.AssetCheckResult(
        asset_key=key, check_name="promotion_gate", severity=dg.AssetCheckSeverity.WARN,
        passed=proposal is None or proposal.verdict.promotable,
        metadata={"reasons": dg.MetadataValue.md("\n".join(f"- {one}" for one in reasons))},
    )  # fmt: skip
