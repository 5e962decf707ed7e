"""Runs whose process died: recognised by the process's identity, ended, and said of their nights; once each."""

import os
import subprocess
from datetime import date
from pathlib import Path

import dagster as dg
import pytest

from nightscore.catalog.nights import NightStatus, night_status
from orchestration.cli.launch import PROCESS_TAG, process_identity, reconcile_dead_runs
from orchestration.cli.night_runs import Session
from sensors.run_failures import unexplained_failures

NIGHTLY = {"nightscore/pipeline": "visits"}


def killed_process_identity() -> str:
    """The identity of a process that ran, and was killed."""
    process = subprocess.Popen(["/bin/sleep", "60"])
    identity = process_identity(process.pid)
    process.kill()
    process.wait()
    return identity


def leave_run(
    session: Session, tags: dict[str, str], status: dg.DagsterRunStatus = dg.DagsterRunStatus.STARTED
) -> dg.DagsterRun:
    """A run of the nightly job in the state that a killed process leaves."""
    job = session.definitions.resolve_job_def("visits_nightly")
    return session.instance.create_run_for_job(job, tags=NIGHTLY | tags, status=status)


def status_of(session: Session, night: date) -> NightStatus | None:
    with session.workspace.engine.connect() as connection:
        return night_status(connection, "visits", night)


@pytest.mark.parametrize("status", [dg.DagsterRunStatus.NOT_STARTED, dg.DagsterRunStatus.STARTED])
def test_a_run_of_a_killed_process_is_ended_and_its_nights_are_failed(
    empty_session: Session, status: dg.DagsterRunStatus
) -> None:
    day = 10 if status is dg.DagsterRunStatus.STARTED else 12
    nights = (date(2024, 3, day), date(2024, 3, day + 1))
    tags = dict(
        zip(("dagster/asset_partition_range_start", "dagster/asset_partition_range_end"), map(str, nights), strict=True)
    )
    run = leave_run(empty_session, tags | {PROCESS_TAG: killed_process_identity()}, status)
    assert reconcile_dead_runs(empty_session.instance, empty_session.workspace) == [run.run_id]
    ended = empty_session.instance.get_run_by_id(run.run_id)
    assert ended is not None
    assert ended.status == dg.DagsterRunStatus.FAILURE
    found = [status_of(empty_session, night) for night in nights]
    assert [(one.status, one.reason, one.run_id) for one in found if one is not None] == [
        ("failed", "the run died: its process was killed", run.run_id)
    ] * 2
    assert reconcile_dead_runs(empty_session.instance, empty_session.workspace) == []


def test_a_process_that_took_over_the_number_of_a_dead_one_is_not_it(empty_session: Session) -> None:
    boot, pid, start = process_identity(os.getpid()).split(":")
    run = leave_run(empty_session, {"dagster/partition": "2024-03-14", PROCESS_TAG: f"{boot}:{pid}:{int(start) - 1}"})
    assert reconcile_dead_runs(empty_session.instance, empty_session.workspace) == [run.run_id]


def test_a_run_of_another_boot_is_dead(empty_session: Session) -> None:
    own = process_identity(os.getpid())
    other = f"00000000-0000-0000-0000-000000000000:{own.partition(':')[2]}"
    run = leave_run(empty_session, {"dagster/partition": "2024-03-14", PROCESS_TAG: other})
    assert reconcile_dead_runs(empty_session.instance, empty_session.workspace) == [run.run_id]


def test_runs_of_living_processes_and_of_the_daemon_are_left_alone(empty_session: Session) -> None:
    living = leave_run(empty_session, {PROCESS_TAG: process_identity(os.getpid()), "dagster/partition": "2024-03-15"})
    daemons = leave_run(empty_session, {"dagster/partition": "2024-03-15"})
    assert reconcile_dead_runs(empty_session.instance, empty_session.workspace) == []
    for run in (living, daemons):
        found = empty_session.instance.get_run_by_id(run.run_id)
        assert found is not None
        assert found.status == dg.DagsterRunStatus.STARTED
    assert status_of(empty_session, date(2024, 3, 15)) is None


def test_the_identity_of_a_process_that_is_gone_has_no_start() -> None:
    gone = killed_process_identity()
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    assert process_identity(int(gone.split(":")[1])) == f"{boot}:{gone.split(':')[1]}:"


def test_the_failure_sensor_says_of_the_nights_that_the_run_died(empty_session: Session) -> None:
    run = leave_run(empty_session, {"dagster/partition": "2024-03-16"})
    _sense(empty_session, run, "run worker exited with code 137")
    found = status_of(empty_session, date(2024, 3, 16))
    assert found is not None
    expected = ("failed", "the run died: run worker exited with code 137", run.run_id)
    assert (found.status, found.reason, found.run_id) == expected
    _sense(empty_session, run, "told again")
    assert status_of(empty_session, date(2024, 3, 16)) == found


def test_the_failure_sensor_leaves_runs_without_nights_alone(empty_session: Session) -> None:
    run = leave_run(empty_session, {})
    _sense(empty_session, run, "killed")
    assert status_of(empty_session, date(2024, 3, 17)) is None


def _sense(session: Session, run: dg.DagsterRun, message: str) -> None:
    event = session.instance.report_run_failed(run, message)
    context = dg.build_run_status_sensor_context(
        sensor_name="unexplained_failures", dagster_instance=session.instance, dagster_run=run, dagster_event=event
    )
    unexplained_failures(context.for_run_failure())
