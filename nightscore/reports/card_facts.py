"""What a model card says: one version's facts as the catalog and its capsule hold them, and the limits they imply.

Every measured figure is optional, since versions of older releases lack most of them.
Added here: a fact, or a limit that follows from facts. Not here: headings, tables and pages (`model_card.py`).
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from nightscore.catalog.decisions import Decision, list_decisions
from nightscore.catalog.models import ModelVersion, holders_of, list_alias_events, list_model_events
from nightscore.catalog.reproductions import Reproduction, list_reproductions
from nightscore.lake.workspace import Workspace
from nightscore.spec.pipeline import Pipeline
from nightscore.spec.training import FeatureColumn

NAMED = 6
"""So many names are listed in a sentence; the others are counted."""
_DECISIONS = 10_000


@dataclass(frozen=True)
class LifeEvent:
    """One thing that happened to a version."""

    at: datetime
    what: str
    who: str
    why: str


@dataclass(frozen=True)
class Level:
    """A level of a segment column: its rows, their share, its loss; `judged` where its share is large enough."""

    name: str
    rows: int
    share: float
    loss: float | None
    judged: bool


@dataclass(frozen=True)
class CardFacts:
    """One version. `spec` is None where today's schema cannot read it; `left_out`: score date → why it taught nothing.

    `gate` is the newest verdict of the promotion gate on it, `reproduction` the newest attempt to train it again.
    """

    version: ModelVersion
    spec: Pipeline | None
    left_out: Mapping[str, str] = field(default_factory=dict)
    aliases: tuple[str, ...] = ()
    life: tuple[LifeEvent, ...] = ()
    gate: Decision | None = None
    reproduction: Reproduction | None = None
    nights_reproduced: int = 0

    @property
    def metrics(self) -> Mapping[str, Any]:
        """As registered; see `Trained.metrics`."""
        return self.version.metrics

    @property
    def algorithms(self) -> dict[str, Mapping[str, Any]]:
        """Name → figures of every algorithm that was measured, the version's own first."""
        found = self.metrics.get("algorithms") or {}
        own = self.metrics.get("algorithm", self.version.algorithm)
        return {name: found[name] for name in sorted(found, key=lambda name: name != own)}

    @property
    def own(self) -> Mapping[str, Any]:
        """The figures of the version's own algorithm."""
        return next(iter(self.algorithms.values()), {})

    @property
    def loss(self) -> str:
        """The metric that versions are compared by."""
        return "log_loss" if self.version.task == "binary" else "rmse"

    @property
    def columns(self) -> tuple[FeatureColumn, ...]:
        """The features as the spec describes them."""
        return self.spec.features.columns if self.spec else ()

    @property
    def titles(self) -> dict[str, str]:
        """Feature → what people call it; its name where the spec has no title."""
        return {column.name: column.title or column.name for column in self.columns}

    @property
    def levels(self) -> dict[str, list[Level]]:
        """Segment column → its levels, the highest loss first."""
        segments = self.own.get("segments") or {}
        return {self.titles.get(column, column): self._levels(rows) for column, rows in segments.items()}

    def _levels(self, rows: Sequence[Mapping[str, Any]]) -> list[Level]:
        total, floor = sum(one["rows"] for one in rows), self.spec.promotion.segment_share if self.spec else 0.0
        found = [
            Level(_level_name(one["level"]), one["rows"], share, one.get(self.loss), share >= floor)
            for one in rows
            for share in [one["rows"] / total if total else 0.0]
        ]
        return sorted(found, key=lambda one: (one.loss is None, -(one.loss or 0.0), one.name))


def read_card(workspace: Workspace, version: ModelVersion) -> CardFacts:
    """The facts of one version; ObjectMissing or ObjectCorrupt where its capsule is not whole in the lake."""
    store = workspace.lake.store
    files = store.read_directory(version.capsule_md5)
    spec, context = (store.verified_path(files[name]).read_text("utf-8") for name in ("spec.yaml", "context.json"))
    with workspace.engine.connect() as connection:
        moves = list_alias_events(connection, version.pipeline)
        events = list_model_events(connection, version.pipeline, version.version)
        decisions = list_decisions(connection, version.pipeline, _DECISIONS, "promotion")
        attempts = list_reproductions(connection, version.pipeline, limit=None)
        holders = holders_of(connection, version.pipeline)
    own = [one for one in attempts if one.version == version.version]
    return CardFacts(
        version, _read_spec(spec), json.loads(context).get("left_out") or {},
        tuple(sorted(alias for alias, holder in holders.items() if holder == version.version)),
        tuple(_life(version, events, moves)),
        next((one for one in decisions if one.subject == version.name), None),
        next((one for one in own if one.kind == "model"), None),
        len({one.score_date for one in own if one.kind == "night" and one.outcome == "reproduced"}),
    )  # fmt: skip


def find_limits(facts: CardFacts) -> list[str]:
    """What the version does not know or nobody has measured, a sentence or two each."""
    parts = (_of_evidence, _of_data, _of_scores, _of_groups, _of_features, _of_proof)
    return [limit for part in parts for limit in part(facts)]


def percent(value: float | None) -> str:
    """`4.2 %`; "-" without a value."""
    return "-" if value is None else f"{100 * value:.1f} %"


def name_some(names: Iterable[str]) -> str:
    """The first few names and how many more there are."""
    found = list(names)
    more = f" and {len(found) - NAMED:,} more" if len(found) > NAMED else ""
    return ", ".join(found[:NAMED]) + more


def credible_gain(worth: Mapping[str, Any] | None) -> bool | None:
    """Whether the bounds of a gain are all above 0 (True), all below (False), or neither, or absent (None)."""
    gain = (worth or {}).get("gain") or {}
    if (gain.get("lower") or 0) > 0:
        return True
    return False if (gain.get("upper") or 0) < 0 else None


def _read_spec(text: str) -> Pipeline | None:
    from pydantic import ValidationError

    from nightscore.spec.yaml_nodes import read_yaml

    try:
        return Pipeline.model_validate_json(json.dumps(read_yaml(text).data), strict=True)
    except ValidationError:
        return None


def _life(
    version: ModelVersion, events: Iterable[Mapping[str, Any]], moves: Iterable[Mapping[str, Any]]
) -> list[LifeEvent]:
    own = [LifeEvent(version.created_at, "registered", version.created_by, version.purpose)]
    own += [LifeEvent(one["at"], one["event"], one["actor"], one["reason"]) for one in events]
    number = version.version
    for one in moves:
        if one["version"] == number:
            after = f", after @{one['previous']}" if one["previous"] is not None else ""
            own.append(LifeEvent(one["at"], f"became {one['alias']}{after}", one["actor"], one["reason"]))
        elif one["previous"] == number:
            to = f"; @{one['version']} has it now" if one["version"] is not None else ""
            own.append(LifeEvent(one["at"], f"no longer {one['alias']}{to}", one["actor"], one["reason"]))
    return sorted(own, key=lambda one: one.at)


def _level_name(level: object) -> str:
    return "unknown" if level is None else str(level)


def _of_evidence(facts: CardFacts) -> Iterator[str]:
    held_out, metrics = facts.metrics.get("held_out"), facts.metrics
    if not held_out or not facts.algorithms:
        yield "How well it scores is not measured."
        return
    apart = " but those that calibrate it" if metrics.get("calibrate") else ""
    yield (
        "The figures come from models that were fitted on earlier dates. This version was then fitted again on all "
        f"dates{apart}; that very model was not measured."
    )
    needed = facts.spec.promotion.min_dates if facts.spec else 0
    if held_out["dates"] < needed:
        yield (
            f"It was measured on only {held_out['dates']} score dates. Rows of one date resemble each other, so dates "
            f"are what counts; the promotion gate asks for {needed}."
        )
    if not facts.own.get("intervals"):
        yield "How far the figures would move on other dates is not measured: they have no intervals."
    if not credible_gain(metrics.get("worth")):
        yield "That it is better than doing without a model is not shown."


def _of_data(facts: CardFacts) -> Iterator[str]:
    learnt = facts.metrics.get("all")
    if learnt:
        yield f"It learnt from score dates up to {learnt['last']}; what has changed since then it does not know."
    if facts.left_out:
        named = name_some(sorted(facts.left_out))
        yield f"Score dates of its window that taught it nothing, for want of labels, {len(facts.left_out)}: {named}."
    if facts.spec and facts.spec.label.description:
        yield f"Its label, in the words of the spec: {facts.spec.label.description.rstrip('.')}."
    yield "Rows that never got a label were neither learnt from nor measured."


def _of_scores(facts: CardFacts) -> Iterator[str]:
    if facts.version.task == "binary" and not facts.metrics.get("calibration"):
        yield "Its scores are not calibrated: of rows with a score of 0.7, another share than 70 % may come true."


def _of_groups(facts: CardFacts) -> Iterator[str]:
    if not facts.levels:
        yield "It was not measured by segment, so it may be bad in one part of the rows without anyone having seen it."
    for column, levels in facts.levels.items():
        if few := [one.name for one in levels if not one.judged]:
            yield f"Too few rows to judge these levels of {column}: {name_some(few)}."
    if facts.spec and not any(column.sensitive for column in facts.columns):
        yield "No feature is marked sensitive, so nobody has compared how it treats groups of people."
    elif not facts.metrics.get("fairness"):
        yield "How it treats the levels of sensitive columns is not measured."


def _of_features(facts: CardFacts) -> Iterator[str]:
    if not facts.spec:
        yield "Its spec cannot be read by today's schema; see spec.yaml in its capsule."
    gains = facts.metrics.get("importance") or {}
    unused = [facts.titles[column.name] for column in facts.columns if not gains.get(column.name)]
    if gains and unused:
        yield f"Features that it never uses, {len(unused)} of {len(facts.columns)}: {name_some(unused)}."
    if absent := [facts.titles[column.name] for column in facts.columns if column.may_be_null]:
        yield f"A night is scored also where these features have no value at all: {name_some(absent)}."
    if undescribed := [column.name for column in facts.columns if not column.description]:
        yield f"Features without a description, {len(undescribed)} of {len(facts.columns)}: {name_some(undescribed)}."


def _of_proof(facts: CardFacts) -> Iterator[str]:
    if (facts.version.provenance or {}).get("dirty"):
        yield "It was trained from changes that were not committed, so nobody has reviewed its code."
    found = facts.reproduction
    if found is None:
        yield "Nobody has tried yet to train it again and compare."
    elif found.outcome != "reproduced":
        why = f": {found.first_difference}" if found.first_difference else ""
        yield f"The newest attempt to train it again came out as {found.outcome!r}{why}."
