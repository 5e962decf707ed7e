"""Who takes part: name, module, environment, and how much of the work each does.

Added here: a contestant. Not here: how one scores (`peers/`, `ours.py`).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

OURS = "nightscore"


@dataclass(frozen=True)
class Contestant:
    """`environment` None is the project's own; `prepares` what the model needs beforehand, which is measured apart."""

    name: str
    title: str
    module: str
    environment: str | None = None
    prepares: bool = False
    source: str = ""
    scores: bool = True
    environ: Mapping[str, str] = field(default_factory=dict)


PEERS = "benchmarks.bench.peers"
CONTESTANTS = (
    Contestant(OURS, "Nightscore, the 16 files", "benchmarks.bench.ours", source="files"),
    Contestant("nightscore-lake", "Nightscore, a partition of its lake", "benchmarks.bench.ours", source="lake"),
    Contestant("null", "reading and writing alone", f"{PEERS}.null", scores=False),
    Contestant("pandas", "pandas + LightGBM, whole", f"{PEERS}.pandas_whole"),
    Contestant("stream", "Arrow batches + LightGBM", f"{PEERS}.stream"),
    Contestant("lleaves", "Arrow batches + lleaves", f"{PEERS}.lleaves_batches", "lleaves", prepares=True),
    Contestant("onnx", "Arrow batches + ONNX Runtime", f"{PEERS}.onnx_batches", "onnx", prepares=True),
    Contestant("ray", "Ray Data, map_batches", f"{PEERS}.ray_data", "ray"),
    Contestant("dask", "Dask, map_partitions", f"{PEERS}.dask_frames", "dask"),
    Contestant("spark", "Spark, mapInPandas", f"{PEERS}.spark_batches", "spark"),
)


def chosen(names: str) -> tuple[Contestant, ...]:
    """The contestants named, divided by commas, in the table's order; all where none is named. Raises ValueError."""
    wanted = {name.strip() for name in names.split(",") if name.strip()}
    unknown = wanted - {one.name for one in CONTESTANTS}
    if unknown:
        known = ", ".join(one.name for one in CONTESTANTS)
        raise ValueError(f"unknown contestants: {', '.join(sorted(unknown))}; known are {known}")
    return tuple(one for one in CONTESTANTS if not wanted or one.name in wanted)
