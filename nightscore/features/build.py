"""The third step of a night: features and labels, built by dbt for one date or a range in one pass, then gated.

The same SQL serves training and scoring. Added here: how built tables become partitions. Not here: SQL, or gates.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from functools import partial

from nightscore.catalog.partitions import PartitionVersion
from nightscore.features.compute import build_tables
from nightscore.features.dbt import dbt_files_hash
from nightscore.features.inputs import bind_inputs, inputs_of_night
from nightscore.lake.fingerprints import fingerprint
from nightscore.lake.objects import StoredObject
from nightscore.lake.outcomes import NightOutcome, mark_prepared, record_accounts, timed_step
from nightscore.lake.partitions import candidate
from nightscore.lake.sorted import put_sorted
from nightscore.lake.workspace import Workspace
from nightscore.quality.admission import account_of, admit, outcome_of
from nightscore.quality.rules import Rules, feature_rules, label_rules, rules_hash
from nightscore.spec.datasets import features_dataset, labels_dataset
from nightscore.spec.pipeline import Pipeline


@dataclass(frozen=True)
class _Night:
    """One night to be built: what it reads and the fingerprint of that."""

    night: date
    inputs: tuple[PartitionVersion, ...]
    rules: tuple[Rules, ...]
    recipe: str

    @property
    def may_be_empty(self) -> bool:
        """Whether one of tonight's inputs is empty itself, which its own gate allowed."""
        return any(version.score_date == self.night and version.rows == 0 for version in self.inputs)


def build_features(workspace: Workspace, pipeline: Pipeline, nights: Sequence[date], run_id: str) -> list[NightOutcome]:
    """Build and gate features and labels of `nights`; nights whose inputs and SQL are unchanged are reused."""
    datasets = (features_dataset(pipeline.name), labels_dataset(pipeline.name))
    with timed_step(workspace, pipeline.name, "features", nights, run_id) as log:
        bound = bind_inputs(workspace, pipeline, nights)
        sql = dbt_files_hash(workspace.settings, pipeline.name)
        planned = [_plan(pipeline, sql, inputs_of_night(pipeline, bound, night), night) for night in nights]
        standing = {name: workspace.lake.current(name, min(nights), max(nights)) for name in datasets}
        stale = [one for one in planned if any(not _is_current(standing[name], one) for name in datasets)]
        contents = _run_sql(workspace, pipeline, bound, stale) if stale else {}
        for one in planned:
            for rules in one.rules:
                made = contents.get((rules.dataset, one.night))
                log.outcomes.append(_commit(workspace, pipeline, rules, one, made, standing[rules.dataset], run_id))
        mark_prepared(workspace, pipeline.name, log.outcomes, run_id)
    return log.outcomes


def _plan(pipeline: Pipeline, sql: str, inputs: Mapping[str, Sequence[PartitionVersion]], night: date) -> _Night:
    rules = (feature_rules(pipeline, night), label_rules(pipeline))
    recipe = fingerprint(
        "features", sql=sql, night=night, horizon=pipeline.label.horizon_days,
        rules=[rules_hash(one) for one in rules],
        read={name: [(str(one.score_date), one.md5) for one in versions] for name, versions in inputs.items()},
    )  # fmt: skip
    return _Night(night, tuple(version for one in inputs.values() for version in one), rules, recipe)


def _is_current(standing: Mapping[date, PartitionVersion], one: _Night) -> bool:
    return one.night in standing and standing[one.night].fingerprint == one.recipe


def _run_sql(
    workspace: Workspace, pipeline: Pipeline, bound: Mapping[str, Mapping[date, PartitionVersion]],
    stale: Sequence[_Night],
) -> dict[tuple[str, date], StoredObject]:  # fmt: skip
    """Each night's features and labels as objects, by dataset and night; DuckDB's memory is free afterwards."""
    lake, settings = workspace.lake, workspace.settings
    files = {
        name: {night: lake.store.verified_path(version.md5) for night, version in versions.items()}
        for name, versions in bound.items()
    }
    nights = [one.night for one in stale]
    with build_tables(settings, pipeline, files, settings.lake_path, nights) as built:
        return {
            (rules.dataset, one.night): put_sorted(lake, partial(built.read, rules.dataset, one.night), rules.key)
            for one in stale
            for rules in one.rules
        }


def _commit(
    workspace: Workspace, pipeline: Pipeline, rules: Rules, one: _Night, content: StoredObject | None,
    standing: Mapping[date, PartitionVersion], run_id: str,
) -> NightOutcome:  # fmt: skip
    if content is None:
        return NightOutcome(rules.dataset, one.night, "reused", standing[one.night].rows)
    admission = admit(
        workspace, pipeline.name, rules, one.night, content, None, run_id, exempt_empty=one.may_be_empty
    )  # fmt: skip
    committed = []
    if admission.accepted is not None:
        rows = admission.rows_out
        committed = [candidate(rules.dataset, one.night, admission.accepted, rows, one.recipe, standing, one.inputs)]
        workspace.lake.commit(committed, run_id)
    record_accounts(workspace, [account_of(admission)], run_id)
    return outcome_of(admission, committed)
