"""Who holds an alias: a lookup that fails closed.

Added here: another question about holders. Not here: when an alias moves (`promotion.py`), or the moves themselves (the
catalog's).
"""

import sqlalchemy as sa

from nightscore.catalog.models import (
    ModelVersion,
    alias_holder,
    find_version,
    list_alias_events,
    list_model_events,
)
from nightscore.errors import AliasMissing
from nightscore.lake.workspace import Workspace
from nightscore.registry.names import CHAMPION, PREVIOUS

_REMEDIES = {
    CHAMPION: "run `nightscore train {pipeline}`, or promote a version with `nightscore models promote`",
    PREVIOUS: "choose a version in `nightscore models list` and give it the place with `nightscore models promote`",
}


def require_alias(workspace: Workspace, pipeline: str, alias: str) -> ModelVersion:
    """The version that holds `alias` now; read once and pin it.

    AliasMissing when no version holds it, or the version that it names is not registered.
    """
    with workspace.engine.connect() as connection:
        held = alias_holder(connection, pipeline, alias)
        version = None if held is None else find_version(connection, pipeline, held)
    if version is not None:
        return version
    reason = "no version holds the alias" if held is None else f"it names {pipeline}@{held}, which is not registered"
    remedy = _REMEDIES.get(alias, "see `nightscore models list`").format(pipeline=pipeline)
    raise AliasMissing(f"Looking up the {alias} of {pipeline}", reason, remedy)


def champion_before(connection: sa.Connection, champion: ModelVersion) -> int | None:
    """The newest champion of the past, other than this one, that was not taken back or rejected in the end."""
    fate = {event["version"]: event["event"] for event in list_model_events(connection, champion.pipeline)}
    unfit = {version for version, event in fate.items() if event in ("rolled_back", "rejected")} | {champion.version}
    moves = list_alias_events(connection, champion.pipeline)
    crowned = [move["version"] for move in moves if move["alias"] == CHAMPION and move["version"] is not None]
    return next((version for version in reversed(crowned) if version not in unfit), None)
