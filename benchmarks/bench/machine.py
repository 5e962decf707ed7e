"""What the figures were measured on.

Added here: a fact of the machine that moves figures. Not here: its name or its place.
"""

import os
import platform
from importlib.metadata import version
from pathlib import Path

LIBRARIES = ("lightgbm", "polars", "pyarrow", "numpy", "pandas")
SETS = ("avx2", "avx512f", "avx512bw")


def describe_machine() -> dict[str, str]:
    """Processor, cores, memory, system and the project's libraries."""
    said = Path("/proc/cpuinfo").read_text().splitlines()
    facts = {name.strip(): value.strip() for name, _, value in (line.partition(":") for line in said)}
    flags = facts.get("flags", "").split()
    memory = next(line for line in Path("/proc/meminfo").read_text().splitlines() if line.startswith("MemTotal"))
    sets = ", ".join(one for one in SETS if one in flags)
    return {
        "processor": f"{facts.get('model name', platform.machine())} ({sets})",
        "cores": str(os.cpu_count()),
        "memory": f"{int(memory.split()[1]) / 2**20:.0f} GiB",
        "system": f"{platform.system()} {platform.release()}, Python {platform.python_version()}",
        "libraries": ", ".join(f"{name} {version(name)}" for name in LIBRARIES),
    }
