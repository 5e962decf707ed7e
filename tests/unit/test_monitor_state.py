"""The watch as one machine: replayable, idempotent, in order, and within its budgets whatever the nights bring."""

from collections.abc import Iterable
from datetime import date, timedelta
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nightscore.errors import Permanent
from nightscore.spec.monitoring import Policy
from nightscore.spec.promotion import Promotion
from nightscore.watch.evidence import (
    ColumnNight,
    ColumnWeek,
    LabelArrival,
    MatureOutcomes,
    NightDecision,
    NightEvidence,
    Residual,
)
from nightscore.watch.state import (
    EVENTS,
    GatePromoted,
    IncidentAccepted,
    IncidentClosed,
    MonitorState,
    advance,
    replay,
    step,
)

START = date(2024, 3, 4)
POLICY = Policy(promotion=Promotion(approve="auto"))
FRESH = MonitorState(pipeline="visits")


def on(at: int) -> date:
    return START + timedelta(days=at)


def night(
    at: int, nulls: float = 0.0, psi: float = 0.01, week: float = 0.01, residual: float = 0.0, rows: int = 1000,
    share: float = 0.08, **figures: Any,
) -> NightEvidence:  # fmt: skip
    given: dict[str, Any] = {
        "pipeline": "visits", "score_date": on(at), "reference": "visits@1", "rows": rows,
        "rows_min": 900, "rows_max": 1100,
        "columns": (ColumnNight(name="age", null_rate=nulls), ColumnNight(name="score", psi=psi)),
        "week": (ColumnWeek(name="score", psi=week),),
        "labels": LabelArrival(new_mature_share=share),
        "outcomes": MatureOutcomes(
            residuals=(Residual(day=on(at - 1), mean=residual),), residual_sd=0.02, days=14, positives=500
        ),
    }  # fmt: skip
    return NightEvidence.model_validate({**given, **figures})


def told(decisions: Iterable[NightDecision]) -> list[str]:
    return [f"{(one.night - START).days} {one.kind} {one.verdict}" for one in decisions]


NIGHTS = st.lists(
    st.builds(
        dict,
        nulls=st.sampled_from([0.0, 0.0, 0.045, 0.4]),
        psi=st.sampled_from([0.01, 0.22, 0.6]),
        week=st.sampled_from([0.01, 0.09, 0.3]),
        residual=st.sampled_from([0.0, 0.01, 0.05, -0.05]),
        rows=st.sampled_from([1000, 1000, 300, 0]),
        share=st.sampled_from([0.01, 0.08]),
        reference=st.sampled_from(["visits@1", "visits@1", "visits@1", "visits@2"]),
    ),
    max_size=25,
)


@settings(max_examples=40, deadline=None)
@given(NIGHTS)
def test_night_by_night_through_json_is_the_same_as_in_one_go(drawn: list[dict[str, Any]]) -> None:
    evidences = [night(at, **figures) for at, figures in enumerate(drawn)]
    state, decisions = FRESH, []
    for evidence in evidences:
        read = NightEvidence.model_validate_json(evidence.model_dump_json())
        state, made = advance(MonitorState.model_validate_json(state.model_dump_json()), read, POLICY)
        decisions += [NightDecision.model_validate_json(one.model_dump_json()) for one in made]
        assert advance(state, evidence, POLICY) == (state, ())
    assert (state, tuple(decisions)) == replay(evidences, POLICY, FRESH)


def test_events_of_every_kind_survive_json() -> None:
    events = [
        night(0, nulls=0.4),
        GatePromoted(on=on(0)),
        IncidentAccepted(incident_id="a", on=on(0), actor="ada", reason="fine"),
        IncidentClosed(incident_id="a", on=on(0), actor="ada", reason="no", false_alarm=True),
    ]
    assert EVENTS.validate_json(EVENTS.dump_json(events)) == events


def test_a_night_again_changes_nothing_even_after_a_person_spoke() -> None:
    state, made = advance(FRESH, night(0, nulls=0.4), POLICY)
    assert told(made) == ["0 publish blocked", "0 incident opened"]
    closing = IncidentClosed(incident_id=state.ledger.open[0].incident_id, on=on(0), actor="ada", reason="mended")
    state, _ = step(state, closing, POLICY)
    assert advance(state, night(0, nulls=0.4), POLICY) == (state, ())


@pytest.mark.parametrize(
    ("evidence", "found"),
    [
        (night(4), "the state stands at 2024-03-09 already: nights are judged in order"),
        (night(5, nulls=0.4), "the night was judged already, on other evidence"),
        (night(6, pipeline="other"), "the state is that of visits"),
    ],
)
def test_a_night_out_of_order_is_refused(evidence: NightEvidence, found: str) -> None:
    state, _ = advance(FRESH, night(5), POLICY)
    with pytest.raises(Permanent) as refused:
        advance(state, evidence, POLICY)
    assert refused.value.found == (found,)


def test_a_night_judged_again_from_the_state_before_it_forgets_the_fault() -> None:
    before, _ = advance(FRESH, night(0), POLICY)
    faulty, _ = advance(before, night(1, nulls=0.4), POLICY)
    mended, made = advance(before, night(1), POLICY)
    assert (faulty.excluded_dates, mended.excluded_dates, made) == ((on(1),), (), ())


def test_clean_nights_decide_nothing_but_scheduled_attempts() -> None:
    evidences = [night(at, residual=0.02 * (-1) ** at) for at in range(36)]
    state, made = replay(evidences, POLICY, FRESH)
    assert told(made) == [f"{at} retrain attempt" for at in (7, 14, 21, 28)]
    assert state.ledger.incidents == ()
    _, scarce = replay([night(at, share=0.01) for at in range(15)], POLICY, FRESH)
    assert told(scarce) == ["7 retrain no_attempt", "14 retrain no_attempt"]


def test_an_l1_blocks_each_of_its_nights_and_forbids_training_until_it_is_closed() -> None:
    faulty = {5: 0.4, 6: 0.4, 8: 0.4}
    state, made = replay([night(at, nulls=faulty.get(at, 0.0)) for at in range(23)], POLICY, FRESH)
    assert told(made) == [
        "5 publish blocked", "5 incident opened", "6 publish blocked", "7 retrain no_attempt", "8 publish blocked",
        "14 retrain no_attempt", "15 incident closed", "21 retrain attempt",
    ]  # fmt: skip
    assert state.excluded_dates == (on(5), on(6), on(8))


def test_drift_brings_an_attempt_forward_when_nothing_forbids_it() -> None:
    evidences = [night(at, share=0.01 if at <= 7 else 0.08, week=0.3 if at >= 8 else 0.01) for at in range(12)]
    _, made = replay(evidences, POLICY, FRESH)
    assert told(made) == ["7 retrain no_attempt", "9 incident opened", "9 retrain attempt"]


def test_outcomes_off_by_a_little_every_day_are_one_incident() -> None:
    nights = [night(at, residual=0.05, share=0.0) for at in range(30)]
    state, made = replay(nights, POLICY, FRESH)
    assert [words for words in told(made) if "incident" in words] == ["3 incident opened"]
    assert state.ledger.open[0].cause == "outcomes:above"
    accepted = IncidentAccepted(incident_id=state.ledger.open[0].incident_id, on=on(29), actor="ada", reason="so be it")
    more = [night(at, residual=0.05, share=0.0) for at in range(30, 60)]
    state, made = replay([accepted, *more], POLICY, state)
    assert [words for words in told(made) if "incident" in words] == ["29 incident accepted"]
    _, made = replay([night(at, residual=0.1, share=0.0) for at in range(60, 66)], POLICY, state)
    assert [words for words in told(made) if "incident" in words] == ["63 incident opened"]


def test_outcomes_are_forgotten_with_the_champion_they_were_of() -> None:
    state, _ = replay([night(at, residual=0.05) for at in range(6)], POLICY, FRESH)
    outcomes = MatureOutcomes(residuals=(Residual(day=on(5), mean=0.0),), residual_sd=0.02, days=1, positives=9)
    state, made = advance(state, night(6, reference="visits@2", outcomes=outcomes), POLICY)
    assert told(made) == ["6 incident closed"]
    assert (state.cusum.above, state.cusum.day, state.notes[0]) == (
        0.0, on(5), "L4: not enough evidence: 1 mature days, 10 are needed",
    )  # fmt: skip


def test_nights_of_an_accepted_l1_are_published_and_trained_on_again() -> None:
    state, _ = replay([night(0), night(1, nulls=0.4, rows=300), night(2, nulls=0.4)], POLICY, FRESH)
    accepted = IncidentAccepted(incident_id=state.ledger.open[0].incident_id, on=on(2), actor="ada", reason="closed")
    state, _ = step(state, accepted, POLICY)
    assert state.excluded_dates == ()
    state, made = advance(state, night(3, nulls=0.4), POLICY)
    assert (made, state.excluded_dates) == ((), ())
    _, made = advance(state, night(4, nulls=0.9), POLICY)
    assert told(made) == ["4 publish blocked", "4 incident opened"]


def simulate(moods: list[str]) -> tuple[list[date], list[date], int]:
    """Attempts and promotions by a gate that promotes whatever it may, and the questions put to a person."""
    state, attempts, promotions, asked = FRESH, [], [], 0
    kinds: dict[str, dict[str, Any]] = {
        "clean": {}, "weekly": {"week": 0.5, "psi": 0.6}, "bias": {"residual": 0.06}, "fault": {"nulls": 0.5},
    }  # fmt: skip
    for at, mood in enumerate(moods):
        state, made = advance(state, night(at, **kinds[mood], reference=f"visits@{len(promotions)}"), POLICY)
        for one in made:
            asked += one.verdict == "ask"
            if one.verdict == "attempt":
                attempts.append(one.night)
                if one.promotion == "gate":
                    promotions.append(one.night)
                    state, _ = step(state, GatePromoted(on=one.night), POLICY)
    return attempts, promotions, asked


def require_budget(days: list[date], most: int, apart: int) -> None:
    assert all(later - earlier >= timedelta(days=apart) for earlier, later in pairwise(days))
    assert all(sum(0 <= (other - day).days < 30 for other in days) <= most for day in days)


MOODS = st.lists(st.tuples(st.sampled_from(["clean", "weekly", "bias", "fault"]), st.integers(1, 20)), min_size=12)


@settings(max_examples=25, deadline=None)
@given(MOODS)
def test_budgets_hold_over_120_nights_of_alternating_drift(stretches: list[tuple[str, int]]) -> None:
    moods = [mood for mood, length in stretches for _ in range(length)][:120]
    attempts, promotions, _ = simulate(moods)
    require_budget(attempts, most=4, apart=7)
    require_budget(promotions, most=2, apart=14)
    assert set(promotions) <= set(attempts)


def test_drift_that_never_ends_uses_the_budget_and_asks_a_person() -> None:
    attempts, promotions, asked = simulate((["weekly"] * 10 + ["bias"] * 10) * 6)
    require_budget(attempts, most=4, apart=7)
    require_budget(promotions, most=2, apart=14)
    assert (len(attempts), len(promotions), asked) == (16, 8, 4)
