"""COPY of frames into a fresh table: batches are read and encoded ahead while the server takes in the last one.

Added here: how rows travel to the server. Not here: their bytes (`copy_binary.py`), the table (`publish.py`).
"""

from collections.abc import Iterable, Sequence
from contextlib import closing
from typing import Any

import polars as pl
from psycopg import Connection, sql

from nightscore.errors import AccountingError
from nightscore.lake.ahead import read_ahead
from nightscore.publishing.copy_binary import SIGNATURE, TRAILER, encode_rows


def copy_frames(
    raw: Connection[Any], table: sql.Identifier, columns: Sequence[str], frames: Iterable[pl.DataFrame]
) -> int:
    """Copy `columns` of every frame, in order, into a table that this transaction made; returns the rows copied.

    Rows are stored frozen, so that neither the first reader nor a vacuum writes their pages again. Raises
    SourceMalformed for a value that PostgreSQL cannot store, AccountingError when it counts other rows than were sent.
    """
    names = sql.SQL(", ").join(sql.Identifier(name) for name in columns)
    statement = sql.SQL("copy {} ({}) from stdin with (format binary, freeze)").format(table, names)
    encoded = ((frame.height, encode_rows(frame.select(columns))) for frame in frames)
    sent = 0
    with raw.cursor() as cursor:
        with cursor.copy(statement) as copy, closing(read_ahead(encoded)) as ahead:
            copy.write(SIGNATURE)
            for rows, content in ahead:
                copy.write(content)
                sent += rows
            copy.write(TRAILER)
        if cursor.rowcount != sent:
            found = f"{sent} rows were sent, PostgreSQL counts {cursor.rowcount}"
            raise AccountingError(f"Copying into {table.as_string()}", found, "run `nightscore doctor`; report it")
    return sent
