"""What every part of a spec shares: strict frozen models and the names they may use.

Added here: a type used by two or more sections. Not here: a section itself.
"""

from datetime import date
from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, StringConstraints

Name = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]{0,47}$")]
"""Becomes table names and paths, so it is kept to lower case, digits and underscores."""


def _read_date(value: object) -> object:
    if not isinstance(value, str):
        return value
    try:
        day = date.fromisoformat(value)
    except ValueError:
        day = None
    if day is None or day.isoformat() != value:
        raise ValueError("expected a date such as 2013-01-31")
    return day


CalendarDate = Annotated[date, BeforeValidator(_read_date)]
"""A local calendar date; pydantic alone would read the text 1356998400 as seconds since 1970."""

ColumnType = Literal["integer", "float", "string", "boolean", "date", "timestamp"]
Severity = Literal["block", "quarantine", "warn"]
Task = Literal["binary", "regression"]


class SpecModel(BaseModel):
    """Frozen, and an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=False, hide_input_in_errors=False)
