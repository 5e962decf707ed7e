"""The first step of a night: read what a source delivers and keep it, as delivered, in the lake.

Added here: how extracted rows become partitions. Not here: reading (`extract.py`) or judging (`nightscore/quality`).
"""

from collections.abc import Mapping, Sequence
from datetime import date
from typing import Literal

from nightscore.catalog.gates import RowAccount
from nightscore.catalog.partitions import Candidate
from nightscore.lake.fingerprints import fingerprint
from nightscore.lake.objects import StoredObject
from nightscore.lake.outcomes import NightOutcome, record_accounts, timed_step
from nightscore.lake.partitions import candidate
from nightscore.lake.sorted import put_sorted
from nightscore.lake.workspace import Workspace
from nightscore.sources.corrections import correctable_nights, extract_with_corrections, lift_gates
from nightscore.sources.extract import Extraction
from nightscore.sources.spool import Delivery, Scratch, scratch_folder
from nightscore.spec.datasets import clean_dataset, source_dataset
from nightscore.spec.pipeline import Pipeline
from nightscore.spec.windows import history_window


def ingest_source(
    workspace: Workspace, pipeline: Pipeline, name: str, nights: Sequence[date], run_id: str
) -> list[NightOutcome]:
    """Read `nights` of one source in one pass and commit a partition for each; equal content is reused.

    Nights of the history that features will read, but which are not readable yet, are read again too: a source that
    was repaired, or a machine that was off, needs no one to remember it. So are the nights that may still be corrected
    (`late_days`); of those, only what changed or cannot be read is reported.
    """
    wanted = with_unreadable_history(workspace, pipeline, name, nights)
    late = [night for night in correctable_nights(workspace, pipeline, name, nights) if night not in wanted]
    with timed_step(workspace, pipeline.name, f"source {name}", wanted, run_id) as log:
        source, dataset = pipeline.sources[name], source_dataset(pipeline.name, name)
        with scratch_folder(workspace.settings.home_path) as folder:
            reading = extract_with_corrections(workspace, source, wanted, late, Scratch(folder))
            extraction = reading.extraction
            standing = workspace.lake.current(dataset, min([*wanted, *late]), max(wanted))
            stored = _store(workspace, extraction.deliveries, source.key)
        recipe = fingerprint("source", source=source.model_dump(mode="json"))
        candidates = [
            candidate(dataset, night, stored[night], one.rows, recipe, standing, origin=extraction.origin_of(night))
            for night, one in extraction.deliveries.items()
        ]
        made = workspace.lake.commit(candidates, run_id)
        outcomes = [
            NightOutcome(dataset, one.score_date, _result(one, made), one.rows, facts=_facts(one, extraction))
            for one in candidates
        ]
        lift_gates(workspace, pipeline.name, [one for one in outcomes if one.night in late], run_id)
        log.outcomes = [one for one in outcomes if one.result == "made" or one.night not in late]
        log.outcomes += [NightOutcome(dataset, night, "blocked", 0, why) for night, why in reading.unreadable.items()]
        fresh = [one for one in log.outcomes if one.result == "made"]
        accounts = [RowAccount(pipeline.name, dataset, one.night, one.rows, one.rows, 0, {}) for one in fresh]
        record_accounts(workspace, accounts, run_id)
    return log.outcomes


def with_unreadable_history(workspace: Workspace, pipeline: Pipeline, name: str, nights: Sequence[date]) -> list[date]:
    """`nights`, and those of their history window that are not readable as clean."""
    window = history_window(pipeline, name, nights)
    readable = workspace.lake.current(clean_dataset(pipeline.name, name), window[0], window[-1])
    return sorted({*nights, *(night for night in window if night not in readable)})


def _store(workspace: Workspace, deliveries: Mapping[date, Delivery], key: Sequence[str]) -> dict[date, StoredObject]:
    # A snapshot source hands out one delivery for every night; writing it once is enough.
    stored: dict[int, StoredObject] = {}
    for one in deliveries.values():
        if id(one) not in stored:
            stored[id(one)] = put_sorted(workspace.lake, one.read, key)
    return {night: stored[id(one)] for night, one in deliveries.items()}


def _result(one: Candidate, made: Mapping[tuple[str, date], int]) -> Literal["made", "reused"]:
    return "reused" if made[one.dataset, one.score_date] == one.replaces else "made"


def _facts(one: Candidate, extraction: Extraction) -> dict[str, object]:
    return {"md5": one.md5, "content": one.content_sha256, "bytes": one.bytes, "origin": list(extraction.origin)}
