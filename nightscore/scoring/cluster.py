"""Shards on the workers of a Dask cluster: one that is there already, or processes of this machine.

Dask sends the shards, and sends those of a lost worker again; nothing of the data passes through it. Its own settings
(`DASK_DISTRIBUTED__…`) hold, so that TLS and timeouts are set as anywhere. This is the only module that imports it.
Added here: how the cluster's failures are called. Not here: what a worker does (`worker.py`).
"""

import logging
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from typing import Any

from nightscore.errors import ClusterUnavailable, NightscoreError, SettingsError
from nightscore.scoring.shards import ScoredShard, Shard
from nightscore.scoring.worker import score_shard, shares_lake
from nightscore.settings import Execution, Settings

TRY_AGAIN = "see that the scheduler and its workers run, then run the night again; what was scored is kept"


@contextmanager
def open_cluster(settings: Settings) -> Iterator[Any]:
    """A client of the cluster with at least one worker; local processes end with the block.

    Raises SettingsError where Dask is not installed, ClusterUnavailable where nobody answers in time.
    """
    _require_dask()
    where = settings.execution.address or "this machine"
    with ExitStack() as stack:
        with _naming_failures(f"Reaching the cluster at {where}"):
            client = _connect(settings, stack)
        yield client


def _require_dask() -> None:
    try:
        import distributed  # noqa: F401
    except ImportError as error:
        raise SettingsError(
            "Opening a Dask cluster", str(error), "install the extra: `pip install 'nightscore[dask]'`"
        ) from error


def _connect(settings: Settings, stack: ExitStack) -> Any:
    import distributed

    execution, patience = settings.execution, settings.execution.patience_seconds
    address = execution.address or stack.enter_context(_local_cluster(settings))
    client = stack.enter_context(distributed.Client(address, timeout=patience))  # type: ignore[no-untyped-call]
    client.wait_for_workers(1, timeout=patience)
    return client


def all_share_lake(client: Any, token: str) -> bool:
    """Whether every worker that is there sees the file `token` of the driver's lake."""
    with _naming_failures("Asking the workers for the lake"):
        return all(client.run(shares_lake, token).values())


def score_shards(client: Any, shards: Sequence[Shard], execution: Execution) -> Iterator[tuple[Shard, ScoredShard]]:
    """Score shards on the workers, in the order in which they are done.

    A worker's own error comes through as it was, at the first one that no other try would mend; the rest is called off
    then. Raises ClusterUnavailable where the scheduler is lost, or all workers for `patience_seconds`.
    """
    with _naming_failures("Scoring in shards"):
        waiting = {
            client.submit(score_shard, one, retries=execution.retries, pure=False): one for one in shards
        }  # fmt: skip
        try:
            while waiting:
                for future in _some_done(client, list(waiting), execution.patience_seconds):
                    result = future.result()
                    if isinstance(result, NightscoreError):
                        raise result
                    yield waiting.pop(future), result
        finally:
            with suppress(Exception):
                client.cancel(list(waiting))


def _some_done(client: Any, futures: Sequence[Any], patience_seconds: float) -> set[Any]:
    """Those that are done, at least one; waits for as long as there is a worker."""
    import distributed

    while True:
        try:
            done = distributed.wait(futures, patience_seconds, "FIRST_COMPLETED").done  # type: ignore[no-untyped-call]
            return set(done)
        except TimeoutError:
            if not client.scheduler_info()["workers"]:
                raise ClusterUnavailable(
                    "Scoring in shards", f"no worker was there for {patience_seconds:g} s", TRY_AGAIN
                ) from None


def _local_cluster(settings: Settings) -> Any:
    """Worker processes of this machine, which share its lake and its threads."""
    import distributed

    workers = settings.execution.workers
    environment = {
        "NIGHTSCORE_HOME": str(settings.home_path), "NIGHTSCORE_ROOT": str(settings.root.resolve()),
        "NIGHTSCORE_THREADS": str(max(1, settings.threads // workers)),
    }  # fmt: skip
    return distributed.LocalCluster(  # type: ignore[no-untyped-call]
        n_workers=workers, threads_per_worker=1, processes=True, host="127.0.0.1", dashboard_address="127.0.0.1:0",
        silence_logs=logging.ERROR, env=environment,
    )  # fmt: skip


@contextmanager
def _naming_failures(attempted: str) -> Iterator[None]:
    """Call what Dask raises when somebody is gone by our name."""
    from concurrent.futures import CancelledError

    from distributed import KilledWorker
    from distributed.client import ClosedClientError
    from distributed.comm.core import CommClosedError

    try:
        yield
    except NightscoreError:
        raise
    except KilledWorker as error:
        raise ClusterUnavailable(
            attempted, f"a shard took several workers down: {error}",
            "give workers more memory, or shards fewer rows (NIGHTSCORE_EXECUTION__SHARD_ROWS); then run it again",
        ) from error  # fmt: skip
    except (OSError, CommClosedError, CancelledError, ClosedClientError) as error:
        raise ClusterUnavailable(attempted, f"{type(error).__name__}: {error}".rstrip(": "), TRY_AGAIN) from error
