"""The drill: make an old night and an old model version again, unasked, so that a break is known before it matters.

What is drilled follows from a seed and the catalog alone: things never drilled come first, then those drilled longest
ago; what is broken is tried again every other time. Added here: another kind of thing to drill. Not here: making it
again (`nights.py`, `versions.py`).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date
from hashlib import sha256
from itertools import takewhile
from time import perf_counter

from nightscore.catalog.models import ModelVersion, list_versions
from nightscore.catalog.publications import Publication, list_publications, snapshots_of_receipts
from nightscore.catalog.reproductions import Reproduction, list_reproductions, streak
from nightscore.errors import CannotReproduce
from nightscore.lake.workspace import Workspace
from nightscore.monitoring.alerts import deliver_alerts, enqueue_alert
from nightscore.reproduction.nights import reproduce_night
from nightscore.reproduction.versions import reproduce_version

ASKED_BY = "drill"
REMEMBERED = 5
"""Durations that an estimate looks at; the longest of them counts, since a budget is not to be overrun."""

Subject = tuple[str, int, date | None, int | None]
"""(kind, version, score date, receipt id): what two attempts have in common when they are about the same thing."""


@dataclass(frozen=True)
class Candidate:
    """Something that can be drilled: what it is, how a person would do it, and how it is done."""

    subject: Subject
    title: str
    command: str
    reproduce: Callable[[], Reproduction]


@dataclass(frozen=True)
class DrillResult:
    """What one drill attempted and left out, and how many drill attempts in a row have come out well by now."""

    pipeline: str
    seed: str
    attempts: tuple[Reproduction, ...]
    skipped: tuple[str, ...]
    streak: int
    standing: tuple[str, ...]
    """What broke when it was drilled last, in this drill or an earlier one."""
    is_empty: bool
    """There is neither a published night nor a model version to drill."""

    @property
    def passed(self) -> bool:
        """Whether something was attempted, all of it was reproduced, and no earlier break stands."""
        return bool(self.attempts) and not self.standing


def run_drill(
    workspace: Workspace, pipeline_name: str, seed: str, budget_seconds: float, run_id: str = ""
) -> DrillResult:
    """Reproduce one published night and, while the budget allows, one model version; alert people to a new break.

    Things that are not equal, or cannot be made, are results. Raises Transient when the deployment does not answer.
    """
    ends = perf_counter() + budget_seconds
    attempts: list[Reproduction] = []
    skipped: list[str] = []
    kinds = {
        "night": _nights(workspace, pipeline_name, run_id), "model": _versions(workspace, pipeline_name, run_id)
    }  # fmt: skip
    for kind, candidates in kinds.items():
        reason = _reason_to_skip(workspace, pipeline_name, kind, candidates, ends - perf_counter())
        if reason is None:
            attempts.append(_drill(workspace, pipeline_name, candidates, seed))
        else:
            skipped.append(reason)
    deliver_alerts(workspace)
    drilled = _drilled(workspace, pipeline_name)
    everything = [one for candidates in kinds.values() for one in candidates]
    standing = tuple(one.title for one in find_broken(everything, drilled))
    return DrillResult(
        pipeline_name, seed, tuple(attempts), tuple(skipped), streak(drilled), standing, is_empty=not everything
    )  # fmt: skip


def find_broken(candidates: Sequence[Candidate], drilled: Sequence[Reproduction]) -> list[Candidate]:
    """The candidates whose newest drill did not reproduce them; `drilled` is newest first."""
    newest = {subject_of(one): one.outcome for one in reversed(drilled)}
    return [one for one in candidates if newest.get(one.subject, "reproduced") != "reproduced"]


def choose_candidate(candidates: Sequence[Candidate], drilled: Sequence[Subject], seed: str) -> Candidate:
    """By lot among what was never drilled, else what was drilled longest ago; `drilled` is newest first.

    The lot is a hash of the seed and the subject, so the order of the candidates does not matter.
    """
    waited = {subject: at for at, subject in reversed(list(enumerate(drilled)))}
    longest = max(waited.get(one.subject, len(drilled)) for one in candidates)
    pool = [one for one in candidates if waited.get(one.subject, len(drilled)) == longest]
    return min(pool, key=lambda one: sha256(f"{seed}:{one.title}".encode()).digest())


def estimate_seconds(attempts: Sequence[Reproduction], kind: str) -> float:
    """How long an attempt of this kind may take, from former ones, newest first; 0 when there are none."""
    took = [one.seconds for one in attempts if one.kind == kind and one.outcome != "cannot"]
    return max(took[:REMEMBERED], default=0.0)


def subject_of(made: Reproduction) -> Subject:
    """What an attempt was about."""
    return made.kind, made.version, made.score_date, made.receipt_id


def _nights(workspace: Workspace, pipeline: str, run_id: str) -> list[Candidate]:
    with workspace.engine.connect() as connection:
        published = list_publications(connection, pipeline)
        kept = {one for one, snapshot in snapshots_of_receipts(connection, pipeline).items() if snapshot is not None}
    return [_night(workspace, one, run_id) for one in published if one.receipt_id in kept]


def _night(workspace: Workspace, one: Publication, run_id: str) -> Candidate:
    title = f"{one.pipeline}@{one.model_version} {one.score_date}, publication {one.publication_id}"
    command = f"nightscore reproduce {one.pipeline} --night {one.score_date} --publication {one.publication_id}"
    subject = ("night", one.model_version, one.score_date, one.receipt_id)
    return Candidate(subject, title, command, lambda: reproduce_night(workspace, one, ASKED_BY, run_id))


def _versions(workspace: Workspace, pipeline: str, run_id: str) -> list[Candidate]:
    with workspace.engine.connect() as connection:
        registered = list_versions(connection, pipeline)
    return [_version(workspace, one, run_id) for one in registered]


def _version(workspace: Workspace, one: ModelVersion, run_id: str) -> Candidate:
    subject, command = ("model", one.version, None, None), f"nightscore reproduce {one.name}"
    return Candidate(subject, one.name, command, lambda: reproduce_version(workspace, one, ASKED_BY, run_id))


def _reason_to_skip(
    workspace: Workspace, pipeline: str, kind: str, candidates: Sequence[Candidate], left_seconds: float
) -> str | None:
    if not candidates:
        return "no night is published yet" if kind == "night" else "no model version is registered yet"
    with workspace.engine.connect() as connection:
        needed = estimate_seconds(list_reproductions(connection, pipeline), kind)
    if needed < left_seconds:
        return None
    if left_seconds <= 0:
        return f"nothing of the budget is left for a {kind}"
    return f"a {kind} takes up to {needed:.1f} s, and {left_seconds:.1f} s of the budget are left"


def _drilled(workspace: Workspace, pipeline: str) -> list[Reproduction]:
    with workspace.engine.connect() as connection:
        return list_reproductions(connection, pipeline, ASKED_BY, limit=None)


def _drill(workspace: Workspace, pipeline: str, candidates: Sequence[Candidate], seed: str) -> Reproduction:
    drilled = _drilled(workspace, pipeline)
    subjects = [subject_of(one) for one in drilled]
    # Not twice in a row, so that what can never be mended does not keep the rest from being drilled.
    last = next((one for one in subjects if one[0] == candidates[0].subject[0]), None)
    broken = [one for one in find_broken(candidates, drilled) if one.subject != last]
    chosen = choose_candidate(broken or candidates, subjects, seed)
    made = _attempt(workspace, pipeline, chosen)
    if made.outcome != "reproduced":
        _alert(workspace, pipeline, chosen, made)
    return made


def _attempt(workspace: Workspace, pipeline: str, chosen: Candidate) -> Reproduction:
    try:
        return chosen.reproduce()
    except CannotReproduce:
        recorded = _newest(_drilled(workspace, pipeline), chosen.subject)
        if recorded is None:
            raise
        return recorded


def _newest(drilled: Sequence[Reproduction], subject: Subject) -> Reproduction | None:
    return next((one for one in drilled if subject_of(one) == subject), None)


def _alert(workspace: Workspace, pipeline: str, chosen: Candidate, made: Reproduction) -> None:
    """Tell people of a break, once for all attempts in a row that meet the same one."""
    attempts = [one for one in _drilled(workspace, pipeline) if subject_of(one) == chosen.subject]
    found = (made.outcome, made.first_difference)
    met = len(list(takewhile(lambda one: (one.outcome, one.first_difference) == found, attempts)))
    verdict = "was made again, but not equal" if made.outcome == "not equal" else "cannot be made again"
    title, occasion = f"{chosen.title} {verdict}", f"broken since drill {len(attempts) - met + 1}"
    body = f"First difference: {made.first_difference}\nRun it by hand: {chosen.command}"
    with workspace.engine.begin() as connection:
        enqueue_alert(connection, pipeline, chosen.title, occasion, title, body, workspace.clock.now())
