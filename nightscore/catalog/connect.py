"""Open the catalog: the embedded server or the configured one, migrated and with its reader role.

Added here: what every connection shares. Not here: queries, which live in one module a noun.
"""

from dataclasses import dataclass

import sqlalchemy as sa

from nightscore.catalog.migrate import migrate
from nightscore.errors import DatabaseUnavailable, SettingsError
from nightscore.settings import Settings

OLDEST_MAJOR = 15


@dataclass(frozen=True)
class Database:
    """Where the catalog and the mart are, for us, for readers and for the orchestrator's storage."""

    owner_url: str
    reader_url: str
    dagster_url: str


def find_database(settings: Settings) -> Database:
    """The configured database, or the embedded one, started when needed."""
    if settings.database_url is None:
        from nightscore.catalog.postgres import ensure_server

        server = ensure_server(settings.home_path)
        dagster = server.url("dagster", driver="postgresql+psycopg2")
        return Database(server.url(), server.reader_url(), dagster)
    return _external(settings, settings.database_url.get_secret_value())


def _external(settings: Settings, given: str) -> Database:
    try:
        url = sa.make_url(given).set(drivername="postgresql+psycopg")
    except sa.exc.ArgumentError as error:
        raise SettingsError(
            "Reading NIGHTSCORE_DATABASE_URL",
            "it is not a database URL",
            "set it to postgresql://user:password@host:port/database",
        ) from error
    password = settings.reader_password.get_secret_value() if settings.reader_password else None
    reader = url.set(drivername="postgresql", username="bi_reader", password=password)
    dagster = url.set(drivername="postgresql+psycopg2", database=f"{url.database}_dagster")
    return Database(*(one.render_as_string(hide_password=False) for one in (url, reader, dagster)))


def open_catalog(database: Database) -> sa.Engine:
    """An engine on the migrated catalog, in UTC.

    Raises DatabaseUnavailable when nothing answers, SettingsError for a PostgreSQL older than 15.
    """
    engine = sa.create_engine(database.owner_url, pool_pre_ping=True, connect_args={"options": "-c timezone=UTC"})
    try:
        with engine.connect() as connection:
            _require_major(connection)
    except sa.exc.OperationalError as error:
        raise DatabaseUnavailable(
            "Connecting to the catalog",
            str(error.orig).strip().splitlines()[0],
            "check NIGHTSCORE_DATABASE_URL and that the server runs (`nightscore db status`)",
        ) from error
    migrate(engine)
    sa.event.listen(engine, "handle_error", _name_lost_connections)
    return engine


def _name_lost_connections(context: sa.engine.ExceptionContext) -> None:
    error = context.sqlalchemy_exception
    if isinstance(error, sa.exc.OperationalError) and not context.is_pre_ping:
        raise database_unavailable("Asking the catalog", error.orig or error) from error


def database_unavailable(attempted: str, said: object) -> DatabaseUnavailable:
    """What the driver said, as an error of ours; the transaction it broke is rolled back."""
    lines = str(said).strip().splitlines() or [type(said).__name__]
    return DatabaseUnavailable(attempted, lines[0], "run it again when the database answers (`nightscore db status`)")


def _require_major(connection: sa.Connection) -> None:
    major = int(connection.scalar(sa.text("show server_version_num")) or 0) // 10_000
    if major < OLDEST_MAJOR:
        raise SettingsError(
            "Opening the catalog", f"the server is PostgreSQL {major}", f"use PostgreSQL {OLDEST_MAJOR} or later"
        )
