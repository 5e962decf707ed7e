"""The review queue on a real shop: which rows are asked about, files of answers, and everything wrong with a file."""

import csv
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import psycopg
import pytest
import sqlalchemy as sa

from nightscore.catalog.postgres import Server
from nightscore.catalog.publications import current_publications
from nightscore.catalog.reviews import newest_feedback, open_items
from nightscore.clock import FixedClock
from nightscore.errors import FeedbackRefused
from nightscore.lake.workspace import Workspace
from nightscore.measures.profiles import ReferenceProfile
from nightscore.measures.profiling import build_reference
from nightscore.monitoring.feedback import Imported, export_queue, import_feedback
from nightscore.monitoring.review_queue import queue_night
from nightscore.spec.outcomes import Review
from nightscore.spec.pipeline import Pipeline
from nightscore.spec.serving import Decision, TopK
from tests.integration.night_chain import (
    NOW,
    bootstrap,
    fresh_database,
    night_after,
    opened_shop,
    run_night,
    visits_of_shop,
)
from tests.shop import CUSTOMERS, FIRST_NIGHT

pytestmark = pytest.mark.timeout(120)

SECOND = night_after(FIRST_NIGHT)
EVERYTHING = Review(band=(-1e9, 1e9), rows=1000)
HEADER = ["score_date", "customer_id", "score", "decision", "why", "verdict", "label", "note", "reviewer"]
Row = dict[str, str]


@dataclass(frozen=True)
class Shop:
    """A shop with two nights published, and the reference of the first night's inputs."""

    workspace: Workspace
    pipeline: Pipeline
    reference: ReferenceProfile

    def asking(self, review: Review) -> Pipeline:
        return self.pipeline.model_copy(update={"review": review})

    def at(self, minutes: int) -> Workspace:
        return replace(self.workspace, clock=FixedClock(NOW + timedelta(minutes=minutes)))

    def queue(self, review: Review, night: date = FIRST_NIGHT, minutes: int = 1, reference: bool = True) -> int:
        profile = self.reference if reference else None
        return queue_night(self.at(minutes), self.asking(review), night, profile, "queued")

    def open(self, night: date | None = None) -> dict[int, tuple[str, ...]]:
        """Why each open customer is asked about."""
        with self.workspace.engine.connect() as connection:
            return {one.key["customer_id"]: tuple(one.why) for one in open_items(connection, "visits", night)}

    def said(self) -> list[tuple[Any, ...]]:
        with self.workspace.engine.connect() as connection:
            found = newest_feedback(connection, "visits", FIRST_NIGHT, SECOND)
        return [(one.score_date, one.key, one.verdict, one.label, one.note, one.reviewer) for one in found]


@pytest.fixture(scope="module")
def prepared(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    with fresh_database(server) as name, opened_shop(server, name, tmp_path_factory.mktemp("review")) as workspace:
        pipeline = visits_of_shop(workspace)
        bootstrap(workspace, pipeline)
        run_night(workspace, pipeline, SECOND, "second")
        yield Shop(workspace, pipeline, reference_of(workspace))


@pytest.fixture
def shop(prepared: Shop) -> Iterator[Shop]:
    yield prepared
    with prepared.workspace.engine.begin() as connection:
        connection.execute(sa.text("truncate nightscore.review_item, nightscore.feedback"))


def reference_of(workspace: Workspace) -> ReferenceProfile:
    """Inputs as they were, but older than 20, and with one visitor in Köln."""
    read = workspace.lake.read("visits.features", FIRST_NIGHT, FIRST_NIGHT).collect()
    city = pl.when(pl.col("customer_id") == 3).then(pl.lit("Köln")).otherwise(pl.lit("Berlin")).alias("city")
    known = read.with_columns(city, pl.col("age").clip(lower_bound=20))
    kinds: Any = {"age": "number", "city": "category", "spend_yesterday": "number", "visits_3d": "number"}
    return build_reference(lambda: [(FIRST_NIGHT, known)], kinds)


def filled(path: Path, answers: dict[int, Row], named: str = "customer_id") -> Path:
    """Write answers into an exported CSV, by the value of the column `named`."""
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        row.update(answers.get(int(row[named]), {}))
    return written(path, rows)


def written(path: Path, rows: list[Row]) -> Path:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


def line(**values: str) -> Row:
    return {"score_date": str(FIRST_NIGHT), "customer_id": "1", "verdict": "agree", "label": "", **values}


def scores(shop: Shop) -> pl.DataFrame:
    return shop.workspace.lake.read("visits.predictions", FIRST_NIGHT, FIRST_NIGHT).collect()


def refusal(shop: Shop, path: Path, pipeline: Pipeline | None = None) -> tuple[str, ...]:
    with pytest.raises(FeedbackRefused) as refused:
        import_feedback(shop.at(9), pipeline or shop.pipeline, path, "ada")
    assert shop.said() == []
    return refused.value.found


def test_nothing_is_asked_by_a_spec_that_asks_nothing(shop: Shop) -> None:
    assert (shop.queue(Review()), shop.open()) == (0, {})


def test_the_band_takes_in_both_its_bounds(shop: Shop) -> None:
    found = scores(shop)["score"].sort()
    low, high = found[10], found[20]
    wanted = scores(shop).filter(pl.col("score").is_between(low, high))["customer_id"].to_list()
    why = (f"score: in the review band from {low:g} to {high:g}",)
    assert shop.queue(Review(band=(low, high), rows=60)) == len(wanted)
    assert shop.open() == dict.fromkeys(sorted(wanted), why)


def test_rare_inputs_say_column_and_reason_without_a_sensitive_value(shop: Shop) -> None:
    shop.queue(Review(rare_inputs=True, rare_share=0.02, rows=60))
    young = {1, 2, 3, 4, 60}
    assert shop.open() == {
        customer: (*["age: below all of the reference"] * (customer in young),
                   *["city: Köln, in at most 1 of 60 reference rows"] * (customer % 3 == 0))
        for customer in range(1, CUSTOMERS + 1) if customer in young or customer % 3 == 0
    }  # fmt: skip


def test_a_level_above_the_share_is_not_rare_and_one_never_seen_is(shop: Shop) -> None:
    columns = tuple(
        replace(one, levels=("Berlin",), counts=(60, 0, 0)) if one.name == "city" else one
        for one in shop.reference.columns
    )
    unseen = replace(shop, reference=replace(shop.reference, columns=columns))
    shop.queue(Review(rare_inputs=True, rare_share=0.01, rows=60))
    assert shop.open() == dict.fromkeys((1, 2, 3, 4, 60), ("age: below all of the reference",))
    unseen.queue(Review(rare_inputs=True, rare_share=0.01, rows=60), minutes=2)
    assert shop.open()[6] == ("city: Köln, never in the reference",)


def test_without_a_reference_no_input_is_rare(shop: Shop) -> None:
    assert shop.queue(Review(rare_inputs=True), reference=False) == 0
    assert shop.queue(Review(band=(-1e9, 1e9), rare_inputs=True, rows=60), reference=False) == CUSTOMERS


def test_of_more_rows_the_sample_is_always_the_same_and_grows(shop: Shop) -> None:
    samples = []
    for rows in (5, 5, 12):
        assert shop.queue(EVERYTHING.model_copy(update={"rows": rows})) == rows
        samples.append(set(shop.open()))
    assert samples[0] == samples[1]
    assert samples[0] < samples[2]
    shop.queue(EVERYTHING.model_copy(update={"rows": 5}), night=SECOND)
    assert set(shop.open(SECOND)) != samples[0]


def test_a_night_that_was_never_published_has_no_queue(shop: Shop) -> None:
    assert (shop.queue(EVERYTHING, night=night_after(FIRST_NIGHT, 9)), shop.open()) == (0, {})


def test_queueing_again_changes_nothing(shop: Shop) -> None:
    query = sa.text("select * from nightscore.review_item order by key")
    states = []
    for minutes in (1, 2):
        shop.queue(EVERYTHING, minutes=minutes)
        with shop.workspace.engine.connect() as connection:
            states.append(connection.execute(query).all())
    assert states[0] == states[1]


def test_a_restated_night_replaces_what_nobody_has_answered(shop: Shop, tmp_path: Path) -> None:
    shop.queue(EVERYTHING)
    export_queue(shop.workspace, shop.pipeline, tmp_path / "queue.csv")
    import_feedback(shop.at(2), shop.pipeline, filled(tmp_path / "queue.csv", {7: {"verdict": "agree"}}), "ada")
    other = shop.pipeline.model_copy(update={"decision": Decision(rule=TopK(type="top_k", k=9))})
    run_night(shop.at(3), other, FIRST_NIGHT, "restated")
    shop.queue(EVERYTHING, minutes=4)
    with shop.workspace.engine.connect() as connection:
        items = open_items(connection, "visits")
        current = current_publications(connection, "visits", FIRST_NIGHT, FIRST_NIGHT)[FIRST_NIGHT]
    assert {one.key["customer_id"] for one in items} == set(range(1, CUSTOMERS + 1)) - {7}
    assert {one.publication_id for one in items} == {current.publication_id}
    shop.queue(Review(), minutes=5)
    assert shop.open() == {}
    assert [one[1] for one in shop.said()] == [{"customer_id": 7}]


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_an_export_has_key_score_decision_why_and_empty_answers(shop: Shop, tmp_path: Path, suffix: str) -> None:
    shop.queue(EVERYTHING)
    path = tmp_path / f"queue{suffix}"
    assert export_queue(shop.workspace, shop.pipeline, path, FIRST_NIGHT) == CUSTOMERS
    frame = pl.read_csv(path, try_parse_dates=True) if suffix == ".csv" else pl.read_parquet(path)
    assert frame.columns == HEADER
    expected = scores(shop).sort("customer_id").select("score_date", "customer_id", "score", "decision")
    assert frame.sort("customer_id").select(expected.columns).rows() == expected.rows()
    assert frame.select("verdict", "label", "note", "reviewer").null_count().row(0) == (CUSTOMERS,) * 4


def test_an_empty_queue_is_a_file_of_headings(shop: Shop, tmp_path: Path) -> None:
    assert export_queue(shop.workspace, shop.pipeline, tmp_path / "queue.csv") == 0
    assert (tmp_path / "queue.csv").read_text(encoding="utf-8") == ",".join(HEADER) + "\n"
    assert import_feedback(shop.at(1), shop.pipeline, tmp_path / "queue.csv", "ada") == Imported(0, 0)


def test_an_export_overwrites_only_when_told(shop: Shop, tmp_path: Path) -> None:
    path = tmp_path / "queue.csv"
    path.write_text("work of hours")
    with pytest.raises(FeedbackRefused, match="is there already"):
        export_queue(shop.workspace, shop.pipeline, path)
    assert path.read_text() == "work of hours"
    assert export_queue(shop.workspace, shop.pipeline, path, overwrite=True) == 0


@pytest.mark.parametrize("name", ["queue.xlsx", "absent/queue.csv", "queue"])
def test_an_export_to_no_such_place_is_refused(shop: Shop, tmp_path: Path, name: str) -> None:
    with pytest.raises(FeedbackRefused):
        export_queue(shop.workspace, shop.pipeline, tmp_path / name)


def test_answers_are_kept_and_close_their_rows(shop: Shop, tmp_path: Path) -> None:
    shop.queue(EVERYTHING)
    path = tmp_path / "queue.csv"
    export_queue(shop.workspace, shop.pipeline, path)
    answers = {
        3: {"verdict": "disagree", "label": "12.5", "note": "moved to Köln,\nsays the shop", "reviewer": "eve"},
        8: {"verdict": "Agree "},
    }
    filled(path, answers)
    assert import_feedback(shop.at(2), shop.pipeline, path, "ada") == Imported(2, CUSTOMERS - 2)
    assert shop.said() == [
        (FIRST_NIGHT, {"customer_id": 3}, "disagree", 12.5, "moved to Köln,\nsays the shop", "eve"),
        (FIRST_NIGHT, {"customer_id": 8}, "agree", None, "", "ada"),
    ]
    assert set(shop.open()) == set(range(1, CUSTOMERS + 1)) - {3, 8}


def test_the_same_content_adds_nothing_and_the_newest_answer_counts(shop: Shop, tmp_path: Path) -> None:
    first = written(tmp_path / "a.csv", [line()])
    assert import_feedback(shop.at(1), shop.pipeline, first, "ada") == Imported(1, 0)
    copy = tmp_path / "b.csv"
    copy.write_bytes(first.read_bytes())
    assert import_feedback(shop.at(2), shop.pipeline, copy, "ada") == Imported(0, 0, known=True)
    later = written(tmp_path / "c.csv", [line(verdict="unsure")])
    assert import_feedback(shop.at(2), shop.pipeline, later, "ada") == Imported(1, 0)
    assert shop.said() == [(FIRST_NIGHT, {"customer_id": 1}, "unsure", None, "", "ada")]
    with shop.workspace.engine.connect() as connection:
        assert connection.scalar(sa.text("select count(*) from nightscore.feedback")) == 2


def test_parquet_comes_back_as_it_went(shop: Shop, tmp_path: Path) -> None:
    shop.queue(EVERYTHING)
    path = tmp_path / "queue.parquet"
    export_queue(shop.workspace, shop.pipeline, path)
    mine = pl.col("customer_id") == 5
    answered = pl.read_parquet(path).with_columns(
        pl.when(mine).then(pl.lit("agree")).alias("verdict"), pl.when(mine).then(3.0).alias("label")
    )
    answered.write_parquet(path)
    assert import_feedback(shop.at(2), shop.pipeline, path, "ada") == Imported(1, CUSTOMERS - 1)
    assert shop.said() == [(FIRST_NIGHT, {"customer_id": 5}, "agree", 3.0, "", "ada")]


def test_every_wrong_line_is_named_at_once_and_nothing_is_taken_in(shop: Shop, tmp_path: Path) -> None:
    lines = [
        line(), line(customer_id="2", verdict="maybe"), line(customer_id="3", label="inf"),
        line(customer_id="999"), line(customer_id="four"), line(score_date="2030-01-01"),
        line(score_date="yesterday"), line(customer_id="7", verdict="", label="1"), line(),
        line(customer_id="8", verdict="agree", label="much"), line(customer_id="99999999999999999999"),
    ]  # fmt: skip
    assert refusal(shop, written(tmp_path / "bad.csv", lines)) == (
        "line 3: verdict 'maybe' is none of agree, disagree, unsure",
        "line 4: label 'inf' is no finite number",
        "line 5: no row with this key was ever published for 2024-03-09",
        "line 6: customer_id is not of the column's type",
        "line 7: 2030-01-01 was never published",
        "line 8: score_date is not a date such as 2013-01-31",
        "line 9: there is no verdict",
        "line 10: the same row as line 2",
        "line 11: label 'much' is no finite number",
        "line 12: customer_id is not of the column's type",
    )


def test_lines_are_numbered_as_an_editor_does_below_a_long_note(shop: Shop, tmp_path: Path) -> None:
    lines = [line(note="one\ntwo\nthree"), line(customer_id="2", verdict="no", note="")]
    found = refusal(shop, written(tmp_path / "bad.csv", lines))
    assert found == ("line 5: verdict 'no' is none of agree, disagree, unsure",)


@pytest.mark.parametrize("label", ["0.5", "2", "nan", "true"])
def test_a_binary_label_is_0_or_1(shop: Shop, tmp_path: Path, label: str) -> None:
    binary = shop.pipeline.model_copy(update={"task": "binary"})
    path = written(tmp_path / "bad.csv", [line(label=label)])
    assert refusal(shop, path, binary) == (f"line 2: label '{label}' is neither 0 nor 1",)


@pytest.mark.parametrize("label", ["0", "1", "1.0", ""])
def test_a_binary_label_that_is_0_or_1_is_taken_in(shop: Shop, tmp_path: Path, label: str) -> None:
    binary = shop.pipeline.model_copy(update={"task": "binary"})
    path = written(tmp_path / "good.csv", [line(label=label)])
    assert import_feedback(shop.at(1), binary, path, "ada") == Imported(1, 0)
    assert [one[3] for one in shop.said()] == [float(label) if label else None]


@pytest.mark.parametrize(
    ("name", "content", "found"),
    [
        ("a.csv", b"score_date,verdict\n", ("column customer_id is missing", "column label is missing")),
        ("a.csv", b"", tuple(f"column {name} is missing" for name in list(line())[:4])),
        ("a.csv", b"score_date,customer_id,verdict,label,label\n", ("column label is there 2 times",)),
        ("a.csv", b"score_date,customer_id,verdict,label\n2024-03-09,1\n",
         ("a.csv cannot be read: line 2 has 2 values for 4 columns",)),
        ("a.csv", b"score_date,customer_id,verdict,label\n2024-03-09,1,agree,\0\n", ("line 2 holds a NUL character",)),
    ],
)  # fmt: skip
def test_a_file_of_another_shape_is_refused(
    shop: Shop, tmp_path: Path, name: str, content: bytes, found: tuple[str, ...]
) -> None:
    (tmp_path / name).write_bytes(content)
    assert refusal(shop, tmp_path / name) == found


@pytest.mark.parametrize(("name", "content"), [("a.csv", b"K\xf6ln"), ("a.parquet", b"PAR1"), ("a.txt", b"")])
def test_a_file_that_cannot_be_read_is_refused(shop: Shop, tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    assert len(refusal(shop, tmp_path / name)) == 1
    assert len(refusal(shop, tmp_path / f"absent-{name}")) == 1


def test_a_spreadsheets_byte_order_mark_does_no_harm(shop: Shop, tmp_path: Path) -> None:
    path = written(tmp_path / "a.csv", [line()])
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert import_feedback(shop.at(1), shop.pipeline, path, "ada") == Imported(1, 0)


def test_a_sensitive_key_is_in_no_file_and_its_answers_are_found_again(shop: Shop, tmp_path: Path) -> None:
    source = shop.pipeline.sources["visits"]
    columns = tuple(
        one.model_copy(update={"sensitive": one.name == "customer_id" or one.sensitive}) for one in source.columns
    )
    secret = shop.pipeline.model_copy(update={"sources": {"visits": source.model_copy(update={"columns": columns})}})
    shop.queue(EVERYTHING)
    path = tmp_path / "queue.csv"
    export_queue(shop.workspace, secret, path)
    with path.open(encoding="utf-8") as file:
        assert next(csv.reader(file)) == ["score_date", "publication_id", "rank", *HEADER[2:]]
    first = scores(shop).sort("rank")["customer_id"][0]
    filled(path, {1: {"verdict": "agree"}}, "rank")
    assert import_feedback(shop.at(2), secret, path, "ada") == Imported(1, CUSTOMERS - 1)
    assert [one[1] for one in shop.said()] == [{"customer_id": first}]


def test_a_key_that_is_called_like_an_answer_is_refused(shop: Shop, tmp_path: Path) -> None:
    named = shop.pipeline.model_copy(update={"entity": shop.pipeline.entity.model_copy(update={"key": ("note",)})})
    with pytest.raises(FeedbackRefused, match="key column note"):
        export_queue(shop.workspace, named, tmp_path / "queue.csv")


def test_readers_see_open_items_of_published_nights(shop: Shop, tmp_path: Path) -> None:
    shop.queue(EVERYTHING)
    import_feedback(shop.at(2), shop.pipeline, written(tmp_path / "a.csv", [line()]), "ada")
    query = "select key, why, is_current from bi.review_queue order by (key ->> 'customer_id')::bigint limit 1"
    with psycopg.connect(shop.workspace.database.reader_url) as reader:
        (found,) = reader.execute(query).fetchall()
        (counted,) = reader.execute("select count(*) from bi.review_queue").fetchall()
    assert found == ({"customer_id": 2}, "score: in the review band from -1e+09 to 1e+09", True)
    assert counted == (CUSTOMERS - 1,)


def test_the_commands_do_it_all_and_print_no_sensitive_value(
    shop: Shop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings, url = shop.workspace.settings, shop.workspace.database.owner_url
    for name, value in (("ROOT", settings.root), ("HOME", settings.home_path), ("DATABASE_URL", url)):
        monkeypatch.setenv(f"NIGHTSCORE_{name}", str(value))
    shop.queue(Review(rare_inputs=True, rare_share=0.001, rows=60))
    path = str(tmp_path / "queue.csv")
    listed = review("list", "visits", "--json")
    assert [(one["key"], one["why"]) for one in json.loads(listed.stdout)] == [
        ({"customer_id": customer}, ["age: below all of the reference"]) for customer in (1, 2, 3, 4, 60)
    ]
    assert review("export", "visits", path, "--night", str(FIRST_NIGHT)).stdout.startswith("5 rows to look at")
    again = review("export", "visits", path)
    assert (again.returncode, "is there already" in again.stderr) == (2, True)
    filled(Path(path), {2: {"verdict": "agree"}})
    done = review("import", "visits", path, "--by", "eve")
    assert done.stdout == "1 rows were answered; 4 lines have no answer yet.\n"
    assert shop.said() == [(FIRST_NIGHT, {"customer_id": 2}, "agree", None, "", "eve")]
    assert "nothing was added" in review("import", "visits", path).stdout
    assert "customer_id=60" in review("list", "visits").stdout


def review(*arguments: str) -> "subprocess.CompletedProcess[str]":
    command = [str(Path(sys.executable).parent / "nightscore"), "review", *arguments]
    return subprocess.run(command, env=os.environ, capture_output=True, text=True, check=False, timeout=60)
