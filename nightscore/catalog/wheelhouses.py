"""Wheels that were stored with a lock file, so that its environment can be made without an index.

Added here: nothing but reads and writes of `wheelhouse`. Not here: downloading or installing.
"""

from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert

from nightscore.catalog.tables import wheelhouse


def find_wheelhouse(connection: sa.Connection, lock_sha256: str, platform: str) -> str | None:
    """The directory object with the wheels of a lock for a platform, or None."""
    same = sa.and_(wheelhouse.c.lock_sha256 == lock_sha256, wheelhouse.c.platform == platform)
    return connection.scalar(sa.select(wheelhouse.c.directory_md5).where(same))


def record_wheelhouse(
    connection: sa.Connection, lock_sha256: str, platform: str, directory_md5: str, size_bytes: int, now: datetime
) -> None:
    """Remember where the wheels are; the newest wins."""
    values = {"directory_md5": directory_md5, "bytes": size_bytes, "stored_at": now}
    row = insert(wheelhouse).values(lock_sha256=lock_sha256, platform=platform, **values)
    connection.execute(row.on_conflict_do_update(index_elements=["lock_sha256", "platform"], set_=values))
