"""The ticks of every sensor over a watch of two years, against one second and against opening the deployment.

A database of its own: 730 watched nights, an entry on training a night, a hundred incidents, a thousand alerts. The
first tick of a process opens the deployment; prints its seconds, and the median and worst of 50 later ones a sensor.
"""

import os
import shutil
import statistics
import tempfile
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from time import perf_counter

import dagster as dg
import sqlalchemy as sa

from nightscore.catalog.decisions import Decision, record_decision
from nightscore.catalog.nights import record_night
from nightscore.catalog.postgres import stop_server
from nightscore.catalog.tables import alert
from nightscore.catalog.watch import append_watch_event, replace_incidents
from nightscore.monitoring.alerts import enqueue_alert
from nightscore.monitoring.nights import incident_rows
from nightscore.settings import Settings
from nightscore.spec.loader import load_spec
from nightscore.watch.incidents import Cause, Incident, Ledger
from nightscore.watch.levels import Signal
from nightscore.watch.retraining import History
from nightscore.watch.state import MonitorState
from orchestration.build import build_pipeline_definitions
from orchestration.resources import Engine
from sensors.alerts import alert_delivery
from sensors.freshness import build_freshness_sensor
from sensors.retraining import CAUSES

PIPELINE, FIRST, NIGHTS, INCIDENTS, ALERTS, TICKS = "flight_delay", date(2013, 4, 1), 730, 100, 1000, 50


def make_incident(at: int) -> Incident:
    """One of many; the newest three are open."""
    opened = FIRST + timedelta(days=7 * at)
    shown = Signal(level="L3", cause=f"psi_week:{at}", value=2, threshold=1, ratio=2, fires=True, message="far off")
    return Incident(
        incident_id=f"{at:04x}", pipeline=PIPELINE, level="L3", opened=opened, last_seen=opened,
        status="open" if at >= INCIDENTS - 3 else "closed",
        causes=(Cause(key=shown.cause, level="L3", worst=shown, worst_on=opened),),
    )  # fmt: skip


def fill(engine: sa.Engine) -> None:
    """Two years of the watch, every night with an answer on training; the newest is no attempt."""
    now = datetime.now(UTC)
    ledger = Ledger(incidents=tuple(make_incident(at) for at in range(INCIDENTS)))
    with engine.begin() as connection:
        for at in range(NIGHTS):
            night = FIRST + timedelta(days=at)
            state = MonitorState(pipeline=PIPELINE, night=night, training=History(looked=night), ledger=ledger)
            told = state.model_dump(mode="json")
            append_watch_event(connection, PIPELINE, "night", night, {}, told, "benchmark", now)
            evidence = {"rules": ["due"], "night": str(night), "promotion": None, "not_before": None, "policy": "p"}
            record_decision(
                connection,
                Decision(PIPELINE, "retrain", PIPELINE, "no_attempt", "too few labels", evidence, "watch", now),
            )
            record_night(connection, PIPELINE, night, "prepared", "", "benchmark", now)
        replace_incidents(connection, PIPELINE, incident_rows(state, now))
        for at in range(ALERTS):
            enqueue_alert(connection, PIPELINE, str(at), "opened", "title", "body", now)
        connection.execute(alert.update().values(status="sent"))


def measure(sensor: dg.SensorDefinition, instance: dg.DagsterInstance) -> float:
    """Seconds of one tick."""
    context = dg.build_sensor_context(instance)
    begun = perf_counter()
    sensor.evaluate_tick(context)
    return perf_counter() - begun


def main(home: Path) -> None:
    """Fill a catalog, tick, print."""
    os.environ["NIGHTSCORE_HOME"] = str(home)
    pipeline = load_spec(Settings().pipelines_path / f"{PIPELINE}.yaml")
    definitions = build_pipeline_definitions(pipeline)
    sensors = [definitions.resolve_sensor_def(f"{PIPELINE}_{one.name}") for one in CAUSES]
    with dg.DagsterInstance.ephemeral() as instance:
        begun = perf_counter()
        fill(Engine().workspace().engine)
        print(f"made and filled in {perf_counter() - begun:.1f} s", flush=True)
        Engine().workspace().engine.dispose()
        reopen()
        print(f"first tick, with opening the deployment: {measure(sensors[0], instance):.3f} s", flush=True)
        for sensor in [*sensors, build_freshness_sensor([pipeline]), alert_delivery]:
            taken = [measure(sensor, instance) for _ in range(TICKS)]
            print(f"{sensor.name:28} median {statistics.median(taken):.4f} s, worst {max(taken):.4f} s", flush=True)
        Engine().workspace().engine.dispose()


def reopen() -> None:
    """Forget the opened deployment, as a new process does."""
    from orchestration.resources import _open

    _open.cache_clear()


if __name__ == "__main__":
    folder = Path(tempfile.mkdtemp(prefix="nightscore-ticks-"))
    folder.chmod(0o755)
    try:
        main(folder)
    finally:
        stop_server(folder)
        shutil.rmtree(folder, ignore_errors=True)
