"""One run's scratch DuckDB: views over lake objects going in, feature tables coming out.

A file of its own a run, so nothing locks; external access is shut but for the partitions.
Added here: how partitions appear to SQL. Not here: the SQL.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import date
from pathlib import Path
from typing import Any

import polars as pl

from nightscore.lake.parquet import ROW_GROUP_ROWS
from nightscore.settings import Settings
from nightscore.sources.spool import scratch_folder

Files = Mapping[str, Mapping[date, Path]]
"""The partitions that a build may read: source name, the night that knew it, and its file."""


@contextmanager
def open_scratch(settings: Settings, files: Files, readable: Path) -> Iterator[tuple[Path, Any]]:
    """A scratch database with a view `clean.<source>` for each source; yields its path and an open connection.

    `readable` is the folder that all of `files` are in. The connection stays open while dbt runs: it carries the
    permission to read that folder, and nothing else.
    """
    import duckdb

    with scratch_folder(settings.home_path) as folder:
        path = folder / "scratch.duckdb"
        connection = duckdb.connect(str(path))
        try:
            _configure(connection, settings, folder, readable)
            _create_views(connection, files)
            yield path, connection
        finally:
            connection.close()


def _configure(connection: Any, settings: Settings, folder: Path, readable: Path) -> None:
    for statement in (
        "set autoinstall_known_extensions = false",
        "set autoload_known_extensions = false",
        "set python_enable_replacements = false",
        "set TimeZone = 'UTC'",
        f"set memory_limit = '{settings.memory_limit}'",
        f"set threads = {settings.threads}",
        f"set temp_directory = '{folder}/spill'",
        f"set allowed_directories = ['{readable}/', '{folder}/']",
        "set enable_external_access = false",
    ):
        connection.execute(statement)


def _create_views(connection: Any, files: Files) -> None:
    connection.execute("create schema clean")
    connection.execute("create schema lake")
    connection.execute("create table lake.partition (source varchar, file varchar, known_on date)")
    for source, by_night in files.items():
        rows = [(source, str(file), night) for night, file in sorted(by_night.items())]
        connection.executemany("insert into lake.partition values (?, ?, ?)", rows)
        listed = ", ".join(f"'{file}'" for file in sorted({file for _, file, _ in rows}))
        connection.execute(
            f'create view clean."{source}" as '  # noqa: S608 (names are checked by the spec, paths are our own)
            f"select data.* exclude (filename), known.known_on from read_parquet([{listed}], filename = true) as data "
            f"join lake.partition as known on known.file = data.filename and known.source = '{source}'"
        )


def read_night(
    connection: Any, table: str, columns: Sequence[str], night_column: str, night: date, key: Sequence[str]
) -> Iterator[pl.DataFrame]:
    """The rows of `features.<table>` of one night, sorted by `key`, nulls last, in batches; at least one.

    DuckDB sorts, and spills beyond its memory limit.
    """
    wanted, order = _quoted(columns), ", ".join(f"{_quoted([name])} nulls last" for name in key)
    where = f"{_quoted([night_column])} = date '{night}'"
    # A result keeps its connection busy until it is exhausted, so each has one of its own.
    with connection.cursor() as own:
        query = f'select {wanted} from features."{table}" where {where} order by {order}'  # noqa: S608 (names from the spec)
        reader = own.sql(query).to_arrow_reader(ROW_GROUP_ROWS)
        yield _frame(reader.schema.empty_table())
        yield from (_frame(batch) for batch in reader)


def _quoted(names: Sequence[str]) -> str:
    return ", ".join(f'"{name}"' for name in names)


def _frame(rows: Any) -> pl.DataFrame:
    frame = pl.from_arrow(rows)
    assert isinstance(frame, pl.DataFrame)
    return frame
