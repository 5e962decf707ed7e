"""File sources: contents of CSV and Parquet files to raw parts, some rows at a time, and what was read.

CSV is read as text, cell by cell, so that types are decided in one place (`columns`).
Added here: a file format. Not here: finding files (`paths`), their bytes (`contents`).
"""

import csv
import io
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from datetime import date
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl

from nightscore.errors import SettingsError
from nightscore.sources.contents import Content, fetch, malformed, unpack
from nightscore.sources.parts import Origin, Part
from nightscore.sources.paths import Location, find_files
from nightscore.sources.spool import IN_MEMORY, Scratch
from nightscore.spec.sources import FileSource

if TYPE_CHECKING:
    from pyarrow import csv as arrow_csv

_FORMATS = {".csv": "csv", ".parquet": "parquet", ".pq": "parquet"}
_REASONS_NAMED = 5
_QUOTED_BLOCK_BYTES = 64 << 20
_NOT_CSV = "binary, not UTF-8 or a row beyond 1 MiB"


def read_files(
    source: FileSource, dates: Sequence[date], base: Path, origin: list[Origin], scratch: Scratch = IN_MEMORY
) -> Generator[Part, None, None]:
    """The rows of each file for the event dates as Parts; appends `path, size, md5` of each file to `origin`.

    Raises SourceMissing with every missing file at once, SourceMalformed, or Transient when the storage fails.
    """
    for location in find_files(source.path, dates, base):
        with fetch(location, scratch) as content:
            origin.append(Origin(f"{location.label} size={content.size} md5={content.md5()}", location.event_date))
            first_row = 1
            with closing(_parse(content, location, source, scratch)) as frames:
                for frame in frames:
                    yield Part(location.label, frame, first_row, location.event_date)
                    first_row += frame.height


def _parse(
    content: Content, location: Location, source: FileSource, scratch: Scratch
) -> Generator[pl.DataFrame, None, None]:
    """The file's rows, about `scratch.part_rows` at a time; at least one frame."""
    name = Path(location.path.lower())
    packed = name.suffix if name.suffix in (".zip", ".gz") else ""
    kind = source.format or _FORMATS.get(Path(name.stem if packed else name).suffix)
    if kind is None:
        raise SettingsError(f"reading {source.path}", f"suffix {name.suffix or 'none'}", "set format: csv or parquet")
    with unpack(content, packed, location, scratch) as plain:
        if not plain.size:
            raise malformed(location, "the file is empty")
        if kind == "csv":
            yield from _read_csv(plain.ending_a_line(), source, location, scratch.part_rows)
        else:
            yield from _read_parquet(plain, source.null_tokens, location, scratch.part_rows)


def _read_parquet(
    content: Content, null_tokens: Sequence[str], location: Location, part_rows: int
) -> Iterator[pl.DataFrame]:
    text = pl.col(pl.String)
    tokens = list(null_tokens)
    for start in count(0, part_rows):
        given = content.held if isinstance(content.held, Path) else io.BytesIO(content.held)
        try:
            frame = pl.scan_parquet(given, glob=False, hive_partitioning=False).slice(start, part_rows).collect()
        except (pl.exceptions.PolarsError, OSError) as error:
            raise malformed(location, f"not a readable Parquet file: {type(error).__name__}") from None
        if frame.height or not start:
            yield frame.with_columns(pl.when(~text.is_in(tokens)).then(text)) if tokens else frame
        if frame.height < part_rows:
            return


class _Ragged:
    """The rows of a CSV file that have more or fewer cells than its header."""

    def __init__(self) -> None:
        self.count = 0
        self.first: list[str] = []

    def refuse(self, row: "arrow_csv.InvalidRow") -> str:
        """Skip a row and remember that."""
        self.count += 1
        if self.count <= _REASONS_NAMED:
            self.first.append(f"row {row.number} has {row.actual_columns} of {row.expected_columns} cells")
        return "skip"


def _read_csv(content: Content, source: FileSource, location: Location, part_rows: int) -> Iterator[pl.DataFrame]:
    """All cells as String. Refuses ragged rows, repeated columns, unclosed quotes and text that is not UTF-8."""
    header = _read_header(content, source.delimiter, location)
    marks, ragged, rows = _count_quotes(content), _Ragged(), 0
    held: list[Any] = []
    for table in _csv_tables(content, source, location, header, marks > 0, ragged):
        # What is wrong with a file is known at its end only, so its last rows wait for that.
        if sum(one.num_rows for one in held) >= part_rows:
            yield _together(held)
            held = []
        held.append(table)
        rows += table.num_rows
    if ragged.count:
        raise malformed(location, f"{ragged.count} ragged rows; the header is row 1", *ragged.first)
    _check_quotes(content, source.delimiter, marks, rows, location)
    yield _together(held)


def _together(tables: Sequence[Any]) -> pl.DataFrame:
    import pyarrow as pa

    return pl.DataFrame(pl.from_arrow(pa.concat_tables(tables)))


def _csv_tables(
    content: Content, source: FileSource, location: Location, header: Sequence[str], quoted: bool, ragged: _Ragged
) -> Iterator[Any]:
    """Arrow tables of text; at least one, maybe empty."""
    import pyarrow as pa
    from pyarrow import csv as arrow_csv

    # One thread, since only then does pyarrow number the rows it refuses; a cell may be as long as a block.
    size = min(max(1 << 20, content.size + 1), _QUOTED_BLOCK_BYTES) if quoted else 1 << 20
    try:
        with _as_arrow(content) as stream, arrow_csv.open_csv(
            stream,
            read_options=arrow_csv.ReadOptions(use_threads=False, block_size=size),
            parse_options=arrow_csv.ParseOptions(
                delimiter=source.delimiter, newlines_in_values=quoted, invalid_row_handler=ragged.refuse
            ),
            convert_options=arrow_csv.ConvertOptions(
                column_types=dict.fromkeys(header, pa.string()),
                null_values=list(source.null_tokens),
                strings_can_be_null=True,
            ),
        ) as reader:  # fmt: skip
            yield reader.schema.empty_table()
            for batch in reader:
                yield pa.Table.from_batches([batch])
    except pa.ArrowException as error:
        # A stray quotation mark makes one row of all that follows.
        _check_quotes(content, source.delimiter, 1 if quoted else 0, 0, location)
        raise malformed(location, f"not readable as CSV: {type(error).__name__}; {_NOT_CSV}") from None


def _as_arrow(content: Content) -> Any:
    import pyarrow as pa

    return pa.OSFile(str(content.held)) if isinstance(content.held, Path) else pa.BufferReader(content.held)


def _read_header(content: Content, delimiter: str, location: Location) -> list[str]:
    try:
        with io.TextIOWrapper(content.open(), encoding="utf-8-sig", newline="") as text:
            header = next(csv.reader(text, delimiter=delimiter), [])
    except (UnicodeDecodeError, csv.Error) as error:
        raise malformed(location, f"not text in UTF-8: {type(error).__name__}") from None
    repeated = sorted({name for name in header if header.count(name) > 1})
    if not header or repeated:
        raise malformed(location, f"the header repeats {', '.join(repeated)}" if repeated else "there is no header")
    return header


def _count_quotes(content: Content) -> int:
    return sum(block.count(b'"') for block in content.blocks())


def _count_lines(content: Content) -> int:
    """Line ends before the last character that is not white space."""
    lines = trailing = 0
    for block in content.blocks():
        whole, kept = block.count(b"\n"), block.rstrip()
        ends = kept.count(b"\n")
        lines, trailing = (lines + trailing + ends, whole - ends) if kept else (lines, trailing + whole)
    return lines


def _check_quotes(content: Content, delimiter: str, marks: int, rows: int, location: Location) -> None:
    """Refuse a stray quotation mark, which would swallow the rows behind it into one cell without an error."""
    if marks == 0 or (marks % 2 == 0 and _count_lines(content) == rows):
        return
    with io.TextIOWrapper(content.open(), encoding="utf-8-sig", newline="") as text:
        reader = csv.reader(text, delimiter=delimiter, strict=True)
        try:
            for _ in reader:
                pass
        except (csv.Error, UnicodeDecodeError) as error:
            raise malformed(location, f"a stray quotation mark before line {reader.line_num + 1}: {error}") from None
