"""Figures of repeated runs as medians and ratios: pure, numbers in, numbers and text out.

Added here: a way to sum up or to write a figure. Not here: tables (`page.py`), measuring.
"""

import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import TypeVar

Name = TypeVar("Name")


def medians(runs: Sequence[Mapping[Name, float]]) -> dict[Name, float]:
    """The median of each figure over `runs`, which all have the same figures; at least one."""
    return {name: statistics.median(run[name] for run in runs) for name in runs[0]}


def round_ratios(theirs: Sequence[float], ours: Sequence[float]) -> tuple[float, float, float]:
    """(median, least, greatest) of their figure over ours, round by round: a slow round slows both."""
    ratios = [their / our for their, our in zip(theirs, ours, strict=True)]
    return statistics.median(ratios), min(ratios), max(ratios)


def ratio_text(theirs: Sequence[float], ours: Sequence[float]) -> str:
    """The median ratio, and its spread where there is one."""
    middle, least, greatest = round_ratios(theirs, ours)
    spread = f" ({short(least)}–{short(greatest)})" if len(theirs) > 1 else ""
    return f"{short(middle)}×{spread}"


def short(figure: float) -> str:
    """Three significant digits, without an exponent: 0.0123, 1.23, 12.3, 123, 12,346."""
    if figure == 0 or abs(figure) >= 100:
        return f"{figure:,.0f}"
    digits = 2
    while abs(figure) * 10**digits < 100:
        digits += 1
    return f"{figure:.{min(digits, 6) if abs(figure) < 1 else 2 if abs(figure) < 10 else 1}f}"


def table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table; the first column is text, the others are figures."""
    lines = ["| " + " | ".join(heads) + " |", "|---|" + "---:|" * (len(heads) - 1)]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in rows)])
