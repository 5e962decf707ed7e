"""How old the newest rows are that a night's inputs know, beside what was normal on the nights before.

An empty delivery that its own gate allows is no finding by itself; a source that stays empty is.
Added here: the age of another kind of input. Not here: labels (`nightscore/monitoring/outcomes.py`).
"""

import math
from collections.abc import Collection, Iterator, Sequence
from datetime import date, timedelta

from nightscore.lake.workspace import Workspace
from nightscore.spec.datasets import clean_dataset
from nightscore.spec.pipeline import Pipeline
from nightscore.watch.evidence import Freshness

NORMAL_NIGHTS, FEWEST_NIGHTS, FEWEST_FILLED = 60, 7, 3
"""Nights before tonight that show what is normal, and fewer than which, or fewer with rows, show nothing."""
FORTNIGHT = 14
"""Nights that show whether rows come by the weekday."""
CHANCE, LARGEST = 0.001, 3
"""How seldom rows that come by chance stay away longer than is normal; and its bound, in the longest time so far."""


def measure_freshness(workspace: Workspace, pipeline: Pipeline, night: date) -> tuple[Freshness, ...]:
    """Each source that has had rows on some of the last 60 nights, and has nights enough behind it."""
    first = night - timedelta(days=NORMAL_NIGHTS)
    found = []
    for name in pipeline.sources:
        there = workspace.lake.current(clean_dataset(pipeline.name, name), first, night)
        filled = [one.score_date for one in there.values() if one.rows]
        before = [one for one in filled if one < night]
        ages = list(ages_of(filled, sorted({*there, night})))
        if len(ages) > FEWEST_NIGHTS and len(before) >= FEWEST_FILLED:
            limit = longest_normal(before, sorted(there))
            found.append(Freshness(name=name, age_days=ages[-1], limit_days=limit))
    return tuple(found)


def longest_normal(filled: Collection[date], nights: Sequence[date]) -> int:
    """The oldest in days that rows may be after nights of which those of `filled` had any.

    Rows that come every night or by the weekday are never older than they were between two such nights. Of rows that
    come by chance the longest time so far is soon outdone, so it is what a chance of one in a thousand gives.
    """
    seen = [night for night in nights if min(filled) <= night <= max(filled)]
    longest = max(ages_of(filled, seen))
    if not longest or (len(seen) >= FORTNIGHT and _is_by_weekday(filled, seen)):
        return longest
    by_chance = math.ceil(math.log(CHANCE) / math.log1p(-len(filled) / len(seen)))
    return max(longest, min(by_chance, LARGEST * longest))


def _is_by_weekday(filled: Collection[date], seen: Sequence[date]) -> bool:
    """Whether each weekday always or never had rows."""
    had = {night.weekday() for night in filled}
    return all((night in filled) == (night.weekday() in had) for night in seen)


def ages_of(filled: Collection[date], nights: Sequence[date]) -> Iterator[int]:
    """For each of `nights`, in order, days since the newest night with rows; nothing before the first of those."""
    newest, known = None, set(filled)
    for night in nights:
        newest = night if night in known else newest
        if newest is not None:
            yield (night - newest).days
