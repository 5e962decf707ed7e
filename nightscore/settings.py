"""Where a deployment keeps things, read once from the environment (`NIGHTSCORE_*`).

Added here: a setting of the deployment. Not here: anything about a pipeline, which belongs in its spec.
"""

from pathlib import Path

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict


def _installed_root() -> Path:
    return Path(__file__).resolve().parent.parent


class Settings(BaseSettings):
    """The deployment: project folder, state folder, database, limits."""

    model_config = SettingsConfigDict(env_prefix="NIGHTSCORE_", frozen=True, extra="ignore")

    root: Path = Field(default_factory=_installed_root, description="folder with pipelines/ and dbt/")
    home: Path | None = Field(default=None, description="state: database, lake, caches; default <root>/.nightscore")
    database_url: SecretStr | None = Field(default=None, description="PostgreSQL 15 or later; embedded when absent")
    reader_password: SecretStr | None = Field(default=None, description="bi_reader's password on an external server")
    remote: str | None = Field(
        default=None, description="the lake's remote: a folder or fsspec URL (s3://bucket/prefix)"
    )
    alert_urls: SecretStr | None = Field(
        default=None, description="where alerts go: apprise URLs, separated by spaces; nowhere when absent"
    )
    threads: int = Field(default=2, ge=1, description="threads that SQL and scoring may use")
    memory_limit: str = Field(default="2GB", description="memory that DuckDB may use")

    @property
    def home_path(self) -> Path:
        """The state folder, absolute."""
        return (self.home or self.root / ".nightscore").resolve()

    @property
    def lake_path(self) -> Path:
        """The object store's folder."""
        return self.home_path / "lake"

    @property
    def pipelines_path(self) -> Path:
        """The folder with one YAML spec a pipeline."""
        return self.root / "pipelines"

    @property
    def dbt_path(self) -> Path:
        """The dbt project."""
        return self.root / "dbt"
