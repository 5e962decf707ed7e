"""Whether to train a challenger tonight: a rhythm, which L3 and L4 only bring forward, and limits that nothing lifts.

Added here: a rule of when to train. Not here: whether a challenger is better (`registry/gate.py`), or training itself.
"""

from collections.abc import Iterable, Iterator, Sequence
from datetime import date, timedelta
from typing import Literal

from nightscore.spec.monitoring import Policy, Retraining
from nightscore.spec.promotion import Promotion
from nightscore.watch.evidence import Fact, LabelArrival, NightDecision
from nightscore.watch.incidents import Incident

BUDGET_DAYS = 30
DUE = "due"
BROUGHT_FORWARD = {"L3": "brought_forward:L3", "L4": "brought_forward:L4"}
"""The rule that put the question: the rhythm, or the level that did not wait for it."""
_WAITED_OUT = frozenset({"cooldown", "budget"})
"""Rules that end by themselves: a rhythm waits for them in silence, and only an incident asks about them."""


class History(Fact):
    """What retraining remembers: the last look, attempts and promotions by the gate of the last 30 days or the newest.

    `refused` is what stood against the wish of an incident when it was last said, so that it is said once.
    """

    looked: date | None = None
    attempts: tuple[date, ...] = ()
    promotions: tuple[date, ...] = ()
    refused: tuple[str, ...] = ()

    def with_promotion(self, on: date) -> "History":
        """After a promotion by the gate; told twice, it counts once."""
        days = {*self.promotions, on}
        return self.model_copy(update={"promotions": _kept(days, max(days))})


class Rule(Fact):
    """One rule as it stands tonight; `not_before` is when it may end by itself."""

    name: str
    holds: bool
    words: str
    not_before: date | None = None


def decide_retraining(
    pipeline: str, night: date, policy: Policy, history: History, labels: LabelArrival | None,
    incidents: Sequence[Incident],
) -> tuple[History, NightDecision | None]:  # fmt: skip
    """Tonight's answer and what to remember; no answer when it is nobody's turn.

    `incidents` are the open ones. The first night only starts the rhythm. Attempts count when they are decided on,
    whatever becomes of them. A refusal that an incident meets is said once, and again when its rules change.
    """
    retraining = policy.monitoring.retraining
    wanted = [one for one in incidents if one.levels & {"L3", "L4"}]
    if history.looked is None:
        return history.model_copy(update={"looked": night}), None
    due = night >= history.looked + timedelta(days=retraining.every_days)
    if not due and not wanted:
        return history.model_copy(update={"refused": ()}), None
    rules = list(_rules(night, retraining, history, labels, incidents))
    broken = tuple(rule.name for rule in rules if not rule.holds)
    if not broken:
        return _attempt(pipeline, night, policy, history, [_call(due, wanted, history, retraining), *rules])
    if not wanted and _WAITED_OUT & set(broken):
        return history, None
    if not due and broken == history.refused:
        return history, None
    asked = bool(wanted) and broken == ("budget",)
    looked = night if due else history.looked
    after = history.model_copy(update={"looked": looked, "refused": broken if wanted else ()})
    # Said already: a person need not hear it again because a look is due as well.
    tell = asked and broken != history.refused
    said = [_call(due, wanted, history, retraining), *rules]
    return after, _decision(pipeline, night, "ask" if asked else "no_attempt", said, tell)


def promotion_leave(night: date, rules: Promotion, history: History) -> Rule:
    """Whether the gate may promote on `night` without a person, by cooldown and budget of promotions."""
    recent = _recent(history.promotions, night)
    free = max(
        [_end_of_cooldown(history.promotions, rules.cooldown_days), _end_of_budget(recent, rules.max_in_30_days)]
    )
    words = f"{len(recent)} promotions by the gate in {BUDGET_DAYS} days ({rules.max_in_30_days} allowed)"
    if history.promotions:
        words += f", the last on {history.promotions[-1]} ({rules.cooldown_days} days between two)"
    until = "" if free == date.max else f" before {free}"
    words += ": the gate may promote" if free <= night else f": only a person may promote{until}"
    if rules.approve == "person":
        words = "the spec leaves promotion to a person"
    holds = free <= night and rules.approve == "auto"
    waits = rules.approve == "auto" and night < free < date.max
    return Rule(name="promotion", holds=holds, words=words, not_before=free if waits else None)


def find_obstacle(
    night: date, newest: date, history: History, incidents: Iterable[Incident], rules: Retraining
) -> str:  # fmt: skip
    """Why an attempt that was decided on `night` must not begin now, in words; "" while it may.

    `newest` is the newest watched night, `history` and `incidents` are as known after it. What was decided meanwhile
    lifts nothing: the next look decides anew.
    """
    age = (newest - night).days
    if age > rules.cooldown_days:
        return f"it is {age} nights old, and older than {rules.cooldown_days} days is not begun"
    if night not in history.attempts:
        return f"{night} was judged again, on evidence that asks for none"
    since = [one for one in incidents if one.level == "L1" and one.opened > night]
    names = ", ".join(f"{one.incident_id} ({one.cause}) on {one.opened}" for one in since)
    return f"L1 has opened since: {names}" if since else ""


def _attempt(
    pipeline: str, night: date, policy: Policy, history: History, rules: Sequence[Rule]
) -> tuple[History, NightDecision]:
    leave = promotion_leave(night, policy.promotion, history)
    decision = _decision(pipeline, night, "attempt", [*rules, leave])
    by = "gate" if leave.holds else "person"
    attempts = _kept((*history.attempts, night), night)
    # The cooldown that an attempt begins needs no saying.
    after = history.model_copy(update={"looked": night, "attempts": attempts, "refused": ("cooldown",)})
    return after, decision.model_copy(update={"promotion": by, "not_before": None})


def _call(due: bool, wanted: Sequence[Incident], history: History, rules: Retraining) -> Rule:
    """What put the question tonight; what only incidents ask for is brought forward by the gravest of them."""
    words = [f"a look is due every {rules.every_days} days, the last was on {history.looked}"] if due else []
    words += [f"asked for by {one.level} incident {one.incident_id} ({one.cause})" for one in wanted]
    name = DUE if due else max(BROUGHT_FORWARD[level] for one in wanted for level in one.levels & {"L3", "L4"})
    return Rule(name=name, holds=True, words=" and ".join(words))


def _rules(
    night: date, rules: Retraining, history: History, labels: LabelArrival | None, incidents: Sequence[Incident]
) -> Iterator[Rule]:
    blocking = [one for one in incidents if one.level == "L1"]
    names = ", ".join(f"{one.incident_id} ({one.cause})" for one in blocking)
    yield Rule(name="no_open_l1", holds=not blocking, words=f"L1 is open: {names}" if blocking else "no L1 is open")
    yield _label_rule(labels, rules)
    free = _end_of_cooldown(history.attempts, rules.cooldown_days)
    last = f"the last attempt was on {history.attempts[-1]}" if history.attempts else "no attempt yet"
    yield Rule(
        name="cooldown", holds=free <= night, words=f"{last} ({rules.cooldown_days} days between two)", not_before=free
    )
    recent = _recent(history.attempts, night)
    free = _end_of_budget(recent, rules.max_in_30_days)
    words = f"{len(recent)} attempts in {BUDGET_DAYS} days ({rules.max_in_30_days} allowed; more by a person)"
    yield Rule(name="budget", holds=free <= night, words=words, not_before=None if free == date.max else free)


def _label_rule(labels: LabelArrival | None, rules: Retraining) -> Rule:
    if labels is None:
        return Rule(name="labels", holds=False, words="not enough evidence: it is not known how many labels are new")
    words = f"{100 * labels.new_mature_share:.3g} % new mature labels ({100 * rules.min_new_labels:.3g} % needed)"
    if labels.new_mature_share >= rules.min_new_labels:
        return Rule(name="labels", holds=True, words=words)
    arrived = f"; {labels.arrived} of {labels.expected} that were due have come" if labels.expected else ""
    return Rule(name="labels", holds=False, words=f"not enough evidence: {words}{arrived}")


def _decision(
    pipeline: str, night: date, verdict: Literal["attempt", "no_attempt", "ask"], rules: Sequence[Rule],
    tell: bool = False,
) -> NightDecision:  # fmt: skip
    waits = [rule.not_before for rule in rules if not rule.holds and rule.not_before is not None]
    return NightDecision(
        pipeline=pipeline, night=night, kind="retrain", subject=pipeline, verdict=verdict,
        reason="; ".join(rule.words for rule in rules), rules=tuple(rule.name for rule in rules),
        not_before=max(waits, default=None), tell=tell,
    )  # fmt: skip


def _recent(days: Sequence[date], night: date) -> list[date]:
    return [day for day in days if (night - day).days < BUDGET_DAYS]


def _kept(days: Iterable[date], night: date) -> tuple[date, ...]:
    """In order, without those that no budget counts any more; the newest stays for its cooldown."""
    ordered = sorted(days)
    return tuple(_recent(ordered, night) or ordered[-1:])


def _end_of_cooldown(days: Sequence[date], cooldown_days: int) -> date:
    return days[-1] + timedelta(days=cooldown_days) if days else date.min


def _end_of_budget(recent: Sequence[date], most: int) -> date:
    """The first night with room for one more; never with a budget of none."""
    if len(recent) < most:
        return date.min
    return recent[len(recent) - most] + timedelta(days=BUDGET_DAYS) if most else date.max
