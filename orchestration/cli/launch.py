"""Run jobs in this process, in chunks of nights, recorded in Dagster's instance and so visible in its UI.

No daemon is needed. Added here: how a job is run from the command line. Not here: what a job does.
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import dagster as dg

from nightscore.catalog.nights import record_unexplained_failure
from nightscore.errors import NightscoreError
from nightscore.lake.workspace import Workspace
from orchestration.failures import EXIT_CODE
from orchestration.partitions import NIGHTS_PER_RUN
from orchestration.run_tags import PARTITION_TAG, PIPELINE_TAG, RANGE_END, RANGE_START, nights_of_run

PROCESS_TAG = "nightscore/process"
# The engine logs its own steps; Dagster's events are in its UI.
QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}
UNFINISHED = [
    dg.DagsterRunStatus.NOT_STARTED, dg.DagsterRunStatus.STARTED, dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.CANCELING,
]  # fmt: skip
UNEXPECTED = NightscoreError.exit_code
INTERRUPTED = 130
"""What a shell says of a command that was ended by Ctrl-C."""
INTERRUPTION = dg.DagsterExecutionInterruptedError.__name__


@dataclass(frozen=True)
class Launched:
    """One run: its id, and the message and exit code of the step that failed, if one did."""

    run_id: str
    success: bool
    message: str = ""
    exit_code: int = 0


def run_nights(
    definitions: dg.Definitions, instance: dg.DagsterInstance, job: str, nights: Sequence[date],
    tags: Mapping[str, str] | None = None,
) -> list[Launched]:  # fmt: skip
    """Run `job` over consecutive `nights`, a chunk a run that carries `tags`; stops after the first that fails."""
    launched: list[Launched] = []
    for at in range(0, len(nights), NIGHTS_PER_RUN):
        chunk = nights[at : at + NIGHTS_PER_RUN]
        launched.append(run_job(definitions, instance, job, {**(tags or {}), **_partition_tags(chunk)}))
        if not launched[-1].success:
            break
    return launched


def run_job(
    definitions: dg.Definitions, instance: dg.DagsterInstance, job: str, tags: dict[str, str],
    config: dict[str, Any] | None = None,
) -> Launched:  # fmt: skip
    """Run one job in this process; the run carries this process's identity, so a killed one is recognised."""
    partition = tags.pop(PARTITION_TAG, None)
    result = definitions.resolve_job_def(job).execute_in_process(
        instance=instance, raise_on_error=False, run_config=(config or {}) | QUIET, partition_key=partition,
        tags={**tags, PROCESS_TAG: process_identity(os.getpid())},
    )  # fmt: skip
    return Launched(result.run_id, True) if result.success else _explain(result)


def _partition_tags(nights: Sequence[date]) -> dict[str, str]:
    if len(nights) == 1:
        return {PARTITION_TAG: nights[0].isoformat()}
    return {RANGE_START: nights[0].isoformat(), RANGE_END: nights[-1].isoformat()}


def _explain(result: dg.ExecuteInProcessResult) -> Launched:
    failures = [event.step_failure_data for event in result.all_events if event.is_step_failure]
    told = [one.user_failure_data for one in failures if one.user_failure_data is not None]
    if told:
        codes = [int(str(one.metadata[EXIT_CODE].value)) for one in told if EXIT_CODE in one.metadata]
        message = "\n".join(one.description or "a step failed" for one in told)
        return Launched(result.run_id, False, message, codes[0] if codes else UNEXPECTED)
    traces = [one.error.to_string() for one in failures if one.error is not None]
    # Where it struck inside a database call, it is only the cause of the error that the step failed with.
    if any(INTERRUPTION in trace for trace in traces):
        return Launched(result.run_id, False, "interrupted", INTERRUPTED)
    return Launched(result.run_id, False, "\n".join(traces) or "the run failed before its first step", UNEXPECTED)


def reconcile_dead_runs(instance: dg.DagsterInstance, workspace: Workspace) -> list[str]:
    """End runs that a killed process left unfinished, and say so of their nights; returns their ids."""
    records = instance.get_runs(dg.RunsFilter(statuses=UNFINISHED))
    dead = [run for run in records if PROCESS_TAG in run.tags and not _is_alive(run.tags[PROCESS_TAG])]
    for run in dead:
        instance.report_run_failed(run, "the process that ran it is gone")
        pipeline, nights = run.tags.get(PIPELINE_TAG), nights_of_run(run.tags)
        if pipeline is not None and nights is not None:
            message, now = "its process was killed", workspace.clock.now()
            record_unexplained_failure(workspace.engine, pipeline, nights, run.run_id, message, now)
    return [run.run_id for run in dead]


def process_identity(pid: int) -> str:
    """`boot:pid:start`, which no other process on any boot shares; empty start when the process is gone."""
    boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace")
    except OSError:
        return f"{boot}:{pid}:"
    # The command name may hold spaces and brackets; the fields after its last bracket do not.
    return f"{boot}:{pid}:{stat.rpartition(')')[2].split()[19]}"


def _is_alive(identity: str) -> bool:
    return process_identity(int(identity.split(":")[1])) == identity
