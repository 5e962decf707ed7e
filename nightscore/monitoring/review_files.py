"""Files that reviewers fill in: CSV in UTF-8 or Parquet, told apart by their suffix, read back as lines of text.

Added here: another form of file. Not here: what a column means, or whether a line may be taken in (`feedback.py`).
"""

import csv
import io
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from nightscore.errors import FeedbackRefused

CSV, PARQUET = ".csv", ".parquet"
NUL = "\0"
REMEDY = "give another file, or repair this one"


@dataclass(frozen=True)
class Line:
    """The values of one line by column, an empty text where there is none; Parquet's first row is line 1."""

    number: int
    values: Mapping[str, str]


def write_frame(frame: pl.DataFrame, path: Path, overwrite: bool, attempted: str) -> None:
    """Write all of `frame` to `path`; FeedbackRefused for another suffix, a file in the way, or an absent folder."""
    _require_suffix(path, attempted)
    content = io.BytesIO()
    frame.write_csv(content) if path.suffix == CSV else frame.write_parquet(content)
    try:
        with path.open("wb" if overwrite else "xb") as file:
            file.write(content.getvalue())
    except FileExistsError:
        remedy = "name another file; --overwrite loses what was filled in"
        raise FeedbackRefused(attempted, f"{path} is there already", remedy) from None
    except OSError as error:
        raise FeedbackRefused(attempted, str(error), "name a file in a folder that can be written to") from error


def read_lines(path: Path, required: Sequence[str], attempted: str) -> tuple[bytes, list[Line]]:
    """The bytes of a file and its lines; FeedbackRefused where it cannot be read or lacks a required column."""
    _require_suffix(path, attempted)
    try:
        content = path.read_bytes()
        lines, columns = _of_csv(content) if path.suffix == CSV else _of_parquet(content)
    except (OSError, ValueError, csv.Error, pl.exceptions.PolarsError) as error:
        raise FeedbackRefused(attempted, f"{path.name} cannot be read: {error}", REMEDY) from error
    found = [f"column {name} is missing" for name in required if name not in columns]
    found += [f"column {name} is there {times} times" for name, times in Counter(columns).items() if times > 1]
    found += [f"line {one.number} holds a NUL character" for one in lines if NUL in "".join(one.values.values())]
    if found:
        raise FeedbackRefused(attempted, found, REMEDY)
    return content, lines


def _require_suffix(path: Path, attempted: str) -> None:
    if path.suffix not in {CSV, PARQUET}:
        raise FeedbackRefused(attempted, f"{path.name} ends with neither {CSV} nor {PARQUET}", "name such a file")


def _of_csv(content: bytes) -> tuple[list[Line], list[str]]:
    """By the lines that an editor shows: a note may have several. Spreadsheets begin UTF-8 with a mark of their own."""
    reader = csv.reader(io.StringIO(content.decode("utf-8-sig"), newline=""), strict=True)
    columns, lines, before = next(reader, []), [], reader.line_num
    for values in reader:
        number, before = before + 1, reader.line_num
        if values and len(values) != len(columns):
            raise ValueError(f"line {number} has {len(values)} values for {len(columns)} columns")
        if values or len(columns) == 1:
            lines.append(Line(number, dict(zip(columns, values, strict=False))))
    return lines, columns


def _of_parquet(content: bytes) -> tuple[list[Line], list[str]]:
    frame = pl.read_parquet(io.BytesIO(content))
    texts = frame.select(pl.all().cast(pl.String).fill_null(""))
    return [Line(at, row) for at, row in enumerate(texts.iter_rows(named=True), 1)], frame.columns
