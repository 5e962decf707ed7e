"""When a challenger is trained: the rhythm, what brings it forward, and what nothing lifts; every rule is named."""

from datetime import date, timedelta

import pytest

from nightscore.spec.monitoring import Policy
from nightscore.spec.promotion import Promotion
from nightscore.watch.evidence import LabelArrival, NightDecision
from nightscore.watch.incidents import Cause, Incident
from nightscore.watch.levels import Level, Signal
from nightscore.watch.retraining import History, decide_retraining, find_obstacle, promotion_leave

START = date(2024, 3, 4)
AUTO = Promotion(approve="auto")
POLICY = Policy(promotion=AUTO)
ENOUGH = LabelArrival(new_mature_share=0.078)
LOOKED = History(looked=START, attempts=(START,))


def on(at: int) -> date:
    return START + timedelta(days=at)


def days(*at: int) -> tuple[date, ...]:
    return tuple(map(on, at))


def incident(level: Level, cause: str = "psi_week:age") -> Incident:
    signal = Signal(level=level, cause=cause, value=2, threshold=1, ratio=2, fires=True, message="")
    causes = (Cause(key=cause, level=level, worst=signal, worst_on=START),)
    return Incident(incident_id="ab12", pipeline="visits", level=level, opened=START, last_seen=START, causes=causes)


def decide(
    night: int, history: History, incidents: list[Incident] | None = None, labels: LabelArrival | None = ENOUGH
) -> tuple[History, NightDecision | None]:
    return decide_retraining("visits", on(night), POLICY, history, labels, incidents or [])


def verdict(made: NightDecision | None) -> str | None:
    return made and made.verdict


def test_the_first_night_only_starts_the_rhythm() -> None:
    assert decide(0, History()) == (History(looked=START), None)


@pytest.mark.parametrize(
    ("night", "history", "level", "share", "expected"),
    [
        (6, LOOKED, None, 0.078, None),
        (7, LOOKED, None, 0.078, "attempt"),
        (7, LOOKED, None, 0.05, "attempt"),
        (7, LOOKED, None, 0.049, "no_attempt"),
        (7, LOOKED, None, None, "no_attempt"),
        (7, LOOKED, "L1", 0.078, "no_attempt"),
        (7, LOOKED, "L2", 0.078, "attempt"),
        (3, LOOKED, "L2", 0.078, None),
        (3, LOOKED, "L1", 0.078, None),
        (6, LOOKED, "L3", 0.078, "no_attempt"),
        (7, LOOKED, "L3", 0.078, "attempt"),
        (9, History(looked=on(7), attempts=(START,)), None, 0.078, None),
        (9, History(looked=on(7), attempts=(START,)), "L3", 0.078, "attempt"),
        (9, History(looked=on(7), attempts=(START,)), "L4", 0.078, "attempt"),
        (9, History(looked=on(7), attempts=(START,)), "L4", 0.01, "no_attempt"),
        (28, History(looked=on(21), attempts=days(0, 7, 14, 21)), None, 0.078, None),
        (30, History(looked=on(21), attempts=days(0, 7, 14, 21)), None, 0.078, "attempt"),
        (28, History(looked=on(21), attempts=days(0, 7, 14, 21)), "L4", 0.078, "ask"),
        (27, History(looked=on(21), attempts=days(0, 7, 14, 21)), "L4", 0.078, "no_attempt"),
        (28, History(looked=on(21), attempts=days(0, 7, 14, 21)), "L4", 0.01, "no_attempt"),
        (30, History(looked=on(21), attempts=days(0, 7, 14, 21)), "L4", 0.078, "attempt"),
    ],
)
def test_an_attempt_is_made_when_it_is_due_or_asked_for_and_allowed(
    night: int, history: History, level: Level | None, share: float | None, expected: str | None
) -> None:
    labels = None if share is None else LabelArrival(new_mature_share=share)
    after, made = decide(night, history, [incident(level)] if level else [], labels)
    assert verdict(made) == expected
    assert (on(night) in after.attempts) is (expected == "attempt")


def test_an_open_l1_forbids_what_drift_asks_for() -> None:
    history = History(looked=on(7), attempts=(START,))
    _, made = decide(9, history, [incident("L4", "outcomes:above"), incident("L1", "rows:low")])
    assert made is not None
    assert (made.verdict, made.tell, made.not_before) == ("no_attempt", False, None)
    assert made.reason == (
        "asked for by L4 incident ab12 (outcomes:above); L1 is open: ab12 (rows:low); "
        "7.8 % new mature labels (5 % needed); the last attempt was on 2024-03-04 (7 days between two); "
        "1 attempts in 30 days (4 allowed; more by a person)"
    )


def test_an_attempt_names_every_rule_and_who_may_promote() -> None:
    after, made = decide(7, LOOKED, [incident("L3")])
    assert made is not None
    assert made.rules == ("due", "no_open_l1", "labels", "cooldown", "budget", "promotion")
    assert made.reason == (
        "a look is due every 7 days, the last was on 2024-03-04 and asked for by L3 incident ab12 (psi_week:age); "
        "no L1 is open; 7.8 % new mature labels (5 % needed); "
        "the last attempt was on 2024-03-04 (7 days between two); "
        "1 attempts in 30 days (4 allowed; more by a person); "
        "0 promotions by the gate in 30 days (2 allowed): the gate may promote"
    )
    assert (made.promotion, made.not_before) == ("gate", None)
    assert after == History(looked=on(7), attempts=days(0, 7), refused=("cooldown",))
    assert decide(8, after, [incident("L3")]) == (after, None)


def test_not_enough_evidence_is_an_answer() -> None:
    labels = LabelArrival(expected=900, arrived=300, new_mature_share=0.02)
    _, made = decide(7, LOOKED, labels=labels)
    assert made is not None
    assert "not enough evidence: 2 % new mature labels (5 % needed); 300 of 900 that were due have come" in made.reason
    _, unknown = decide(7, LOOKED, labels=None)
    assert unknown is not None
    assert "not enough evidence: it is not known how many labels are new" in unknown.reason


def test_a_refusal_of_what_an_incident_asks_for_is_said_once() -> None:
    history, said = LOOKED, []
    for night in range(1, 7):
        history, made = decide(night, history, [incident("L4")])
        said.append((verdict(made), made and made.not_before))
    assert said == [("no_attempt", on(7)), *[(None, None)] * 5]


def test_a_person_is_asked_once_and_told_when_the_budget_frees() -> None:
    history, said = History(looked=on(21), attempts=days(0, 7, 14, 21)), []
    for night in range(28, 31):
        history, made = decide(night, history, [incident("L4")])
        said.append((verdict(made), made and made.not_before, made and made.tell))
    assert said == [("ask", on(30), True), (None, None, None), ("attempt", None, False)]


def test_a_refused_look_comes_again_a_rhythm_later() -> None:
    history, _ = decide(7, LOOKED, labels=LabelArrival(new_mature_share=0.01))
    assert history == History(looked=on(7), attempts=(START,))
    assert decide(13, history) == (history, None)
    assert verdict(decide(14, history)[1]) == "attempt"


@pytest.mark.parametrize(
    ("night", "promotions", "holds", "not_before"),
    [
        (20, (), True, None),
        (20, (7,), False, 21),
        (21, (7,), True, None),
        (28, (0, 14), False, 30),
        (30, (0, 14), True, None),
        (27, (0, 14), False, 30),
        (20, (0, 14), False, 30),
    ],
)
def test_the_gate_promotes_within_cooldown_and_budget(
    night: int, promotions: tuple[int, ...], holds: bool, not_before: int | None
) -> None:
    leave = promotion_leave(on(night), AUTO, History(promotions=days(*promotions)))
    assert (leave.holds, leave.not_before) == (holds, None if not_before is None else on(not_before))


def test_a_person_promotes_when_the_spec_says_so_or_the_budget_is_none() -> None:
    person = promotion_leave(on(20), Promotion(), History())
    assert (person.holds, person.words, person.not_before) == (False, "the spec leaves promotion to a person", None)
    never = promotion_leave(on(20), Promotion(approve="auto", max_in_30_days=0), History())
    assert (never.holds, never.not_before) == (False, None)
    assert never.words == "0 promotions by the gate in 30 days (0 allowed): only a person may promote"


def test_a_promotion_told_twice_counts_once() -> None:
    once = History().with_promotion(on(3))
    assert once.with_promotion(on(3)) == once == History(promotions=days(3))
    assert once.with_promotion(on(40)) == History(promotions=days(40))


def rule_that_asked(*levels: Level, night: int = 9) -> str:
    asking = [incident(level, f"cause:{level}") for level in levels]
    _, made = decide(night, History(looked=on(7), attempts=(START,)), asking)
    assert made is not None
    return made.rules[0]


@pytest.mark.parametrize(
    ("levels", "night", "rule"),
    [
        (["L3"], 9, "brought_forward:L3"),
        (["L4"], 9, "brought_forward:L4"),
        (["L3", "L4"], 9, "brought_forward:L4"),
        (["L4", "L3", "L2"], 9, "brought_forward:L4"),
        (["L3", "L4"], 14, "due"),
        ([], 14, "due"),
    ],
)
def test_exactly_one_rule_put_the_question(levels: list[Level], night: int, rule: str) -> None:
    assert rule_that_asked(*levels, night=night) == rule


@pytest.mark.parametrize(
    ("newest", "attempts", "incidents", "obstacle"),
    [
        (7, (0, 7), [], ""),
        (14, (0, 7), [], ""),
        (15, (0, 7), [], "it is 8 nights old, and older than 7 days is not begun"),
        (60, (50,), [], "it is 53 nights old, and older than 7 days is not begun"),
        (7, (0,), [], "2024-03-11 was judged again, on evidence that asks for none"),
        (9, (0, 7), [("L1", 8)], "L1 has opened since: ab12 (rows:low) on 2024-03-12"),
        (9, (0, 7), [("L1", 7), ("L2", 8), ("L3", 8), ("L4", 8)], ""),
    ],
)
def test_an_attempt_that_was_decided_on_is_begun_only_while_nothing_speaks_against_it(
    newest: int, attempts: tuple[int, ...], incidents: list[tuple[Level, int]], obstacle: str
) -> None:
    known = [incident(level, "rows:low").model_copy(update={"opened": on(at)}) for level, at in incidents]
    history = History(looked=on(7), attempts=days(*attempts))
    assert find_obstacle(on(7), on(newest), history, known, POLICY.monitoring.retraining) == obstacle
