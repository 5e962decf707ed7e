"""How old the newest rows are that a night's inputs know, beside what was normal on the nights before.

An empty delivery that its own gate allows is no finding by itself; a source that stays empty is.
Added here: the age of another kind of input. Not here: labels (`nightscore/monitoring/outcomes.py`).
"""

from collections.abc import Iterator, Sequence
from datetime import date, timedelta

from nightscore.lake.workspace import Workspace
from nightscore.spec.datasets import clean_dataset
from nightscore.spec.pipeline import Pipeline
from nightscore.watch.evidence import Freshness

NORMAL_NIGHTS, FEWEST_NIGHTS = 60, 7
"""Nights before tonight that show what is normal, and fewer than which show nothing."""


def measure_freshness(workspace: Workspace, pipeline: Pipeline, night: date) -> tuple[Freshness, ...]:
    """Each source that has had rows on one of the last 60 nights, and has nights enough behind it."""
    first = night - timedelta(days=NORMAL_NIGHTS)
    found = []
    for name in pipeline.sources:
        there = workspace.lake.current(clean_dataset(pipeline.name, name), first, night)
        ages = list(ages_of([one.score_date for one in there.values() if one.rows], sorted({*there, night})))
        if len(ages) > FEWEST_NIGHTS:
            found.append(Freshness(name=name, age_days=ages[-1], limit_days=max(ages[:-1])))
    return tuple(found)


def ages_of(filled: Sequence[date], nights: Sequence[date]) -> Iterator[int]:
    """For each of `nights`, in order, days since the newest night with rows; nothing before the first of those."""
    newest, known = None, set(filled)
    for night in nights:
        newest = night if night in known else newest
        if newest is not None:
            yield (night - newest).days
