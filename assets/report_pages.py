"""The pages and charts of nights, as Dagster links and shows them beside an asset.

Added here: how a page or a chart becomes metadata. Not here: pages and charts (`nightscore/reports`).
"""

from collections.abc import Sequence
from datetime import date, timedelta

import dagster as dg

from nightscore.lake.workspace import Workspace
from nightscore.spec.pipeline import Pipeline

DASHBOARD_DAYS = 91
PAGES = 7
"""Of a range, the newest nights that get a page at once; `nightscore report` makes the page of any other."""


def write_pages(workspace: Workspace, pipeline: Pipeline, nights: Sequence[date]) -> dict[str, dg.MetadataValue]:
    """Write the pages of the newest nights and the dashboard; links to them, and the charts of the last night."""
    from nightscore.reports.dashboard import write_dashboard
    from nightscore.reports.night_report import write_night_report

    folder, last = workspace.settings.home_path / "reports" / pipeline.name, max(nights)
    pages = [write_night_report(workspace, pipeline, night, folder) for night in sorted(nights)[-PAGES:]]
    board = write_dashboard(workspace, pipeline, last - timedelta(days=DASHBOARD_DAYS), last, folder)
    links = {"report": dg.MetadataValue.path(str(pages[-1])), "dashboard": dg.MetadataValue.path(str(board))}
    return links | _draw(workspace, pipeline, last)


def _draw(workspace: Workspace, pipeline: Pipeline, night: date) -> dict[str, dg.MetadataValue]:
    """`chart/<section>` for every chart of the night's report."""
    from nightscore.reports.charts import as_markdown_image
    from nightscore.reports.night_report import draw_charts
    from nightscore.reports.watch_facts import read_night_facts

    drawn = draw_charts(read_night_facts(workspace, pipeline, night))
    return {f"chart/{name}": dg.MetadataValue.md(as_markdown_image(svg, name)) for name, svg in drawn.items()}
