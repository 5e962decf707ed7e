"""File sources: bytes of CSV (plain, zipped, gzipped) and Parquet files to raw parts, and what was read.

CSV is read as text, cell by cell, so that types are decided in one place (`columns`).
Added here: a file format or compression. Not here: finding files (`paths`).
"""

import csv
import gzip
import io
import zlib
from collections.abc import Generator, Sequence
from datetime import date
from hashlib import md5
from pathlib import Path
from zipfile import BadZipFile, ZipFile

import polars as pl

from nightscore.errors import SettingsError, SourceMalformed, SourceMissing, Transient
from nightscore.sources.parts import Origin, Part
from nightscore.sources.paths import Location, find_files
from nightscore.spec.sources import FileSource

_FORMATS = {".csv": "csv", ".parquet": "parquet", ".pq": "parquet"}
_REASONS_NAMED = 5
_REMEDY = "repair the file at its origin, or the source's path, format or delimiter in the spec"


def read_files(
    source: FileSource, dates: Sequence[date], base: Path, origin: list[Origin]
) -> Generator[Part, None, None]:
    """Each file for the event dates as a Part, one at a time; appends `path, size, md5` to `origin`.

    Raises SourceMissing with every missing file at once, SourceMalformed, or Transient when the storage fails.
    """
    for location in find_files(source.path, dates, base):
        content = _fetch(location)
        about = f"{location.label} size={len(content)} md5={md5(content, usedforsecurity=False).hexdigest()}"
        origin.append(Origin(about, location.event_date))
        yield Part(location.label, _parse(content, location, source), event_date=location.event_date)


def _malformed(location: Location, *reasons: str) -> SourceMalformed:
    return SourceMalformed(f"reading {location.label}", reasons, _REMEDY)


def _fetch(location: Location) -> bytes:
    attempted = f"reading {location.label}"
    try:
        return bytes(location.filesystem.cat_file(location.path))
    except (FileNotFoundError, PermissionError, IsADirectoryError) as error:
        raise SourceMissing(attempted, error.strerror or type(error).__name__, "make the file readable") from None
    except (BadZipFile, EOFError, zlib.error) as error:
        raise _malformed(location, f"{type(error).__name__}: {error}") from None
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise Transient(attempted, reason, "try again when the storage answers") from None


def _parse(content: bytes, location: Location, source: FileSource) -> pl.DataFrame:
    name = Path(location.path.lower())
    packed = name.suffix if name.suffix in (".zip", ".gz") else ""
    kind = source.format or _FORMATS.get(Path(name.stem if packed else name).suffix)
    if kind is None:
        raise SettingsError(f"reading {source.path}", f"suffix {name.suffix or 'none'}", "set format: csv or parquet")
    plain = _unpack(content, packed, location)
    if not plain:
        raise _malformed(location, "the file is empty")
    return _read_csv(plain, source, location) if kind == "csv" else _read_parquet(plain, source.null_tokens, location)


def _unpack(content: bytes, suffix: str, location: Location) -> bytes:
    try:
        if suffix == ".zip":
            return _unzip(content, location)
        return gzip.decompress(content) if suffix == ".gz" else content
    except (BadZipFile, gzip.BadGzipFile, EOFError, zlib.error, NotImplementedError, RuntimeError) as error:
        raise _malformed(location, f"damaged {suffix} file: {error}") from None


def _unzip(content: bytes, location: Location) -> bytes:
    with ZipFile(io.BytesIO(content)) as archive:
        names = [name for name in archive.namelist() if not name.endswith("/") and not name.startswith("__MACOSX/")]
        if len(names) != 1:
            raise _malformed(
                location, f"the archive holds {len(names)} files where one is expected: {', '.join(names[:5])}"
            )
        return archive.read(names[0])


def _read_parquet(content: bytes, null_tokens: Sequence[str], location: Location) -> pl.DataFrame:
    try:
        frame = pl.read_parquet(io.BytesIO(content))
    except (pl.exceptions.PolarsError, OSError) as error:
        raise _malformed(location, f"not a readable Parquet file: {type(error).__name__}") from None
    text = pl.col(pl.String)
    return frame.with_columns(pl.when(~text.is_in(list(null_tokens))).then(text)) if null_tokens else frame


def _read_csv(content: bytes, source: FileSource, location: Location) -> pl.DataFrame:
    """All cells as String. Refuses ragged rows, repeated columns, unclosed quotes and text that is not UTF-8."""
    import pyarrow as pa
    from pyarrow import csv as arrow_csv

    content = content if content.endswith(b"\n") else content + b"\n"
    header = _read_header(content, source.delimiter, location)
    ragged: list[str] = []

    def refuse(row: arrow_csv.InvalidRow) -> str:
        ragged.append(f"row {row.number} has {row.actual_columns} of {row.expected_columns} cells")
        return "skip"

    # One thread, since only then does pyarrow number the rows it refuses; a cell may be as long as the file.
    size = max(1 << 20, len(content) + 1) if b'"' in content else 1 << 20
    try:
        table = arrow_csv.read_csv(
            pa.py_buffer(content),
            read_options=arrow_csv.ReadOptions(use_threads=False, block_size=min(size, 1 << 30)),
            parse_options=arrow_csv.ParseOptions(
                delimiter=source.delimiter, newlines_in_values=b'"' in content, invalid_row_handler=refuse
            ),
            convert_options=arrow_csv.ConvertOptions(
                column_types=dict.fromkeys(header, pa.string()),
                null_values=list(source.null_tokens),
                strings_can_be_null=True,
            ),
        )
    except pa.ArrowException as error:
        raise _malformed(
            location, f"not readable as CSV: {type(error).__name__}; binary, not UTF-8 or a row beyond 1 MiB"
        ) from None
    if ragged:
        raise _malformed(location, f"{len(ragged)} ragged rows; the header is row 1", *ragged[:_REASONS_NAMED])
    _check_quotes(content, source.delimiter, table.num_rows, location)
    return pl.DataFrame(pl.from_arrow(table))


def _read_header(content: bytes, delimiter: str, location: Location) -> list[str]:
    text = io.TextIOWrapper(io.BytesIO(content), encoding="utf-8-sig", newline="")
    try:
        header = next(csv.reader(text, delimiter=delimiter), [])
    except (UnicodeDecodeError, csv.Error) as error:
        raise _malformed(location, f"not text in UTF-8: {type(error).__name__}") from None
    repeated = sorted({name for name in header if header.count(name) > 1})
    if not header or repeated:
        raise _malformed(location, f"the header repeats {', '.join(repeated)}" if repeated else "there is no header")
    return header


def _check_quotes(content: bytes, delimiter: str, rows: int, location: Location) -> None:
    """Refuse a stray quotation mark, which would swallow the rows behind it into one cell without an error."""
    quotes = content.count(b'"')
    if quotes == 0 or (quotes % 2 == 0 and content.rstrip().count(b"\n") == rows):
        return
    text = io.TextIOWrapper(io.BytesIO(content), encoding="utf-8-sig", newline="")
    reader = csv.reader(text, delimiter=delimiter, strict=True)
    try:
        for _ in reader:
            pass
    except (csv.Error, UnicodeDecodeError) as error:
        raise _malformed(location, f"a stray quotation mark before line {reader.line_num + 1}: {error}") from None
