"""The second step of a night: from delivered rows to clean ones, with the bad rows set aside and every row accounted.

Added here: how a source's verdict becomes the clean and quarantine partitions. Not here: the gate itself (`gate.py`).
"""

from collections.abc import Mapping, Sequence
from datetime import date, timedelta

from nightscore.catalog.partitions import Candidate, PartitionVersion
from nightscore.lake.fingerprints import fingerprint
from nightscore.lake.objects import StoredObject
from nightscore.lake.outcomes import NightOutcome, record_accounts, timed_step
from nightscore.lake.partitions import candidate
from nightscore.lake.workspace import Workspace
from nightscore.quality.admission import Admission, account_of, admit, outcome_of
from nightscore.quality.rules import Rules, rules_hash, source_rules
from nightscore.sources.corrections import correctable_nights, lift_gates
from nightscore.sources.ingest import with_unreadable_history
from nightscore.spec.datasets import clean_dataset, quarantine_dataset, source_dataset
from nightscore.spec.pipeline import Pipeline
from nightscore.spec.sources import Source

Standing = Mapping[date, PartitionVersion]


def clean_source(
    workspace: Workspace, pipeline: Pipeline, name: str, nights: Sequence[date], run_id: str
) -> list[NightOutcome]:
    """Judge `nights` of one source; what passes becomes readable as clean, what is blocked stays unreadable.

    Delivered nights of their history that are not readable yet are judged along with them, and so are corrections
    of earlier nights; a bad correction is held back, and what was clean before stays so.
    """
    rules = source_rules(pipeline, name)
    wanted = _with_delivered_history(workspace, pipeline, name, nights)
    late = [night for night in correctable_nights(workspace, pipeline, name, nights) if night not in wanted]
    with timed_step(workspace, pipeline.name, f"clean {name}", wanted, run_id) as log:
        delivered = workspace.lake.require(source_dataset(pipeline.name, name), sorted({*wanted, *late}))
        standing = workspace.lake.current(rules.dataset, delivered[0].score_date, delivered[-1].score_date)
        for version in delivered:
            one = _clean_night(workspace, pipeline, name, rules, version, standing, run_id)
            if version.score_date not in late:
                log.outcomes.append(one)
            else:
                lift_gates(workspace, pipeline.name, [one], run_id)
                log.outcomes += [one] if one.result != "reused" else []
    return log.outcomes


def _with_delivered_history(workspace: Workspace, pipeline: Pipeline, name: str, nights: Sequence[date]) -> list[date]:
    wanted = with_unreadable_history(workspace, pipeline, name, nights)
    delivered = workspace.lake.current(source_dataset(pipeline.name, name), wanted[0], wanted[-1])
    return sorted({*nights, *(night for night in wanted if night in delivered)})


def _clean_night(
    workspace: Workspace, pipeline: Pipeline, name: str, rules: Rules, version: PartitionVersion,
    standing: Standing, run_id: str,
) -> NightOutcome:  # fmt: skip
    night = version.score_date
    recipe = fingerprint("clean", delivered=version.md5, rules=rules_hash(rules))
    if night in standing and standing[night].fingerprint == recipe:
        return NightOutcome(rules.dataset, night, "reused", standing[night].rows)
    content = StoredObject(version.md5, version.bytes, version.content_sha256)
    admission = admit(
        workspace, pipeline.name, rules, night, content, None, run_id,
        exempt_empty=_precedes_source(pipeline.sources[name], night),
    )  # fmt: skip
    candidates = _candidates(workspace, pipeline.name, name, admission, recipe, standing, version)
    workspace.lake.commit(candidates, run_id)
    record_accounts(workspace, [account_of(admission)], run_id)
    return outcome_of(admission, candidates)


def _precedes_source(source: Source, night: date) -> bool:
    event_date = night - timedelta(days=source.known_after_days)
    return source.cadence == "daily" and source.first_date is not None and event_date < source.first_date


def _candidates(
    workspace: Workspace, pipeline: str, name: str, admission: Admission, recipe: str, standing: Standing,
    version: PartitionVersion,
) -> list[Candidate]:  # fmt: skip
    night = version.score_date
    if admission.accepted is None:
        return []
    clean = clean_dataset(pipeline, name)
    made = [candidate(clean, night, admission.accepted, admission.rows_out, recipe, standing, [version])]
    if admission.quarantined is not None:
        aside = quarantine_dataset(pipeline, name)
        there = workspace.lake.current(aside, night, night)
        rows = admission.rows_quarantined
        made.append(candidate(aside, night, admission.quarantined, rows, recipe, there, [version]))
    return made
