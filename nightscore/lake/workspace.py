"""The opened deployment that every step of a night works on: settings, clock, database and lake.

Added here: something that all steps need. Not here: a step, or anything of one pipeline.
"""

from dataclasses import dataclass

import sqlalchemy as sa

from nightscore.catalog.connect import Database, find_database, open_catalog
from nightscore.clock import Clock, SystemClock
from nightscore.lake.objects import ObjectStore
from nightscore.lake.partitions import Lake
from nightscore.settings import Settings


@dataclass(frozen=True)
class Workspace:
    """One opened deployment."""

    settings: Settings
    clock: Clock
    database: Database
    engine: sa.Engine
    lake: Lake


def open_workspace(settings: Settings, clock: Clock | None = None) -> Workspace:
    """Open the deployment, starting the embedded database when needed and migrating the catalog."""
    used_clock = clock or SystemClock()
    database = find_database(settings)
    engine = open_catalog(database)
    lake = Lake(ObjectStore(settings.lake_path), engine, used_clock)
    return Workspace(settings, used_clock, database, engine, lake)
