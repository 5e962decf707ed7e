"""`nightscore doctor`: is this machine and deployment fit for tonight, and if not, what to do.

Each check is a function that returns findings. Added here: a check of the deployment. Not here: checks of data.
"""

import shutil
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from typing import Annotated

from nightscore.settings import Settings
from orchestration.cli.output import JSON_OPTION, print_json, print_table

FREE_BYTES_NEEDED = 2 << 30
CLOCK_SKEW_SECONDS = 60.0
ALERT_DAYS = 7
"""Alerts that were given up are shown for so long; nobody can deliver them any more."""


@dataclass(frozen=True)
class Finding:
    """One check: whether all is well, what was found, and the remedy when it is not."""

    check: str
    well: bool
    found: str
    remedy: str = ""


def doctor(as_json: Annotated[bool, JSON_OPTION] = False) -> None:
    """Check Python, packages, kernel, disk, database, lake, dbt, specs, clock, alerts; says each remedy."""
    from nightscore.errors import NightscoreError

    settings, findings = Settings(), []
    for check in CHECKS:
        try:
            findings.append(check(settings))
        except NightscoreError as error:
            findings.append(Finding(check.__name__.removeprefix("check_"), False, "; ".join(error.found), error.remedy))
    if as_json:
        print_json([asdict(one) for one in findings])
    else:
        rows = [
            (one.check, "ok" if one.well else "WRONG", one.found, "" if one.well else one.remedy) for one in findings
        ]
        print_table("Doctor", ("check", "state", "found", "remedy"), rows)
    raise SystemExit(0 if all(one.well for one in findings) else 2)


def check_python(_: Settings) -> Finding:
    """Python is one that the lock file was made for."""
    version = sys.version_info
    well = (3, 11) <= version < (3, 14)
    return Finding("python", well, f"Python {version.major}.{version.minor}.{version.micro}", "use Python 3.11 to 3.13")


def check_packages(settings: Settings) -> Finding:
    """What is installed is what the lock file says; else nothing made today can be made again."""
    from nightscore.registry.locks import installed_versions, lock_differences
    from nightscore.registry.provenance import LOCK_FILE

    path = settings.root / LOCK_FILE
    if not path.is_file():
        return Finding("packages", False, f"there is no {path}", "make one: `make lock`")
    different = lock_differences(path.read_text(encoding="utf-8"), installed_versions())
    more = f" and {len(different) - 3} more" if len(different) > 3 else ""
    found = "; ".join(different[:3]) + more if different else "as locked"
    return Finding("packages", not different, found, "install what is locked: `make install`")


def check_kernel(_: Settings) -> Finding:
    """The scoring kernel was built of the source beside it, where there is a compiler; without one LightGBM scores."""
    from nightscore.scoring.kernel import find_instructions

    instructions = find_instructions()
    has_compiler = any(shutil.which(one) for one in ("cc", "gcc", "clang"))
    found = f"by {instructions[-1]}" if instructions else "not built: LightGBM scores, some 20 times slower"
    return Finding("kernel", bool(instructions) or not has_compiler, found, "build it: `make clean install`")


def check_disk(settings: Settings) -> Finding:
    """There is room for tonight."""
    settings.home_path.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(settings.home_path).free
    found = f"{free / (1 << 30):.1f} GiB free at {settings.home_path}"
    return Finding("disk", free >= FREE_BYTES_NEEDED, found, "free at least 2 GiB, or set NIGHTSCORE_HOME elsewhere")


def check_database(settings: Settings) -> Finding:
    """The database answers and is migrated."""
    from nightscore.catalog.connect import find_database, open_catalog

    engine = open_catalog(find_database(settings))
    with engine.connect() as connection:
        version = connection.exec_driver_sql("show server_version").scalar()
    kind = "embedded" if settings.database_url is None else "external"
    return Finding("database", True, f"PostgreSQL {version}, {kind}, catalog migrated")


def check_lake(settings: Settings) -> Finding:
    """Every object that the catalog points at is there; bytes are verified whenever they are read."""
    import sqlalchemy as sa

    from nightscore.catalog.tables import partition_current, partition_version
    from nightscore.lake.workspace import open_workspace

    workspace = open_workspace(settings)
    query = sa.select(partition_version.c.md5).join(
        partition_current, partition_current.c.version_id == partition_version.c.version_id
    )
    with workspace.engine.connect() as connection:
        named = set(connection.scalars(query))
    missing = sorted(md5 for md5 in named if not workspace.lake.store.has(md5))
    found = f"{len(named):,} current objects" + (f", {len(missing)} missing: {missing[0]} …" if missing else "")
    return Finding("lake", not missing, found, "`nightscore data pull`, or restore a backup of the lake")


def check_dbt(settings: Settings) -> Finding:
    """The dbt project parses for both targets."""
    from nightscore.features.dbt import load_manifest

    models = [len(load_manifest(settings, target).nodes) for target in ("features", "marts")]
    return Finding("dbt", True, f"parses: {models[0]} feature nodes, {models[1]} mart nodes")


def check_specs(settings: Settings) -> Finding:
    """Every spec is valid."""
    from nightscore.spec.loader import load_specs

    names = list(load_specs(settings.pipelines_path, settings.dbt_path))
    return Finding("specs", bool(names), f"valid: {', '.join(names) or 'none'}", "write pipelines/<name>.yaml")


def check_clock(settings: Settings) -> Finding:
    """This machine's clock agrees with the database's."""
    from nightscore.lake.workspace import open_workspace

    with open_workspace(settings).engine.connect() as connection:
        theirs = connection.exec_driver_sql("select clock_timestamp()").scalar_one()
    skew = abs((datetime.now(UTC) - theirs).total_seconds())
    found = f"{skew:.1f} s from the database's clock"
    return Finding("clock", skew < CLOCK_SKEW_SECONDS, found, "synchronise the clocks")


def check_alerts(settings: Settings) -> Finding:
    """Every alert of the last days has reached people, or may still reach them."""
    from nightscore.catalog.alerts import list_alerts
    from nightscore.lake.workspace import open_workspace

    workspace = open_workspace(settings)
    with workspace.engine.connect() as connection:
        given_up = list_alerts(connection, status="given_up")
    since = workspace.clock.now() - timedelta(days=ALERT_DAYS)
    lost = [one for one in given_up if one.created_at >= since]
    found = f"{len(lost)} given up in {ALERT_DAYS} days"
    if lost:
        found += f", the newest: {lost[0].title} ({lost[0].last_error})"
    remedy = "`apprise -vv -b test URL` says what is wrong with a URL of NIGHTSCORE_ALERT_URLS"
    return Finding("alerts", not lost, found, remedy)


CHECKS: tuple[Callable[[Settings], Finding], ...] = (
    check_python, check_packages, check_kernel, check_disk, check_database, check_lake, check_dbt, check_specs,
    check_clock, check_alerts,
)  # fmt: skip
