"""Admission: judge a candidate, remember the verdict, and prepare the commit of what was let in.

The one door between a frame and a readable partition; clean data, features, labels and predictions all use it.
Added here: what every gated commit shares. Not here: the expectations themselves (`suites.py`, `masks.py`).
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Literal

import polars as pl

from nightscore.catalog.gates import RowAccount, Verdict, passed_verdict, record_verdict
from nightscore.catalog.partitions import Candidate
from nightscore.lake.objects import StoredObject
from nightscore.lake.outcomes import NightOutcome
from nightscore.lake.sorted import put_sorted
from nightscore.lake.workspace import Workspace
from nightscore.quality.gate import WHOLE_ROWS, gate, gate_file
from nightscore.quality.report import Gated, GatedFile
from nightscore.quality.rules import Rules, rules_hash
from nightscore.quality.stored import count_rows

Rows = Iterator[pl.DataFrame]


@dataclass(frozen=True)
class Admission:
    """A verdict and, when it passed, the objects that may be committed."""

    verdict: Verdict
    accepted: StoredObject | None
    quarantined: StoredObject | None

    @property
    def rows_out(self) -> int:
        """Rows let in."""
        return int(self.verdict.report["rows_out"])

    @property
    def rows_quarantined(self) -> int:
        """Rows set aside."""
        return int(self.verdict.report["rows_quarantined"])


def admit(
    workspace: Workspace, pipeline: str, rules: Rules, night: date, content: StoredObject,
    load: Callable[[], pl.DataFrame] | None, run_id: str, exempt_empty: bool = False,
) -> Admission:  # fmt: skip
    """Judge the stored `content`; a verdict on the very same content under the same rules is taken over.

    `load` gives the content as a frame, where it is at hand; it is called only when a small table must be judged anew.
    A table of more than WHOLE_ROWS rows is read from the store, in batches.
    """
    hash_of_rules = f"{rules_hash(rules)}{':exempt' if exempt_empty else ''}"
    with workspace.engine.connect() as connection:
        known = passed_verdict(connection, rules.dataset, content.md5, hash_of_rules)
    if known is None or not _objects_present(workspace, known):
        verdict = _judge(workspace, pipeline, rules, night, content, load, hash_of_rules, run_id, exempt_empty)
    else:
        now = workspace.clock.now()
        verdict = Verdict(**vars(known) | {"score_date": night, "run_id": run_id, "judged_at": now})
    with workspace.engine.begin() as connection:
        record_verdict(connection, verdict)
    return _admission(workspace, verdict)


def _judge(
    workspace: Workspace, pipeline: str, rules: Rules, night: date, content: StoredObject,
    load: Callable[[], pl.DataFrame] | None, hash_of_rules: str, run_id: str, exempt_empty: bool,
) -> Verdict:  # fmt: skip
    judged = _gated(workspace, rules, night, content, load, exempt_empty)
    accepted: str | None = None
    if judged.report.passed:
        same = judged.report.rows_quarantined == 0 and "unreadable" not in rules.schema
        accepted = content.md5 if same else _store(workspace, judged.accepted, rules.key).md5
    quarantined = _store(workspace, judged.quarantined, rules.key)
    return Verdict(
        pipeline, rules.dataset, night, judged.report.passed, content.md5, hash_of_rules,
        accepted, quarantined.md5, judged.report.as_json(), run_id, workspace.clock.now(),
    )  # fmt: skip


def _gated(
    workspace: Workspace, rules: Rules, night: date, content: StoredObject,
    load: Callable[[], pl.DataFrame] | None, exempt_empty: bool,
) -> Gated | GatedFile:  # fmt: skip
    store = workspace.lake.store
    path = store.path(content.md5) if load else store.verified_path(content.md5)
    if count_rows(path) > WHOLE_ROWS:
        return gate_file(store.verified_path(content.md5), rules, night, exempt_empty=exempt_empty)
    return gate(load() if load else pl.read_parquet(path), rules, night, exempt_empty=exempt_empty)


def _store(workspace: Workspace, rows: pl.DataFrame | Callable[[], Rows], key: Sequence[str]) -> StoredObject:
    return workspace.lake.put(rows, key) if isinstance(rows, pl.DataFrame) else put_sorted(workspace.lake, rows, key)


def _objects_present(workspace: Workspace, verdict: Verdict) -> bool:
    named = [md5 for md5 in (verdict.accepted_md5, verdict.quarantined_md5) if md5 is not None]
    return all(workspace.lake.store.touch(md5) for md5 in named)


def _admission(workspace: Workspace, verdict: Verdict) -> Admission:
    def stored(md5: str | None) -> StoredObject | None:
        return None if md5 is None else workspace.lake.stored(md5)

    return Admission(verdict, stored(verdict.accepted_md5), stored(verdict.quarantined_md5))


def account_of(admission: Admission) -> RowAccount:
    """The row account of a verdict; a blocked candidate's rows are excluded as such."""
    verdict, report = admission.verdict, admission.verdict.report
    if verdict.passed:
        excluded = dict(report["excluded"])
        rows_out, quarantined = admission.rows_out, admission.rows_quarantined
    else:
        rows_out, quarantined, excluded = 0, 0, {"blocked": report["rows_in"]}
    night = verdict.score_date
    return RowAccount(verdict.pipeline, verdict.dataset, night, report["rows_in"], rows_out, quarantined, excluded)


def outcome_of(admission: Admission, committed: Sequence[Candidate]) -> NightOutcome:
    """What the orchestrator and the reports are told about one judged night."""
    verdict = admission.verdict
    result: Literal["made", "blocked"] = "made" if verdict.passed else "blocked"
    facts = {
        one.dataset: {"md5": one.md5, "content": one.content_sha256, "rows": one.rows, "bytes": one.bytes}
        for one in committed
    }
    rows = admission.rows_out if verdict.passed else 0
    return NightOutcome(
        verdict.dataset, verdict.score_date, result, rows, verdict.reasons, verdict.report, facts
    )  # fmt: skip
