"""What a review looks at: how the content of a night differs from the publication that readers see.

Added here: another fact that is gathered for the comparison. Not here: comparing rows (`compare.py`), decisions
(`changesets.py`).
"""

from datetime import timedelta
from typing import Any

import polars as pl

from nightscore.catalog.publications import Publication, Receipt
from nightscore.lake.workspace import Workspace
from nightscore.publishing.compare import compare_night
from nightscore.spec.datasets import labels_dataset
from nightscore.spec.pipeline import Pipeline
from nightscore.training.matrix import row_key


def compare_content(
    workspace: Workspace, pipeline: Pipeline, base: Publication | None, content_md5: str, receipt: Receipt
) -> dict[str, Any]:
    """How the predictions `content_md5`, made by `receipt`, differ from what readers saw; as the catalog keeps it."""
    read, night = workspace.lake.store.verified_path, receipt.score_date
    before = None if base is None else pl.read_parquet(read(base.content_md5))
    columns = [column.name for column in pipeline.features.columns if column.segment]
    features = pl.read_parquet(read(receipt.body["features"]["md5"]))
    wanted = [name for name in dict.fromkeys([*row_key(pipeline), *columns]) if name in features.columns]
    known_on = night + timedelta(days=pipeline.label.horizon_days)
    labels = workspace.lake.current(labels_dataset(pipeline.name), known_on, known_on)
    known = pl.read_parquet(read(labels[known_on].md5)) if known_on in labels else None
    after, segments = pl.read_parquet(read(content_md5)), features.select(wanted) if columns else None
    return compare_night(pipeline, before, after, segments, known).as_json()
