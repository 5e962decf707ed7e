"""A night made visible by rows that psycopg writes one by one, and by binary COPY of whole batches made in NumPy.

`.venv/bin/python benchmarks/publishing.py [--rows 1000000] [--rounds 3]`, on an embedded server of its own, while a
reader asks for the current view every few milliseconds. `rows` writes each row, then adds a primary key with the score
date, the check, the partition and the pointer; `batches` takes the engine's steps; `alone` only encodes and sends, and
rolls back. Interleaved. Prints the processor that client and server take a row, the longest wait of the reader, what
the first query of all rows takes and writes to the log afterwards, and median ratios. What both ways store is compared.
"""

import argparse
import os
import shutil
import statistics
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from pathlib import Path
from time import perf_counter, process_time, sleep, thread_time
from typing import Any

import numpy as np
import polars as pl
import psycopg
import pyarrow.parquet  # noqa: F401, so that no way pays for the import

from nightscore.catalog.postgres import ensure_server, stop_server
from nightscore.catalog.publications import Publication
from nightscore.lake.parquet import read_batches
from nightscore.publishing.mart import TYPES_OF_FRAME, attach_partition
from nightscore.publishing.publish import BATCH_ROWS, fill_partition

NIGHT, MADE_AT = date(2026, 1, 15), datetime(2026, 1, 15, 3, tzinfo=UTC)
KEY = ["customer_id"]
CHUNK = 1_000_000
PAUSE_SECONDS = 0.003
SETUP = """
    create schema mart;
    create table pointer (score_date date, publication_id bigint);
    create table mart.night (
        publication_id bigint not null, score_date date not null, {}, scored_at timestamptz
    ) partition by range (score_date, publication_id);
    create view current as select m.* from mart.night m join pointer using (score_date, publication_id);
"""


@dataclass
class Cost:
    """Of one publication: seconds, and processor of client and server; then the reader's, and what came after."""

    wall: float = 0.0
    client: float = 0.0
    server: float = 0.0
    waited: float = 0.0
    first_read: float = 0.0
    log_after: float = 0.0


Way = Callable[[psycopg.Connection[Any], Publication, Sequence[str], Path], None]
RATIOS: dict[str, Callable[[Cost], float]] = {
    "time": lambda cost: cost.wall, "processor": lambda cost: cost.client + cost.server,
    "client's processor": lambda cost: cost.client, "server's processor": lambda cost: cost.server,
    "first read's time": lambda cost: cost.first_read,
}  # fmt: skip


@dataclass
class Reader:
    """Somebody who reads one row of the current view again and again."""

    url: str
    longest: float = 0.0
    worked: float = 0.0
    ended: threading.Event = field(default_factory=threading.Event)

    def read(self) -> None:
        """Read until told to stop."""
        with psycopg.connect(self.url, autocommit=True) as connection:
            while not self.ended.is_set():
                begun = perf_counter()
                connection.execute("select * from current where score_date = %s and customer_id = 7", [NIGHT])
                self.longest = max(self.longest, perf_counter() - begun)
                sleep(PAUSE_SECONDS)
        self.worked = thread_time()


def make_night(first: int, rows: int) -> pl.DataFrame:
    """Predictions as the engine makes them, with two texts of several lengths, in order of their key."""
    random = np.random.default_rng(first)
    probability = random.random(rows)
    return pl.DataFrame({
        "customer_id": np.arange(first, first + rows),
        "region": pl.Series(["north", "south", "east", "west"]).gather(random.integers(0, 4, rows)),
        "score": probability, "probability": probability * 0.9, "decision": probability > 0.5,
        "decision_reason": pl.Series(["threshold", "children_get_no_mail"]).gather((probability > 0.97).astype(int)),
        "rank": random.permutation(rows) + 1, "decile": random.integers(1, 11, rows),
        "model_version": pl.repeat(7, rows, dtype=pl.Int64, eager=True), "arm": pl.repeat("champion", rows, eager=True),
    })  # fmt: skip


def make_file(path: Path, rows: int) -> pl.Schema:
    """A night's predictions as Parquet; a part at a time, so that the file is what costs memory."""
    parts = [make_night(first, min(CHUNK, rows - first)) for first in range(0, rows, CHUNK)]
    pl.concat(parts).write_parquet(path, compression="zstd", row_group_size=1 << 17)
    return parts[0].schema


def write_rows(raw: psycopg.Connection[Any], made: Publication, names: Sequence[str], path: Path) -> None:
    """Row by row in text, with what all rows share, as it was done before."""
    table = f"mart.night_p{made.publication_id}"
    raw.execute(f"create table {table} (like mart.night including defaults)")
    shared = (made.publication_id, NIGHT, MADE_AT)
    listed = ", ".join(["publication_id", "score_date", "scored_at", *names])
    with raw.cursor() as cursor, cursor.copy(f"copy {table} ({listed}) from stdin") as copy:
        for batch in read_batches(path, BATCH_ROWS):
            for row in batch.iter_rows():
                copy.write_row((*shared, *row))
    bounds = made.publication_id, made.publication_id + 1
    raw.execute(f"alter table {table} add primary key (score_date, customer_id)")
    raw.execute(
        f"alter table {table} add check "
        f"(score_date = '{NIGHT}' and publication_id >= {bounds[0]} and publication_id < {bounds[1]})"
    )
    raw.execute(
        f"alter table mart.night attach partition {table} "
        f"for values from ('{NIGHT}', {bounds[0]}) to ('{NIGHT}', {bounds[1]})"
    )
    move_pointer(raw, made)


def write_batches(raw: psycopg.Connection[Any], made: Publication, names: Sequence[str], path: Path) -> None:
    """As the engine does it."""
    copy_alone(raw, made, names, path)
    attach_partition(raw, made, KEY)
    move_pointer(raw, made)


def copy_alone(raw: psycopg.Connection[Any], made: Publication, names: Sequence[str], path: Path) -> None:
    """Fill the table, and nothing more."""
    fill_partition(raw, made, KEY, MADE_AT, names, path)


def move_pointer(raw: psycopg.Connection[Any], made: Publication) -> None:
    """Readers see the publication when the transaction ends."""
    raw.execute("delete from pointer")
    raw.execute("insert into pointer values (%s, %s)", [NIGHT, made.publication_id])


def publication(number: int, rows: int) -> Publication:
    """What the catalog would say of it."""
    return Publication(number, "night", NIGHT, number, 1, 7, rows, "", "night", "benchmark", MADE_AT)


def server_seconds(home: Path) -> float:
    """Processor that our server's processes have taken, ended ones included."""
    postmaster, ticks = (home / "postgres" / "data" / "postmaster.pid").read_text().split()[0], 0
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = status.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if postmaster in (status.parent.name, fields[1]):
            ticks += sum(map(int, fields[11:15] if status.parent.name == postmaster else fields[11:13]))
    return ticks / os.sysconf("SC_CLK_TCK")


@contextmanager
def measured(home: Path, url: str, cost: Cost) -> Iterator[None]:
    """Fill in what the block costs, while somebody reads."""
    reader = Reader(url)
    thread = threading.Thread(target=reader.read)
    thread.start()
    try:
        server, client, begun = server_seconds(home), process_time(), perf_counter()
        yield
        cost.wall, cost.server = perf_counter() - begun, server_seconds(home) - server
    finally:
        reader.ended.set()
        thread.join()
    cost.client, cost.waited = process_time() - client - reader.worked, reader.longest


def read_first(url: str, cost: Cost) -> None:
    """The first query of all rows after a checkpoint, and what it makes the server write."""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("checkpoint")
        before = connection.execute("select pg_current_wal_insert_lsn()").fetchone()
        begun = perf_counter()
        connection.execute("select count(*), avg(score) from current").fetchone()
        cost.first_read = perf_counter() - begun
        written = connection.execute("select pg_current_wal_insert_lsn() - %s::pg_lsn", before).fetchone()
        cost.log_after = float(written[0]) if written else 0.0


def compare_content(url: str, numbers: Sequence[int], rows: int) -> None:
    """Every way stored the same rows, but for the number of the publication."""
    listed = "customer_id, region, score, probability, decision, decision_reason, rank, decile, model_version, arm"
    query = (
        f"select count(*), sum(hashtextextended(row({listed}, score_date, scored_at)::text, 0)) "
        "from mart.night where publication_id = %s"
    )
    with psycopg.connect(url, autocommit=True) as connection:
        found = {connection.execute(query, [number]).fetchone() for number in numbers}
    assert len(found) == 1, found
    assert found.pop()[0] == rows


def main() -> None:
    """Make the file and the server, measure the ways in turn, print costs and ratios."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--rows", type=int, default=1_000_000)
    options.add_argument("--rounds", type=int, default=3)
    given = options.parse_args()
    home = Path(tempfile.mkdtemp(prefix="nightscore-publishing-"))
    home.chmod(0o755)
    try:
        server = ensure_server(home)
        schema = make_file(home / "night.parquet", given.rows)
        taken = publish(home, server.url("postgres", driver="postgresql"), schema, given.rows, given.rounds)
    finally:
        stop_server(home)
        shutil.rmtree(home, ignore_errors=True)
    show(taken, given.rows)


def publish(home: Path, url: str, schema: pl.Schema, rows: int, rounds: int) -> dict[str, list[Cost]]:
    """The costs of every way, round by round."""
    ways: dict[str, Way] = {"rows": write_rows, "batches": write_batches, "alone": copy_alone}
    taken: dict[str, list[Cost]] = {name: [Cost() for _ in range(rounds)] for name in ways}
    columns = ", ".join(f"{name} {TYPES_OF_FRAME[dtype]}" for name, dtype in schema.items())
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(SETUP.format(columns))
        # What a vacuum of the last way's rows costs would be laid to the next one.
        connection.execute("alter system set autovacuum = off")
        connection.execute("select pg_reload_conf()")
    for turn in range(rounds):
        numbers = {name: 1 + turn * len(ways) + at for at, name in enumerate(ways)}
        for name, way in ways.items():
            made, cost = publication(numbers[name], rows), taken[name][turn]
            with psycopg.connect(url) as raw, measured(home, url, cost):
                way(raw, made, list(schema), home / "night.parquet")
                raw.rollback() if name == "alone" else raw.commit()
            if name != "alone":
                read_first(url, cost)
        compare_content(url, [numbers["rows"], numbers["batches"]], rows)
        with psycopg.connect(url, autocommit=True) as connection:
            for name in ("rows", "batches"):
                connection.execute(f"drop table mart.night_p{numbers[name]}")
    return taken


def show(taken: dict[str, list[Cost]], rows: int) -> None:
    """Medians of every way, and of the ratios of the rounds."""
    for name, costs in taken.items():
        middle = {one: statistics.median(getattr(cost, one) for cost in costs) for one in vars(costs[0])}
        print(
            f"{rows:>10,} rows   {name:8} {rows / middle['wall'] / 1e3:7,.0f} k rows/s   CPU a row: client "
            f"{middle['client'] / rows * 1e6:5.2f} us, server {middle['server'] / rows * 1e6:5.2f} us   "
            f"reader waits {max(cost.waited for cost in costs) * 1e3:5.0f} ms   "
            f"first read {middle['first_read']:6.2f} s and {middle['log_after'] / 1e6:6.1f} MB of log"
        )
    pairs = list(zip(taken["rows"], taken["batches"], strict=True))
    for what, of in RATIOS.items():
        print(f"rows take {statistics.median(of(old) / of(ours) for old, ours in pairs):.1f} times the {what}")


if __name__ == "__main__":
    main()
