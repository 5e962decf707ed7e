"""How the command line speaks: logs on stderr, results on stdout as tables or JSON.

Added here: a way to print. Not here: what is printed.
"""

import json
import logging
import sys
from collections.abc import Sequence
from typing import Any

import structlog
import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

JSON_OPTION = typer.Option("--json", help="Print JSON on stdout instead of tables.")


def configure_logging(verbose: bool) -> None:
    """Steps on stderr, one line each; other libraries only warn unless `verbose`."""
    level = logging.DEBUG if verbose else logging.WARNING
    handler = logging.StreamHandler(sys.stderr)
    # Great Expectations lowers its own loggers' level, so the handler has the last word.
    handler.setLevel(level)
    logging.basicConfig(level=level, handlers=[handler], format="%(levelname)s %(name)s: %(message)s", force=True)
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="%H:%M:%S", utc=False),
            structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), pad_event_to=20, pad_level=False),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.DEBUG if verbose else logging.INFO),
        # Asked each time: who calls commands in a process of his own may change stderr between them.
        logger_factory=lambda *_: structlog.PrintLogger(sys.stderr),
    )


def print_json(value: object) -> None:
    """Print `value` as one JSON document; dates and instants as ISO text."""
    sys.stdout.write(json.dumps(value, indent=2, default=str) + "\n")


def print_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """Print a table; numbers are set to the right, and text stands as it is, also where it looks like markup."""
    table = Table(header_style="dim", box=None, pad_edge=False)
    for at, column in enumerate(columns):
        numeric = bool(rows) and all(isinstance(row[at], int | float) or row[at] is None for row in rows)
        table.add_column(column, justify="right" if numeric else "left", overflow="fold")
    for row in rows:
        table.add_row(*(_text(value) for value in row))
    console = stdout()
    console.print(title, style="bold")
    console.print(table)
    console.print()


def stdout() -> Console:
    """The console for results; wide enough not to wrap when it is not a terminal."""
    return Console(width=None if sys.stdout.isatty() else 140, highlight=False, soft_wrap=False)


def _text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:,.4f}" if abs(value) < 10 else f"{value:,.1f}"
    return f"{value:,}" if isinstance(value, int) else escape(str(value))
