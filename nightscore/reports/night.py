"""The report of a night: rows by stage, gates, model and metrics, the publication, where the time went.

Facts only, read from the catalog; `orchestration/cli` renders them. Added here: another fact of a night.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import date
from typing import Any

import sqlalchemy as sa

from nightscore.catalog.changesets import items_of_run
from nightscore.catalog.gates import RowAccount, Verdict, accounts_of_night, verdicts_of_night
from nightscore.catalog.models import ModelVersion, find_version
from nightscore.catalog.nights import NightStatus, StepTime, night_status, steps_of_run
from nightscore.catalog.publications import Publication, current_publications, latest_publication


@dataclass(frozen=True)
class NightReport:
    """What the catalog knows of one night of one pipeline."""

    pipeline: str
    night: date
    status: NightStatus | None
    accounts: list[RowAccount]
    verdicts: list[Verdict]
    publication: Publication | None
    latest: Publication | None
    model: ModelVersion | None
    steps: list[StepTime]
    changeset: int | None
    """Where the runs have staged the night for review, readers seeing what they saw."""

    def as_json(self) -> dict[str, Any]:
        """The same as plain values; dates and instants as ISO text."""
        return asdict(self)


def read_night(engine: sa.Engine, pipeline: str, night: date, run_ids: Sequence[str] = ()) -> NightReport:
    """The report of `night`; the steps are those of `run_ids`."""
    with engine.connect() as connection:
        publication = current_publications(connection, pipeline, night, night).get(night)
        latest = latest_publication(connection, pipeline)
        shown = publication or latest
        model = find_version(connection, pipeline, shown.model_version) if shown else None
        staged = [one for one in items_of_run(connection, pipeline, run_ids) if one.score_date == night]
        return NightReport(
            pipeline, night, night_status(connection, pipeline, night),
            accounts_of_night(connection, pipeline, night), verdicts_of_night(connection, pipeline, night),
            publication, latest, model, [step for run_id in run_ids for step in steps_of_run(connection, run_id)],
            staged[-1].changeset_id if staged else None,
        )  # fmt: skip
