"""Where a deployment keeps things, read once from the environment (`NIGHTSCORE_*`).

Added here: a setting of the deployment. Not here: anything about a pipeline, which belongs in its spec.
"""

from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

LOCAL, DASK = "local", "dask"
REFUSED = {"ray": "Ray was measured and not chosen (docs/decisions/0017-dask-for-shards.md)"}


def _installed_root() -> Path:
    return Path(__file__).resolve().parent.parent


class Execution(BaseModel):
    """Where the rows of a night are scored; no choice here changes a bit of the result."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    engine: str = Field(default=LOCAL, description="local: in this process; dask: in shards on a cluster's workers")
    address: str | None = Field(
        default=None, description="dask's scheduler (tcp://host:8786, tls://host:8786); local processes when absent"
    )
    workers: int = Field(default=2, ge=1, description="the number of local processes, where there is no address")
    shard_rows: int = Field(default=1 << 20, ge=1, description="rows of a shard at least; row groups stay whole")
    retries: int = Field(default=3, ge=0, description="how often a shard is tried again after a passing failure")
    patience_seconds: float = Field(default=60, gt=0, description="how long to wait for a scheduler, or for a worker")

    @field_validator("engine")
    @classmethod
    def _known(cls, engine: str) -> str:
        if engine not in {LOCAL, DASK}:
            raise ValueError(f"{REFUSED.get(engine, 'there is no such engine')}; choose {LOCAL!r} or {DASK!r}")
        return engine


class Settings(BaseSettings):
    """The deployment: project folder, state folder, database, limits."""

    model_config = SettingsConfigDict(env_prefix="NIGHTSCORE_", frozen=True, extra="ignore", env_nested_delimiter="__")

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
    memory_limit: str = Field(default="700MB", description="memory that DuckDB may use")

    execution: Execution = Field(default=Execution(), description="where nights are scored")

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
