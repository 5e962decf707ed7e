"""The tags by which a run says what it is about: its pipeline and its nights.

Added here: a tag that more than one module reads. Not here: what is done about a run.
"""

from collections.abc import Mapping
from datetime import date

PIPELINE_TAG = "nightscore/pipeline"
PARTITION_TAG = "dagster/partition"
USER_TAG = "user"
"""Who launched a run in the UI, where Dagster knows."""
CHANGESET_TAG = "nightscore/changeset"
"""On a run that stages a changeset instead of publishing."""
DECISION_TAG = "nightscore/decision"
"""On a run that a sensor started: the entry of the decision ledger that it carries out."""
RANGE_START, RANGE_END = "dagster/asset_partition_range_start", "dagster/asset_partition_range_end"


def nights_of_run(tags: Mapping[str, str]) -> tuple[date, date] | None:
    """The first and the last night that readers may miss if the run fails.

    None for a run about no night, such as that of a model version, and for one that stages a changeset.
    """
    if CHANGESET_TAG in tags:
        return None
    single = tags.get(PARTITION_TAG)
    first, last = (_night(tags.get(name, single)) for name in (RANGE_START, RANGE_END))
    return (first, last) if first and last else None


def changeset_of(tags: Mapping[str, str]) -> int | None:
    """The changeset that a run stages, or None for one that publishes."""
    return int(tags[CHANGESET_TAG]) if CHANGESET_TAG in tags else None


def _night(key: str | None) -> date | None:
    try:
        return date.fromisoformat(key) if key else None
    except ValueError:
        return None
