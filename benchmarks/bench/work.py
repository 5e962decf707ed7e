"""The reference work, said once: its columns, levels, decision, and where its files lie.

Every process of every environment reads it, so it imports the standard library alone. Added here: what both sides
must agree on. Not here: values of the rows (`rows.py`).
"""

import json
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

PARTS = 16
ROW_GROUPS = 4
DAY = "2026-01-15"
KEY = "entity_id"
FLOATS = tuple(f"f{at:02}" for at in range(20))
WITH_NULLS = FLOATS[:5]
NULL_SHARE = 0.08
INTEGERS = tuple(f"i{at}" for at in range(6))
LEVELS: Mapping[str, tuple[str, ...]] = {
    f"c{at}": tuple(f"level_{level:02}" for level in range(count)) for at, count in enumerate((6, 50, 8, 24))
}
"""Sorted, as a model's codes are: a level's code is its place."""
FEATURES = (*FLOATS, *INTEGERS, *LEVELS)
THRESHOLD = 0.35
TOP_SHARE = 100
"""One row in so many is in the top k."""
BATCH_ROWS = 65_536


@dataclass(frozen=True)
class Work:
    """So many rows, scored by so many threads; all files lie under `folder`."""

    folder: Path
    rows: int
    threads: int

    @property
    def home(self) -> Path:
        """What belongs to this number of rows."""
        return self.folder / f"rows-{self.rows}"

    @property
    def day(self) -> Path:
        """The hive partition that everyone reads."""
        return self.home / f"ds={DAY}"

    @property
    def files(self) -> list[Path]:
        """The Parquet files of the day, in the order of their rows."""
        return [self.day / f"part-{part:02}.parquet" for part in range(PARTS)]

    @property
    def partition(self) -> Path:
        """The same rows as one partition of Nightscore's lake."""
        return self.home / "features.parquet"

    @property
    def reference(self) -> Path:
        """What LightGBM itself says: key, score, decision, rank, decile, topk."""
        return self.home / "reference.parquet"

    @property
    def model(self) -> Path:
        """LightGBM's model as text."""
        return self.capsule / "model.txt"

    @property
    def capsule(self) -> Path:
        """The same model as Nightscore keeps it."""
        return self.folder / "model" / "capsule"

    @property
    def spec(self) -> Path:
        """The pipeline that Nightscore needs around a model."""
        return self.folder / "model" / "night.yaml"

    def prepared(self, name: str) -> Path:
        """What a peer made of the model beforehand."""
        return self.folder / "model" / name


@dataclass(frozen=True)
class Task:
    """One run of one contestant: what is scored, and where the predictions go; `source` names the input of ours."""

    work: Work
    target: Path
    source: str = ""

    def as_json(self) -> str:
        """One argument of a command."""
        return json.dumps(asdict(self), default=str)

    @classmethod
    def from_arguments(cls) -> "Task":
        """The inverse of `as_json`, of this process's own argument."""
        said = json.loads(sys.argv[1])
        work = said["work"]
        return cls(Work(Path(work["folder"]), work["rows"], work["threads"]), Path(said["target"]), said["source"])
