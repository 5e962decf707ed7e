"""The state of each pipeline on one line: champion, last good night, and the nights that are not good.

Facts only. Added here: another fact of a pipeline's state.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import date
from typing import Any

import sqlalchemy as sa

from nightscore.catalog.models import alias_holder
from nightscore.catalog.nights import NightStatus, recent_nights
from nightscore.catalog.publications import Publication, latest_publication


@dataclass(frozen=True)
class PipelineStatus:
    """What readers of a pipeline see now, and what was held back."""

    pipeline: str
    champion: int | None
    latest: Publication | None
    nights: list[NightStatus]

    def as_json(self) -> dict[str, Any]:
        """The same as plain values."""
        return asdict(self)


def read_status(engine: sa.Engine, pipelines: Sequence[str], nights: int) -> list[PipelineStatus]:
    """The state of each pipeline with its last `nights` recorded nights."""
    with engine.connect() as connection:
        return [
            PipelineStatus(
                name, alias_holder(connection, name, "champion"), latest_publication(connection, name),
                recent_nights(connection, name, date.min, date.max)[:nights],
            )
            for name in pipelines
        ]  # fmt: skip
