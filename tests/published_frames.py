"""Frames as a night may publish them: every type of the mart, nulls, and values at the edges of what PostgreSQL knows.

Added here: a kind of value that the mart stores. Not here: tests.
"""

from datetime import UTC, date, datetime
from typing import Any

import polars as pl
from hypothesis import strategies as st

from nightscore.publishing.copy_binary import DAY_US, DAYS, MICROSECONDS, UNIX_DAYS

TYPES: dict[str, pl.DataType] = {
    "id": pl.Int64(), "small": pl.Int32(), "score": pl.Float64(), "arm": pl.String(), "code": pl.String(),
    "decision": pl.Boolean(), "day": pl.Date(), "at": pl.Datetime("us", "UTC"),
}  # fmt: skip
_INTEGERS = st.integers(-(2**63), 2**63 - 1) | st.sampled_from([-(2**63), 2**63 - 1, 0])
_TEXTS = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=12)
VALUES: dict[str, st.SearchStrategy[Any]] = {
    "id": _INTEGERS,
    "small": st.integers(-(2**31), 2**31 - 1),
    "score": st.floats() | st.sampled_from([float("nan"), float("inf"), -float("inf"), -0.0, 5e-324]),
    "arm": _TEXTS | st.sampled_from(["champion", "", "Köln", "\U0001f319"]),
    "code": st.sampled_from(["AA", "é"]),
    "decision": st.booleans(),
    "day": st.integers(DAYS[0] - UNIX_DAYS, DAYS[-1] - UNIX_DAYS) | st.integers(-20_000, 20_000),
    "at": st.integers(MICROSECONDS[0] - UNIX_DAYS * DAY_US, MICROSECONDS[-1]) | st.integers(-(10**16), 10**16),
}
ORDINARY: dict[str, st.SearchStrategy[Any]] = {
    **VALUES,
    "day": st.dates(date(1, 1, 1), date(9999, 12, 31)),
    "at": st.datetimes(datetime(1, 1, 2), datetime(9999, 12, 30), timezones=st.just(UTC)),  # noqa: DTZ001
}


@st.composite
def frames(draw: st.DrawFn, values: dict[str, st.SearchStrategy[Any]] = VALUES) -> pl.DataFrame:
    """Some of the columns in any order, nulls in some of them, up to 12 rows."""
    names = draw(st.lists(st.sampled_from(sorted(TYPES)), min_size=1, unique=True))
    rows = draw(st.integers(0, 12))
    columns = {}
    for name in names:
        one = values[name] | st.none() if draw(st.booleans()) else values[name]
        made = draw(st.lists(one, min_size=rows, max_size=rows))
        columns[name] = _series(name, made)
    return pl.DataFrame(columns)


def _series(name: str, values: list[Any]) -> pl.Series:
    dtype = TYPES[name]
    counted = dtype.is_temporal() and all(one is None or isinstance(one, int) for one in values)
    return pl.Series(name, values, pl.Int64).cast(dtype) if counted else pl.Series(name, values, dtype)
