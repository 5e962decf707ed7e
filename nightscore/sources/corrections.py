"""Late corrections: earlier nights that are read again each night, since their rows may have changed since.

A correction that cannot be read costs only itself: what was delivered before stands, tonight goes on.
Added here: a rule of what is read again. Not here: what a correction means to published nights (`publishing`).
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta

import structlog

from nightscore.catalog.nights import night_status, record_night
from nightscore.catalog.publications import current_publications
from nightscore.errors import SourceMalformed, SourceMissing
from nightscore.lake.outcomes import NightOutcome
from nightscore.lake.workspace import Workspace
from nightscore.sources.extract import Extraction, extract
from nightscore.sources.spool import Scratch
from nightscore.spec.datasets import source_dataset
from nightscore.spec.pipeline import Pipeline
from nightscore.spec.sources import Source


def correctable_nights(workspace: Workspace, pipeline: Pipeline, name: str, nights: Sequence[date]) -> list[date]:
    """The nights before `nights` that a source may still correct, if they were delivered; none without late days."""
    days, first = pipeline.sources[name].late_days, min(nights)
    if not days:
        return []
    earliest, last = first - timedelta(days=days), first - timedelta(days=1)
    return sorted(workspace.lake.current(source_dataset(pipeline.name, name), earliest, last))


@dataclass(frozen=True)
class Reading:
    """What was read, and the reasons why a night that was read again is not readable."""

    extraction: Extraction
    unreadable: dict[date, tuple[str, ...]] = field(default_factory=dict)


def extract_with_corrections(
    workspace: Workspace, source: Source, nights: Sequence[date], late: Sequence[date], scratch: Scratch
) -> Reading:
    """Read `nights` and `late` in one pass, or each late night for itself where one of them cannot be read.

    Raises what `extract` raises of `nights`. A late file that is gone corrects nothing, and is only logged.
    """
    root = workspace.settings.root
    try:
        return Reading(extract(source, sorted({*nights, *late}), root, os.environ, scratch))
    except (SourceMissing, SourceMalformed):
        if not late:
            raise
    parts, unreadable = [extract(source, nights, root, os.environ, scratch)], {}
    for night in late:
        try:
            parts.append(extract(source, [night], root, os.environ, scratch))
        except SourceMissing as error:
            structlog.get_logger("nightscore").warning("late file is gone", night=str(night), found=error.found)
        except SourceMalformed as error:
            unreadable[night] = error.found
    return Reading(_together(parts), unreadable)


def _together(parts: Sequence[Extraction]) -> Extraction:
    return Extraction(
        {night: one for part in parts for night, one in part.deliveries.items()},
        tuple(dict.fromkeys(origin for part in parts for origin in part.origins)),
        {night: day for part in parts for night, day in part.event_dates.items()},
        sum(part.rows_read for part in parts),
    )


def lift_gates(workspace: Workspace, pipeline: str, outcomes: Sequence[NightOutcome], run_id: str) -> None:
    """Published nights that were called gated for a bad correction are published again once a good one is there."""
    if not outcomes:
        return
    now, nights = workspace.clock.now(), [one.night for one in outcomes]
    with workspace.engine.begin() as connection:
        published = current_publications(connection, pipeline, min(nights), max(nights))
        for one in outcomes:
            said = night_status(connection, pipeline, one.night) if one.night in published else None
            if (
                one.result != "blocked"
                and said
                and said.status == "gated"
                and said.reason.startswith(f"{one.dataset}: ")
            ):
                reason = f"publication {published[one.night].publication_id} stands; {one.dataset} is good again"
                record_night(connection, pipeline, one.night, "published", reason, run_id, now)
