"""What a model was fitted in: Python, packages, processor and thread settings, as far as they can change a bit.

Added here: a property of the machine that moved a score once. Not here: the lock file, which the caller adds.
"""

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

PACKAGES = ("lightgbm", "numpy", "polars", "pyarrow", "scikit-learn", "scipy", "skops", "threadpoolctl")
THREAD_VARIABLES = ("OMP_NUM_THREADS", "OMP_THREAD_LIMIT", "OPENBLAS_NUM_THREADS", "OPENBLAS_CORETYPE",
                    "MKL_NUM_THREADS", "POLARS_MAX_THREADS")  # fmt: skip
ARITHMETIC_FLAGS = frozenset({"sse4_2", "avx", "avx2", "fma", "avx512f", "avx512dq", "avx512vl", "asimd", "sve"})
CPU_INFO = Path("/proc/cpuinfo")


def describe_environment() -> dict[str, Any]:
    """The environment of this process, as JSON."""
    return {
        "python": platform.python_version(),
        "implementation": platform.python_implementation(),
        "platform": platform.system(),
        "libc": " ".join(platform.libc_ver()),
        "packages": {name: _version(name) for name in PACKAGES},
        "machine": platform.machine(),
        "cpu_flags": _cpu_flags(),
        "threads": {name: os.environ.get(name) for name in THREAD_VARIABLES},
    }


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _cpu_flags() -> list[str]:
    if not CPU_INFO.exists():
        return []
    lines = CPU_INFO.read_text(encoding="utf-8").splitlines()
    flags = next((line for line in lines if line.split(":")[0].strip() in {"flags", "Features"}), "")
    return sorted(ARITHMETIC_FLAGS & set(flags.split()))
