"""An environment for each peer that the project's own does not serve, made by uv from pinned requirements.

Added here: how an environment is made. Not here: what is in one (`requirements-<name>.txt`).
"""

import hashlib
import os
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parent.parent


def python_of(folder: Path, name: str | None) -> str:
    """The interpreter of environment `name` under `folder`, made first where it is absent or of other requirements."""
    if name is None:
        return sys.executable
    requirements = HERE / f"requirements-{name}.txt"
    home = folder / f"env-{name}"
    python, stamp = home / "bin" / "python", home / "requirements.sha256"
    wanted = hashlib.sha256(requirements.read_bytes()).hexdigest()
    if not stamp.is_file() or stamp.read_text() != wanted:
        print(f"making the environment of {name}", flush=True)
        _uv("venv", "--quiet", "--allow-existing", "--python", sys.executable, str(home))
        _uv("pip", "sync", "--quiet", "--compile-bytecode", "--python", str(python), str(requirements))
        stamp.write_text(wanted)
    return str(python)


def _uv(*arguments: str) -> None:
    from uv import find_uv_bin

    subprocess.run([find_uv_bin(), *arguments], check=True)


def environ() -> dict[str, str]:
    """This process's variables, with the project importable, and without reports of use to makers of peers."""
    return {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "PYTHONDONTWRITEBYTECODE": "",
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_DATA_DISABLE_PROGRESS_BARS": "1",
    }
