"""What all charts share: size, colours that colour-blind people tell apart, inline data, and Vega-Lite as SVG text.

Added here: something that more than one file of charts needs. Not here: a chart (`charts.py`, `watch_charts.py`).
"""

import math
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any

WIDTH, HEIGHT, ROW_HEIGHT = 560, 240, 18
BLUE, ORANGE, GREY = "#3366cc", "#d9822b", "#8a94a0"
_FONT = "system-ui, sans-serif"
_LONGEST_LABEL = 32
"""Letters; a browser may take a wider font than the one that labels were measured in."""
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


def is_finite(value: object) -> bool:
    """Whether `value` is a number that can be drawn."""
    return isinstance(value, int | float) and math.isfinite(value)


def spaced(name: object) -> str:
    """`log_loss` as people write it."""
    return str(name).replace("_", " ")


def metric_title(name: str) -> str:
    """`roc_auc` as people write it: ROC AUC."""
    return spaced(name).replace("roc auc", "ROC AUC").replace("rmse", "RMSE").replace("mae", "MAE").replace("r2", "R²")


def opening(text: str) -> str:
    """`text` with a capital first letter, the others as they are."""
    return text[:1].upper() + text[1:]


def shortened(label: str) -> str:
    """`label`, cut where it would not fit beside a chart."""
    return label if len(label) <= _LONGEST_LABEL else f"{label[: _LONGEST_LABEL - 1]}…"


def inline(values: Iterable[Mapping[str, Any]]) -> Any:
    """Rows as the data of a chart, within it."""
    import altair as alt

    return alt.InlineData(values=[dict(one) for one in values])


def as_svg(chart: Any, height: int, width: int = WIDTH, title: str = "") -> str:
    """The chart as SVG text of that size in pixels, axes and title included."""
    import altair as alt

    sized = chart.properties(width=width, height=height, autosize={"type": "fit", "contains": "padding"})
    if title:
        named = alt.Title(title, anchor="start", fontSize=13, fontWeight="bold", color="#1c2430")
        sized = sized.properties(title=named)
    return _draw(sized.configure(**_CONFIG).to_json(validate=False))


@lru_cache(maxsize=64)
def _draw(specification: str) -> str:
    """What a page and the orchestrator both show is drawn once: it is most of the time that a report takes."""
    import vl_convert

    return str(vl_convert.vegalite_to_svg(specification))
