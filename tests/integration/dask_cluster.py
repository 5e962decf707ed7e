"""A scheduler and workers as processes of their own, for tests of scoring in shards.

Added here: another real service of a cluster. Not here: tests.
"""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from distributed import Client

WORKER = ("--nthreads", "1", "--no-dashboard", "--memory-limit", "0", "--host", "127.0.0.1")


@contextmanager
def dask_cluster(folder: Path, environment: Mapping[str, str], workers: int = 2) -> Iterator[str]:
    """The address of a scheduler with workers that see `environment`; all end with the block."""
    address_file = folder / "scheduler.json"
    found = ("--scheduler-file", str(address_file))
    scheduler = ("scheduler", "--host", "127.0.0.1", "--port", "0", "--dashboard-address", "127.0.0.1:0", *found)
    commands = [scheduler, *[("worker", *WORKER, *found, "--local-directory", str(folder))] * workers]
    processes = [_start(command, folder, environment) for command in commands]
    try:
        address = _address(address_file)
        with Client(address) as client:
            client.wait_for_workers(workers, timeout=60)
        yield address
    finally:
        for process in processes:
            # A worker that is asked to end while it begins never does.
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _start(command: tuple[str, ...], folder: Path, environment: Mapping[str, str]) -> subprocess.Popen[bytes]:
    module = f"distributed.cli.dask_{command[0]}"
    with (folder / "cluster.log").open("ab") as log:
        return subprocess.Popen(
            [sys.executable, "-m", module, *command[1:]], env={**os.environ, **environment}, stdout=log, stderr=log,
            start_new_session=True,
        )  # fmt: skip


def _address(path: Path, timeout_s: float = 60) -> str:
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        if path.is_file() and (text := path.read_text(encoding="utf-8")).strip():
            return str(json.loads(text)["address"])
        time.sleep(0.1)
    raise TimeoutError(f"no scheduler after {timeout_s:g} s")
