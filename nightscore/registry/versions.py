"""Versions and aliases: which capsule is `pipeline@7`, and which version is champion.

A missing alias fails closed. Added here: lookups of versions. Not here: what a capsule holds (`capsule.py`), or the
gate between versions.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

from nightscore.catalog.models import ModelVersion, alias_holder, find_version, list_versions, move_alias
from nightscore.errors import AliasMissing, PromotionRefused
from nightscore.lake.workspace import Workspace
from nightscore.registry.capsule import Capsule
from nightscore.registry.names import CHAMPION
from nightscore.registry.verify import load_capsule
from nightscore.spec.pipeline import Pipeline


def require_version(workspace: Workspace, pipeline: str, version: int) -> ModelVersion:
    """The version, or AliasMissing naming those that exist."""
    with workspace.engine.connect() as connection:
        found = find_version(connection, pipeline, version)
        known = [str(one.version) for one in list_versions(connection, pipeline)]
    if found is None:
        there = f"versions {', '.join(known)} exist" if known else "no version exists"
        raise AliasMissing(
            f"Looking up {pipeline}@{version}", f"it is not registered; {there}", "see `nightscore models list`"
        )
    return found


def make_first_champion(
    workspace: Workspace, pipeline: Pipeline, version: ModelVersion, actor: str, reason: str
) -> bool:
    """Give the alias to `version` if no version holds it; appended to the history. False when one does.

    Raises PromotionRefused where it would be given to a version that the spec does not allow.
    """
    with workspace.engine.begin() as connection:
        if alias_holder(connection, version.pipeline, CHAMPION) is None:
            require_clean(pipeline, version)
        now = workspace.clock.now()
        return move_alias(
            connection, version.pipeline, CHAMPION, version.version, actor, reason, now, only_if_free=True
        )  # fmt: skip


def require_clean(pipeline: Pipeline, version: ModelVersion) -> None:
    """PromotionRefused for a version of uncommitted sources, where the spec asks for committed ones."""
    if pipeline.promotion.allow_dirty or not (version.provenance or {}).get("dirty"):
        return
    raise PromotionRefused(
        f"Promoting {version.name}",
        "it was trained from uncommitted changes, and promotion.allow_dirty of the spec is false",
        f"commit the changes and train again; {version.name} stays registered and reproducible",
    )


def open_capsule(workspace: Workspace, version: ModelVersion) -> Capsule:
    """The version's capsule, laid out from the lake, verified, and tried in a child process when first seen here."""
    store, home = workspace.lake.store, workspace.settings.home_path
    return open_laid_out(
        home, version.manifest_sha256, lambda: store.read_directory(version.capsule_md5), store.verified_path
    )


def open_laid_out(
    home: Path, manifest_sha256: str, entries: Callable[[], Mapping[str, str]], path_of: Callable[[str], Path]
) -> Capsule:
    """The capsule under the state folder `home`; where it is not there yet, of `entries` (name to MD5) by `path_of`."""
    folder = home / "capsules" / manifest_sha256
    if not folder.is_dir():
        _lay_out(entries(), path_of, folder)
    marker = folder.with_suffix(".trusted")
    return load_capsule(folder, manifest_sha256, marker)


def _lay_out(entries: Mapping[str, str], path_of: Callable[[str], Path], folder: Path) -> None:
    folder.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=folder.parent) as temporary:
        staged = Path(temporary) / "capsule"
        staged.mkdir()
        for name, md5 in entries.items():
            (staged / name).write_bytes(path_of(md5).read_bytes())
        try:
            staged.rename(folder)
        except OSError:
            # Another process laid the same capsule out first; verification judges whatever is there.
            if not folder.is_dir():
                raise
