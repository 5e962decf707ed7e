"""Trace one published row back to everything that made it, and compute it again.

Added here: another thing that a row comes from. Not here: how it is printed, or computing again (`nights.py`).
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any, Literal

import polars as pl
import sqlalchemy as sa

from nightscore.catalog.gates import verdict_on
from nightscore.catalog.models import ModelVersion, alias_history
from nightscore.catalog.partitions import PartitionVersion, versions_by_id
from nightscore.catalog.publications import Publication, Receipt, current_publications, receipt_by_id
from nightscore.catalog.reproductions import Reproduction
from nightscore.errors import CannotReproduce, RowMissing
from nightscore.lake.workspace import Workspace
from nightscore.publishing.rows import published_rows
from nightscore.registry.names import CHAMPION
from nightscore.registry.versions import require_version
from nightscore.reproduction.compare import TOLERANCE
from nightscore.reproduction.nights import key_of_receipt, reproduce_night
from nightscore.scoring.receipts import FEATURES_FILE, PREDICTIONS_FILE

Row = Mapping[str, Any]
Verdict = Literal["EQUAL", "NOT EQUAL", "CANNOT SAY"]


@dataclass(frozen=True)
class SourceTrace:
    """What one source gave: the clean partitions that were read, their files, and the rows that share the key.

    `rows` are listed where the source has all key columns; otherwise `matching_rows` counts those of `matched_on`.
    """

    source: str
    partitions: tuple[PartitionVersion, ...]
    files: tuple[str, ...]
    matched_on: tuple[str, ...]
    matching_rows: int
    rows: tuple[Row, ...]


@dataclass(frozen=True)
class Trace:
    """Everything behind one published row, and whether it came out the same again."""

    key: Row
    published: Row
    publication: Publication
    is_current: bool
    receipt: Receipt
    model: ModelVersion
    approvals: tuple[Row, ...]
    features: Row
    sources: tuple[SourceTrace, ...]
    gates: tuple[Row, ...]
    again: Row | None
    reproduction: Reproduction | None
    reasons: tuple[str, ...]

    @property
    def verdict(self) -> Verdict:
        """EQUAL: the row, its features and its night came out the same, and the mart holds what was made."""
        if self.reproduction is None:
            return "CANNOT SAY"
        return "EQUAL" if self.reproduction.outcome == "reproduced" and not self.reasons else "NOT EQUAL"


def trace_row(workspace: Workspace, publication: Publication, given: Sequence[str], asked_by: str) -> Trace:
    """The trace of the row of `publication` whose key is `given`: column=value each, or all values as one a,b,c.

    Raises RowMissing when it has no such row, CannotReproduce when the receipt's files are gone.
    """
    with workspace.engine.connect() as connection:
        receipt = receipt_by_id(connection, publication.receipt_id)
        current = current_publications(connection, receipt.pipeline, receipt.score_date, receipt.score_date)
        approvals = alias_history(connection, receipt.pipeline, CHAMPION, receipt.model_version, receipt.made_at)
    entries = _entries(workspace, receipt, publication)
    predictions = pl.read_parquet(workspace.lake.store.verified_path(entries[PREDICTIONS_FILE]))
    key = _parse_key(receipt, given, predictions.schema)
    published = _only_row(published_rows(workspace, publication, predictions.schema), key, publication)
    features = _only_row(pl.read_parquet(workspace.lake.store.verified_path(entries[FEATURES_FILE])), key, publication)
    again, reproduction, reasons = _again(workspace, publication, key, published, features, asked_by)
    return Trace(
        key, published, publication, publication.publication_id == _id_of(current, publication), receipt,
        require_version(workspace, receipt.pipeline, published["model_version"]), tuple(approvals),
        {name: value for name, value in features.items() if name not in key},
        tuple(_sources(workspace, receipt, key)), tuple(_gates(workspace, receipt, entries)),
        again, reproduction, reasons,
    )  # fmt: skip


def _entries(workspace: Workspace, receipt: Receipt, publication: Publication) -> dict[str, str]:
    if receipt.snapshot_md5 is None:
        raise CannotReproduce(
            f"Tracing a row of {publication.pipeline} {publication.score_date}",
            "its receipt pins no inputs: it was made before snapshots of nights were kept", "score the night again",
        )  # fmt: skip
    return workspace.lake.store.read_directory(receipt.snapshot_md5)


def _id_of(current: Mapping[date, Publication], publication: Publication) -> int | None:
    found = current.get(publication.score_date)
    return found.publication_id if found else None


def _parse_key(receipt: Receipt, given: Sequence[str], schema: pl.Schema) -> dict[str, Any]:
    wanted = key_of_receipt(receipt)[1:]
    texts = _texts_of_key(given, wanted)
    found = [f"key column {name} is missing" for name in wanted if name not in texts]
    found += [f"{name} is no key column" for name in texts if name not in wanted]
    key: dict[str, Any] = {"score_date": receipt.score_date}
    for name in (name for name in wanted if name in texts):
        key[name] = pl.Series([texts[name]]).cast(schema[name], strict=False)[0]
        if key[name] is None:
            found.append(f"{name}={texts[name]} is no {schema[name]}")
    if found:
        shown = " ".join(f"--key {name}=…" for name in wanted)
        raise RowMissing(f"Reading the key of a row of {receipt.pipeline}", found, f"give {shown}")
    return key


def _texts_of_key(given: Sequence[str], names: Sequence[str]) -> dict[str, str]:
    if len(given) == 1 and "=" not in given[0]:
        return dict(zip(names, given[0].split(","), strict=False))
    return {name.strip(): value for name, _, value in (one.partition("=") for one in given)}


def _only_row(frame: pl.DataFrame, key: Mapping[str, Any], publication: Publication) -> dict[str, Any]:
    found = frame.filter(*(pl.col(name) == value for name, value in key.items()))
    if found.height != 1:
        entity = ", ".join(f"{name}={value}" for name, value in key.items())
        raise RowMissing(
            f"Looking up a row of {publication.pipeline}",
            f"publication {publication.publication_id} has {found.height} rows with {entity}, of {frame.height}",
            f"look for it in bi.{publication.pipeline}_current",
        )
    return found.row(0, named=True)


def _again(
    workspace: Workspace, publication: Publication, key: Row, published: Row, features: Row, asked_by: str
) -> tuple[Row | None, Reproduction | None, tuple[str, ...]]:  # fmt: skip
    """The row made again, the attempt, and every reason why it is not equal."""
    made: dict[str, Row] = {}

    def pick(folder: Path) -> None:
        for table in ("features", "predictions"):
            made[table] = _only_row(pl.read_parquet(folder / f"{table}.parquet"), key, publication)

    try:
        attempt = reproduce_night(workspace, publication, asked_by, inspect=pick)
    except CannotReproduce as error:
        return None, None, error.found
    pairs = ((features, made["features"]), (published, made["predictions"]))
    different = tuple(
        f"{name} was {then[name]!r}, is {now.get(name)!r}"
        for then, now in pairs
        for name in then
        if not _same(then[name], now.get(name), attempt.level)
    )
    found = (attempt.first_difference,) if attempt.first_difference else ()
    return made["predictions"], attempt, (*found, *different)


def _same(then: object, now: object, level: str | None) -> bool:
    if isinstance(then, float) and isinstance(now, float) and not math.isnan(then):
        return abs(then - now) <= (TOLERANCE if level == "equivalent" else 0)
    return repr(then) == repr(now)


def _sources(workspace: Workspace, receipt: Receipt, key: Mapping[str, Any]) -> list[SourceTrace]:
    with workspace.engine.connect() as connection:
        read = versions_by_id(connection, receipt.body["features_inputs"])
        by_source: dict[str, list[PartitionVersion]] = {}
        for one in read:
            by_source.setdefault(one.dataset.rpartition(".")[2], []).append(one)
        return [_source(workspace, connection, name, versions, key) for name, versions in by_source.items()]


def _source(
    workspace: Workspace, connection: sa.Connection, name: str, versions: Sequence[PartitionVersion], key: Row
) -> SourceTrace:
    frame = workspace.lake.scan(versions).collect()
    columns = tuple(column for column in key if column in frame.columns and column != "score_date")
    # Rows of other nights are history; what is compared is the entity, not the date.
    matching = frame.filter(*(pl.col(column) == key[column] for column in columns)) if columns else frame.clear()
    whole = len(columns) == len(key) - 1
    delivered = versions_by_id(connection, [inner for version in versions for inner in version.inputs])
    files = dict.fromkeys(line for version in delivered for line in version.origin or ())
    rows = tuple(matching.to_dicts()) if whole else ()
    return SourceTrace(name, tuple(versions), tuple(files), columns, matching.height, rows)


def _gates(workspace: Workspace, receipt: Receipt, entries: Mapping[str, str]) -> list[dict[str, Any]]:
    """What the night's own partitions were judged by, and how it came out."""
    night = receipt.score_date
    tonight = {
        path: md5 for path, md5 in entries.items() if path.startswith("inputs/") and path.endswith(f"{night}.parquet")
    }
    judged = {f"{receipt.pipeline}.clean.{Path(path).parent.name}": md5 for path, md5 in tonight.items()}
    judged |= {
        f"{receipt.pipeline}.features": entries[FEATURES_FILE],
        f"{receipt.pipeline}.predictions": entries[PREDICTIONS_FILE],
    }
    found = []
    with workspace.engine.connect() as connection:
        for dataset, md5 in judged.items():
            verdict = verdict_on(connection, dataset, md5)
            if verdict is not None:
                found.append({"dataset": dataset, "passed": verdict.passed, **verdict.report})
    return found


def trace_as_json(trace: Trace) -> dict[str, Any]:
    """The whole trace as JSON."""
    return vars(trace) | {
        "publication": vars(trace.publication), "receipt": vars(trace.receipt), "model": vars(trace.model),
        "sources": [vars(one) | {"partitions": [vars(each) for each in one.partitions]} for one in trace.sources],
        "reproduction": vars(trace.reproduction) if trace.reproduction else None, "verdict": trace.verdict,
    }  # fmt: skip
