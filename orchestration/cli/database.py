"""`nightscore db`: the connection for BI tools, and the embedded server's state.

Added here: a command about the database itself. Not here: queries.
"""

import sys
from typing import Annotated

import typer

from orchestration.cli.output import JSON_OPTION, print_json

AsJson = Annotated[bool, JSON_OPTION]
app = typer.Typer(help="The database: connection for BI tools, start, stop, status.", no_args_is_help=True)


@app.command("url")
def url(as_json: AsJson = False) -> None:
    """Print the connection for a BI tool: role bi_reader, which can read the bi schema and nothing else."""
    from nightscore.lake.workspace import open_workspace
    from nightscore.settings import Settings

    found = open_workspace(Settings()).database.reader_url
    print_json({"url": found, "role": "bi_reader", "schema": "bi"}) if as_json else sys.stdout.write(f"{found}\n")


@app.command("status")
def status(as_json: AsJson = False) -> None:
    """Say whether the embedded server runs; with NIGHTSCORE_DATABASE_URL set, whether that one answers."""
    kind, state = _find_state()
    print_json({"server": kind, "state": state}) if as_json else sys.stdout.write(f"{kind}: {state}\n")


def _find_state() -> tuple[str, str]:
    from nightscore.catalog.connect import find_database, open_catalog
    from nightscore.catalog.postgres import server_status
    from nightscore.settings import Settings

    settings = Settings()
    if settings.database_url is None:
        return "embedded", server_status(settings.home_path)
    open_catalog(find_database(settings)).dispose()
    return "external", "answers"


@app.command("start")
def start() -> None:
    """Start the embedded server, or find it running."""
    from nightscore.lake.workspace import open_workspace
    from nightscore.settings import Settings

    open_workspace(Settings())
    status()


@app.command("stop")
def stop() -> None:
    """Stop the embedded server; data stay."""
    from nightscore.settings import Settings

    settings = Settings()
    if settings.database_url is not None:
        sys.stdout.write("NIGHTSCORE_DATABASE_URL is set: that server is not ours to stop\n")
        return
    from nightscore.catalog.postgres import stop_server

    stopped = stop_server(settings.home_path)
    sys.stdout.write("stopped\n" if stopped else "it was not running\n")
