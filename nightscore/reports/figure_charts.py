"""Charts of figures over score dates as SVG text: performance, estimates, rows, costs; "" where there is nothing.

A figure says how far it can be trusted by its form: filled when mature, hollow while provisional, a cross where there
was not enough evidence, a gap where nothing is known.
Added here: another chart of figures by score date. Not here: drift and incidents (`watch_charts.py`), or reading.
"""

from collections.abc import Mapping, Sequence
from datetime import date
from typing import Any, NamedTuple

from nightscore.reports.drawing import BLUE, GREY, HEIGHT, ORANGE, as_svg, inline, is_finite, metric_title, opening
from nightscore.reports.watch_charts import LINES, PAGE_WIDTH, night_axis, threshold_rule, threshold_words

_FORMS = {"mature": "mature", "provisional": "provisional: labels are still coming"}
_MISSING = "× not enough evidence"


class Point(NamedTuple):
    """A figure of one score date with its bounds, as far as there are any."""

    night: date
    value: float | None
    maturity: str = "mature"
    low: float | None = None
    high: float | None = None


class RowCount(NamedTuple):
    """Rows of a night, and the fewest and most that are normal."""

    night: date
    rows: float
    low: float | None = None
    high: float | None = None


def performance_chart(
    points: Sequence[Point], windows: Sequence[Point], nights: Sequence[date], metric: str,
    held_out: float | None = None, window: str = "",
) -> str:  # fmt: skip
    """A metric by score date, with its figure over a window of dates (`windows`, with bounds) as a line.

    `held_out` is what the version reached before it was published.
    """
    import altair as alt

    marked = [one._replace(value=None) if one.maturity == "insufficient" else one for one in points]
    shown = [one for one in marked if one.night in set(nights) and (is_finite(one.value) or _is_lacking(one))]
    rolling = [one for one in windows if one.night in set(nights) and is_finite(one.value)]
    if not shown and not rolling:
        return ""
    x, y = night_axis(nights), alt.Y("value:Q").title(metric_title(metric)).scale(zero=False)
    layers: list[Any] = [*_bands(rolling, x, y), *_dots(shown, x, y)]
    lacking = [{"night": str(one.night), "sign": "×"} for one in shown if not is_finite(one.value)]
    if lacking:
        crosses = alt.Chart(inline(lacking)).mark_text(color=GREY, fontSize=14, baseline="bottom")
        layers.append(crosses.encode(x=x, y=alt.value("height"), text="sign:N"))
    if is_finite(held_out) and (rolling or len(shown) > len(lacking)):
        layers += [_level(held_out), _level_words(held_out, "held out, before it was published")]
    title = f"{opening(metric_title(metric))} by score date"
    title += f"; the line is over {window} mature dates, with its 90 % interval" if rolling else ""
    return as_svg(alt.layer(*layers), HEIGHT, PAGE_WIDTH, title + (f" ({_MISSING})" if lacking else ""))


def maturity_chart(
    curves: Sequence[tuple[int, Sequence[tuple[date, float | None]]]], nights: Sequence[date], metric: str
) -> str:
    """One line for each age in days: every score date as it was known so long after it, so that dates compare."""
    import altair as alt

    named = [(f"known {age} days later", dict(points)) for age, points in curves[: len(LINES)]]
    rows = [
        {"night": str(night), "value": known.get(night), "age": age} for age, known in named for night in nights
        if any(is_finite(known.get(one)) for one in nights)
    ]  # fmt: skip
    if not rows:
        return ""
    y = alt.Y("value:Q").title(metric_title(metric)).scale(zero=False)
    ages = [age for age, _ in named]
    colour = alt.Color("age:N").scale(domain=ages, range=list(LINES[: len(ages)]))
    lines = alt.Chart(inline(rows)).mark_line(strokeWidth=1.8, point={"size": 18})
    title = f"{opening(metric_title(metric))} at equal maturity"
    return as_svg(lines.encode(x=night_axis(nights), y=y, color=colour), HEIGHT, PAGE_WIDTH, title)


def estimate_chart(pairs: Mapping[date, tuple[float | None, float | None]], nights: Sequence[date], metric: str) -> str:
    """Estimated without labels (a dashed line) and realised (dots) by score date."""
    import altair as alt

    of = ("estimated without labels", "realised")
    rows = [
        {"night": str(night), "value": value if is_finite(value) else None, "of": name}
        for night in nights for name, value in zip(of, pairs.get(night, (None, None)), strict=True)
    ]  # fmt: skip
    if not any(row["value"] is not None for row in rows):
        return ""
    x, y = night_axis(nights), alt.Y("value:Q").title(metric_title(metric)).scale(zero=False)
    colour = alt.Color("of:N").scale(domain=list(of), range=[ORANGE, BLUE])
    line = alt.Chart(inline([row for row in rows if row["of"] == of[0]])).mark_line(strokeDash=[5, 3], strokeWidth=1.8)
    came = [row for row in rows if row["of"] == of[1] and row["value"] is not None]
    layers = [line.encode(x=x, y=y, color=colour)]
    if came:
        dots = alt.Chart(inline(came)).mark_point(filled=True, size=40, opacity=1)
        layers.append(dots.encode(x=x, y=y, color=colour))
    return as_svg(alt.layer(*layers), HEIGHT, PAGE_WIDTH, f"{opening(metric_title(metric))}: estimated and realised")


def rows_chart(counts: Sequence[RowCount], nights: Sequence[date]) -> str:
    """Rows a night as bars; small dashes are the fewest and the most that are normal on that weekday."""
    import altair as alt

    shown = [one for one in counts if one.night in set(nights) and is_finite(one.rows)]
    if not shown:
        return ""
    bound = [
        {"night": str(one.night), "value": limit, "out": False}
        for one in shown for limit in (one.low, one.high) if is_finite(limit)
    ]  # fmt: skip
    rows = [{"night": str(one.night), "value": one.rows, "out": _is_out(one)} for one in shown]
    x, y = night_axis(nights), alt.Y("value:Q").title("rows").axis(format=",.0f")
    colour = alt.condition("datum.out", alt.value("#d55e00"), alt.value("#9db8d2"))
    layers: list[Any] = [alt.Chart(inline(rows)).mark_bar().encode(x=x, y=y, color=colour)]
    layers += [alt.Chart(inline(bound)).mark_tick(color="#1c2430", thickness=1.5).encode(x=x, y=y)] if bound else []
    title = "Rows by night" + ("; dashes: fewest and most that are normal" if bound else "")
    return as_svg(alt.layer(*layers), 170, PAGE_WIDTH, title)


def cost_chart(seconds: Mapping[str, Mapping[date, float]], nights: Sequence[date]) -> str:
    """Seconds a night by step, stacked: the costliest steps by name, the others together."""
    import altair as alt

    totals = {step: sum(found.values()) for step, found in seconds.items()}
    ranked = sorted((step for step in totals if totals[step] > 0), key=lambda step: (-totals[step], step))
    named, others = ranked[: len(LINES) - 1], ranked[len(LINES) - 1 :]
    rows = [
        {"night": str(night), "value": value, "step": step if step in named else "others",
         "place": min(ranked.index(step), len(named))}
        for step in ranked for night, value in sorted(seconds[step].items()) if night in set(nights)
    ]  # fmt: skip
    if not rows:
        return ""
    domain = named + ["others"] * bool(others)
    colour = alt.Color("step:N").scale(domain=domain, range=list(LINES[: len(domain)]))
    y = alt.Y("sum(value):Q").title("seconds")
    bars = alt.Chart(inline(rows)).mark_bar().encode(x=night_axis(nights), y=y, color=colour, order="place:O")
    return as_svg(bars, 190, PAGE_WIDTH, "Run time by night and step")


def _is_lacking(one: Point) -> bool:
    return one.maturity == "insufficient"


def _is_out(one: RowCount) -> bool:
    return (one.low is not None and one.rows < one.low) or (one.high is not None and one.rows > one.high)


def _bands(rolling: Sequence[Point], x: Any, y: Any) -> list[Any]:
    import altair as alt

    if not rolling:
        return []
    rows = [{"night": str(one.night), "value": one.value, "low": one.low, "high": one.high} for one in rolling]
    line = alt.Chart(inline(rows)).mark_line(color=BLUE, strokeWidth=2, point={"size": 14, "color": BLUE})
    bounded = [row for row in rows if is_finite(row["low"]) and is_finite(row["high"])]
    if not bounded:
        return [line.encode(x=x, y=y)]
    bars = alt.Chart(inline(bounded)).mark_rule(color=BLUE, strokeWidth=3, opacity=0.22)
    low = alt.Y("low:Q").title(None).scale(zero=False)
    return [bars.encode(x=x, y=low, y2="high:Q"), line.encode(x=x, y=y)]


def _dots(shown: Sequence[Point], x: Any, y: Any) -> list[Any]:
    """Filled and hollow dots with a legend that says so."""
    import altair as alt

    rows = [
        {"night": str(one.night), "value": one.value, "form": _FORMS.get(one.maturity, one.maturity)}
        for one in shown if is_finite(one.value)
    ]  # fmt: skip
    if not rows:
        return []
    forms = list(dict.fromkeys([*_FORMS.values(), *(row["form"] for row in rows)]))
    fills = ["#4b5563", *["#ffffff"] * (len(forms) - 1)]
    fill = alt.Fill("form:N", legend=alt.Legend(labelLimit=400)).scale(domain=forms, range=fills)
    dots = alt.Chart(inline(rows)).mark_point(stroke="#4b5563", size=38, opacity=1, strokeWidth=1.3)
    return [dots.encode(x=x, y=y, fill=fill)]


def _level(at: float | None) -> Any:
    assert at is not None
    return threshold_rule(at, ORANGE)


def _level_words(at: float | None, words: str) -> Any:
    assert at is not None
    return threshold_words(at, words, "#9a5a12")
