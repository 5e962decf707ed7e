"""`nightscore models card`: the model card of a version, on the screen or as a page.

Added here: another form of the card. Not here: what it says (`nightscore/reports/model_card.py`).
"""

import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from orchestration.cli.specs import parse_version


class Form(StrEnum):
    """Markdown, or one HTML page with charts."""

    MD = "md"
    HTML = "html"


def card(
    version: Annotated[str, typer.Argument(help="pipeline@version, such as flight_delay@1.")],
    form: Annotated[Form, typer.Option("--format", help="Markdown, or one HTML page with charts.")] = Form.MD,
    out: Annotated[
        Path | None, typer.Option(help="The file to write; HTML goes to model-card-<pipeline>-<version>.html.")
    ] = None,
) -> None:
    """The model card of one version: purpose, data, recipe, figures, limits, and who approved it."""
    from nightscore.lake.workspace import open_workspace
    from nightscore.registry.versions import require_version
    from nightscore.reports.card_facts import read_card
    from nightscore.reports.files import write_report
    from nightscore.reports.model_card import render_html, render_markdown
    from nightscore.settings import Settings

    workspace = open_workspace(Settings())
    found = require_version(workspace, *parse_version(version))
    facts = read_card(workspace, found)
    text = render_html(facts) if form is Form.HTML else render_markdown(facts)
    if out is None and form is Form.HTML:
        out = Path(f"model-card-{found.pipeline}-{found.version}.html")
    if out is None:
        sys.stdout.write(text)
    else:
        write_report(out, text)
        sys.stderr.write(f"wrote {out}\n")
