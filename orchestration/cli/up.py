"""`nightscore up`: database, Dagster's webserver and daemon, together until interrupted.

Added here: a process of the deployment. Not here: what the processes do.
"""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Annotated

import typer

CODE_LOCATION = Path(__file__).resolve().parents[2] / "workspace.yaml"
SECONDS_TO_STOP = 20


def up(
    port: Annotated[int, typer.Option(help="Port of the Dagster UI; the next free one is taken.")] = 3000,
    host: Annotated[str, typer.Option(help="Address the UI listens on.")] = "127.0.0.1",
) -> None:
    """Start the database, the Dagster UI and the daemon, print their addresses, and run until Ctrl-C.

    Schedules and sensors run while this runs. The database goes on afterwards, for BI readers.
    """
    from nightscore.lake.workspace import open_workspace
    from nightscore.settings import Settings
    from orchestration.cli.deployment import open_instance

    settings = Settings()
    database = open_workspace(settings).database
    open_instance(settings, database).dispose()
    chosen = _free_port(host, port)
    workspace = ["-w", str(CODE_LOCATION)]
    commands = [
        [sys.executable, "-m", "dagster_webserver", "-h", host, "-p", str(chosen), *workspace],
        [sys.executable, "-m", "dagster._daemon", "run", *workspace],
    ]
    sys.stdout.write(f"Dagster UI   http://{host}:{chosen}\nBI readers   {database.reader_url}\nStop         Ctrl-C\n")
    sys.stdout.flush()
    raise SystemExit(_run_together(commands))


def _free_port(host: str, first: int) -> int:
    for port in range(first, first + 100):
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if probe.connect_ex((host, port)) != 0:
                return port
    return first


def _run_together(commands: list[list[str]]) -> int:
    """Run all until one ends or we are told to stop, then stop the rest; returns the first exit code."""
    # Said for Ctrl-C too: a shell starts background commands with it ignored.
    for stop in (signal.SIGINT, signal.SIGTERM):
        signal.signal(stop, _interrupt)
    environment = os.environ | {"PYTHONUNBUFFERED": "1"}
    # Sessions of their own: Ctrl-C in a terminal reaches them once, through us.
    running = [subprocess.Popen(command, env=environment, start_new_session=True) for command in commands]
    try:
        while all(process.poll() is None for process in running):
            time.sleep(0.2)
        return next(process.returncode for process in running if process.returncode is not None)
    except KeyboardInterrupt:
        return 0
    finally:
        _stop(running)


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def _stop(running: list[subprocess.Popen[bytes]]) -> None:
    for process in running:
        process.send_signal(signal.SIGINT)
    for process in running:
        try:
            process.wait(timeout=SECONDS_TO_STOP)
        except subprocess.TimeoutExpired:
            process.kill()
