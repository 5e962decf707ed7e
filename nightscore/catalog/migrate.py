"""Bring a catalog database to the newest shape, safely under concurrent first starts.

Added here: how migrations are run. Not here: a migration itself (`migrations/versions`).
"""

import logging
from pathlib import Path

import sqlalchemy as sa

HEAD = "0005"
# Any constant that no other application's advisory lock is likely to use.
LOCK_KEY = 0x6E696768_7473


def migrate(engine: sa.Engine) -> bool:
    """Upgrade the catalog to `HEAD`; True when something was done.

    Concurrent callers wait for one another on an advisory lock, and the later ones find nothing left to do.
    """
    if _revision(engine) == HEAD:
        return False
    with engine.begin() as connection:
        connection.execute(sa.text("select pg_advisory_xact_lock(:key)"), {"key": LOCK_KEY})
        if _revision_on(connection) == HEAD:
            return False
        connection.execute(sa.text("create schema if not exists nightscore"))
        _upgrade(connection)
    return True


def _revision(engine: sa.Engine) -> str | None:
    with engine.connect() as connection:
        return _revision_on(connection)


def _revision_on(connection: sa.Connection) -> str | None:
    if connection.scalar(sa.text("select to_regclass('nightscore.alembic_version')")) is None:
        return None
    revision = connection.scalar(sa.text("select version_num from nightscore.alembic_version"))
    return None if revision is None else str(revision)


def _upgrade(connection: sa.Connection) -> None:
    from alembic import command
    from alembic.config import Config

    logging.getLogger("alembic").setLevel(logging.WARNING)
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    config.attributes["connection"] = connection
    command.upgrade(config, HEAD)
