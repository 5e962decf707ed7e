"""Which nights a night depends on, as pure calendar arithmetic over the spec.

Added here: another window of nights. Not here: whether those nights have been made.
"""

from collections.abc import Sequence
from datetime import date, timedelta

from nightscore.spec.pipeline import Pipeline


def nights_between(first: date, last: date) -> list[date]:
    """Every date from `first` to `last`, inclusive."""
    return [first + timedelta(days=day) for day in range((last - first).days + 1)]


def history_window(pipeline: Pipeline, source: str, nights: Sequence[date]) -> list[date]:
    """The nights of `source` that features of `nights` read, themselves included; none before the pipeline begins."""
    snapshot = pipeline.sources[source].cadence == "snapshot"
    lookback = 0 if snapshot else max(pipeline.features.lookback_days, pipeline.label.horizon_days)
    begin = max(min(nights) - timedelta(days=lookback), pipeline.score_dates.start)
    return nights_between(begin, max(nights))
