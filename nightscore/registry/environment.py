"""What a result was computed in: Python, packages, processor, BLAS and threads, as far as they can change a bit.

Added here: a property of the machine that moved a score once. Not here: the lock file (`locks.py`).
"""

import os
import platform
from functools import cache
from pathlib import Path
from typing import Any

from nightscore.registry.locks import installed_versions

THREAD_VARIABLES = ("OMP_NUM_THREADS", "OMP_THREAD_LIMIT", "OPENBLAS_NUM_THREADS", "OPENBLAS_CORETYPE",
                    "MKL_NUM_THREADS", "POLARS_MAX_THREADS")  # fmt: skip
ARITHMETIC_FLAGS = frozenset({"sse4_2", "avx", "avx2", "fma", "avx512f", "avx512dq", "avx512vl", "asimd", "sve"})
CPU_INFO = Path("/proc/cpuinfo")
PLATFORM_FACTS = ("implementation", "platform", "libc", "machine", "cpu_flags", "blas")
"""What belongs to the machine; the other facts can be installed or set."""


def describe_environment() -> dict[str, Any]:
    """The environment of this process, as JSON."""
    return {
        "python": platform.python_version(),
        "implementation": platform.python_implementation(),
        "platform": platform.system(),
        "libc": " ".join(platform.libc_ver()),
        "packages": dict(_packages()),
        "machine": platform.machine(),
        "cpu_flags": _cpu_flags(),
        "blas": _blas(),
        "threads": {name: os.environ.get(name) for name in THREAD_VARIABLES},
    }


@cache
def _packages() -> dict[str, str]:
    return {name: version for name, version in sorted(installed_versions().items()) if name != "nightscore"}


def _blas() -> list[str]:
    import numpy  # noqa: F401 (what it loads is what is described)
    from threadpoolctl import threadpool_info

    # Other packages bring a BLAS of their own, loaded or not as the process has gone so far.
    found = [one for one in threadpool_info() if one["user_api"] == "blas" and "numpy" in one["filepath"]]
    return [f"{one['internal_api']} {one['version']} {one.get('architecture', '')}".strip() for one in found]


def _cpu_flags() -> list[str]:
    if not CPU_INFO.exists():
        return []
    lines = CPU_INFO.read_text(encoding="utf-8").splitlines()
    flags = next((line for line in lines if line.split(":")[0].strip() in {"flags", "Features"}), "")
    return sorted(ARITHMETIC_FLAGS & set(flags.split()))
