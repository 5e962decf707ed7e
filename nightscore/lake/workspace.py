"""The opened deployment that every step of a night works on: settings, clock, database and lake.

Added here: something that all steps need. Not here: a step, or anything of one pipeline.
"""

import shutil
from dataclasses import dataclass
from pathlib import Path

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
    sweep_leftovers(settings.lake_path / "tmp")
    sweep_leftovers(settings.home_path / "scratch")
    database = find_database(settings)
    engine = open_catalog(database)
    lake = Lake(ObjectStore(settings.lake_path), engine, used_clock)
    return Workspace(settings, used_clock, database, engine, lake)


def sweep_leftovers(folder: Path) -> int:
    """Remove what killed processes left in a scratch folder (names begin with the process id); returns how many."""
    dead = [path for path in folder.glob("*-*") if not Path(f"/proc/{path.name.split('-')[0]}").exists()]
    for path in dead:
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
    return len(dead)
