"""What reports say of figures over score dates: drift, performance, estimates, business metrics, run time; as blocks.

`metrics` are the newest figure of each score date, scope and metric (`watch_facts.newest_known`).
Added here: a kind of figure that both the report of a night and the dashboard show. Not here: how it is drawn
(`figure_charts.py`), or which order a document has.
"""

import statistics
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from datetime import date
from functools import partial

from nightscore.catalog.metrics import MetricValue
from nightscore.measures.realised import KnownFigure, common_ages, curves_at_equal_maturity
from nightscore.reports.card_pages import Block, Chart, Table
from nightscore.reports.drawing import metric_title, opening, spaced
from nightscore.reports.figure_charts import Point, cost_chart, estimate_chart, maturity_chart, performance_chart
from nightscore.reports.watch_charts import Cell, drift_lines, drift_strip, ranked_names
from nightscore.reports.watch_facts import Signal, drift_cells

Metrics = Sequence[MetricValue]
LEADING = {"binary": ("log_loss", "roc_auc"), "regression": ("rmse", "mae")}
"""The figures that are drawn, the first one before all."""
_TABLED = {
    "binary": ("log_loss", "brier", "roc_auc", "calibration_error", "mean_bias"),
    "regression": ("rmse", "mae", "r2", "mean_bias"),
}
_MOST_CURVES, _MOST_NAMES = 3, 8
_FEWEST_PAIRS = 5


def drift_blocks(signals: Sequence[Signal], nights: Sequence[date], lines: bool = False) -> Iterator[Block]:
    """Columns by how far they were over their thresholds, as a table and a strip; with `lines`, over time too."""
    cells = [one for one in drift_cells(signals) if one.night in set(nights)]
    if not cells:
        yield "No figures are kept of these nights."
        return
    watched, ranked = len({one.night for one in cells}), ranked_names(cells)
    yield (
        f"{watched} watched night{'s' * (watched != 1)}. A ratio of 1 is the threshold; what was over it has a dot in "
        "the strip."
    )
    rows = [_drift_row(cells, name) for name in ranked[:_MOST_NAMES]]
    yield Table(("column or check", "nights over", "largest ratio", "on"), rows)
    yield Chart(lambda: drift_strip(cells, nights))
    if lines:
        yield Chart(lambda: drift_lines(cells, nights))


def performance_blocks(metrics: Metrics, nights: Sequence[date], task: str, charts: int = 1) -> Iterator[Block]:
    """Windows of mature dates beside held-out figures and the constant, then the first `charts` figures by date."""
    by_date = [one for one in metrics if one.scope == "model"]
    windows = [one for one in metrics if one.scope == "window"]
    if not by_date and not windows:
        yield "No labels have come yet, so nothing is known of how good these scores are."
        return
    yield _maturity_sentence(by_date)
    rows = list(_window_rows(windows, task))
    if rows:
        header = ("figure", "mature dates", "model", "held out", "constant", "challenger", "labelled rows")
        yield Table(header, rows)
    elif windows:
        yield "Not enough evidence yet for a figure over a window of mature dates."
    for metric in LEADING[task][:charts]:
        yield Chart(partial(_performance, by_date, windows, nights, metric))


def equal_maturity_blocks(every: Metrics, nights: Sequence[date], task: str, last: date) -> Iterator[Block]:
    """Curves at equal maturity of the leading figure, from `every` figure with all its dates of knowledge."""
    metric = LEADING[task][0]
    known = [
        KnownFigure(one.score_date, one.known_on, one.value)
        for one in every if one.scope == "model" and one.metric == metric
    ]  # fmt: skip
    ages = common_ages(known)
    # The youngest age, the oldest and one between tell how much labels that come late still change.
    chosen = sorted({ages[0], ages[len(ages) // 2], ages[-1]}) if ages else []
    curves = [(one.age_days, one.figures) for one in curves_at_equal_maturity(known, chosen[:_MOST_CURVES], last)]
    if curves:
        yield Chart(lambda: maturity_chart(curves, nights, metric))


def estimate_blocks(metrics: Metrics, nights: Sequence[date], task: str) -> Iterator[Block]:
    """Estimates beside what came true, and how far they went together; said to be information only."""
    found = [one for one in metrics if one.scope == "estimate" and one.maturity == "estimate"]
    if not found:
        why = "a regression has none" if task == "regression" else "none was made"
        yield f"No estimate without labels: {why}."
        return
    yield "Information only: an estimate assumes that probabilities still mean what they meant; no rule reads it."
    newest = max(one.score_date for one in found)
    shown = [one for one in found if one.score_date == newest and one.metric in _TABLED[task]]
    yield Table(("estimated", f"for {newest}", "rows"), [_estimate_row(one) for one in shown])
    metric = next((one for one in ("roc_auc", *LEADING[task]) if any(other.metric == one for other in found)), "")
    realised = {one.score_date: one.value for one in metrics if one.scope == "model" and one.metric == metric
                and one.maturity == "mature"}  # fmt: skip
    guesses = {one.score_date: one.value for one in found if one.metric == metric}
    pairs = {night: (guesses.get(night), realised.get(night)) for night in {*guesses, *realised}}
    yield from _agreement([(a, b) for a, b in pairs.values() if a is not None and b is not None], metric)
    yield Chart(lambda: estimate_chart(pairs, nights, metric))


def business_blocks(metrics: Metrics) -> Iterator[Block]:
    """Each declared figure of its newest score date beside its median over the score dates before."""
    found: dict[str, list[MetricValue]] = defaultdict(list)
    for one in metrics:
        if one.scope == "business":
            found[one.metric].append(one)
    if not found:
        yield "The spec declares no metric, or none is known yet."
        return
    rows = []
    for name, values in sorted(found.items()):
        newest, before = values[-1], [one.value for one in values[:-1] if one.value is not None]
        failed = "failed: " + str(newest.detail["error"]).splitlines()[0] if newest.detail.get("error") else ""
        usual, unit = number(statistics.median(before) if before else None), str(newest.detail.get("unit") or "")
        shown = (spaced(name), str(newest.score_date), number(newest.value), unit, usual, f"{newest.rows:,}")
        rows.append((*shown, failed or newest.maturity))
    yield Table(("metric", "score date", "value", "unit", "median before", "rows", ""), rows)


def cost_blocks(metrics: Metrics, nights: Sequence[date], night: date | None = None) -> Iterator[Block]:
    """Seconds by step: of `night` beside the median of the others, or without one over all `nights`."""
    seconds: dict[str, dict[date, float]] = defaultdict(dict)
    million: dict[str, dict[date, float]] = defaultdict(dict)
    for one in metrics:
        name, _, step = one.metric.partition(":")
        target = {"seconds": seconds, "seconds_per_million": million}.get(name) if one.scope == "cost" else None
        if target is not None and one.value is not None:
            target[step][one.score_date] = one.value
    if not seconds:
        yield "No run time is recorded."
        return
    steps = sorted(seconds, key=lambda step: (step == "all", -sum(seconds[step].values()), step))
    header: tuple[str, ...] = ("step", "seconds in all", "median a night", "most", "seconds per million rows, median")
    rows: list[tuple[str, ...]] = [
        (one, *_cost_of_period(seconds[one]), _median(million[one].values())) for one in steps
    ]
    if night is not None:
        header = ("step", "seconds", "median of other nights", "seconds per million rows")
        rows = [(one, *_cost_of_night(seconds[one], night), _seconds(million[one].get(night))) for one in steps]
    yield Table(header, rows)
    parts = {step: found for step, found in seconds.items() if step != "all"}
    yield Chart(lambda: cost_chart(parts, nights))


def number(value: float | None) -> str:
    """A figure with as many digits as say something; - where there is none."""
    if value is None:
        return "-"
    if abs(value) < 10:
        return f"{value:.4f}"
    return f"{value:,.0f}" if value == round(value) else f"{value:,.1f}"


def bounded(one: MetricValue | None) -> str:
    """`0.4400 (0.4300 to 0.4500)`; - where there is no figure, its words where evidence is lacking."""
    if one is None or (one.value is None and one.maturity != "insufficient"):
        return "-"
    if one.value is None:
        return "not enough evidence"
    within = one.low is not None and one.high is not None
    return f"{number(one.value)} ({number(one.low)} to {number(one.high)})" if within else number(one.value)


def _drift_row(cells: Sequence[Cell], name: str) -> tuple[str, ...]:
    own = [one for one in cells if one.name == name]
    worst = max(own, key=lambda one: one.ratio)
    return name, str(sum(one.fires for one in own)), f"{worst.ratio:.2f}", str(worst.night)


def _maturity_sentence(by_date: Metrics) -> str:
    dates: dict[date, str] = {one.score_date: one.maturity for one in by_date}
    counts = Counter(dates.values())
    newest = max((night for night, maturity in dates.items() if maturity == "mature"), default=None)
    said = f"{counts['mature']} score dates are mature" + (f", the newest {newest}" if newest else "")
    provisional = f"{counts['provisional']} provisional, their labels still coming"
    return (
        f"{said}; {provisional}; {counts['insufficient']} without enough evidence. Intervals are of 90 %, over dates."
    )


def _window_rows(windows: Metrics, task: str) -> Iterator[tuple[str, ...]]:
    """The newest figures of each window, the model's beside the others."""
    newest: dict[tuple[str, int, str], MetricValue] = {}
    for one in sorted(windows, key=lambda one: one.score_date):
        parts = one.metric.split(":")
        if len(parts) == 3 and parts[2].isdigit():
            newest[parts[1], int(parts[2]), parts[0]] = one
    for metric in _TABLED[task]:
        for days in sorted({days for name, days, _ in newest if name == metric}):
            model, *beside = (newest.get((metric, days, who)) for who in ("model", "constant", "challenger"))
            held_out = number(model.detail.get("held_out")) if model else "-"
            last = f"{days}, to {model.score_date}" if model else str(days)
            rows = f"{model.rows:,}" if model else "-"
            yield metric_title(metric), last, bounded(model), held_out, *map(bounded, beside), rows


def _performance(by_date: Metrics, windows: Metrics, nights: Sequence[date], metric: str) -> str:
    points = [Point(one.score_date, one.value, one.maturity) for one in by_date if one.metric == metric]
    lengths = sorted(
        {one.metric.split(":")[2] for one in windows if one.metric.startswith(f"model:{metric}:")}, key=int
    )
    wanted = [one for one in windows if lengths and one.metric == f"model:{metric}:{lengths[-1]}"]
    rolling = [Point(one.score_date, one.value, one.maturity, one.low, one.high) for one in wanted]
    held_out = next((one.detail.get("held_out") for one in reversed(wanted)), None)
    return performance_chart(points, rolling, nights, metric, held_out, lengths[-1] if lengths else "")


def _estimate_row(one: MetricValue) -> tuple[str, ...]:
    return metric_title(one.metric), number(one.value), f"{one.rows:,}"


def _agreement(pairs: Sequence[tuple[float, float]], metric: str) -> Iterator[Block]:
    if not pairs:
        return
    apart = statistics.fmean(abs(guess - came) for guess, came in pairs)
    said = f"{opening(metric_title(metric))}: on {len(pairs)} mature dates estimates were off by {apart:.4f} on average"
    guessed, came_true = (list(side) for side in zip(*pairs, strict=True))
    if len(pairs) >= _FEWEST_PAIRS and len(set(guessed)) > 1 and len(set(came_true)) > 1:
        said += f", and went with what came true with a correlation of {statistics.correlation(guessed, came_true):.2f}"
    yield f"{said}."


def _cost_of_night(found: dict[date, float], night: date) -> tuple[str, str]:
    return _seconds(found.get(night)), _median(value for one, value in found.items() if one != night)


def _cost_of_period(found: dict[date, float]) -> tuple[str, str, str]:
    return _seconds(sum(found.values())), _median(found.values()), _seconds(max(found.values()))


def _median(values: Iterable[float]) -> str:
    given = list(values)
    return _seconds(statistics.median(given)) if given else "-"


def _seconds(value: float | None) -> str:
    return "-" if value is None else f"{value:,.1f}"
