"""Build the scoring kernel when the project is installed, where a C compiler is there; without one nothing is lost.

Added here: another compiled source. Not here: which instructions are used, which is found out when scoring.
"""

import hashlib
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

SOURCES = (Path("nightscore/scoring/quickscorer.c"), Path("nightscore/scoring/quickscorer_x86.h"))
LIBRARY = SOURCES[0].with_suffix(".so")
FLAGS = ("-std=gnu11", "-O3", "-ffp-contract=off", "-fno-math-errno", "-Wall", "-Wextra", "-shared", "-fPIC")


class KernelBuildHook(BuildHookInterface[Any]):
    """Compiles the kernel beside its source, for a wheel and for an editable install alike."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Called by hatchling before it builds."""
        built = build_kernel(Path(self.root))
        if built is None:
            self.app.display_warning("No C compiler was found: models are scored by LightGBM itself, some 20 x slower")
            return
        build_data["artifacts"].append(LIBRARY.as_posix())
        build_data["pure_python"], build_data["infer_tag"] = False, True


def build_kernel(root: Path, *, extra_flags: tuple[str, ...] = (), target: Path | None = None) -> Path | None:
    """The built library; None without a compiler, or where it fails. The kernel tells which sources it was built of."""
    compiler = next((one for one in (os.environ.get("CC"), "cc", "gcc", "clang") if one and shutil.which(one)), None)
    if compiler is None:
        return None
    target = target or root / LIBRARY
    unfinished = target.with_suffix(f".{os.getpid()}.tmp")
    digest = hashlib.sha256(b"".join((root / source).read_bytes() for source in SOURCES)).hexdigest()
    told = f'-DSOURCE_SHA256="{digest}"'
    command = [compiler, *FLAGS, *extra_flags, told, str(root / SOURCES[0]), "-o", str(unfinished), "-lm"]
    if subprocess.run(command, check=False).returncode:
        unfinished.unlink(missing_ok=True)
        return None
    unfinished.replace(target)
    return target
