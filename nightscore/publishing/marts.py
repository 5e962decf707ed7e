"""The marts over all pipelines (`dim_model`, `partition_status`, …): dbt models on the Postgres target.

They are views over the catalog, so they are built when their SQL changes, not every night.
Added here: how dbt reaches the mart. Not here: the models themselves (`dbt/models/marts`).
"""

import sqlalchemy as sa

from nightscore.features.dbt import RanNode, dbt_files_hash, run_dbt
from nightscore.lake.workspace import Workspace


def marts_hash(workspace: Workspace) -> str:
    """Hash of the marts' SQL and descriptions."""
    return dbt_files_hash(workspace.settings, "marts")


def build_marts(workspace: Workspace) -> list[RanNode]:
    """Build and test the marts; returns the models and tests that ran. FeatureBuildFailed when dbt fails."""
    url = sa.make_url(workspace.database.owner_url)
    environment = {
        "NIGHTSCORE_PG_HOST": url.host or "localhost", "NIGHTSCORE_PG_PORT": str(url.port or 5432),
        "NIGHTSCORE_PG_USER": url.username or "", "NIGHTSCORE_PG_PASSWORD": url.password or "",
        "NIGHTSCORE_PG_DBNAME": url.database or "",
    }  # fmt: skip
    return run_dbt(workspace.settings, "marts", ["build", "--select", "nightscore.marts"], {}, environment)
