"""The verdict without which no predictions are seen: L1 on one content, kept in the catalog with its evidence.

Publishing asks here, whichever run, schedule or command publishes; a content that was never judged is judged then.
Added here: a way to ask for a verdict. Not here: what is measured (`gather.py`), or incidents (`state.py`).
"""

from dataclasses import replace

import sqlalchemy as sa

from nightscore.catalog.partitions import PartitionVersion
from nightscore.catalog.watch import WatchVerdict, newest_state, record_watch_verdict, watch_verdict_on
from nightscore.lake.workspace import Workspace
from nightscore.spec.pipeline import Pipeline
from nightscore.watch.evidence import NightEvidence
from nightscore.watch.gather import gather_rows, open_scored
from nightscore.watch.state import MonitorState, find_blocking


def ensure_verdict(
    workspace: Workspace, pipeline: Pipeline, predictions: PartitionVersion, run_id: str
) -> WatchVerdict:
    """The standing verdict that let `predictions` pass; without one they are judged, on tonight's rows alone."""
    with workspace.engine.connect() as connection:
        known = watch_verdict_on(connection, pipeline.name, predictions.score_date, predictions.md5)
    if known is not None and known.passed:
        return known
    evidence = gather_rows(workspace, pipeline, open_scored(workspace, pipeline, predictions))
    with workspace.engine.begin() as connection:
        return judge_content(connection, workspace, pipeline, predictions, evidence, run_id)


def judge_content(
    connection: sa.Connection, workspace: Workspace, pipeline: Pipeline, predictions: PartitionVersion,
    evidence: NightEvidence, run_id: str,
) -> WatchVerdict:  # fmt: skip
    """Judge by L1 and what people have accepted as normal; a verdict that says something new is appended.

    The newest counts.
    """
    state = load_state(connection, pipeline)
    shown = find_blocking(state, evidence, pipeline.monitoring)
    verdict = WatchVerdict(
        pipeline.name, predictions.score_date, predictions.md5, evidence.reference, not shown,
        [one.message for one in shown], [], evidence.model_dump(mode="json"), run_id, workspace.clock.now(),
    )  # fmt: skip
    known = watch_verdict_on(connection, pipeline.name, predictions.score_date, predictions.md5)
    if known is not None and replace(known, run_id=run_id, at=verdict.at) == verdict:
        return known
    record_watch_verdict(connection, verdict)
    return verdict


def load_state(connection: sa.Connection, pipeline: Pipeline, before: int | None = None) -> MonitorState:
    """What the watch remembers now, or remembered before an event; nothing at first."""
    found = newest_state(connection, pipeline.name, before)
    return MonitorState(pipeline=pipeline.name) if found is None else MonitorState.model_validate(found)
