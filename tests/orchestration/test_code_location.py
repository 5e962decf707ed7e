"""The code location as Dagster's own commands load it: from any folder, without a call to the outside."""

import os
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from orchestration.cli.night_runs import Session

WORKSPACE = Path(__file__).parents[2] / "workspace.yaml"


@pytest.fixture
def proxy() -> Iterator[socket.socket]:
    """Stands where every HTTP client would call; nobody should."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.settimeout(0)
        yield listening


def test_the_definitions_load_from_another_folder_and_call_nobody(
    empty_session: Session, proxy: socket.socket, tmp_path: Path
) -> None:
    address = f"http://127.0.0.1:{proxy.getsockname()[1]}"
    environment = os.environ | {"HTTP_PROXY": address, "HTTPS_PROXY": address, "HOME": str(tmp_path)}
    command = [sys.executable, "-m", "dagster", "definitions", "validate", "-w", str(WORKSPACE)]
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert "All code locations passed validation" in done.stdout + done.stderr
    with pytest.raises(BlockingIOError):
        proxy.accept()
    assert list(tmp_path.iterdir()) == []


def test_the_instance_calls_nobody_and_keeps_its_password_to_itself(empty_session: Session) -> None:
    path = empty_session.workspace.settings.home_path / "dagster" / "dagster.yaml"
    written = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert (written["telemetry"], written["nux"]) == ({"enabled": False}, {"enabled": False})
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert not empty_session.instance.telemetry_enabled
