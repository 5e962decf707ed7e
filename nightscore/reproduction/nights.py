"""Reproduce a published night from its receipt: features from their clean inputs, predictions, and the mart's rows.

Added here: steps of reproducing a night. Not here: versions (`versions.py`), or one row of it (`trace.py`).
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import polars as pl

from nightscore.catalog.publications import Publication, Receipt, receipt_by_id
from nightscore.catalog.reproductions import Reproduction
from nightscore.errors import CannotReproduce
from nightscore.lake.content import content_hash
from nightscore.lake.workspace import Workspace
from nightscore.publishing.rows import published_rows
from nightscore.registry.provenance import LOCK_FILE, SOURCES_FILE
from nightscore.registry.sources import unpack_sources
from nightscore.registry.verify import verify_capsule
from nightscore.registry.versions import require_version
from nightscore.reproduction.attempts import Attempt, attempted
from nightscore.reproduction.compare import Comparison, Difference, compare_nights, frame_differences
from nightscore.reproduction.sandbox import choose_interpreter, copy_out, lay_out, open_sandbox, recompute
from nightscore.scoring.receipts import PREDICTIONS_FILE

Inspect = Callable[[Path], None]
"""Called with the folder of a finished reproduction: `inputs/` is what was, the folder itself holds what was made."""


def reproduce_night(
    workspace: Workspace, publication: Publication, asked_by: str, run_id: str = "", inspect: Inspect | None = None
) -> Reproduction:
    """Make a published night again from its receipt, compare with it and with the mart, and keep the outcome.

    The spec is the one of that night. Raises CannotReproduce, also kept, when something that it was made of cannot
    be had any more.
    """
    with workspace.engine.connect() as connection:
        receipt = receipt_by_id(connection, publication.receipt_id)
    attempt = Attempt(
        receipt.pipeline, "night", receipt.model_version, publication.score_date, receipt.receipt_id, asked_by, run_id
    )
    with attempted(workspace, attempt), open_sandbox(workspace) as folder:
        attempt.comparison = _compare(workspace, publication, receipt, folder, attempt.facts)
        if inspect is not None:
            inspect(folder)
    return attempt.recorded()


def key_of_receipt(receipt: Receipt) -> tuple[str, ...]:
    """The columns that identify a row, as the spec of that night said."""
    return "score_date", *(name for name in receipt.body["spec"]["entity"]["key"] if name != "score_date")


def _compare(
    workspace: Workspace, publication: Publication, receipt: Receipt, folder: Path, facts: dict[str, Any]
) -> Comparison:
    body, inputs, key = receipt.body, folder / "inputs", key_of_receipt(receipt)
    report = _recompute(workspace, receipt, folder, f"{receipt.pipeline} {receipt.score_date}")
    comparison = compare_nights(body, inputs, folder, report, key)
    published = _published_difference(workspace, publication, inputs, key)
    facts |= {
        "publication_id": publication.publication_id, "receipt_id": receipt.receipt_id,
        "snapshot_md5": receipt.snapshot_md5, "provenance": body["provenance"], "results": report["results"],
        "child_seconds": report["seconds"], "environment": report["environment"],
        "published_rows": publication.rows,
    }  # fmt: skip
    if not published:
        return comparison
    return Comparison(None, comparison.required, (*comparison.differences, *published))


def _recompute(workspace: Workspace, receipt: Receipt, folder: Path, what: str) -> Any:
    if receipt.snapshot_md5 is None:
        raise CannotReproduce(
            f"Reproducing {what}", "its receipt pins no inputs: it was made before snapshots of nights were kept",
            "score the night again",
        )  # fmt: skip
    store, inputs = workspace.lake.store, folder / "inputs"
    lay_out(store, receipt.snapshot_md5, inputs, f"the inputs of {what}")
    share = receipt.body.get("share")
    _copy_capsule(
        workspace, receipt, receipt.model_version, receipt.body["model"]["manifest_sha256"], folder / "capsule"
    )
    if share is not None:
        _copy_capsule(workspace, receipt, share["version"], share["manifest_sha256"], folder / "challenger")
    unpack_sources((inputs / SOURCES_FILE).read_bytes(), folder / "sources")
    lock = (inputs / LOCK_FILE).read_bytes() if (inputs / LOCK_FILE).is_file() else None
    interpreter = choose_interpreter(workspace, lock, receipt.body["provenance"], folder, what)
    plan = {
        "contract": 1, "kind": "night", "pipeline": receipt.pipeline, "night": receipt.score_date,
        "sources": folder / "sources", "inputs": inputs, "home": folder / "home", "capsule": folder / "capsule",
        "manifest_sha256": receipt.body["model"]["manifest_sha256"], "version": receipt.model_version,
        "threads": workspace.settings.threads, "share": share, "challenger": folder / "challenger",
    }  # fmt: skip
    return recompute(interpreter, folder, plan, receipt.body["environment"]["threads"])


def _copy_capsule(workspace: Workspace, receipt: Receipt, version: int, manifest_sha256: str, folder: Path) -> None:
    found = require_version(workspace, receipt.pipeline, version)
    copy_out(workspace.lake.store, found.capsule_md5, folder)
    verify_capsule(folder, manifest_sha256)


def _published_difference(
    workspace: Workspace, publication: Publication, inputs: Path, key: Sequence[str]
) -> list[Difference]:
    """Where the mart's rows are not the predictions that were published."""
    predicted = pl.read_parquet(inputs / PREDICTIONS_FILE)
    published = published_rows(workspace, publication, predicted.schema)
    if content_hash(published, key) == content_hash(predicted, key):
        return []
    return [
        Difference("publication", f"the mart's rows: {one}") for one in frame_differences(predicted, published, key)
    ]
