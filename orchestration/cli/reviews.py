"""`nightscore review`: the rows that people are asked to look at, as a file to fill in, and what they wrote.

Added here: a command about reviews. Not here: which rows are asked about (`nightscore/monitoring/review_queue.py`), or
changesets, which are reviewed with `nightscore changes` (`changes.py`).
"""

import sys
from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer

from orchestration.cli.models import AsJson, PipelineName, actor, open_deployment
from orchestration.cli.output import print_json, print_table
from orchestration.cli.specs import find_pipeline

app = typer.Typer(help="The review queue: list, export, import what people wrote.", no_args_is_help=True)
File = Annotated[Path, typer.Argument(help="A .csv or .parquet file.")]
Night = Annotated[datetime | None, typer.Option(formats=["%Y-%m-%d"], help="One score date; all when absent.")]


@app.command("list")
def list_queue(pipeline: PipelineName, night: Night = None, as_json: AsJson = False) -> None:
    """Rows of published nights that nobody has answered yet, and why they are worth a look."""
    from nightscore.catalog.reviews import open_items
    from nightscore.monitoring.review_queue import sensitive_columns
    from nightscore.settings import Settings

    spec, hidden = find_pipeline(Settings(), pipeline), "…"
    with open_deployment().engine.connect() as connection:
        items = open_items(connection, pipeline, night.date() if night else None)
    secret = sensitive_columns(spec)
    keys = [{name: hidden if name in secret else value for name, value in one.key.items()} for one in items]
    if as_json:
        print_json([vars(one) | {"key": key} for one, key in zip(items, keys, strict=True)])
        return
    rows = [
        (str(one.score_date), ", ".join(f"{name}={value}" for name, value in key.items()), one.score,
         "; ".join(one.why)) for one, key in zip(items, keys, strict=True)
    ]  # fmt: skip
    print_table(f"Review queue of {pipeline}", ("night", "row", "score", "why"), rows)


@app.command("export")
def export(
    pipeline: PipelineName,
    file: File,
    night: Night = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a file that is there.")] = False,
) -> None:
    """Write the open rows to a file with empty columns for verdict, label, note and reviewer."""
    from nightscore.monitoring.feedback import export_queue
    from nightscore.settings import Settings

    spec = find_pipeline(Settings(), pipeline)
    rows = export_queue(open_deployment(), spec, file, night.date() if night else None, overwrite)
    sys.stdout.write(f"{rows:,} rows to look at are in {file}.\n")
    sys.stdout.write(f"Take them in:   nightscore review import {pipeline} {file}\n")


@app.command("import")
def import_file(
    pipeline: PipelineName,
    file: File,
    by: Annotated[
        str | None, typer.Option("--by", help="Who answered, where a line does not say; default: you.")
    ] = None,
) -> None:
    """Take in the lines with an answer, all of them or none; the same content adds nothing the second time."""
    from nightscore.monitoring.feedback import import_feedback
    from nightscore.settings import Settings

    spec = find_pipeline(Settings(), pipeline)
    made = import_feedback(open_deployment(), spec, file, by or actor())
    if made.known:
        sys.stdout.write(f"{file} was taken in before; nothing was added.\n")
        return
    sys.stdout.write(f"{made.added:,} rows were answered; {made.unanswered:,} lines have no answer yet.\n")
