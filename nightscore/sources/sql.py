"""SQL sources: a query with bound event dates against any SQLAlchemy URL, streamed in chunks.

Messages never show the URL's password, and never the message of a data error, which quotes values.
Added here: what a database driver needs to stream or to fail clearly. Not here: types of cells (`columns`).
"""

from collections.abc import Generator, Mapping, Sequence
from datetime import date
from typing import Any

import polars as pl
from sqlalchemy import URL, Connection, CursorResult, NullPool, create_engine, exc, make_url, text

from nightscore.errors import DatabaseUnavailable, NightscoreError, SettingsError, SourceMalformed
from nightscore.sources.parts import Origin, Part
from nightscore.spec.sources import SqlSource

_CHUNK_ROWS = 50_000
_TRANSIENT_STATES = ("08", "40", "53", "55", "57")


def read_query(
    source: SqlSource, dates: Sequence[date], environ: Mapping[str, str], origin: list[Origin],
    part_rows: int = _CHUNK_ROWS,
) -> Generator[Part, None, None]:  # fmt: skip
    """The query's rows for first to last event date (both included), as Parts of at most 50,000 rows.

    Raises SettingsError without a usable URL, DatabaseUnavailable when it does not answer, SourceMalformed when
    it refuses the query.
    """
    url = _find_url(source, environ)
    bounds = {"start": min(dates), "end": max(dates)}
    origin.append(Origin(f"{_mask(url)} query={source.query.strip()} start={bounds['start']} end={bounds['end']}"))
    label = f"the query on ${source.url_env}"
    with _connect(url, source) as connection:
        try:
            yield from _stream(connection, source.query, bounds, label, min(part_rows, _CHUNK_ROWS))
        except exc.StatementError as error:
            raise _explain(error, label) from None


def _find_url(source: SqlSource, environ: Mapping[str, str]) -> URL:
    remedy = f"set {source.url_env} to a SQLAlchemy URL such as postgresql://user:password@host/database"
    if not environ.get(source.url_env):
        raise SettingsError("opening a SQL source", f"environment variable {source.url_env} is not set", remedy)
    try:
        return make_url(environ[source.url_env])
    except (exc.ArgumentError, ValueError):
        raise SettingsError("opening a SQL source", f"{source.url_env} is not a SQLAlchemy URL", remedy) from None


def _mask(url: URL) -> str:
    """The URL without password and options, either of which may be a secret."""
    return url.set(query={}).render_as_string(hide_password=True)


def _connect(url: URL, source: SqlSource) -> Connection:
    try:
        engine = create_engine(url, poolclass=NullPool)
    except (exc.ArgumentError, ImportError):
        reason = f"{source.url_env} names a dialect or driver that is not installed: {url.drivername}"
        raise SettingsError("opening a SQL source", reason, "install the driver or repair the URL") from None
    try:
        return engine.connect()
    except exc.DBAPIError as error:
        reason = f"{_mask(url)}: {type(error.orig).__name__}"
        remedy = f"check that the database answers and that the account in {source.url_env} may connect"
        raise DatabaseUnavailable("connecting to a SQL source", reason, remedy) from None


def _stream(
    connection: Connection, query: str, bounds: Mapping[str, date], label: str, part_rows: int
) -> Generator[Part, None, None]:
    streaming = connection.execution_options(stream_results=True, max_row_buffer=part_rows)
    statement = text(query)
    used = {name: value for name, value in bounds.items() if name in statement.compile().params}
    result = streaming.execute(statement, used)
    names = _column_names(result, label)
    rows_before = 0
    for rows in result.partitions(part_rows):
        columns = zip(*rows, strict=True)
        yield Part(label, pl.DataFrame([_series(*each) for each in zip(names, columns, strict=True)]), rows_before + 1)
        rows_before += len(rows)
    if rows_before == 0:
        yield Part(label, pl.DataFrame(schema=dict.fromkeys(names, pl.Null())))


def _column_names(result: CursorResult[Any], label: str) -> list[str]:
    names = list(result.keys()) if result.returns_rows else []
    repeated = sorted({name for name in names if names.count(name) > 1})
    if not names or repeated:
        reason = f"it gives {', '.join(repeated)} twice" if repeated else "it gives no rows: not a SELECT"
        raise SourceMalformed(f"running {label}", reason, "repair the query in the spec")
    return names


def _series(name: str, values: Sequence[object]) -> pl.Series:
    """Values as the database gives them; as text where they are of several types or of one polars lacks."""
    try:
        series = pl.Series(name, values, strict=True)
    except (TypeError, ValueError, OverflowError, pl.exceptions.PolarsError):
        series = pl.Series(name, [], dtype=pl.Object)
    if series.dtype != pl.Object:
        return series
    return pl.Series(name, [None if value is None else str(value) for value in values], dtype=pl.String)


def _explain(error: exc.StatementError, label: str) -> NightscoreError:
    """A database's refusal without its values: messages of class 22 and 23 quote cells, so only the class is told."""
    state = str(getattr(error.orig, "sqlstate", None) or "")
    busy = "is locked" in str(error.orig)
    if busy or state.startswith(_TRANSIENT_STATES) or getattr(error, "connection_invalidated", False):
        return DatabaseUnavailable(f"running {label}", _name(error, state), "try again when the database answers")
    quotes_values = state.startswith(("22", "23"))
    reason = _name(error, state) + (
        "" if quotes_values else f": {str(error.orig or error).splitlines()[0].partition(' (Background')[0]}"
    )
    return SourceMalformed(f"running {label}", reason, "repair the query in the spec")


def _name(error: exc.StatementError, state: str) -> str:
    return type(error.orig or error).__name__ + (f" {state}" if state else "")
