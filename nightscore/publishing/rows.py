"""Read published rows back: what the mart holds of one publication, in the shape of the predictions it came from.

Added here: another way to read the mart. Not here: writing it (`publish.py`).
"""

from collections.abc import Mapping
from typing import Any

import polars as pl
from psycopg import sql

from nightscore.catalog.publications import Publication
from nightscore.lake.workspace import Workspace

BATCH_ROWS = 1 << 15


def published_rows(workspace: Workspace, publication: Publication, schema: Mapping[str, pl.DataType]) -> pl.DataFrame:
    """Every row of a publication with the columns and types of `schema`, in no order."""
    names = sql.SQL(", ").join(sql.Identifier(name) for name in schema)
    statement = sql.SQL("select {} from {} where score_date = {} and publication_id = {}").format(
        names, sql.Identifier("mart", publication.pipeline), publication.score_date, publication.publication_id
    )
    frames = [pl.DataFrame(schema=dict(schema))]
    with workspace.engine.connect() as connection:
        raw: Any = connection.connection.driver_connection
        # A named cursor stays on the server: rows exist as Python objects a batch at a time only.
        with raw.cursor("published_rows") as cursor:
            cursor.execute(statement)
            while found := cursor.fetchmany(BATCH_ROWS):
                frames.append(pl.DataFrame(found, schema=dict(schema), orient="row"))
    return pl.concat(frames)
