"""Run dbt in this process, with the project's manifest parsed once and kept.

No call home, no other process, no state outside the deployment's home. Added here: how dbt is invoked.
Not here: what it builds.
"""

import json
import os
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nightscore.errors import FeatureBuildFailed
from nightscore.lake.fingerprints import hash_files
from nightscore.settings import Settings

# dbt keeps global state (flags, adapters), so invocations take turns, and so do changes of the environment.
_TURN = threading.RLock()
_MANIFESTS: dict[tuple[str, str, str, str], Any] = {}


@dataclass(frozen=True)
class RanNode:
    """One model or test that dbt ran."""

    name: str
    kind: str
    model: str
    status: str
    seconds: float
    failures: int
    message: str


def run_dbt(
    settings: Settings, target: str, command: Sequence[str], variables: Mapping[str, object],
    environment: Mapping[str, str],
) -> list[RanNode]:  # fmt: skip
    """Invoke dbt on `target`; returns what ran.

    Raises FeatureBuildFailed with every failed node and its message.
    """
    from dbt.cli.main import dbtRunner

    # Parsed without the scratch path, which differs in each run and would make dbt parse the project anew each time.
    lasting = {name: value for name, value in environment.items() if name != "NIGHTSCORE_SCRATCH"}
    with _TURN, _environment({"DO_NOT_TRACK": "1", **lasting}):
        manifest = _manifest(settings, target)
    with _TURN, _environment({"DO_NOT_TRACK": "1", **environment}):
        arguments = [*command, "--vars", json.dumps(dict(variables), default=str), *_base(settings, target)]
        result = dbtRunner(manifest=manifest).invoke(arguments)
        _reset_adapters()
    if result.result is None:
        raise _failure(command, [str(result.exception)])
    outcome: Any = result.result
    ran = [_node(one) for one in outcome.results]
    broken = [_sentence(node) for node in ran if node.status in {"error", "fail", "runtime error"}]
    if broken or result.exception:
        raise _failure(command, broken or [str(result.exception)])
    return ran


def load_manifest(settings: Settings, target: str) -> Any:
    """The parsed project, for descriptions, contracts and lineage."""
    with _TURN:
        return _manifest(settings, target)


def ensure_manifest_file(settings: Settings, target: str) -> Path:
    """The target's `manifest.json`, parsed anew only when the project has changed since."""
    path = settings.home_path / "dbt" / target / "manifest.json"
    stamp, content = path.with_suffix(".sha256"), _project_hash(settings)
    if not (path.is_file() and stamp.is_file() and stamp.read_text(encoding="utf-8") == content):
        load_manifest(settings, target)
        stamp.write_text(content, encoding="utf-8")
    return path


def _project_hash(settings: Settings) -> str:
    return hash_files(settings.dbt_path, [path for path in settings.dbt_path.rglob("*") if path.is_file()])


def dbt_files_hash(settings: Settings, models: str) -> str:
    """Hash of everything in the project that can change what `models/<models>` gives."""
    root = settings.dbt_path
    shared = [root / "dbt_project.yml", *(root / "macros").rglob("*.sql")]
    return hash_files(root, [*shared, *(path for path in (root / "models" / models).rglob("*") if path.is_file())])


def _manifest(settings: Settings, target: str) -> Any:
    from dbt.cli.main import dbtRunner

    # A manifest names the database of its sources.
    database = os.environ.get("NIGHTSCORE_PG_DBNAME", "")
    known = (str(settings.home_path), target, database, _project_hash(settings))
    if known not in _MANIFESTS:
        parsed = dbtRunner().invoke(["parse", *_base(settings, target)])
        if not parsed.success:
            raise _failure(["parse"], [str(parsed.exception or parsed.result)])
        _MANIFESTS[known] = parsed.result
    return _MANIFESTS[known]


def _base(settings: Settings, target: str) -> list[str]:
    folder, project = settings.home_path / "dbt" / target, str(settings.dbt_path)
    return [
        "--project-dir", project, "--profiles-dir", project, "--target", target, "--log-level", "none",
        "--no-use-colors", "--target-path", str(folder), "--log-path", str(folder),
    ]  # fmt: skip


@contextmanager
def _environment(values: Mapping[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def _reset_adapters() -> None:
    from dbt.adapters.factory import cleanup_connections, reset_adapters

    cleanup_connections()  # type: ignore[no-untyped-call]
    reset_adapters()  # type: ignore[no-untyped-call]


def _node(one: Any) -> RanNode:
    name, kind = str(one.node.name), str(one.node.resource_type)
    model = str(getattr(one.node, "attached_node", None) or name).rsplit(".", 1)[-1]
    failures = int(getattr(one, "failures", None) or 0)
    return RanNode(name, kind, model, str(one.status), float(one.execution_time), failures, one.message or "")


def _sentence(node: RanNode) -> str:
    if node.kind == "test" and node.status == "fail":
        return f"test {node.name}: {node.failures} rows break it"
    return f"{node.kind} {node.name}: {node.message.strip()}"


def _failure(command: Sequence[str], found: Sequence[str]) -> FeatureBuildFailed:
    return FeatureBuildFailed(
        f"dbt {command[0]}", found, "correct the SQL under dbt/, or the data that its tests found"
    )
