"""Charts of models as SVG text: plain data in, the same bytes out each time; no browser, no script, no network.

Every chart says "" where there is nothing to draw, and leaves out points without a finite value.
Added here: another chart of a model. Not here: the figures it shows, or the page around it.
"""

import base64
from collections.abc import Mapping, Sequence
from typing import Any

from nightscore.reports.drawing import (
    BLUE,
    GREY,
    HEIGHT,
    ORANGE,
    ROW_HEIGHT,
    as_svg,
    inline,
    is_finite,
    shortened,
    spaced,
)

_CURVES = {"fit": "dates it was fitted on", "held_out": "held-out dates"}


def learning_curve_chart(curve: Mapping[str, Any] | None) -> str:
    """Loss by boosting iteration, on the dates fitted on and on the held-out ones; `curve` as in `Trained.metrics`."""
    import altair as alt

    found = curve or {}
    points = [
        {"iteration": iteration, "loss": loss, "of": name}
        for series, name in _CURVES.items()
        for iteration, loss in zip(found.get("iterations", ()), found.get(series, ()), strict=False)
        if is_finite(loss)
    ]
    if not points:
        return ""
    colour = alt.Color("of:N").scale(domain=list(_CURVES.values()), range=[GREY, BLUE])
    loss = _free_scale("loss:Q", spaced(found.get("metric", "loss")))
    encoded = alt.Chart(inline(points)).mark_line(strokeWidth=2).encode(x=_iterations(), y=loss, color=colour)
    return as_svg(encoded, HEIGHT)


def importance_chart(importance: Mapping[str, float], titles: Mapping[str, str], top: int = 20) -> str:
    """Bars of the `top` features by their share of the total gain; `titles` are shown instead of names."""
    import altair as alt

    shares = [{"feature": titles.get(name) or name, "share": share} for name, share in ranked_shares(importance)[:top]]
    if not shares:
        return ""
    encoded = (
        alt.Chart(inline(_numbered(shares)))
        .mark_bar(color=BLUE)
        .encode(x=alt.X("share:Q").title("share of the total gain").axis(format="~%"), y=_labels(shares, "feature"))
    )
    return as_svg(encoded, 40 + ROW_HEIGHT * len(shares))


def calibration_chart(reliability: Sequence[Mapping[str, Any]] | None) -> str:
    """What came true against what was promised, a point a bin; on the diagonal both are equal."""
    import altair as alt

    points = [
        {"promised": one["mean_probability"], "observed": one.get("share")}
        for one in reliability or ()
        if is_finite(one.get("mean_probability")) and is_finite(one.get("share"))
    ]
    if not points:
        return ""
    end = max(max(point.values()) for point in points)
    diagonal = [{"promised": at, "observed": at} for at in (0.0, end)]
    x = alt.X("promised:Q").title("mean probability").axis(format="~%")
    y = alt.Y("observed:Q").title("observed share").axis(format="~%")
    line = alt.Chart(inline(diagonal)).mark_line(color=GREY, strokeDash=[4, 4]).encode(x=x, y=y)
    dots = alt.Chart(inline(points)).mark_line(color=BLUE, point={"size": 50, "color": BLUE}).encode(x=x, y=y)
    return as_svg(alt.layer(line, dots), HEIGHT + 80)


def paired_chart(
    by_date: Sequence[Mapping[str, Any]], gain: float | None, lower: float | None, upper: float | None
) -> str:
    """The share of the champion's loss that a challenger saves, a point a date, with its mean and bounds.

    `by_date`: score_date, rows, champion_loss and challenger_loss, as a verdict of the gate has them. Dates without a
    loss are left out.
    """
    import altair as alt

    points = [{"date": str(one["score_date"]), "gain": saved} for one in by_date if is_finite(saved := _saved(one))]
    if not points:
        return ""
    x = alt.X("date:O").title("score date").axis(labelAngle=-45)
    y = alt.Y("gain:Q").title("loss saved; above 0 is better").axis(format="~%")
    layers: list[Any] = [_level(0.0, GREY, [1, 0])]
    if is_finite(lower) and is_finite(upper):
        band = alt.Chart(inline([{"lower": lower, "upper": upper}])).mark_rect(color=BLUE, opacity=0.12)
        layers.append(band.encode(y=alt.Y("lower:Q"), y2="upper:Q"))
    if is_finite(gain):
        layers.append(_level(gain, BLUE, [4, 4]))
    layers.append(alt.Chart(inline(points)).mark_point(color=BLUE, filled=True, size=50, opacity=1).encode(x=x, y=y))
    return as_svg(alt.layer(*layers), HEIGHT)


def segments_chart(rows: Sequence[Mapping[str, Any]], metric: str = "loss", overall: float | None = None) -> str:
    """Bars of a figure by level, in the order given: `label`, `value`; a line marks the figure over all rows."""
    import altair as alt

    shown = [{"label": str(one["label"]), "value": one["value"]} for one in rows if is_finite(one.get("value"))]
    if not shown:
        return ""
    bars = alt.Chart(inline(_numbered(shown))).mark_bar(color=BLUE)
    value = alt.X("value:Q").title(spaced(metric))
    layers: list[Any] = [bars.encode(x=value, y=_labels(shown, "label"))]
    if is_finite(overall):
        mark = alt.Chart(inline([{"value": overall}])).mark_rule(color=ORANGE, strokeWidth=2)
        layers.append(mark.encode(x=value))
    return as_svg(alt.layer(*layers), 40 + ROW_HEIGHT * len(shown))


def as_markdown_image(svg: str, alt: str) -> str:
    """The chart as Markdown that needs no file beside it; "" of ""."""
    if not svg:
        return ""
    named = "".join(letter for letter in alt if letter not in "[]\\\n")
    return f"![{named}](data:image/svg+xml;base64,{base64.b64encode(svg.encode()).decode()})"


def ranked_shares(importance: Mapping[str, float]) -> list[tuple[str, float]]:
    """Features with their share of the total gain, the largest first, equal ones by name; none without any gain."""
    total = sum(importance.values())
    ranked = sorted(importance.items(), key=lambda pair: (-pair[1], pair[0]))
    return [(name, gain / total) for name, gain in ranked if gain > 0]


def _saved(one: Mapping[str, Any]) -> float | None:
    champion, challenger = one.get("champion_loss"), one.get("challenger_loss")
    return (champion - challenger) / champion if champion and challenger is not None else None


def _numbered(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Rows with their place: two features or levels of one title would else share a bar."""
    return [{**one, "place": at} for at, one in enumerate(rows)]


def _labels(rows: Sequence[Mapping[str, Any]], key: str) -> Any:
    """The y axis of bars: one place a row, called by its `key`."""
    import json

    import altair as alt

    names = json.dumps([shortened(one[key]) for one in rows])
    return alt.Y("place:O").title(None).axis(labelExpr=f"{names}[datum.value]")


def _free_scale(field: str, title: str) -> Any:
    import altair as alt

    return alt.Y(field).title(title).scale(zero=False)


def _iterations() -> Any:
    import altair as alt

    return alt.X("iteration:Q").title("iteration").axis(tickMinStep=1)


def _level(value: float | None, colour: str, dash: Sequence[int]) -> Any:
    import altair as alt

    rule = alt.Chart(inline([{"gain": value}])).mark_rule(color=colour, strokeDash=list(dash), strokeWidth=1.5)
    return rule.encode(y=alt.Y("gain:Q"))
