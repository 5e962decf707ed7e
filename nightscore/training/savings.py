"""What a cheaper model saves and loses, in a sentence: a cascade, or a version made smaller.

Added here: words for another way to be cheaper. Not here: the figures (`routing.py`, `slimming.py`).
"""

from collections.abc import Mapping
from typing import Any


def savings_line(metrics: Mapping[str, Any]) -> str | None:
    """One plain sentence about held-out rows; None for a model that is neither. `metrics` as in `Trained.metrics`."""
    if cascade := metrics.get("cascade"):
        return (
            f"A cascade: the first {cascade['prefix']} of {cascade['trees']} trees score every row, and on held-out "
            f"dates {_percent(cascade['escalated_share'])} of rows went on to all; {_percent(cascade['saved_share'])} "
            f"of tree evaluations saved, log loss {_percent(cascade['loss_share'], sign=True)}, "
            f"{cascade['flips']:,} of {cascade['rows']:,} decisions otherwise."
        )
    if slimmed := metrics.get("slimming"):
        how = {"pruned": "pruned to its first trees", "distilled": "distilled into new trees"}[slimmed["kind"]]
        return (
            f"Version {slimmed['of']} {how}: {slimmed['trees']} instead of {slimmed['full_trees']}; on held-out dates "
            f"{slimmed['metric'].replace('_', ' ')} {_percent(slimmed['loss_share'], sign=True)}."
        )
    return None


def _percent(share: float | None, sign: bool = False) -> str:
    if share is None:
        return "unknown"
    return f"{100 * share:+.2f} %" if sign else f"{100 * share:.1f} %"
