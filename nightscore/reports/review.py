"""What the catalog knows of a changeset, read whole: its nights, its history, its cost and its difference.

Facts only; `changeset.py` and `orchestration/cli` render them. Added here: another fact of a review.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import sqlalchemy as sa

from nightscore.catalog.changesets import Changeset, Item, events_of, items_of, list_changesets
from nightscore.catalog.partitions import versions_by_id
from nightscore.lake.workspace import Workspace
from nightscore.publishing.changesets import require_changeset
from nightscore.publishing.difference import ChangesetDifference, NightDifference, merge
from nightscore.reports.changeset import ChangesetFacts, Cost

_OUTCOMES = """
select changeset_id, outcome, count(*) as nights, sum(seconds) as seconds
from nightscore.changeset_item group by changeset_id, outcome order by changeset_id, outcome
"""


@dataclass(frozen=True)
class Review:
    """One changeset. `bytes`: what its predictions take in the lake, shared content included."""

    changeset: Changeset
    items: tuple[Item, ...]
    events: tuple[dict[str, Any], ...]
    bytes: int

    @property
    def outcomes(self) -> dict[str, int]:
        """Nights by outcome: planned, scored, staged, identical, blocked."""
        return dict(sorted(Counter(one.outcome for one in self.items).items()))

    @property
    def blocked(self) -> list[Item]:
        """Nights that a gate held back; approving the rest leaves them as they are."""
        return [one for one in self.items if one.outcome == "blocked"]

    @property
    def seconds(self) -> float:
        """The time its nights took to score, load and compare."""
        return sum(one.seconds for one in self.items)

    @property
    def versions(self) -> dict[int, int]:
        """Model version → nights that it scores."""
        return dict(sorted(Counter(one.model_version for one in self.items).items()))

    @cached_property
    def difference(self) -> ChangesetDifference | None:
        """The sum of its nights' stored differences; None while no night was compared."""
        stored = [NightDifference.from_json(one.difference) for one in self.items if one.difference is not None]
        return merge(stored) if stored else None

    @property
    def facts(self) -> ChangesetFacts:
        """The same as the rendered review wants it."""
        one, published = self.changeset, sum(item.base_publication_id is not None for item in self.items)
        versions = ", ".join(f"@{version}: {nights}" for version, nights in self.versions.items())
        return ChangesetFacts(
            one.changeset_id, one.pipeline, one.first_date, one.last_date, one.reason or "none given",
            f"{one.model_policy} (nights by version: {versions})", one.created_by, one.created_at, one.status,
            Cost(self.seconds, self.bytes, sum(item.rows for item in self.items)),
            f"what readers saw when it was planned: {published} of {len(self.items)} nights were published",
        )  # fmt: skip


@dataclass(frozen=True)
class Summary:
    """One changeset in a list of many: its nights by outcome, and the time they took."""

    changeset: Changeset
    outcomes: dict[str, int]
    seconds: float


def read_review(workspace: Workspace, changeset_id: int) -> Review:
    """Everything about one changeset; ChangesetMissing when there is none."""
    opened = require_changeset(workspace, changeset_id)
    with workspace.engine.connect() as connection:
        items = items_of(connection, changeset_id)
        return Review(
            opened, tuple(items), tuple(events_of(connection, changeset_id)), _stored_bytes(connection, items)
        )


def list_summaries(connection: sa.Connection, pipeline: str | None = None) -> list[Summary]:
    """Every changeset, newest first, of one pipeline or of all; differences are not read."""
    outcomes: dict[int, dict[str, int]] = {}
    seconds: Counter[int] = Counter()
    for row in connection.execute(sa.text(_OUTCOMES)):
        outcomes.setdefault(row.changeset_id, {})[row.outcome] = row.nights
        seconds[row.changeset_id] += row.seconds
    return [
        Summary(one, outcomes.get(one.changeset_id, {}), float(seconds[one.changeset_id]))
        for one in list_changesets(connection, pipeline)
    ]


def _stored_bytes(connection: sa.Connection, items: Sequence[Item]) -> int:
    ids = [one.predictions_id for one in items if one.predictions_id is not None]
    return sum(version.bytes for version in versions_by_id(connection, ids)) if ids else 0
