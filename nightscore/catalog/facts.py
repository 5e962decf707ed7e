"""Small facts about the deployment itself, by name; the last value stands.

Added here: nothing but reads and writes of `deployment_fact`.
"""

from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert

from nightscore.catalog.tables import deployment_fact


def read_fact(connection: sa.Connection, name: str) -> str | None:
    """The value of a fact, or None."""
    return connection.scalar(sa.select(deployment_fact.c.value).where(deployment_fact.c.name == name))


def write_fact(connection: sa.Connection, name: str, value: str, now: datetime) -> None:
    """Set a fact."""
    row = insert(deployment_fact).values(name=name, value=value, set_at=now)
    connection.execute(row.on_conflict_do_update(index_elements=["name"], set_={"value": value, "set_at": now}))
