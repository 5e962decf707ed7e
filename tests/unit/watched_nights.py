"""Made-up facts of watched nights for tests of reports: a busy one, a first one, a regression."""

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from math import sin
from typing import Any

from nightscore.catalog.decisions import Decision
from nightscore.catalog.gates import RowAccount, Verdict
from nightscore.catalog.metrics import MetricValue
from nightscore.catalog.models import ModelVersion
from nightscore.catalog.nights import NightStatus
from nightscore.catalog.publications import Publication, Receipt
from nightscore.catalog.watch import WatchVerdict
from nightscore.reports.watch_facts import IncidentFacts, NightFacts, PeriodFacts, Signal, label_bins
from nightscore.spec.windows import nights_between

NIGHT = date(2013, 7, 31)
AT = datetime(2013, 8, 1, 4, 12, tzinfo=UTC)
HOSTILE = "</text><script>alert('x')</script> | [click](http://evil.example) `& *more*\x1b[2J\n# of_it"
COLUMNS = {"distance": 0.3, "carrier": 0.5, "dep_hour": 0.62, "wind_speed": 0.81, "plane_age": 0.2, "score": 0.7}


def signals(night: date = NIGHT, nights: int = 28, broken_from: date = date(2013, 7, 30)) -> tuple[Signal, ...]:
    """Of every night and column; `distance` is out of range from `broken_from` on."""
    found: list[Signal] = []
    for at, day in enumerate(nights_between(night - timedelta(days=nights - 1), night)):
        found += [
            Signal(day, "L1", "rows:low", None, 940 + at, 700.0, 700 / (940 + at), False, "rows are normal"),
            Signal(day, "L1", "rows:high", None, 940 + at, 1300.0, (940 + at) / 1300, False, "rows are normal"),
        ]
        for place, (name, usual) in enumerate(COLUMNS.items()):
            ratio = round(usual * (1 + 0.3 * sin(at + place)), 4)
            found.append(
                Signal(
                    day,
                    "L2",
                    f"psi_day:{name}",
                    name,
                    0.25 * ratio,
                    0.25,
                    ratio,
                    ratio >= 1,
                    f"{name}: PSI {0.25 * ratio:.3f}, and below 0.250 is normal",
                )
            )
        if day >= broken_from:
            message = "distance: 64 % of the rows lie outside the reference's range, and at most 1 % is normal"
            found.append(Signal(day, "L1", "range:distance", "distance", 0.64, 0.01, 64.0, True, message))
    return tuple(found)  # fmt: skip


def incident(number: int, level: str, cause: str, opened: date, **more: Any) -> IncidentFacts:
    """One that is open unless `more` says otherwise."""
    base = IncidentFacts(f"inc-{number}", level, "open", cause, (f"{cause} was over its threshold",), opened, NIGHT,
                         None, 2, None, "", False)  # fmt: skip
    return replace(base, **more)


INCIDENTS = (
    incident(3, "L1", "range:distance", date(2013, 7, 30)),
    incident(2, "L3", "psi_week:score", date(2013, 7, 12), status="closed", closed=date(2013, 7, 25),
             reason="7 quiet nights"),
    incident(1, "L4", "outcomes:above", date(2013, 6, 20), status="closed", closed=date(2013, 6, 28), actor="ada",
             reason="a strike", false_alarm=True),
)  # fmt: skip


def figure(night: date, scope: Any, metric: str, value: float | None, maturity: Any, **more: Any) -> MetricValue:
    """One figure as known two days later, or tonight."""
    known = more.pop("known_on", min(night + timedelta(days=2), NIGHT))
    return MetricValue("flights", night, known, scope, metric, value, more.pop("rows", 940), maturity, **more)


def performance(task: str = "binary") -> list[MetricValue]:
    """Mature until 07-27 but for 07-04, provisional after; windows of 14 dates; estimates of a binary task."""
    leading, second = ("log_loss", "roc_auc") if task == "binary" else ("rmse", "mae")
    found = []
    for at, night in enumerate(nights_between(date(2013, 6, 15), date(2013, 7, 30))):
        maturity = "mature" if night <= date(2013, 7, 27) else "provisional"
        value = None if night == date(2013, 7, 4) else round(0.44 + 0.02 * sin(at), 4)
        grade = "insufficient" if value is None else maturity
        found += [
            figure(night, "model", leading, value, grade),
            figure(night, "model", second, 0.70 + at / 1000, grade),
        ]
        if at > 14 and maturity == "mature":
            found += [
                figure(
                    night,
                    "window",
                    f"model:{leading}:14",
                    0.45 + at / 9000,
                    "mature",
                    low=0.435,
                    high=0.462,
                    rows=13_000,
                    detail={"held_out": 0.4312},
                ),
                figure(night, "window", f"constant:{leading}:14", 0.5612, "mature", low=0.55, high=0.57, rows=13_000),
            ]
        if task == "binary":
            found.append(figure(night, "estimate", "roc_auc", round(0.71 + at / 2000, 4), "estimate", known_on=night))
    return found  # fmt: skip


def costs_and_values() -> list[MetricValue]:
    found = []
    for at, night in enumerate(nights_between(date(2013, 7, 4), NIGHT)):
        steps = {"features": 6.0 + at / 10, "score": 2.5, "publish": 1.25, "watch": 0.9}
        steps["all"] = sum(steps.values())
        found += [figure(night, "cost", f"seconds:{step}", value, "final") for step, value in steps.items()]
        million = [
            figure(night, "cost", f"seconds_per_million:{step}", value * 1000, "final") for step, value in steps.items()
        ]
        found += [*million, figure(night, "business", "vouchers_sent", 100.0 + at, "final", detail={"unit": "EUR"})]
    return found


def decision(kind: str, verdict: str, subject: str, reason: str, night: date = NIGHT) -> Decision:
    return Decision("flights", kind, subject, verdict, reason, {"as_of": str(night)}, "nightscore", AT)


def publication(night: date = NIGHT, revision: int = 2) -> Publication:
    return Publication(71, "flights", night, revision, 5, 3, 967, "c0ffee", "night", "run-9", AT)


RECEIPT = Receipt(5, "flights", NIGHT, 8, 3, "f1n6er", {
    "code_sha256": "abc123", "features": {"content": "fea7"}, "provenance": {"commit": "9f8e7d", "dirty": True},
}, "run-9", AT, "5n4p")  # fmt: skip


MODEL = ModelVersion(
    "flights", 3, "", "", "", "", "", "lightgbm", "binary", date(2013, 7, 1), 2, "registered",
    {"reliability": [{"rows": 90, "mean_probability": at / 10, "share": at / 11} for at in range(1, 8)]},
    "ada", "", "run-2", AT,
)  # fmt: skip


def watched(passed: bool = True, *reasons: str, notes: tuple[str, ...] = ()) -> WatchVerdict:
    return WatchVerdict("flights", NIGHT, "md5", "flights@3", passed, reasons, notes, {}, "run-9", AT)


def gate(dataset: str, passed: bool, *reasons: str) -> Verdict:
    return Verdict("flights", dataset, NIGHT, passed, "a", "b", None, None, {"reasons": list(reasons)}, "run-9", AT)


def busy_night() -> NightFacts:
    """Held back at L1, an older revision with readers, labels, an estimate, decisions."""
    reason = "distance: 64 % of the rows lie outside the reference's range, and at most 1 % is normal"
    return NightFacts(
        "flights", "binary", NIGHT, 1, NightStatus(NIGHT, "gated", reason, "run-10", AT), watched(False, reason),
        (publication(revision=1), publication()), publication(), publication(), RECEIPT, MODEL,
        (RowAccount("flights", "flights.clean.flights", NIGHT, 990, 967, 13, {"cancelled": 10}),
         RowAccount("flights", "flights.predictions", NIGHT, 967, 967, 0, {})),
        (gate("flights.clean.flights", True), gate("flights.predictions", True)),
        signals(), INCIDENTS, (*performance(), *costs_and_values()),
        (decision("retrain", "no_attempt", "flights", "L1 is open: inc-3 (range:distance)"),
         decision("restatement", "restated", "1 night, 2013-07-31 to 2013-07-31", "a late correction")),
        label_bins([0.1, 0.2, 0.3, 0.4, 0.5], [90, 210, 300, 190, 120, 60, 0], [110, 230, 290, 170, 100, 67, 0]),
    )  # fmt: skip


def first_night() -> NightFacts:
    """Published, watched once, nothing known of anything else."""
    made = NightStatus(NIGHT, "published", "", "run-1", AT)
    notes = ("L4: not enough evidence: no outcomes are mature",)
    return NightFacts(
        "flights", "binary", NIGHT, 1, made, watched(notes=notes), (publication(revision=1),), publication(revision=1),
        publication(revision=1), RECEIPT, signals=signals(nights=1, broken_from=date.max),
    )  # fmt: skip


def regression_night() -> NightFacts:
    """Published, no incident, figures of a regression."""
    return replace(first_night(), task="regression", metrics=tuple(performance("regression")), signals=())


def quarter() -> PeriodFacts:
    """Three months with a held-back night, a failed one, incidents and a promotion."""
    first = date(2013, 5, 3)
    nights = nights_between(first, NIGHT)
    statuses = [NightStatus(night, "published", "", "run-1", AT) for night in nights]
    statuses[-1] = NightStatus(NIGHT, "gated", "distance: 64 % of the rows lie outside the range", "run-10", AT)
    statuses[40] = NightStatus(nights[40], "failed", "lost connection", "run-4", AT)
    return PeriodFacts(
        "flights", "binary", first, NIGHT, 1, tuple(reversed(statuses)),
        {night: publication(night, 1) for night in nights[:-1] if night != nights[40]},
        signals(nights=len(nights)), INCIDENTS, (*performance(), *costs_and_values(), *revisited()),
        (decision("retrain", "attempt", "flights", "a look is due every 7 days", date(2013, 7, 8)),
         decision("promotion", "promoted", "flights@3", "better on 14 dates", date(2013, 7, 9))),
    )  # fmt: skip


def revisited() -> list[MetricValue]:
    """The same dates as known a week later."""
    later = timedelta(days=7)
    return [
        replace(one, known_on=one.score_date + later, value=(one.value or 0.44) + 0.004)
        for one in performance() if one.scope == "model" and one.score_date + later <= NIGHT
    ]  # fmt: skip


def empty_period() -> PeriodFacts:
    return PeriodFacts("flights", "binary", date(2013, 7, 1), NIGHT, 1)
