"""A small project of its own, with nothing of flights in it: a shop, its visits as daily CSV files, a regression task.

Added here: data of the shop, made from a seed. Not here: tests.
"""

import shutil
from datetime import date, timedelta
from pathlib import Path

import numpy as np
import polars as pl

PROJECT = Path(__file__).parent / "projects" / "shop"
REPOSITORY = Path(__file__).parent.parent
FIRST = date(2024, 3, 1)
FIRST_NIGHT = date(2024, 3, 9)
CUSTOMERS = 60


def visits_of(day: date) -> pl.DataFrame:
    """The visits of one day: every customer once, spending by age and weekday."""
    random = np.random.default_rng(day.toordinal())
    customers = np.arange(1, CUSTOMERS + 1)
    age = 15 + customers % 60
    spend = np.round(age * 1.5 + 10 * (day.weekday() == 5) + random.normal(0, 5, CUSTOMERS).clip(-14, 14), 2)
    city = np.where(customers % 3 == 0, "Köln", "Berlin")
    return pl.DataFrame(
        {"visit_date": [day] * CUSTOMERS, "customer_id": customers, "age": age, "city": city, "spend": spend}
    )


def write_day(root: Path, day: date, frame: pl.DataFrame | None = None) -> Path:
    """Deliver one day's file, replacing what was there."""
    path = root / "data" / f"visits-{day}.csv"
    path.parent.mkdir(exist_ok=True)
    (visits_of(day) if frame is None else frame).write_csv(path)
    return path


def make_shop(root: Path, days: int) -> Path:
    """Lay the project out under `root`, with `days` days of data; returns `root`."""
    shutil.copytree(PROJECT, root, dirs_exist_ok=True)
    for name in ("dbt_project.yml", "profiles.yml", "macros", "models/marts"):
        source, target = REPOSITORY / "dbt" / name, root / "dbt" / name
        shutil.copytree(source, target, dirs_exist_ok=True) if source.is_dir() else shutil.copy(source, target)
    shutil.copy(REPOSITORY / "requirements.lock", root)
    for day in range(days):
        write_day(root, FIRST + timedelta(days=day))
    return root
