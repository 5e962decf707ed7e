"""Policies on trial: made-up nights under two policies, decisions of people, and files that are no policy."""

from collections.abc import Sequence
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nightscore.errors import SpecError
from nightscore.monitoring.backtest import NOT_TRIED, Backtest, LevelFigures, compare, read_policy, try_policy
from nightscore.monitoring.nights import policy_hash, policy_of
from nightscore.spec.loader import load_spec
from nightscore.spec.monitoring import Blocking, Incidents, Monitoring, Policy, Retraining, Shift
from nightscore.spec.pipeline import Pipeline
from nightscore.spec.promotion import Promotion
from nightscore.watch.evidence import ColumnNight, ColumnWeek, LabelArrival, NightDecision, NightEvidence
from nightscore.watch.incidents import incident_id
from nightscore.watch.state import Event, GatePromoted, IncidentAccepted, IncidentClosed, MonitorState, replay
from tests.shop import PROJECT

START = date(2024, 3, 4)
PRESENT = Policy(promotion=Promotion(approve="auto"))


def on(at: int) -> date:
    return START + timedelta(days=at)


def night(at: int, nulls: float = 0.0, week: float = 0.01, share: float = 0.01) -> NightEvidence:
    return NightEvidence(
        pipeline="visits", score_date=on(at), reference="visits@1", rows=1000,
        columns=(ColumnNight(name="age", null_rate=nulls),), week=(ColumnWeek(name="spend", psi=week),),
        labels=LabelArrival(new_mature_share=share),
    )  # fmt: skip


def weekly(floor: float) -> Policy:
    return Policy(
        monitoring=Monitoring(weekly_inputs=Shift(psi_floor=floor, psi_factor=1.25)),
        promotion=Promotion(approve="auto"),
    )


def tried(events: Sequence[Event], other: Policy, causes: dict[str, str] | None = None, since: int = 0) -> Backtest:
    trials = [try_policy("visits", events, policy, causes or {}) for policy in (PRESENT, other)]
    nights = [one.score_date for one in events if isinstance(one, NightEvidence) and one.score_date >= on(since)]
    return compare(trials[0], trials[1], nights)


def told(decisions: Sequence[NightDecision]) -> list[str]:
    return [f"{(one.night - START).days} {one.kind} {one.verdict}" for one in decisions]


NIGHTS = st.lists(
    st.builds(
        dict, nulls=st.sampled_from([0.0, 0.0, 0.4]), week=st.sampled_from([0.01, 0.3]),
        share=st.sampled_from([0.01, 0.08]),
    ),
    min_size=1, max_size=20,
)  # fmt: skip


@settings(max_examples=30)
@given(NIGHTS)
def test_a_policy_beside_itself_decides_the_same_and_as_the_watch_did(drawn: list[dict[str, Any]]) -> None:
    nights = [night(at, **figures) for at, figures in enumerate(drawn)]
    state, decisions = replay(nights, PRESENT, MonitorState(pipeline="visits"))
    trial = try_policy("visits", nights, PRESENT, {})
    assert (trial.state, trial.decisions, trial.skipped) == (state, decisions, ())
    made = tried(nights, PRESENT)
    assert (made.present, made.only_present, made.only_other) == (made.other, (), ())


def test_a_higher_floor_opens_fewer_incidents_and_trains_later() -> None:
    nights = [night(at, week=0.2 if 8 <= at <= 12 else 0.01, share=0.08 if at >= 8 else 0.01) for at in range(20)]
    made = tried(nights, weekly(0.25))
    assert (made.first, made.last, made.present.nights) == (on(0), on(19), 20)
    assert (made.present.levels["L3"], made.other.levels["L3"]) == (LevelFigures(1, 0, 10.0), LevelFigures(0, 0, None))
    assert (made.present.told, made.other.told) == (1, 0)
    assert (made.present.incidents_per_quarter, made.other.incidents_per_quarter) == (91 / 20, 0)
    assert told(made.only_present) == [
        "9 incident opened",
        "9 retrain attempt",
        "16 retrain attempt",
        "19 incident closed",
    ]
    assert told(made.only_other) == ["14 retrain attempt"]


def test_nights_that_only_one_policy_blocks_are_counted_and_told() -> None:
    blocking = Blocking(null_change=0.5)
    other = Policy(monitoring=Monitoring(blocking=blocking), promotion=Promotion(approve="auto"))
    made = tried([night(0), night(1, nulls=0.4), night(2, nulls=0.6)], other)
    assert (made.present.blocked, made.other.blocked) == (2, 1)
    assert told(made.only_present) == ["1 publish blocked", "1 incident opened"]
    assert told(made.only_other) == ["2 incident opened"]


def test_attempts_questions_and_refusals_follow_the_budget_of_each_policy() -> None:
    retraining = Retraining(max_in_30_days=1)
    other = Policy(monitoring=Monitoring(retraining=retraining), promotion=Promotion(approve="auto"))
    made = tried([night(at, share=0.08, week=0.3 if at >= 8 else 0.01) for at in range(20)], other)
    assert (made.present.attempts, made.present.asks, made.present.refusals) == (2, 0, 1)
    assert (made.other.attempts, made.other.asks) == (1, 1)


def test_an_attempt_that_the_gate_may_not_promote_any_more_is_another_decision() -> None:
    nights = [night(at, share=0.08) for at in range(8)]
    made = tried(nights, Policy())
    assert [(one.verdict, one.promotion) for one in made.only_present] == [("attempt", "gate")]
    assert [(one.verdict, one.promotion) for one in made.only_other] == [("attempt", "person")]
    promoted = tried([GatePromoted(on=on(0)), *nights], PRESENT)
    assert promoted.only_present == promoted.only_other == ()


def closed(cause: str, opened: int, at: int) -> IncidentClosed:
    wanted = incident_id("visits", cause, on(opened))
    return IncidentClosed(incident_id=wanted, on=on(at), actor="ada", reason="a holiday", false_alarm=True)


SHIFTED = [night(at, week=0.2 if at < 3 else 0.5) for at in range(5)]


def test_what_a_person_called_false_is_so_for_the_same_cause_opened_on_another_night() -> None:
    closing = closed("psi_week:spend", opened=1, at=4)
    made = tried([*SHIFTED, closing], weekly(0.25), {closing.incident_id: "psi_week:spend"})
    assert (made.present.levels["L3"], made.other.levels["L3"]) == (LevelFigures(1, 1, 3.0), LevelFigures(1, 1, 0.0))
    assert (made.present.false_per_quarter, made.other.skipped) == (91 / 5, 0)


def test_a_decision_without_an_incident_is_skipped_and_counted() -> None:
    closing = closed("psi_week:spend", opened=1, at=4)
    accepted = IncidentAccepted(incident_id=closing.incident_id, on=on(4), actor="ada", reason="so be it")
    for event in (closing, accepted):
        made = tried([*SHIFTED, event, night(5)], weekly(0.9), {closing.incident_id: "psi_week:spend"})
        assert (made.present.skipped, made.other.skipped, made.other.nights) == (0, 1, 6)
    # An id that was never an incident of the watch stands for nothing.
    assert tried([*SHIFTED, closed("psi_week:age", 1, 4)], weekly(0.25)).present.skipped == 1


def test_figures_of_later_nights_still_begin_with_the_first() -> None:
    nights = [night(at, nulls=0.4 if at < 3 else 0.0, week=0.3) for at in range(6)]
    made = tried(nights, weekly(0.9), since=2)
    assert (made.present.nights, made.present.blocked, made.present.levels["L1"].opened) == (4, 1, 0)
    assert (made.only_present, made.only_other) == ((), ())
    assert told(tried(nights, weekly(0.9)).only_present) == ["1 incident opened", "1 retrain no_attempt"]


@pytest.fixture(scope="module")
def pipeline() -> Pipeline:
    return load_spec(PROJECT / "pipelines" / "visits.yaml")


def written(folder: Path, text: str) -> Path:
    path = folder / "other.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_section_that_a_file_has_stands_in_place_of_that_of_the_spec(pipeline: Pipeline, tmp_path: Path) -> None:
    strict = pipeline.model_copy(update={"promotion": Promotion(cooldown_days=30)})
    text = "monitoring:\n  incidents: {quiet_nights: 3}\n"
    expected = Policy(monitoring=Monitoring(incidents=Incidents(quiet_nights=3)), promotion=strict.promotion)
    assert read_policy(written(tmp_path, text), strict) == expected
    assert read_policy(written(tmp_path, "promotion: {approve: auto}"), strict).promotion == Promotion(approve="auto")
    assert policy_hash(expected) != policy_hash(policy_of(strict))


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("", "other.yaml:1: found nothing, expected a mapping with monitoring or promotion"),
        ("- monitoring", "other.yaml:1: found a list, expected a mapping with monitoring or promotion"),
        ("watching: {}", "other.yaml:1: watching: found an unknown key, expected monitoring or promotion"),
        ("promotion:\nmonitoring: {}", "other.yaml:1: promotion: found nothing, expected a mapping"),
        (
            "monitoring:\n  weekly:\n    psi_floor: high\n    psi_factor: 1",
            "other.yaml:3: monitoring.weekly.psi_floor: found 'high', expected a number such as 0.05, without quotes",
        ),
        (
            "monitoring:\n  incidents:\n    needed: 9",
            "other.yaml:3: monitoring.incidents.needed: found 9, expected an integer <= 3",
        ),
        (
            "monitoring:\n  incidents: {quiet_night: 9}",
            "other.yaml:2: monitoring.incidents.quiet_night: found an unknown key (value 9), expected no such key; did "
            "you mean quiet_nights?",
        ),
        (
            "monitoring:\n\n  daily_variance_share: 0.5",
            "other.yaml:3: monitoring.daily_variance_share: found 0.5, expected 0.3, as in the spec: it acts when the "
            "reference is measured, and no replay can try it",
        ),
        (
            "promotion: {dates: 10, min_dates: 12}",
            "other.yaml:1: promotion.min_dates: found 12, expected at most dates 10",
        ),
        ("monitoring: {min_rows: 5}\nmonitoring: {}", "other.yaml:2: monitoring: found this key again"),
        ("monitoring: &x {min_rows: 5}", "other.yaml:1: monitoring: found the anchor &x"),
        ("monitoring:\n\t- a", "other.yaml:2: found a tab, expected spaces for indentation"),
    ],
)
def test_a_file_that_is_no_policy_is_refused_with_its_line(
    pipeline: Pipeline, tmp_path: Path, text: str, found: str
) -> None:
    with pytest.raises(SpecError) as refused:
        read_policy(written(tmp_path, text), pipeline)
    assert any(one.startswith(found) for one in refused.value.found), refused.value.found
    assert refused.value.exit_code == 2


def test_every_finding_of_a_file_is_told_at_once(pipeline: Pipeline, tmp_path: Path) -> None:
    text = "monitoring:\n  daily_variance_share: 0.5\n  outcomes: {wait_days: soon}\nwatch:\n  min_rows: x"
    with pytest.raises(SpecError) as refused:
        read_policy(written(tmp_path, text), pipeline)
    assert [one.split(", expected")[0] for one in refused.value.found] == [
        "other.yaml:2: monitoring.daily_variance_share: found 0.5",
        "other.yaml:3: monitoring.outcomes.wait_days: found 'soon'",
        "other.yaml:4: watch: found an unknown key",
    ]


def test_a_key_left_out_that_the_spec_sets_is_a_change_too(pipeline: Pipeline, tmp_path: Path) -> None:
    monitoring = Monitoring(daily_variance_share=0.4)
    with pytest.raises(SpecError, match=r"monitoring.daily_variance_share: found 0.3, expected 0.4, as in the spec"):
        read_policy(written(tmp_path, "monitoring: {}"), pipeline.model_copy(update={"monitoring": monitoring}))


@pytest.mark.parametrize("content", [None, b"\xff\xfe", b"#" * 300_000])
def test_a_file_that_cannot_be_read_is_refused(pipeline: Pipeline, tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "other.yaml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(SpecError, match=r"expected a YAML file in UTF-8 of at most 262,144 bytes"):
        read_policy(path, pipeline)


def test_settings_that_no_replay_can_try_are_settings() -> None:
    document = Policy().model_dump()
    for where in NOT_TRIED:
        section = document
        for name in where:
            section = section[name]
    assert ("promotion", "approve") not in NOT_TRIED
