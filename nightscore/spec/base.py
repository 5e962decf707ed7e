"""What every part of a spec shares: strict frozen models and the names they may use.

Added here: a type used by two or more sections. Not here: a section itself.
"""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, StringConstraints

Name = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]{0,47}$")]
"""Becomes table names and paths, so it is kept to lower case, digits and underscores."""

ColumnType = Literal["integer", "float", "string", "boolean", "date", "timestamp"]
Severity = Literal["block", "quarantine", "warn"]
Task = Literal["binary", "regression"]


class SpecModel(BaseModel):
    """Frozen, and an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=False, hide_input_in_errors=False)
