"""What a night's features may read: exactly the clean partitions known by that night, and no later one.

Partitions are named by the night that knew them, so point-in-time holds by what is bound.
Added here: rules of what is bound. Not here: the SQL that reads it.
"""

from collections.abc import Sequence
from datetime import date

from nightscore.catalog.partitions import PartitionVersion
from nightscore.lake.workspace import Workspace
from nightscore.spec.datasets import clean_dataset
from nightscore.spec.pipeline import Pipeline
from nightscore.spec.windows import history_window

BySource = dict[str, dict[date, PartitionVersion]]


def bind_inputs(workspace: Workspace, pipeline: Pipeline, nights: Sequence[date]) -> BySource:
    """The clean partitions that the features of `nights` may read.

    Raises NotReadable, naming each missing night and why, when more than the allowed gaps of history are missing.
    """
    bound: BySource = {}
    for name in pipeline.sources:
        dataset = clean_dataset(pipeline.name, name)
        window = history_window(pipeline, name, nights)
        present = workspace.lake.current(dataset, window[0], window[-1])
        workspace.lake.require(dataset, [night for night in nights if night not in present])
        gaps = [night for night in window if night not in present]
        if len(gaps) > pipeline.features.max_gap_days:
            workspace.lake.require(dataset, gaps)
        bound[name] = present
    return bound


def inputs_of_night(pipeline: Pipeline, bound: BySource, night: date) -> dict[str, list[PartitionVersion]]:
    """The part of `bound` that one night reads."""
    return {
        name: [bound[name][known] for known in history_window(pipeline, name, [night]) if known in bound[name]]
        for name in pipeline.sources
    }
