"""Score files of features outside of any night: what a version says of rows that are no partition of the lake.

The rows are made by the lines that make a night's, but nothing is committed, judged or published.
Added here: another kind of file. Not here: nights (`night.py`).
"""

from collections.abc import Sequence
from datetime import date
from pathlib import Path

from nightscore.errors import SpecError
from nightscore.lake.parquet import Written, write_batches
from nightscore.scoring.arms import Arms
from nightscore.scoring.engine import EngineUse
from nightscore.scoring.predictions import predict_night
from nightscore.spec.pipeline import Pipeline
from nightscore.training.matrix import row_key


def score_files(
    pipeline: Pipeline, arms: Arms, files: Sequence[Path], night: date, target: Path, threads: int
) -> tuple[Written, tuple[EngineUse, ...]]:
    """Write the predictions of the rows of Parquet `files`, all of score date `night`, to `target`; bounded memory.

    Files follow one another in the order of the entity key, which is unique; AccountingError says where it breaks.
    Raises SpecError without files or for rules that cannot be applied, FeatureBuildFailed where columns do not fit.
    """
    if not files:
        raise SpecError("scoring files", "there are none", "name at least one Parquet file")
    made = predict_night(pipeline, arms, tuple(files), threads, night=night)
    return write_batches(made.batches(), row_key(pipeline), target), made.engines
