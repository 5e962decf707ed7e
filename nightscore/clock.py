"""Time as an argument: clocks that callers pass in, and the replay of past business dates.

Added here: another source of "now". Not here: schedules, partition calendars.
"""

from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Protocol
from zoneinfo import ZoneInfo


class Clock(Protocol):
    """Anything that tells the current instant, in UTC."""

    def now(self) -> datetime:
        """The current instant as an aware UTC datetime."""
        ...


@dataclass(frozen=True)
class SystemClock:
    """The machine's clock."""

    def now(self) -> datetime:
        """The machine's current instant."""
        return datetime.now(UTC)


@dataclass(frozen=True)
class FixedClock:
    """A clock that stands still, for replays and tests."""

    instant: datetime

    def now(self) -> datetime:
        """The instant at which it stands."""
        return self.instant.astimezone(UTC)


def local_date(clock: Clock, timezone: str) -> date:
    """The calendar date that `clock` shows in `timezone`."""
    return clock.now().astimezone(ZoneInfo(timezone)).date()


def replay_date(today: date, wall: date, business: date, last: date | None) -> date:
    """The business date that stands for `today` when `wall` stands for `business`.

    With a last date known, the replay starts again at `business` after it, so every wall date has a business date.
    """
    days = (today - wall).days
    if last is not None:
        days %= (last - business).days + 1
    return business + timedelta(days=days)
