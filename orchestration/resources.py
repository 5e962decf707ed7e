"""The engine as a Dagster resource: one opened deployment a process.

Added here: a resource that assets take as an argument. Not here: configuration of a pipeline, which is its spec's.
"""

from functools import cache

import dagster as dg

from nightscore.lake.workspace import Workspace, open_workspace
from nightscore.settings import Settings


class Engine(dg.ConfigurableResource):
    """Opens the deployment that the environment describes."""

    def workspace(self) -> Workspace:
        """The opened deployment, shared by all steps of this process."""
        return _open(Settings())


@cache
def _open(settings: Settings) -> Workspace:
    return open_workspace(settings)
