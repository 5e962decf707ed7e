"""The `sources` section: where each dataset comes from, its columns, and when its rows become known.

A source's partition is named by the night on which its rows became known, so `known_after_days` is what makes
point-in-time structural: a night can only bind partitions up to itself.
Added here: a new kind of source. Not here: how a source is read (`nightscore/sources`).
"""

from typing import Annotated, Literal

from pydantic import Field

from nightscore.spec.base import CalendarDate, ColumnType, Name, SpecModel
from nightscore.spec.expectations import Expectation


class Column(SpecModel):
    """One declared column: its type, the name it has in the source if another, and what it means."""

    name: Name
    type: ColumnType
    source_name: str | None = Field(default=None, description="the column's name in the source, if another")
    sql: str | None = Field(default=None, description="DuckDB SQL over the source's columns instead of one column")
    format: str | None = Field(default=None, description="strptime format of a date or timestamp column")
    timezone: str | None = Field(default=None, description="IANA zone of a naive timestamp; stored as UTC")
    sensitive: bool = Field(default=False, description="personal data: never shown in a message, report or log")
    description: str = ""


class SourceBase(SpecModel):
    """What every kind of source declares."""

    description: str = ""
    columns: tuple[Column, ...] = Field(min_length=1)
    key: tuple[Name, ...] = Field(min_length=1, description="columns that identify a row within its night")
    cadence: Literal["daily", "snapshot"] = Field(
        default="daily", description="daily: the rows of one event date; snapshot: the whole table, as it is that night"
    )
    event_date: str | None = Field(
        default=None,
        description="DuckDB SQL over the source's columns (text in CSV files) that gives a row's event date",
    )
    known_after_days: int = Field(
        default=0, ge=0, le=366, description="days from the event date to the night that knows the row"
    )
    first_date: CalendarDate | None = Field(
        default=None, description="first event date the source has; earlier ones are empty"
    )
    late_days: int = Field(
        default=0, ge=0, le=60,
        description="how many earlier nights are read again each night, since their rows may still be corrected",
    )  # fmt: skip
    empty: Literal["allow", "block"] = Field(default="block", description="what a night without rows means")
    max_quarantine_share: float = Field(default=0.01, ge=0, le=1, description="above it the night is blocked")
    expectations: tuple[Expectation, ...] = ()


class FileSource(SourceBase):
    """CSV (plain or zipped) or Parquet files behind any fsspec URL; `{date}` in the path is the event date."""

    type: Literal["file"]
    path: str = Field(description="path or fsspec URL; globs; `{date}`; `package:NAME/path` for an installed package")
    format: Literal["csv", "parquet"] | None = Field(default=None, description="taken from the suffix when absent")
    null_tokens: tuple[str, ...] = ("",)
    delimiter: str = Field(default=",", min_length=1, max_length=1)


class SqlSource(SourceBase):
    """A query against any SQLAlchemy URL, with bound parameters `:start` and `:end` (event dates, inclusive)."""

    type: Literal["sql"]
    url_env: str = Field(pattern=r"^[A-Z][A-Z0-9_]*$", description="environment variable that holds the URL")
    query: str


Source = Annotated[FileSource | SqlSource, Field(discriminator="type")]
