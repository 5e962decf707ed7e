"""Say in `partition_status` what became of nights whose run died without a word, and tell people of what failed unseen.

That is a night, and an attempt that a sensor started. A run may be killed or out of memory; one that failed for a
reason has said so itself.
"""

from datetime import date

import dagster as dg

from nightscore.catalog.nights import night_status, record_unexplained_failure
from nightscore.catalog.watch import open_faults
from nightscore.lake.workspace import Workspace
from nightscore.spec.windows import nights_between
from orchestration.resources import Engine
from orchestration.run_tags import DECISION_TAG, PIPELINE_TAG, nights_of_run

OCCASION = "failed"
WORDS = {"failed": "failed", "gated": "is held back"}


@dg.run_failure_sensor(
    name="unexplained_failures", default_status=dg.DefaultSensorStatus.RUNNING,
    description="Marks the nights of a run that died as failed, unless it said why, and tells people of failures",
)  # fmt: skip
def unexplained_failures(context: dg.RunFailureSensorContext) -> None:
    """Record the failure for each night of the run, and put one alert a night or attempt into the outbox."""
    run, message = context.dagster_run, context.failure_event.message or ""
    pipeline, nights = run.tags.get(PIPELINE_TAG), nights_of_run(run.tags)
    if pipeline is None:
        return
    workspace = Engine().workspace()
    if DECISION_TAG in run.tags:
        tell_of_attempt(workspace, pipeline, run.tags[DECISION_TAG], run.run_id, message)
    if nights is None:
        return
    record_unexplained_failure(workspace.engine, pipeline, nights, run.run_id, message, workspace.clock.now())
    if run.job_name == f"{pipeline}_nightly":
        tell_of_nights(workspace, pipeline, nights, run.run_id)


def tell_of_attempt(workspace: Workspace, pipeline: str, decision: str, run_id: str, message: str) -> bool:
    """Alert people of an attempt that nobody waited for; False when they had been told of this decision's."""
    from nightscore.monitoring.alerts import enqueue_alert

    title, subject = f"Nightscore: {pipeline}, an attempt failed", f"decision {decision}"
    body = f"{message}\nrun {run_id}; nightscore decisions {pipeline}"
    with workspace.engine.begin() as connection:
        return enqueue_alert(connection, pipeline, subject, OCCASION, title, body, workspace.clock.now())


def tell_of_nights(workspace: Workspace, pipeline: str, nights: tuple[date, date], run_id: str) -> list[date]:
    """Alert people of nights that failed, or that a gate held back, in this run; returns those that are new to them.

    They have heard of the incident for which the watch holds a night back.
    """
    from nightscore.monitoring.alerts import enqueue_alert

    told, now = [], workspace.clock.now()
    with workspace.engine.begin() as connection:
        for night in nights_between(*nights):
            status = night_status(connection, pipeline, night)
            if status is None or status.run_id != run_id or status.status not in WORDS:
                continue
            if status.status == "gated" and open_faults(connection, pipeline, night):
                continue
            title = f"Nightscore: {pipeline} {night} {WORDS[status.status]}"
            body = f"{status.reason}\nnightscore status {pipeline}"
            if enqueue_alert(connection, pipeline, str(night), OCCASION, title, body, now):
                told.append(night)
    return told
