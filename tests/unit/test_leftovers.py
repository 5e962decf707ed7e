"""What a killed process left in a scratch folder is removed; what a living one uses is not."""

import os
import subprocess
import sys
from pathlib import Path

from nightscore.lake.workspace import sweep_leftovers


def test_only_what_dead_processes_left_is_swept(tmp_path: Path) -> None:
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    for pid in (dead.pid, os.getpid()):
        (tmp_path / f"{pid}-file").write_text("half written")
        (tmp_path / f"{pid}-folder").mkdir()
        (tmp_path / f"{pid}-folder" / "scratch.duckdb").write_text("half written")
    assert sweep_leftovers(tmp_path) == 2
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"{os.getpid()}-file", f"{os.getpid()}-folder"]


def test_an_absent_folder_has_no_leftovers(tmp_path: Path) -> None:
    assert sweep_leftovers(tmp_path / "absent") == 0
