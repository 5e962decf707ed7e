"""What follows once a night is published: figures that have become known, rows for people to look at, alerts sent.

Nothing here holds a night back; what fails is told, and the rest goes on.
Added here: something that every night ends with. Not here: how a figure is made (`performance.py`, `business.py`).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from typing import Literal

from nightscore.catalog.metrics import MetricValue
from nightscore.catalog.publications import current_publications
from nightscore.lake.outcomes import NightOutcome, timed_step
from nightscore.lake.workspace import Workspace
from nightscore.monitoring.alerts import Delivery, deliver_alerts
from nightscore.monitoring.business import record_business_metrics, record_costs
from nightscore.monitoring.performance import record_performance
from nightscore.monitoring.review_queue import queue_night
from nightscore.registry.versions import open_capsule, require_version
from nightscore.spec.pipeline import Pipeline


@dataclass(frozen=True)
class FollowUp:
    """Figures that were written, rows that wait for people, and what became of the alerts."""

    figures: Sequence[MetricValue]
    queued: int
    alerts: Delivery


def follow_up(workspace: Workspace, pipeline: Pipeline, nights: Sequence[date], run_id: str) -> FollowUp:
    """Bring figures, the review queue and alerts up to the newest of `nights`; done twice, nothing is added."""
    figures = _record_figures(workspace, pipeline, sorted(nights), run_id)
    queued = sum(_queue(workspace, pipeline, night, run_id) for night in sorted(nights))
    return FollowUp(figures, queued, deliver_alerts(workspace))


def _record_figures(workspace: Workspace, pipeline: Pipeline, nights: Sequence[date], run_id: str) -> list[MetricValue]:
    found: list[MetricValue] = []
    with timed_step(workspace, pipeline.name, "performance", nights, run_id) as log:
        for night in nights:
            new = [
                *record_performance(workspace, pipeline, night, run_id),
                *record_business_metrics(workspace, pipeline, night, run_id),
                *record_costs(workspace, pipeline, night, run_id),
            ]
            result: Literal["made", "reused"] = "made" if new else "reused"
            log.outcomes.append(NightOutcome(f"{pipeline.name}.performance", night, result, len(new)))
            found += new
    return found


def _queue(workspace: Workspace, pipeline: Pipeline, night: date, run_id: str) -> int:
    with workspace.engine.connect() as connection:
        published = current_publications(connection, pipeline.name, night, night).get(night)
    if published is None:
        return 0
    reference = None
    if pipeline.review.rare_inputs:
        version = require_version(workspace, pipeline.name, published.model_version)
        reference = open_capsule(workspace, version).reference()
    return queue_night(workspace, pipeline, night, reference.profile if reference else None, run_id)
