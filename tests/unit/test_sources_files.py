"""File sources: nights, paths, formats, and every way a file can be wrong."""

import gzip
import io
import json
import random
import zipfile
from collections.abc import Callable
from datetime import date, timedelta
from hashlib import md5
from pathlib import Path
from typing import Any

import fsspec
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from nightscore.errors import SettingsError, SourceMalformed, SourceMissing
from nightscore.sources.extract import Extraction, extract, frame_schema
from nightscore.spec.sources import FileSource

DAY = date(2024, 5, 1)
ROWS = ["day,id,amount,note", "2024-05-01,2,1.5,b", "2024-05-01,1,NA,a", "2024-05-02,1,3,c", "2024-04-30,9,0,z"]
CSV = "\n".join(ROWS) + "\n"
COLUMNS: list[dict[str, Any]] = [
    {"name": "id", "type": "integer"},
    {"name": "amount", "type": "float"},
    {"name": "note", "type": "string"},
]
FIRST = [
    {"id": 1, "amount": None, "note": "a", "unreadable": None},
    {"id": 2, "amount": 1.5, "note": "b", "unreadable": None},
]


def source(path: str = "data.csv", **changes: Any) -> FileSource:
    declared: dict[str, Any] = {
        "type": "file", "path": path, "event_date": "day::date", "key": ["id"], "columns": COLUMNS,
        "null_tokens": ["", "NA"],
    }  # fmt: skip
    return FileSource.model_validate(declared | changes)


def read(base: Path, text: str | bytes = CSV, nights: list[date] | None = None, **changes: Any) -> Extraction:
    (base / "data.csv").write_bytes(text.encode() if isinstance(text, str) else text)
    return extract(source(**changes), nights or [DAY], base, {})


def night(offset: int) -> date:
    return DAY + timedelta(days=offset)


def test_a_night_holds_the_rows_of_its_event_date_sorted_by_key(tmp_path: Path) -> None:
    got = read(tmp_path)
    assert got.partitions[DAY].rows(named=True) == FIRST
    assert dict(got.partitions[DAY].schema) == frame_schema(source())
    assert (got.rows_read, len(got.origin)) == (2, 1)


def test_a_night_knows_the_rows_of_earlier_event_dates(tmp_path: Path) -> None:
    got = read(tmp_path, nights=[night(1), night(2)], known_after_days=1)
    assert got.partitions[night(1)].rows(named=True) == FIRST
    assert got.partitions[night(2)]["note"].to_list() == ["c"]


def test_every_night_asked_for_has_a_frame_even_without_rows(tmp_path: Path) -> None:
    got = read(tmp_path, nights=[night(5), DAY, night(0)])
    assert {day: frame.height for day, frame in got.partitions.items()} == {DAY: 2, night(5): 0}
    assert dict(got.partitions[night(5)].schema) == frame_schema(source())


def test_nights_before_the_first_date_are_empty_and_read_nothing(tmp_path: Path) -> None:
    got = extract(source("nowhere.csv", first_date=DAY), [night(-1)], tmp_path, {})
    assert (got.partitions[night(-1)].height, got.origin, got.rows_read) == (0, (), 0)
    assert {day: f.height for day, f in read(tmp_path, nights=[night(-1), DAY], first_date=DAY).partitions.items()} == {
        night(-1): 0,
        DAY: 2,
    }


def test_a_snapshot_gives_every_night_the_same_whole_table(tmp_path: Path) -> None:
    got = read(tmp_path, nights=[DAY, night(7)], cadence="snapshot", event_date=None)
    assert got.partitions[DAY].height == got.rows_read == 4
    assert got.partitions[DAY] is got.partitions[night(7)]


@settings(max_examples=25)
@given(order=st.permutations(ROWS[1:]), nights=st.lists(st.integers(-2, 3), min_size=1, max_size=4))
def test_neither_row_order_nor_the_other_nights_asked_for_change_a_night(order: list[str], nights: list[int]) -> None:
    memory = fsspec.filesystem("memory")
    memory.pipe("/sources/property.csv", CSV.encode())
    memory.pipe("/sources/shuffled.csv", "\n".join([ROWS[0], *order]).encode())
    asked = [night(offset) for offset in nights]
    got = extract(source("memory://sources/shuffled.csv"), asked, Path(), {})
    for each in asked:
        alone = extract(source("memory://sources/property.csv"), [each], Path(), {})
        assert_frame_equal(got.partitions[each], alone.partitions[each])


def test_columns_come_from_another_name_or_from_sql(tmp_path: Path) -> None:
    columns = [
        {"name": "id", "type": "integer"},
        {"name": "comment", "type": "string", "source_name": "note"},
        {"name": "doubled", "type": "float", "sql": "amount::double * 2 -- twice"},
    ]
    assert read(tmp_path, columns=columns).partitions[DAY].rows() == [(1, "a", None, None), (2, "b", 3.0, None)]


def test_a_row_on_which_sql_fails_is_unreadable_and_the_others_are_read(tmp_path: Path) -> None:
    columns = [{"name": "id", "type": "integer"}, {"name": "number", "type": "integer", "sql": "note::int"}]
    text = "day,id,note\n2024-05-01,1,5\n2024-05-01,2,x\n2024-05-01,3,NA\n"
    got = read(tmp_path, text, columns=columns).partitions[DAY]
    assert got.rows() == [(1, 5, None), (2, None, '{"number": "note::int"}'), (3, None, None)]


def test_unreadable_cells_become_null_and_keep_their_text(tmp_path: Path) -> None:
    got = read(tmp_path, "day,id,amount,note\n2024-05-01,1.0,NaN,NA\n2024-05-01,2,,ok\n").partitions[DAY]
    assert got.rows() == [(2, None, "ok", None), (None, None, None, '{"id": "1.0", "amount": "NaN"}')]
    assert json.loads(got["unreadable"][1]) == {"id": "1.0", "amount": "NaN"}


def test_a_quoted_cell_may_hold_delimiters_and_lines(tmp_path: Path) -> None:
    got = read(tmp_path, 'day;id;amount;note\r\n2024-05-01;1;2;"a;""b""\nc"\r\n2024-05-01;2;3;5"\r\n', delimiter=";")
    assert got.partitions[DAY]["note"].to_list() == ['a;"b"\nc', '5"']


def zipped(content: bytes, *names: str) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in names or ("data.csv",):
            archive.writestr(name, content)
    return stream.getvalue()


def parquet(content: bytes) -> bytes:
    stream = io.BytesIO()
    frame = pl.read_csv(content, null_values=["NA"])
    frame.with_columns(pl.col("day").str.to_date()).write_parquet(stream)
    return stream.getvalue()


PACKED: list[tuple[str, Callable[[bytes], bytes]]] = [
    ("a.csv", bytes),
    ("a.csv.zip", zipped),
    ("a.csv.gz", gzip.compress),
    ("a.parquet", parquet),
    ("a.csv", lambda content: b"\xef\xbb\xbf" + content.rstrip()),
]


@pytest.mark.parametrize(("name", "pack"), PACKED)
def test_every_format_gives_the_same_rows(name: str, pack: Callable[[bytes], bytes], tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(pack(CSV.encode()))
    assert extract(source(name), [DAY], tmp_path, {}).partitions[DAY].rows(named=True) == FIRST


@pytest.mark.parametrize("path", ["{base}/in/a.csv", "in/a.csv", "in/*.csv", "file://{base}/in/a.csv", "file://{base}/i*/a.csv",
                                  "zip://data.csv::file://{base}/in/a.csv.zip", "in/{{date:%Y}}/../a.csv"])  # fmt: skip
def test_every_form_of_path_finds_the_file(path: str, tmp_path: Path) -> None:
    (tmp_path / "in" / "2024").mkdir(parents=True)
    rows = [ROWS[0], *(row for row in ROWS if row.startswith(str(DAY)))]
    (tmp_path / "in/a.csv").write_text("\n".join(rows))
    (tmp_path / "in/a.csv.zip").write_bytes(zipped("\n".join(rows).encode()))
    got = extract(source(path.format(base=tmp_path)), [DAY], tmp_path, {})
    assert got.partitions[DAY].rows(named=True) == FIRST


def test_a_glob_reads_all_its_files_in_order(tmp_path: Path) -> None:
    for name, row in (("b.csv", ROWS[1]), ("a.csv", ROWS[2])):
        (tmp_path / name).write_text(f"{ROWS[0]}\n{row}\n")
    got = extract(source("*.csv"), [DAY], tmp_path, {})
    assert got.partitions[DAY].rows(named=True) == FIRST
    assert [line.split()[0] for line in got.origin] == [str(tmp_path / "a.csv"), str(tmp_path / "b.csv")]


@pytest.mark.parametrize("event_date", ["day::date", None])
def test_a_date_in_the_path_is_the_event_date(event_date: str | None, tmp_path: Path) -> None:
    for offset in range(3):
        (tmp_path / f"{night(offset):%Y%m%d}.csv").write_text(f"day,id,amount,note\n{night(offset)},{offset},1,x\n")
    wanted = source("{date:%Y%m%d}.csv", event_date=event_date, known_after_days=1)
    got = extract(wanted, [night(1), night(3)], tmp_path, {})
    assert {day: frame["id"].to_list() for day, frame in got.partitions.items()} == {night(1): [0], night(3): [2]}
    assert len(got.origin) == 2


def test_a_snapshot_with_a_file_a_date_gives_each_night_its_own(tmp_path: Path) -> None:
    for offset in range(2):
        (tmp_path / f"{night(offset)}.csv").write_text(f"id,amount,note\n{offset},1,x\n")
    got = extract(source("{date}.csv", cadence="snapshot"), [DAY, night(1)], tmp_path, {})
    assert {day: frame["id"].to_list() for day, frame in got.partitions.items()} == {DAY: [0], night(1): [1]}


def test_a_row_of_another_date_than_its_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / f"{DAY}.csv").write_text("\n".join(ROWS[:4]))
    with pytest.raises(SourceMalformed) as error:
        extract(source("{date}.csv"), [DAY], tmp_path, {})
    assert error.value.found == (
        f"1 rows have another event date than {DAY}, which the file's name states; data rows 3",
    )


def test_every_missing_date_is_named_at_once_with_what_is_there(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "2024-05-11.csv").write_text(CSV)
    with pytest.raises(SourceMissing) as error:
        extract(source("in/{date}.csv"), [DAY, night(1)], tmp_path, {})
    assert error.value.found == tuple(
        f"no file for {day}: in/{day}.csv; {tmp_path}/in holds 2024-05-11.csv" for day in (DAY, night(1))
    )


@pytest.mark.parametrize("path", ["nowhere/x/data.csv", "*.parquet", "package:no_such_package/x.csv", ".",
                                  "zip://a.csv::file:///nowhere.zip", "memory://nowhere/a.csv"])  # fmt: skip
def test_a_missing_file_is_missing(path: str, tmp_path: Path) -> None:
    (tmp_path / "data.txt").write_text("")
    with pytest.raises(SourceMissing):
        extract(source(path), [DAY], tmp_path, {})


def test_credentials_in_a_url_are_in_no_message(tmp_path: Path) -> None:
    with pytest.raises(SettingsError) as error:
        extract(source("nosuch://me:hunter2@host/a.csv"), [DAY], tmp_path, {})
    assert "hunter2" not in str(error.value)
    assert "nosuch://***@host/a.csv" in str(error.value)


def test_a_file_without_a_known_suffix_needs_a_format(tmp_path: Path) -> None:
    (tmp_path / "data.txt").write_text(CSV)
    with pytest.raises(SettingsError):
        extract(source("data.txt"), [DAY], tmp_path, {})
    assert extract(source("data.txt", format="csv"), [DAY], tmp_path, {}).rows_read == 2


def test_missing_columns_are_named_at_once_with_likely_new_names(tmp_path: Path) -> None:
    with pytest.raises(SourceMalformed) as error:
        read(tmp_path, "day,ID,amounts,zzz\n2024-05-01,1,1,x\n")
    assert error.value.found == (
        "column id is missing; renamed to ID?",
        "column amount is missing; renamed to amounts?",
        "column note is missing",
        "columns found: day, ID, amounts, zzz",
    )


RAGGED = "2 ragged rows; the header is row 1"
BROKEN: list[tuple[str, bytes, tuple[str, ...]]] = [
    ("data.csv", b"", ("the file is empty",)),
    ("data.csv", b"\n\n", ("there is no header",)),
    ("data.csv", b"a,b,a\n1,2,3\n", ("the header repeats a",)),
    ("data.csv", bytes(range(256)) * 9, ("not text in UTF-8: UnicodeDecodeError",)),
    ("data.csv", CSV.encode() + b"2024-05-01,3\n2024-05-01,4,1,x,y\n",
     (RAGGED, "row 6 has 2 of 4 cells", "row 7 has 5 of 4 cells")),
    ("data.csv", CSV.encode() + b'2024-05-01,3,1,"x\n2024-05-01,4,1,y\n',
     ("a stray quotation mark before line 8: unexpected end of data",)),
    ("data.csv", CSV.encode() + b'2024-05-01,3,1,"x\n2024-05-01,4,1,"y\n',
     ("a stray quotation mark before line 8: ',' expected after '\"'",)),
    ("data.csv", CSV.encode() + b'2024-05-01,3,1,"x',
     ("a stray quotation mark before line 7: unexpected end of data",)),
    ("data.csv.zip", b"PK no zip", ("damaged .zip file: File is not a zip file",)),
    ("data.csv.zip", zipped(CSV.encode())[:80], ("damaged .zip file: File is not a zip file",)),
    ("data.csv.zip", zipped(CSV.encode(), "a.csv", "b.csv"),
     ("the archive holds 2 files where one is expected: a.csv, b.csv",)),
    ("data.csv.gz", gzip.compress(CSV.encode())[:40],
     ("damaged .gz file: Compressed file ended before the end-of-stream marker was reached",)),
    ("data.parquet", parquet(CSV.encode())[:-20], ("not a readable Parquet file: ComputeError",)),
    ("data.parquet", CSV.encode(), ("not a readable Parquet file: ComputeError",)),
]  # fmt: skip


@pytest.mark.parametrize(("name", "content", "found"), BROKEN, ids=[found[0] for _, _, found in BROKEN])
def test_a_broken_file_is_refused_whole(name: str, content: bytes, found: tuple[str, ...], tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(SourceMalformed) as error:
        extract(source(name), [DAY], tmp_path, {})
    assert error.value.attempted == f"reading {tmp_path / name}"
    assert error.value.found == found


@given(cut=st.integers(1, 400), flips=st.lists(st.integers(0, 400), max_size=3))
def test_a_damaged_parquet_file_gives_an_error_of_ours_or_rows(cut: int, flips: list[int]) -> None:
    content = bytearray(parquet(CSV.encode())[:-cut])
    for at in flips:
        if at < len(content):
            content[at] ^= 0xFF
    fsspec.filesystem("memory").pipe("/sources/damaged.parquet", bytes(content))
    with pytest.raises(SourceMalformed):
        extract(source("memory://sources/damaged.parquet"), [DAY], Path(), {})


def test_rows_without_a_readable_event_date_are_counted_and_located_without_their_values(tmp_path: Path) -> None:
    bad = "\n".join(f"2024-13-{at},7,1,secret" for at in range(10, 17))
    with pytest.raises(SourceMalformed) as error:
        read(tmp_path, CSV + bad)
    assert error.value.found == ("7 rows have no readable event date; data rows 5, 6, 7, 8, 9 …",)


@pytest.mark.parametrize(
    "sql", ["nothere::date", "day::date)", "max(day)::date", "(SELECT 1 FROM read_csv('/etc/passwd'))"]
)
def test_wrong_sql_is_refused_with_the_reason(sql: str, tmp_path: Path) -> None:
    with pytest.raises(SourceMalformed) as error:
        read(tmp_path, event_date=sql)
    assert "Error" in error.value.found[0]
    assert sql in error.value.attempted


def test_sql_must_give_one_value_a_row(tmp_path: Path) -> None:
    columns = [{"name": "id", "type": "integer", "sql": "unnest([1, 2])"}]
    with pytest.raises(SourceMalformed):
        read(tmp_path, columns=columns)


def test_columns_whose_type_has_changed_are_named_at_once_without_values(tmp_path: Path) -> None:
    rows = "\n".join(f"2024-05-01,id{at},1 USD,x" for at in range(12))
    with pytest.raises(SourceMalformed) as error:
        read(tmp_path, f"day,id,amount,note\n{rows}\n")
    assert error.value.found == (
        "column id is declared integer; 12 of 12 cells are not",
        "column amount is declared float; 12 of 12 cells are not",
    )


def test_one_readable_cell_keeps_a_type_change_from_being_supposed(tmp_path: Path) -> None:
    rows = "\n".join(f"2024-05-01,id{at},1,x" for at in range(12))
    got = read(tmp_path, f"day,id,amount,note\n{rows}\n2024-05-01,1,1,x\n").partitions[DAY]
    assert (got["unreadable"].count(), got["id"].to_list()[0]) == (12, 1)


def test_the_origin_names_file_size_and_hash_and_changes_with_the_content(tmp_path: Path) -> None:
    first, again, other = read(tmp_path).origin, read(tmp_path).origin, read(tmp_path, CSV + ROWS[1]).origin
    assert (
        first
        == again
        == (f"{tmp_path}/data.csv size={len(CSV)} md5={md5(CSV.encode(), usedforsecurity=False).hexdigest()}",)
    )
    assert other != first


def test_rows_equal_in_their_key_are_ordered_by_all_columns(tmp_path: Path) -> None:
    rows = [f"2024-05-01,1,{amount},{note}" for amount in ("1", "2", "x", "y") for note in ("a", "b", "NA")]
    expected = read(tmp_path, "\n".join([ROWS[0], *rows])).partitions[DAY]
    random.Random(7).shuffle(rows)
    assert_frame_equal(read(tmp_path, "\n".join([ROWS[0], *rows])).partitions[DAY], expected)


def test_a_declared_column_sees_parquet_nan_as_unreadable(tmp_path: Path) -> None:
    frame = pl.DataFrame({"day": [DAY] * 2, "id": [1.0, 2.5], "amount": [float("nan"), 1.0], "note": ["", "x"]})
    frame.write_parquet(tmp_path / "a.parquet")
    got = extract(source("a.parquet"), [DAY], tmp_path, {}).partitions[DAY]
    assert got.rows() == [(1, None, None, '{"amount": "nan"}'), (None, 1.0, "x", '{"id": "2.5"}')]
