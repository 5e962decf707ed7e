"""Nights one after the other, unattended, by the real jobs: each night, and the attempts that its sensors then ask for.

Run on a deployment with a champion that has a reference: `.venv/bin/python benchmarks/watch_replay.py flight_delay
2013-04-01 2013-12-30`. Prints a line a night as it goes, and at the end what people would have been told: incidents
with their causes, the ledger of retraining and promotion, and the seconds of each step.
"""

import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from time import perf_counter

import dagster as dg
import sqlalchemy as sa

from nightscore.catalog.decisions import list_decisions
from nightscore.catalog.tables import alert, step_time
from nightscore.catalog.watch import list_incidents
from nightscore.spec.windows import nights_between
from orchestration.cli.launch import INTERRUPTED, Launched, run_job, run_nights
from orchestration.cli.night_runs import Session, open_session
from sensors.retraining import CAUSES

LONGEST_WORDS = 300


@dataclass(frozen=True)
class Night:
    """What came of one night: its run, the attempts that followed it, and what they took."""

    night: date
    run: Launched
    attempts: list[Launched]
    seconds: float


def replay(session: Session, nights: list[date]) -> Iterator[Night]:
    """Each night as the schedule runs it, then a tick of every sensor that starts attempts; Ctrl-C ends it."""
    cursors: dict[str, str | None] = {}
    for night in nights:
        begun = perf_counter()
        (run,) = run_nights(session.definitions, session.instance, f"{session.pipeline.name}_nightly", [night])
        if run.exit_code == INTERRUPTED:
            return
        attempts = [one for cause in CAUSES for one in tick(session, cause.name, cursors)]
        yield Night(night, run, attempts, perf_counter() - begun)


def tick(session: Session, cause: str, cursors: dict[str, str | None]) -> Iterator[Launched]:
    """Run what one sensor asks for."""
    name = session.pipeline.name
    context = dg.build_sensor_context(session.instance, cursor=cursors.get(cause))
    answer = session.definitions.resolve_sensor_def(f"{name}_{cause}").evaluate_tick(context)
    cursors[cause] = answer.cursor
    for asked in answer.run_requests or ():
        config = dict(asked.run_config or {})
        yield run_job(session.definitions, session.instance, f"{name}_attempt", dict(asked.tags), config)


def say_night(session: Session, one: Night) -> None:
    """A line a night, and one for everything that was decided on it."""
    state = "published" if one.run.success else f"held back or failed: {one.run.message[:LONGEST_WORDS]}"
    print(f"{one.night} {one.seconds:6.1f} s  {state}", flush=True)
    with session.workspace.engine.connect() as connection:
        recent = list_decisions(connection, session.pipeline.name, limit=30)
    for made in reversed([one_of for one_of in recent if _night_of(one_of.evidence) == str(one.night)]):
        print(f"    {made.kind} {made.verdict} {made.subject}: {made.reason[:LONGEST_WORDS]}", flush=True)
    for failed in (attempt for attempt in one.attempts if not attempt.success):
        print(f"    attempt failed: {failed.message}", flush=True)


def _night_of(evidence: object) -> str:
    found = evidence if isinstance(evidence, dict) else {}
    return str(found.get("night") or found.get("as_of") or "")


def say_incidents(session: Session) -> None:
    """Every incident, by level and date of opening."""
    with session.workspace.engine.connect() as connection:
        found = list_incidents(connection, session.pipeline.name)
        alerts = connection.execute(sa.select(alert.c.occasion).order_by(alert.c.alert_id)).scalars().all()
    print(f"\nincidents: {dict(sorted(Counter(one['level'] for one in found).items()))}; alerts: {len(alerts)}")
    for one in sorted(found, key=lambda incident: (incident["level"], incident["opened"])):
        lasted = f"{one['opened']} to {one['last_seen']}, {one['nights']} nights"
        print(f"  {one['level']} {lasted}, {one['status']} {one['closed'] or ''}: {one['cause']}")
        for message in one["messages"]:
            print(f"      {message[:LONGEST_WORDS]}")


def say_ledger(session: Session) -> None:
    """How often each thing was decided."""
    with session.workspace.engine.connect() as connection:
        made = list_decisions(connection, session.pipeline.name, limit=10_000)
    mine = [one for one in made if one.kind in ("retrain", "promotion", "publish", "incident")]
    for (kind, verdict), count in sorted(Counter((one.kind, one.verdict) for one in mine).items()):
        print(f"  {kind} {verdict}: {count}")


def say_steps(session: Session, since: int) -> None:
    """Seconds of the steps of the replay, the slowest in sum first."""
    seconds = sa.func.sum(step_time.c.seconds)
    columns = (step_time.c.step, sa.func.count(), seconds, sa.func.max(step_time.c.seconds))
    query = sa.select(*columns).where(step_time.c.step_id > since).group_by(step_time.c.step).order_by(seconds.desc())
    with session.workspace.engine.connect() as connection:
        for step, count, total, worst in connection.execute(query):
            print(f"  {step:24} {count:4} times, {total / count:6.2f} s each, {worst:6.2f} s at worst")


def main(name: str, first: date, last: date) -> None:
    """Replay and print."""
    session = open_session(name)
    with session.workspace.engine.connect() as connection:
        since = connection.scalar(sa.select(sa.func.max(step_time.c.step_id))) or 0
    done = []
    for one in replay(session, nights_between(first, last)):
        done.append(one)
        say_night(session, one)
    published = sum(one.run.success for one in done)
    attempts = sum(len(one.attempts) for one in done)
    total = sum(one.seconds for one in done)
    print(f"\n{len(done)} nights in {total:.0f} s, {published} published, {attempts} attempts started")
    say_incidents(session)
    print("\nledger:")
    say_ledger(session)
    print("\nsteps:")
    say_steps(session, since)


if __name__ == "__main__":
    main(sys.argv[1], date.fromisoformat(sys.argv[2]), date.fromisoformat(sys.argv[3]))
