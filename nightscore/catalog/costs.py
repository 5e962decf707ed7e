"""What a night of a pipeline costs, step by step, from what its nights have cost so far.

Added here: another cost that is measured. Not here: estimates (`publishing/backfill.py`).
"""

from dataclasses import dataclass

import sqlalchemy as sa

_COSTS = """
select t.step, sum(t.made) as nights, sum(t.seconds) as seconds
from nightscore.step_time t where t.pipeline = :pipeline and t.made > 0 group by t.step
"""
_BYTES = """
select split_part(v.dataset, '.', 2) || coalesce(' ' || nullif(split_part(v.dataset, '.', 3), ''), '') as step,
       sum(v.bytes) / count(distinct v.score_date) as bytes
from nightscore.partition_version v where v.dataset like :prefix group by 1
"""
_STEP_OF_DATASET = {"predictions": "score", "labels": "features"}


@dataclass(frozen=True)
class Cost:
    """Of one step: how many nights were measured, and what one took in seconds and stored bytes."""

    nights: int
    seconds: float
    bytes: int


def costs_of_steps(connection: sa.Connection, pipeline: str) -> dict[str, Cost]:
    """The cost of each step of a pipeline, by its name; steps that never made a night are left out."""
    stored: dict[str, list[int]] = {}
    for row in connection.execute(sa.text(_BYTES), {"prefix": f"{pipeline}.%"}):
        stored.setdefault(_STEP_OF_DATASET.get(row.step, row.step), []).append(int(row.bytes))
    costs = {}
    for row in connection.execute(sa.text(_COSTS), {"pipeline": pipeline}):
        bytes_of_datasets = stored.get(row.step, [0])
        # A step that makes two datasets, features with labels, counts each night once for each.
        nights = float(row.nights) / len(bytes_of_datasets)
        costs[row.step] = Cost(int(nights), row.seconds / nights, sum(bytes_of_datasets))
    return costs
