"""The tags by which a run says what it is about: its pipeline and its nights.

Added here: a tag that more than one module reads. Not here: what is done about a run.
"""

from collections.abc import Mapping
from datetime import date

PIPELINE_TAG = "nightscore/pipeline"
PARTITION_TAG = "dagster/partition"
RANGE_START, RANGE_END = "dagster/asset_partition_range_start", "dagster/asset_partition_range_end"


def nights_of_run(tags: Mapping[str, str]) -> tuple[date, date] | None:
    """The first and the last night of a run, or None for a run that is about no night."""
    single = tags.get(PARTITION_TAG)
    first, last = tags.get(RANGE_START, single), tags.get(RANGE_END, single)
    return (date.fromisoformat(first), date.fromisoformat(last)) if first and last else None
