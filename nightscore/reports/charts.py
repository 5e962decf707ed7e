"""Charts of models as SVG text: plain data in, the same bytes out each time; no browser, no script, no network.

Every chart says "" where there is nothing to draw, and leaves out points without a finite value.
Added here: another chart of a model. Not here: the figures it shows, or the page around it.
"""

import base64
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

WIDTH, HEIGHT, ROW_HEIGHT = 560, 240, 18
_FONT = "system-ui, sans-serif"
_BLUE, _ORANGE, _GREY = "#3366cc", "#d9822b", "#8a94a0"
_LONGEST_LABEL = 32
"""Letters; a browser may take a wider font than the one that labels were measured in."""
_CURVES = {"fit": "dates it was fitted on", "held_out": "held-out dates"}
_CONFIG: dict[str, Any] = {
    "font": _FONT,
    "background": "#ffffff",
    "padding": {"left": 24, "right": 14, "top": 6, "bottom": 6},
    "view": {"stroke": None},
    "axis": {
        "labelColor": "#556666", "titleColor": "#556666", "titleFontWeight": "normal", "gridColor": "#e9ecef",
        "domainColor": "#99a0aa", "tickColor": "#99a0aa", "labelLimit": 400,
    },
    "axisX": {"tickCount": 8, "labelSeparation": 8},
    "legend": {"labelColor": "#556666", "title": None, "orient": "top", "columnPadding": 36},
}  # fmt: skip


def learning_curve_chart(curve: Mapping[str, Any] | None) -> str:
    """Loss by boosting iteration, on the dates fitted on and on the held-out ones; `curve` as in `Trained.metrics`."""
    import altair as alt

    found = curve or {}
    points = [
        {"iteration": iteration, "loss": loss, "of": name}
        for series, name in _CURVES.items()
        for iteration, loss in zip(found.get("iterations", ()), found.get(series, ()), strict=False)
        if _is_finite(loss)
    ]
    if not points:
        return ""
    colour = alt.Color("of:N").scale(domain=list(_CURVES.values()), range=[_GREY, _BLUE])
    loss = _free_scale("loss:Q", _words(found.get("metric", "loss")))
    encoded = alt.Chart(_data(points)).mark_line(strokeWidth=2).encode(x=_iterations(), y=loss, color=colour)
    return _svg(encoded, HEIGHT)


def importance_chart(importance: Mapping[str, float], titles: Mapping[str, str], top: int = 20) -> str:
    """Bars of the `top` features by their share of the total gain; `titles` are shown instead of names."""
    import altair as alt

    shares = [{"feature": titles.get(name) or name, "share": share} for name, share in ranked_shares(importance)[:top]]
    if not shares:
        return ""
    encoded = (
        alt.Chart(_data(_numbered(shares)))
        .mark_bar(color=_BLUE)
        .encode(x=alt.X("share:Q").title("share of the total gain").axis(format="~%"), y=_labels(shares, "feature"))
    )
    return _svg(encoded, 40 + ROW_HEIGHT * len(shares))


def calibration_chart(reliability: Sequence[Mapping[str, Any]] | None) -> str:
    """What came true against what was promised, a point a bin; on the diagonal both are equal."""
    import altair as alt

    points = [
        {"promised": one["mean_probability"], "observed": one.get("share")}
        for one in reliability or ()
        if _is_finite(one.get("mean_probability")) and _is_finite(one.get("share"))
    ]
    if not points:
        return ""
    end = max(max(point.values()) for point in points)
    diagonal = [{"promised": at, "observed": at} for at in (0.0, end)]
    x = alt.X("promised:Q").title("mean probability").axis(format="~%")
    y = alt.Y("observed:Q").title("observed share").axis(format="~%")
    line = alt.Chart(_data(diagonal)).mark_line(color=_GREY, strokeDash=[4, 4]).encode(x=x, y=y)
    dots = alt.Chart(_data(points)).mark_line(color=_BLUE, point={"size": 50, "color": _BLUE}).encode(x=x, y=y)
    return _svg(alt.layer(line, dots), HEIGHT + 80)


def paired_chart(
    by_date: Sequence[Mapping[str, Any]], gain: float | None, lower: float | None, upper: float | None
) -> str:
    """The share of the champion's loss that a challenger saves, a point a date, with its mean and bounds.

    `by_date`: score_date, rows, champion_loss and challenger_loss, as a verdict of the gate has them. Dates without a
    loss are left out.
    """
    import altair as alt

    points = [{"date": str(one["score_date"]), "gain": saved} for one in by_date if _is_finite(saved := _saved(one))]
    if not points:
        return ""
    x = alt.X("date:O").title("score date").axis(labelAngle=-45)
    y = alt.Y("gain:Q").title("loss saved; above 0 is better").axis(format="~%")
    layers: list[Any] = [_level(0.0, _GREY, [1, 0])]
    if _is_finite(lower) and _is_finite(upper):
        band = alt.Chart(_data([{"lower": lower, "upper": upper}])).mark_rect(color=_BLUE, opacity=0.12)
        layers.append(band.encode(y=alt.Y("lower:Q"), y2="upper:Q"))
    if _is_finite(gain):
        layers.append(_level(gain, _BLUE, [4, 4]))
    layers.append(alt.Chart(_data(points)).mark_point(color=_BLUE, filled=True, size=50, opacity=1).encode(x=x, y=y))
    return _svg(alt.layer(*layers), HEIGHT)


def segments_chart(rows: Sequence[Mapping[str, Any]], metric: str = "loss", overall: float | None = None) -> str:
    """Bars of a figure by level, in the order given: `label`, `value`; a line marks the figure over all rows."""
    import altair as alt

    shown = [{"label": str(one["label"]), "value": one["value"]} for one in rows if _is_finite(one.get("value"))]
    if not shown:
        return ""
    bars = alt.Chart(_data(_numbered(shown))).mark_bar(color=_BLUE)
    value = alt.X("value:Q").title(_words(metric))
    layers: list[Any] = [bars.encode(x=value, y=_labels(shown, "label"))]
    if _is_finite(overall):
        mark = alt.Chart(_data([{"value": overall}])).mark_rule(color=_ORANGE, strokeWidth=2)
        layers.append(mark.encode(x=value))
    return _svg(alt.layer(*layers), 40 + ROW_HEIGHT * len(shown))


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


def _is_finite(value: object) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)


def _words(name: object) -> str:
    return str(name).replace("_", " ")


def _short(label: str) -> str:
    return label if len(label) <= _LONGEST_LABEL else f"{label[: _LONGEST_LABEL - 1]}…"


def _data(values: Iterable[Mapping[str, Any]]) -> Any:
    import altair as alt

    return alt.InlineData(values=[dict(one) for one in values])


def _numbered(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Rows with their place: two features or levels of one title would else share a bar."""
    return [{**one, "place": at} for at, one in enumerate(rows)]


def _labels(rows: Sequence[Mapping[str, Any]], key: str) -> Any:
    """The y axis of bars: one place a row, called by its `key`."""
    import json

    import altair as alt

    names = json.dumps([_short(one[key]) for one in rows])
    return alt.Y("place:O").title(None).axis(labelExpr=f"{names}[datum.value]")


def _free_scale(field: str, title: str) -> Any:
    import altair as alt

    return alt.Y(field).title(title).scale(zero=False)


def _iterations() -> Any:
    import altair as alt

    return alt.X("iteration:Q").title("iteration").axis(tickMinStep=1)


def _level(value: float | None, colour: str, dash: Sequence[int]) -> Any:
    import altair as alt

    rule = alt.Chart(_data([{"gain": value}])).mark_rule(color=colour, strokeDash=list(dash), strokeWidth=1.5)
    return rule.encode(y=alt.Y("gain:Q"))


def _svg(chart: Any, height: int) -> str:
    import vl_convert

    sized = chart.properties(width=WIDTH, height=height, autosize={"type": "fit", "contains": "padding"})
    return str(vl_convert.vegalite_to_svg(sized.configure(**_CONFIG).to_json()))
