"""One cause, one incident: when it opens, what joins it, when it is over, and what a person may say."""

from datetime import date, timedelta
from typing import Any

import pytest

from nightscore.errors import Permanent
from nightscore.spec.monitoring import Incidents
from nightscore.watch.evidence import NightDecision
from nightscore.watch.incidents import Ledger, Tonight, accept, close, false_alarms, follow, incident_id, retire
from nightscore.watch.levels import Signal

START = date(2024, 3, 4)
SPEC = Incidents()
LEVELS = {"rows": "L1", "nulls": "L1", "unseen": "L1", "psi_day": "L2", "labels": "L2", "psi_week": "L3",
          "domain": "L3", "outcomes": "L4"}  # fmt: skip


def on(at: int) -> date:
    return START + timedelta(days=at)


def signal(cause: str, ratio: float) -> Signal:
    family, _, name = cause.partition(":")
    level = LEVELS[family]
    columns = () if family in {"rows", "labels", "outcomes"} or not name else (name,)
    fields: dict[str, Any] = {"level": level, "cause": cause, "columns": columns, "value": ratio, "threshold": 1.0,
                              "ratio": ratio, "fires": ratio > 1, "at_once": level == "L1" or family == "labels",
                              "message": f"{cause} at {ratio:g}"}  # fmt: skip
    return Signal.model_validate(fields)


def watch(nights: list[dict[str, float]], ledger: Ledger | None = None, first: int = 0) -> tuple[Ledger, list[str]]:
    """Each night's ratios by cause; the decisions as `night verdict causes`."""
    ledger, said = ledger or Ledger(), []
    for at, ratios in enumerate(nights, first):
        signals = [signal(cause, ratio) for cause, ratio in ratios.items()]
        ledger, made = follow(ledger, Tonight("visits", on(at), signals, ledger.baselines, SPEC))
        said += [f"{at} {one.verdict} {' '.join(one.rules)}" for one in made]
    return ledger, said


@pytest.mark.parametrize(
    ("cause", "ratios", "expected"),
    [
        ("nulls:age", [2.0], ["0 opened"]),
        ("labels:sales", [2.0], ["0 opened"]),
        ("psi_day:age", [2.0], []),
        ("psi_day:age", [2.0, 2.0], ["1 opened"]),
        ("psi_day:age", [2.0, 0.0, 2.0], ["2 opened"]),
        ("psi_day:age", [2.0, 0.0, 0.0, 2.0], []),
        ("psi_week:age", [2.0, 2.0], ["1 opened"]),
        ("outcomes:above", [2.0, 2.0], ["1 opened"]),
        ("psi_day:age", [2.0] * 30, ["1 opened"]),
        ("nulls:age", [2.0] + [0.79] * 6, ["0 opened"]),
        ("nulls:age", [2.0] + [0.79] * 7, ["0 opened", "7 closed"]),
        ("nulls:age", [2.0] + [0.79] * 6 + [0.8] + [0.79] * 7, ["0 opened", "14 closed"]),
        ("nulls:age", [2.0] + [0.0] * 6 + [2.0] + [0.0] * 7, ["0 opened", "14 closed"]),
        ("nulls:age", [2.0] + [0.0] * 7 + [2.0], ["0 opened", "7 closed", "8 opened"]),
    ],
)
def test_an_incident_opens_once_and_closes_when_it_is_quiet(
    cause: str, ratios: list[float], expected: list[str]
) -> None:
    _, said = watch([{cause: ratio} for ratio in ratios])
    assert said == [f"{words} {cause}" for words in expected]


def test_nights_that_cannot_be_measured_neither_open_nor_close() -> None:
    unmeasured: list[dict[str, float]] = [{}] * 20
    assert watch([{"psi_day:age": 2.0}, *unmeasured, {"psi_day:age": 2.0}])[1] == ["21 opened psi_day:age"]
    ledger, said = watch([{"nulls:age": 2.0}, *unmeasured])
    assert (said, ledger.open[0].quiet) == (["0 opened nulls:age"], 0)


def test_an_incident_remembers_its_worst_night_and_tells_people_once() -> None:
    ledger, _ = watch([{"nulls:age": ratio} for ratio in (2.0, 5.0, 3.0, 0.1)])
    incident = ledger.open[0]
    assert (incident.opened, incident.last_seen, incident.nights, incident.quiet) == (on(0), on(2), 3, 1)
    assert (incident.messages, incident.causes[0].worst_on) == (("nulls:age at 5",), on(1))
    signals = [signal("nulls:age", 2.0)]
    _, (made,) = follow(Ledger(), Tonight("visits", on(0), signals, {}, SPEC))
    assert made == NightDecision(
        pipeline="visits", night=on(0), kind="incident", subject=incident_id("visits", "nulls:age", on(0)),
        verdict="opened", reason="L1 nulls:age: nulls:age at 2", rules=("nulls:age",), tell=True,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("nights", "expected"),
    [
        ([{"nulls:age": 2.0, "nulls:city": 3.0}], ["0 opened nulls:age nulls:city"]),
        (
            [{"rows:low": 2.0, "nulls:city": 3.0, "psi_day:age": 9.0}, {"rows:low": 2.0, "psi_day:age": 9.0}],
            ["0 opened rows:low nulls:city"],
        ),
        ([{"rows:low": 2.0}, {"rows:low": 2.0, "unseen:city": 9.0}], ["0 opened rows:low"]),
        ([{"rows:low": 2.0}, {"rows:low": 0.9, "unseen:city": 9.0}], ["0 opened rows:low", "1 opened unseen:city"]),
        ([{"rows:low": 2.0}, *[{"psi_week:age": 2.0, "rows:low": 0.9}] * 4], ["0 opened rows:low"]),
        ([{"unseen:city": 2.0}, *[{"psi_day:city": 2.0, "domain:city": 2.0}] * 3], ["0 opened unseen:city"]),
        ([{"nulls:age": 2.0}, {"nulls:city": 2.0}], ["0 opened nulls:age", "1 opened nulls:city"]),
        ([{"psi_day:age": 2.0}] * 2 + [{"nulls:age": 2.0}], ["1 opened psi_day:age", "2 opened nulls:age"]),
        ([{"psi_week:age": 2.0}] * 2 + [{"psi_day:age": 2.0}] * 3, ["1 opened psi_week:age"]),
        (
            [{"psi_day:age": 2.0}, {"psi_day:age": 2.0, "psi_day:city": 2.0}, {"psi_day:city": 2.0}],
            ["1 opened psi_day:age", "2 joined psi_day:age psi_day:city"],
        ),
        (
            [{"psi_day:age": 2.0}] * 4 + [{"psi_day:age": 2.0, "psi_day:city": 2.0}] * 2,
            ["1 opened psi_day:age", "5 opened psi_day:city"],
        ),
        (
            [{"psi_day:age": 2.0}] + [{"psi_day:age": 2.0, "labels:sales": 2.0}] * 2,
            ["1 opened psi_day:age", "1 opened labels:sales"],
        ),
        ([{"rows:low": 2.0, "outcomes:above": 2.0}] * 2, ["0 opened rows:low", "1 opened outcomes:above"]),
        (
            [{"domain:age": 2.0}] * 2 + [{"domain:city": 2.0}] * 4,
            ["1 opened domain:age", "3 joined domain:age domain:city"],
        ),
    ],
)
def test_signals_of_one_fault_are_one_incident(nights: list[dict[str, float]], expected: list[str]) -> None:
    assert watch(nights)[1] == expected


def test_what_an_l1_explains_is_kept_but_does_not_keep_it_open() -> None:
    drift = {"nulls:age": 0.1, "psi_week:age": 2.0}
    ledger, said = watch([{"nulls:age": 2.0, "psi_week:age": 2.0}, *[drift] * 9])
    assert said == ["0 opened nulls:age", "7 closed nulls:age", "8 opened psi_week:age"]
    assert [cause.key for cause in ledger.incidents[0].also] == ["psi_week:age"]


def test_a_classifier_that_finds_nothing_is_quiet_for_every_column() -> None:
    _, said = watch([{"domain:age": 2.0}] * 2 + [{"domain": 0.2}] * 7)
    assert said == ["1 opened domain:age", "8 closed domain:age"]


def test_an_accepted_cause_shows_again_only_beyond_its_worst_night() -> None:
    ledger, _ = watch([{"nulls:age": 4.0}, {"nulls:age": 5.0}])
    wanted = ledger.open[0].incident_id
    ledger, made = accept(ledger, wanted, on(1), "ada", "the register is gone for good", SPEC)
    assert (made.verdict, made.reason) == ("accepted", "L1 nulls:age: ada: the register is gone for good")
    assert (ledger.open, ledger.incidents[0].status) == ((), "accepted")
    ledger, said = watch([{"nulls:age": 5.4}] * 20, ledger, first=2)
    assert said == []
    ledger, said = watch([{"nulls:age": 5.6}], ledger, first=22)
    assert said == ["22 opened nulls:age"]
    ledger, _ = accept(ledger, ledger.open[0].incident_id, on(23), "ada", "again", SPEC)
    assert ledger.baselines["nulls:age"].ratio == pytest.approx(5.6)


def test_a_cause_closed_by_a_person_opens_again_when_it_shows_again() -> None:
    ledger, _ = watch([{"psi_day:age": 2.0}] * 2)
    ledger, made = close(ledger, ledger.open[0].incident_id, on(2), "ada", "a holiday", false_alarm=True)
    assert (made.verdict, ledger.incidents[0].false_alarm) == ("closed", True)
    ledger, said = watch([{"psi_day:age": 2.0}] * 2, ledger, first=3)
    assert said == ["4 opened psi_day:age"]
    assert len({one.incident_id for one in ledger.incidents}) == 2
    assert (false_alarms(ledger.incidents, on(30)), false_alarms(ledger.incidents, on(92))) == (1, 0)


def test_only_an_open_incident_can_be_accepted_or_closed() -> None:
    ledger, _ = watch([{"nulls:age": 2.0}])
    wanted = ledger.open[0].incident_id
    with pytest.raises(Permanent, match=f"there is no such incident; open are: {wanted}"):
        close(ledger, "nonsense", on(1), "ada", "why")
    with pytest.raises(Permanent, match="it was opened on 2024-03-04, after 2024-03-03"):
        close(ledger, wanted, on(-1), "ada", "why")
    ledger, _ = close(ledger, wanted, on(1), "ada", "mended")
    with pytest.raises(Permanent, match="it is closed since 2024-03-05: mended"):
        accept(ledger, wanted, on(2), "ada", "why", SPEC)


def test_an_incident_of_what_a_new_reference_does_not_measure_ends() -> None:
    ledger, _ = watch([{"nulls:age": 2.0, "nulls:city": 2.0}, {"nulls:zip": 2.0}])
    tonight = Tonight("visits", on(2), [signal("nulls:city", 2.0)], {}, SPEC)
    after, made = retire(ledger, tonight, "visits@4")
    assert [(one.cause, one.status) for one in after.incidents] == [("nulls:city", "open"), ("nulls:zip", "closed")]
    assert [one.reason for one in made] == [
        "L1 nulls:zip: the reference is now that of visits@4, which does not measure it"
    ]


def test_a_ledger_survives_json() -> None:
    ledger, _ = watch([{"nulls:age": 2.0, "psi_day:city": 2.0}])
    ledger, _ = accept(ledger, ledger.open[0].incident_id, on(0), "ada", "fine", SPEC)
    assert Ledger.model_validate_json(ledger.model_dump_json()) == ledger
