"""Large deliveries: read in parts, kept in runs on disk, and equal to what memory alone would give."""

import gzip
import io
import random
import zipfile
from collections.abc import Callable
from datetime import date, timedelta
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal
from sqlalchemy import create_engine, text

from nightscore.errors import SourceMalformed
from nightscore.lake.parquet import in_order
from nightscore.sources.extract import Extraction, extract
from nightscore.sources.spool import EVENT_DATE, Scratch, Spool, scratch_folder
from nightscore.spec.sources import FileSource, Source, SqlSource

DAY = date(2024, 5, 1)
NIGHTS = [DAY + timedelta(days=offset) for offset in range(4)]
ASKED = NIGHTS[:3]
HEADER = "day,id,place,amount,note"
DECLARED: dict[str, Any] = {
    "event_date": "day::date", "key": ["id", "place"],
    "columns": [
        {"name": "id", "type": "integer"}, {"name": "place", "type": "string"}, {"name": "amount", "type": "float"},
        {"name": "note", "type": "string"}, {"name": "twice", "type": "float", "sql": "amount::double * 2"},
    ],
}  # fmt: skip


def lines(count: int) -> list[str]:
    """Rows out of order over four dates, of which one is not asked for, with keys absent, bad and repeated."""
    draw = random.Random(3)
    notes = ["", "ü", '"c,\nd"']
    return [
        f"{draw.choice(NIGHTS)},{draw.choice(['', 'x', *map(str, range(count // 3))])},{draw.choice(['', 'a', 'b'])},"
        f"{draw.choice(['', 'many', '0', '-0.0', '1.5'])},{draw.choice(notes)}"
        for _ in range(count)
    ]


def csv(rows: list[str]) -> bytes:
    return ("\n".join([HEADER, *rows]) + "\n").encode()


CSV = csv(lines(300))


def file_source(path: str = "data.csv", **changes: Any) -> FileSource:
    return FileSource.model_validate({"type": "file", "path": path} | DECLARED | changes)


def tight(base: Path, part_rows: int = 7, run_bytes: int = 2_000) -> Scratch:
    """So little memory that a hundred rows are many."""
    folder = base / "scratch"
    folder.mkdir(exist_ok=True)
    return Scratch(folder, part_rows, file_bytes=100, run_bytes=run_bytes)


def assert_same(got: Extraction, whole: Extraction) -> None:
    assert list(got.deliveries) == list(whole.deliveries)
    for night, delivery in got.deliveries.items():
        assert_frame_equal(delivery.load(), whole.partitions[night])
        assert_frame_equal(delivery.load(), whole.partitions[night])
        assert delivery.rows == whole.partitions[night].height
    assert (got.origin, got.event_dates, got.rows_read) == (whole.origin, whole.event_dates, whole.rows_read)


def assert_chunks_change_nothing(source: Source, base: Path, environ: dict[str, str], part_rows: int = 7) -> None:
    whole = extract(source, ASKED, base, environ)
    assert whole.rows_read > 200
    assert_same(extract(source, ASKED, base, environ, tight(base, part_rows)), whole)


@pytest.mark.parametrize("cadence", ["daily", "snapshot"])
@pytest.mark.parametrize(("part_rows", "run_bytes"), [(1, 1), (3, 500), (7, 9_000), (1_000, 1), (7, 1 << 30)])
def test_a_delivery_in_parts_and_runs_equals_the_whole(
    part_rows: int, run_bytes: int, cadence: str, tmp_path: Path
) -> None:
    (tmp_path / "data.csv").write_bytes(CSV)
    source, scratch = file_source(cadence=cadence), tight(tmp_path, part_rows, run_bytes)
    got = extract(source, ASKED, tmp_path, {}, scratch)
    assert_same(got, extract(source, ASKED, tmp_path, {}))
    assert len({id(one) for one in got.deliveries.values()}) == (1 if cadence == "snapshot" else 3)
    assert bool(list((tmp_path / "scratch").iterdir())) == (run_bytes < 1 << 30)


def parquet(content: bytes) -> bytes:
    stream = io.BytesIO()
    pl.read_csv(content, infer_schema=False).write_parquet(stream, row_group_size=40)
    return stream.getvalue()


def zipped(content: bytes) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("data.csv", content)
    return stream.getvalue()


FORMATS: list[tuple[str, Callable[[bytes], bytes]]] = [
    ("a.csv", bytes), ("a.csv", bytes.rstrip), ("a.csv.gz", gzip.compress), ("a.csv.zip", zipped),
    ("a.parquet", parquet), ("a.parquet.gz", lambda content: gzip.compress(parquet(content))),
]  # fmt: skip


@pytest.mark.parametrize(("name", "pack"), FORMATS, ids=[str(at) for at in range(len(FORMATS))])
@pytest.mark.parametrize("part_rows", [7, 300])
def test_every_format_can_be_read_in_parts(
    name: str, pack: Callable[[bytes], bytes], part_rows: int, tmp_path: Path
) -> None:
    (tmp_path / name).write_bytes(pack(CSV))
    assert_chunks_change_nothing(file_source(name), tmp_path, {}, part_rows)


def test_files_of_a_date_can_be_read_in_parts(tmp_path: Path) -> None:
    for night in ASKED:
        for part in ("a", "b"):
            rows = [row for row in CSV.decode().split("\n20") if row.startswith(night.isoformat()[2:])]
            (tmp_path / f"{night}-{part}.csv").write_bytes(csv([f"20{row}" for row in rows]))
    assert_chunks_change_nothing(file_source("{date}-*.csv"), tmp_path, {})


def test_a_query_can_be_read_in_parts(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/orders.db"
    frame = pl.read_csv(CSV, infer_schema=False)
    engine = create_engine(url)
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE orders (day, id, place, amount, note)"))
        connection.execute(text("INSERT INTO orders VALUES (:day, :id, :place, :amount, :note)"), frame.to_dicts())
    engine.dispose()
    query = "SELECT * FROM orders WHERE day BETWEEN :start AND :end"
    source = SqlSource.model_validate({"type": "sql", "url_env": "ORDERS_URL", "query": query, **DECLARED})
    assert_chunks_change_nothing(source, tmp_path, {"ORDERS_URL": url})


ROWS = st.lists(
    st.tuples(
        st.sampled_from(NIGHTS), st.sampled_from([None, 1, 2, 3]), st.sampled_from([None, "a", "b"]), st.integers(0, 2)
    ),
    max_size=60,
)


@settings(max_examples=60)
@given(rows=ROWS, cuts=st.lists(st.integers(0, 60), max_size=6), run_bytes=st.sampled_from([1, 300, 1_000]))
def test_neither_cuts_nor_runs_change_the_order(rows: list[Any], cuts: list[int], run_bytes: int) -> None:
    schema = {"id": pl.Int64(), "place": pl.String(), "count": pl.Int64()}
    frame = pl.DataFrame(
        [row[1:] + row[:1] for row in rows], schema={**schema, EVENT_DATE: pl.Date()}, orient="row"
    )  # fmt: skip
    bounds = sorted({0, *(cut for cut in cuts if cut < frame.height), frame.height})
    with TemporaryDirectory() as folder:
        spool = Spool(schema, ["id", "place"], Scratch(Path(folder), run_bytes=run_bytes), by_date=True)
        for start, end in pairwise(bounds):
            spool.add(frame[start:end])
        given = spool.deliveries(NIGHTS)
        for night in NIGHTS:
            mine = in_order(frame.filter(pl.col(EVENT_DATE) == night).drop(EVENT_DATE), ["id", "place"])
            assert_frame_equal(given[night].load(), mine)
            for batch, after in pairwise(list(given[night].read())):
                assert batch.is_empty() or after.is_empty() or batch.row(-1)[:2] != after.row(0)[:2]


def test_many_rows_are_merged_a_part_at_a_time(tmp_path: Path) -> None:
    keys = pl.int_range(200_000, eager=True).shuffle(seed=1)
    schema = {"id": pl.Int64()}
    spool = Spool(schema, ["id"], Scratch(tmp_path, run_bytes=500_000), by_date=True)
    for part in pl.DataFrame({"id": keys, EVENT_DATE: pl.repeat(DAY, 200_000, eager=True)}).iter_slices(10_000):
        spool.add(part)
    batches = list(spool.deliveries([DAY])[DAY].read())
    assert pl.concat(batches)["id"].to_list() == list(range(200_000))
    assert max(batch.height for batch in batches) < 100_000


def refusal(content: bytes, base: Path, name: str = "data.csv", path: str = "") -> tuple[str, ...]:
    """What is found wrong when it is read in parts; the same as when it is read whole, and nothing is left behind."""
    (base / name).write_bytes(content)
    found = []
    for scratch in (tight(base, run_bytes=1 << 30), Scratch()):
        with pytest.raises(SourceMalformed) as error:
            extract(file_source(path or name), [DAY], base, {}, scratch)
        found.append((error.value.attempted, error.value.found))
    assert found[0] == found[1]
    assert not list((base / "scratch").iterdir())
    return found[0][1]


GOOD = [f"{DAY},{at},a,1,x" for at in range(60)]


def test_rows_without_an_event_date_are_counted_over_all_parts(tmp_path: Path) -> None:
    bad = ["never,7,a,1,x"]
    assert refusal(csv([*bad, *GOOD, *bad * 2]), tmp_path) == (
        "3 rows have no readable event date; data rows 1, 62, 63",
    )
    assert refusal(csv([*GOOD, *bad * 12]), tmp_path) == (
        "12 rows have no readable event date; data rows 61, 62, 63, 64, 65 …",
    )


def test_rows_of_another_date_than_their_file_are_counted_over_all_parts(tmp_path: Path) -> None:
    rows = csv([f"{NIGHTS[1]},1,a,1,x", *GOOD, f"{NIGHTS[1]},2,a,1,x"])
    assert refusal(parquet(rows), tmp_path, f"{DAY}.parquet", path="{date}.parquet") == (
        f"2 rows have another event date than {DAY}, which the file's name states; data rows 1, 62",
    )


def test_ragged_rows_are_counted_over_all_parts(tmp_path: Path) -> None:
    ragged = [f"{DAY},7"]
    assert refusal(csv([*ragged, *GOOD, *ragged * 8]), tmp_path) == (
        "9 ragged rows; the header is row 1",
        *(f"row {at} has 2 of 5 cells" for at in (2, 63, 64, 65, 66)),
    )


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (csv([*GOOD, f'{DAY},7,a,1,"x', *GOOD]), "a stray quotation mark before line 123: unexpected end of data"),
        (
            csv(GOOD * 20)[:-2] + b"\xff\xfe\n",
            "not readable as CSV: ArrowInvalid; binary, not UTF-8 or a row beyond 1 MiB",
        ),
        (csv([f"{DAY},no,a,1,x"] * 60), "column id is declared integer; 60 of 60 cells are not"),
    ],
)
def test_what_is_wrong_at_the_end_of_a_file_refuses_all_of_it(content: bytes, found: str, tmp_path: Path) -> None:
    assert refusal(content, tmp_path) == (found,)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.csv.gz", gzip.compress(CSV)[:-20]), ("a.csv.zip", zipped(CSV)[:-20]),
        ("a.parquet", parquet(CSV)[:-20]), ("a.csv.gz", b"no gzip" * 99),
    ],
)  # fmt: skip
def test_a_damaged_large_file_is_refused_in_the_same_words(name: str, content: bytes, tmp_path: Path) -> None:
    assert len(refusal(content, tmp_path, name)) == 1


def test_an_unreadable_cell_of_the_last_part_keeps_its_text(tmp_path: Path) -> None:
    (tmp_path / "data.csv").write_bytes(csv([*GOOD, f"{DAY},999,a,seven,x"]))
    got = extract(file_source(), [DAY], tmp_path, {}, tight(tmp_path)).deliveries[DAY].load()
    cells = '{"amount": "seven", "twice": "amount::double * 2"}'
    assert got.filter(pl.col("unreadable").is_not_null()).rows() == [(999, "a", None, "x", None, cells)]


def test_a_scratch_folder_is_gone_after_success_and_after_failure(tmp_path: Path) -> None:
    (tmp_path / "data.csv").write_bytes(CSV)
    with scratch_folder(tmp_path) as folder:
        got = extract(file_source(), ASKED, tmp_path, {}, Scratch(folder, part_rows=7, file_bytes=1, run_bytes=1))
        assert sum(one.load().height for one in got.deliveries.values()) == got.rows_read
        assert list(folder.iterdir())
    with pytest.raises(SourceMalformed), scratch_folder(tmp_path) as folder:
        extract(file_source(event_date="note::date"), ASKED, tmp_path, {}, Scratch(folder, 7, 1, 1))
    assert not list((tmp_path / "scratch").iterdir())
