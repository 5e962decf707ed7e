"""The databases and roles of the embedded server, and waiting for it to answer SQL.

Added here: a database, a role, or a right that every Nightscore server has from its first start.
Not here: schemas, tables and grants on them, which migrations and publishing own.
"""

import time

import psycopg
from psycopg import sql

from nightscore.errors import SettingsError

DATABASES = ("nightscore", "dagster")
READER = "bi_reader"
READER_SETTINGS = {
    "default_transaction_read_only": "on",
    "statement_timeout": "5min",
    "idle_in_transaction_session_timeout": "10min",
}


def connect(host: str, port: int, owner: str, password: str, database: str) -> psycopg.Connection:
    """An autocommitting connection of the owner; PG* variables of the environment do not bend it."""
    return psycopg.connect(
        host=host,
        port=port,
        user=owner,
        password=password,
        dbname=database,
        sslmode="disable",
        options="",
        connect_timeout=5,
        autocommit=True,
    )


def wait_until_it_answers(host: str, port: int, owner: str, password: str, timeout_seconds: float) -> str | None:
    """Try until a query is answered: None, or the last refusal when the time is over.

    SettingsError when the password is refused, since waiting cannot help.
    """
    deadline = time.monotonic() + timeout_seconds
    while True:
        try:
            with connect(host, port, owner, password, "postgres") as connection:
                connection.execute("SELECT 1")
            return None
        except psycopg.OperationalError as error:
            refusal = str(error)
        if "password authentication failed" in refusal:
            raise SettingsError("Connecting to the embedded PostgreSQL", refusal, "restore server.json from a backup")
        if time.monotonic() > deadline:
            return refusal
        time.sleep(0.05)


def prepare_databases_and_roles(host: str, port: int, owner: str, password: str, reader_password: str) -> None:
    """Create what is missing and set every right; may be repeated after a crash at any point."""
    with connect(host, port, owner, password, "postgres") as connection:
        for name in DATABASES:
            if not _exists(connection, "SELECT 1 FROM pg_database WHERE datname = %s", name):
                connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        _prepare_reader(connection, reader_password)
        connection.execute("REVOKE ALL ON DATABASE nightscore, dagster, postgres, template1 FROM PUBLIC")
        connection.execute(f"GRANT CONNECT ON DATABASE nightscore TO {READER}")
    with connect(host, port, owner, password, "nightscore") as connection:
        connection.execute("REVOKE ALL ON SCHEMA public FROM PUBLIC")


def _prepare_reader(connection: psycopg.Connection, password: str) -> None:
    if not _exists(connection, "SELECT 1 FROM pg_roles WHERE rolname = %s", READER):
        connection.execute(f"CREATE ROLE {READER}")
    role, secret = sql.Identifier(READER), sql.Literal(password)
    connection.execute(sql.SQL("ALTER ROLE {} LOGIN PASSWORD {}").format(role, secret))
    for name, value in READER_SETTINGS.items():
        command = sql.SQL("ALTER ROLE {} SET {} = {}")
        connection.execute(command.format(role, sql.Identifier(name), sql.Literal(value)))


def _exists(connection: psycopg.Connection, query: str, name: str) -> bool:
    return connection.execute(query.encode(), (name,)).fetchone() is not None
