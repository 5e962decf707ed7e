"""The charts of a night's report, as Dagster shows them beside an asset.

Added here: how a chart becomes metadata. Not here: the charts (`nightscore/reports`).
"""

from datetime import date

import dagster as dg

from nightscore.lake.workspace import Workspace
from nightscore.spec.pipeline import Pipeline


def draw_night(workspace: Workspace, pipeline: Pipeline, night: date) -> dict[str, dg.MetadataValue]:
    """`chart/<section>` for every chart of the night's report."""
    from nightscore.reports.charts import as_markdown_image
    from nightscore.reports.night_report import draw_charts
    from nightscore.reports.watch_facts import read_night_facts

    drawn = draw_charts(read_night_facts(workspace, pipeline, night))
    return {f"chart/{name}": dg.MetadataValue.md(as_markdown_image(svg, name)) for name, svg in drawn.items()}
