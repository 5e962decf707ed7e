"""The evidence of the promotion gate as Markdown: losses by date, segments, warnings, guardrails, and its chart.

Added here: another part of that evidence. Not here: the verdict (`registry/gate.py`), or tables of the command line.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from nightscore.reports.charts import as_markdown_image, paired_chart

_DATES = ("score_date", "rows", "champion_loss", "challenger_loss")
_SEGMENTS = ("column", "level", "rows", "gain", "lower", "upper")


def render_evidence(evidence: Mapping[str, Any]) -> str:
    """Tables and lines; an empty text where nothing was compared."""
    dates, segments = ([[one[name] for name in names] for one in evidence[part]] for part, names in
                       (("by_date", _DATES), ("segments", _SEGMENTS)))  # fmt: skip
    parts = [
        _table(("score date", "rows", "loss of the champion", "loss of the challenger"), dates) if dates else "",
        _table(("segment", "level", "rows", "gain", "lower", "upper"), segments) if segments else "",
        *(f"- warning: {one}" for one in evidence["warnings"]),
        *(f"- {name}: {_inline(figures)}" for name, figures in evidence["guardrails"].items() if figures),
    ]
    return "\n\n".join(part for part in parts if part)


def render_chart(evidence: Mapping[str, Any]) -> str:
    """The gain by date as a Markdown image; an empty text where nothing was compared."""
    paired = evidence["paired"] or {}
    svg = paired_chart(evidence["by_date"], paired.get("gain"), paired.get("lower"), paired.get("upper"))
    return as_markdown_image(svg, "loss saved by date") if svg else ""


def _table(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    lines = [columns, ["---"] * len(columns), *([_text(value) for value in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _inline(figures: Any) -> str:
    """Single figures of a guardrail; its tables are in the ledger."""
    if not isinstance(figures, Mapping):
        return _text(figures)
    return ", ".join(f"{name} {_text(value)}" for name, value in figures.items() if not isinstance(value, list | dict))


def _text(value: Any) -> str:
    if value is None:
        return "unknown"
    return f"{value:.4f}" if isinstance(value, float) else str(value).replace("|", "\\|")
