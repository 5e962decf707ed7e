"""The review queue as a file, and what people wrote into it: exported, filled in, checked whole, taken in at once.

A file never has a column that the spec declares sensitive; where a key column is, publication and rank name the row.
Added here: a check of a line, or a column for reviewers. Not here: which rows are queued (`review_queue.py`), forms of
files (`review_files.py`), finding published rows (`review_rows.py`).
"""

import hashlib
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import polars as pl

from nightscore.catalog.reviews import Feedback, ReviewItem, has_source, insert_feedback, lock_reviews, open_items
from nightscore.errors import FeedbackRefused
from nightscore.lake.workspace import Workspace
from nightscore.monitoring.review_files import Line, read_lines, write_frame
from nightscore.monitoring.review_queue import sensitive_columns
from nightscore.monitoring.review_rows import PublishedRow, column_types, find_rows, parse_value, published_nights
from nightscore.spec.pipeline import Pipeline
from nightscore.training.matrix import SCORE_DATE, row_key

VERDICTS = ("agree", "disagree", "unsure")
ANSWERS = ("verdict", "label", "note", "reviewer")
REMEDY = "correct these lines and import the file again; nothing of it was taken in"
PUBLICATION, RANK = "publication_id", "rank"


@dataclass(frozen=True)
class Imported:
    """Rows that were added, lines without an answer, and whether the same content was taken in before."""

    added: int
    unanswered: int
    known: bool = False


def export_queue(
    workspace: Workspace, pipeline: Pipeline, path: Path, night: date | None = None, overwrite: bool = False
) -> int:
    """Write the open items of one night or of all to a .csv (UTF-8) or .parquet file; returns how many.

    Raises FeedbackRefused for another suffix, a file that is there already, or a key that cannot be told from answers.
    """
    attempted = f"Exporting the review queue of {pipeline.name} to {path}"
    _require_plain_key(pipeline, attempted)
    with workspace.engine.connect() as connection:
        items = open_items(connection, pipeline.name, night)
        asked = [{SCORE_DATE: one.score_date, PUBLICATION: one.publication_id, **one.key} for one in items]
        found = find_rows(connection, pipeline, [SCORE_DATE, PUBLICATION, *row_key(pipeline)[1:]], asked)
    columns = [*row_names(pipeline), "score", "decision", "why", *ANSWERS]
    rows = [_exported(item, row) for item, row in zip(items, found, strict=True)]
    schema = dict.fromkeys(columns) | dict.fromkeys(("why", *ANSWERS), pl.String) | {"label": pl.Float64}
    values = [[row.get(name) for name in columns] for row in rows]
    write_frame(pl.DataFrame(values, schema, orient="row", infer_schema_length=None), path, overwrite, attempted)
    return len(rows)


def import_feedback(workspace: Workspace, pipeline: Pipeline, path: Path, actor: str) -> Imported:
    """Take in the answered lines of a file, all or none; `actor` stands where a line names no reviewer.

    The same content, under whatever name, adds nothing the second time. Raises FeedbackRefused with every reason.
    """
    attempted = f"Importing reviews of {pipeline.name} from {path.name}"
    content, lines = read_lines(path, [*_identity(pipeline), *ANSWERS[:2]], attempted)
    digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
    answered = [line for line in lines if any(line.values.get(name, "").strip() for name in ANSWERS[:3])]
    unanswered = len(lines) - len(answered)
    with workspace.engine.begin() as connection:
        lock_reviews(connection, pipeline.name)
        if has_source(connection, pipeline.name, digest):
            return Imported(0, unanswered, known=True)
        nights, types = published_nights(connection, pipeline.name), column_types(connection, pipeline.name)
        asked = [_parsed(pipeline, types, line) for line in answered]
        found = find_rows(connection, pipeline, _identity(pipeline), [row if _whole(row) else None for row in asked])
        reasons = [*_repeated(answered, asked)]
        for line, row, published in zip(answered, asked, found, strict=True):
            reasons += [(line.number, one) for one in [*_of_row(row, published, nights), *_of_answer(pipeline, line)]]
        if reasons:
            raise FeedbackRefused(attempted, [f"line {number}: {one}" for number, one in sorted(reasons)], REMEDY)
        source = f"{path.name} {digest}"
        entries = [_entry(pipeline, line, row, actor, source) for line, row in zip(answered, found, strict=True) if row]
        insert_feedback(connection, entries, workspace.clock.now())
    return Imported(len(entries), unanswered)


def row_names(pipeline: Pipeline) -> list[str]:
    """The columns that name a row to people, none of them sensitive."""
    shown = [name for name in row_key(pipeline)[1:] if name not in sensitive_columns(pipeline)]
    return list(dict.fromkeys([*_identity(pipeline), *shown]))


def _identity(pipeline: Pipeline) -> list[str]:
    """The columns by which a line is found again."""
    key = row_key(pipeline)
    return [SCORE_DATE, PUBLICATION, RANK] if sensitive_columns(pipeline) & set(key) else list(key)


def _require_plain_key(pipeline: Pipeline, attempted: str) -> None:
    clashing = [name for name in row_key(pipeline) if name in {"why", *ANSWERS}]
    if clashing:
        found = [f"key column {name} is called like a column that reviewers read or fill in" for name in clashing]
        raise FeedbackRefused(attempted, found, "give the key column another name in the spec and its SQL")


def _exported(item: ReviewItem, row: PublishedRow | None) -> dict[str, Any]:
    of_mart = {RANK: row.rank, "decision": row.decision} if row else {}
    known = {SCORE_DATE: item.score_date, PUBLICATION: item.publication_id, "score": item.score}
    return {**item.key, **known, **of_mart, "why": "; ".join(item.why)}


def _parsed(pipeline: Pipeline, types: Mapping[str, str], line: Line) -> dict[str, Any]:
    """What names the row, typed; None where a value is not of its column's type."""
    return {
        name: parse_value(line.values[name], types.get(name, "date" if name == SCORE_DATE else "text"))
        for name in _identity(pipeline)
    }


def _whole(row: Mapping[str, Any]) -> bool:
    return None not in row.values()


def _repeated(lines: Sequence[Line], asked: Sequence[Mapping[str, Any]]) -> Iterator[tuple[int, str]]:
    first: dict[tuple[Any, ...], int] = {}
    for line, row in zip(lines, asked, strict=True):
        number = first.setdefault(tuple(row.values()), line.number)
        if number != line.number and _whole(row):
            yield line.number, f"the same row as line {number}"


def _of_row(row: Mapping[str, Any], found: PublishedRow | None, nights: frozenset[date]) -> Iterator[str]:
    """What is wrong with the row that a line names; values of keys are not repeated, since they may be personal."""
    if row[SCORE_DATE] is None:
        yield f"{SCORE_DATE} is not a date such as 2013-01-31"
    elif row[SCORE_DATE] not in nights:
        yield f"{row[SCORE_DATE]} was never published"
    elif not _whole(row):
        yield from (f"{name} is not of the column's type" for name, value in row.items() if value is None)
    elif found is None:
        yield f"no row with this key was ever published for {row[SCORE_DATE]}"


def _of_answer(pipeline: Pipeline, line: Line) -> Iterator[str]:
    verdict, label = _answer(line, "verdict").lower(), _answer(line, "label")
    if verdict not in VERDICTS:
        yield f"verdict {verdict!r:.40} is none of {', '.join(VERDICTS)}" if verdict else "there is no verdict"
    value = _number(label)
    if not label:
        return
    if pipeline.task == "binary" and value not in {0.0, 1.0}:
        yield f"label {label!r:.40} is neither 0 nor 1"
    elif not math.isfinite(value):
        yield f"label {label!r:.40} is no finite number"


def _answer(line: Line, name: str) -> str:
    return line.values.get(name, "").strip()


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan


def _entry(pipeline: Pipeline, line: Line, row: PublishedRow, actor: str, source: str) -> Feedback:
    label = _answer(line, "label")
    return Feedback(
        pipeline.name, row.score_date, row.key, _answer(line, "verdict").lower(), float(label) if label else None,
        _answer(line, "note"), _answer(line, "reviewer") or actor, source,
    )  # fmt: skip
