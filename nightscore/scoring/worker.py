"""What a worker does with a shard: find the lake, open the capsules once a process, score, keep the scores.

The worker's own settings (`NIGHTSCORE_HOME`, `NIGHTSCORE_THREADS`) say where its lake is mounted and how many threads
a shard may use. Where it does not share the driver's lake, it fetches from the remote, verified, into a cache.
Added here: a step of a shard. Not here: how shards get here and back (`cluster.py`).
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import cache, lru_cache
from pathlib import Path

from nightscore.clock import SystemClock
from nightscore.errors import NightscoreError, SettingsError, Transient
from nightscore.lake.fingerprints import code_hash
from nightscore.lake.garbage import GRACE
from nightscore.lake.objects import ObjectStore
from nightscore.lake.remotes import Remote, open_remote
from nightscore.lake.transfer import fetch_object, send_objects
from nightscore.registry.capsule import Capsule
from nightscore.registry.versions import open_laid_out
from nightscore.scoring.arms import Arms
from nightscore.scoring.scores import score_night
from nightscore.scoring.shards import ArmRef, Job, ScoredShard, Shard, put_scores
from nightscore.settings import Settings

CAPSULES_OPEN = 8


@dataclass(frozen=True)
class Reach:
    """Objects as one process reaches them: the driver's lake itself, or a cache of a remote.

    `scores`: where shards' scores go, apart from what must be kept.
    """

    store: ObjectStore
    remote: Remote | None = None
    scores: Remote | None = None

    def path_of(self, md5: str) -> Path:
        """The verified path of an object of the lake."""
        return self.store.verified_path(md5) if self.remote is None else fetch_object(self.store, self.remote, md5)

    def entries(self, md5: str) -> Mapping[str, str]:
        """What a directory object of the lake names."""
        return self.store.read_directory(md5) if self.remote is None else self.remote.entries(md5)

    def path_of_scores(self, md5: str) -> Path:
        """The verified path of a shard's scores."""
        return self.store.verified_path(md5) if self.scores is None else fetch_object(self.store, self.scores, md5)

    def hand_back(self, md5: str) -> None:
        """Give the driver what was put into the store."""
        if self.scores is not None:
            send_objects(self.store, self.scores, [md5])

    def forget_scores(self, md5s: Iterable[str]) -> None:
        """Take shards' scores from the remote, once the driver has them all; equal shards share an object."""
        for md5 in md5s:
            if self.scores is not None:
                self.scores.remove(md5)


def score_shard(shard: Shard) -> ScoredShard | NightscoreError:
    """The scores of a shard, kept where the driver finds them; an error that another try would meet again, as a value.

    Raises what may pass: Transient errors, and those that nobody expected.
    """
    try:
        return _score(shard, Settings())
    except Transient:
        raise
    except NightscoreError as error:
        return error


def shares_lake(token: str) -> bool:
    """Whether this process sees the driver's lake under its own settings."""
    return (Settings().lake_path / "tmp" / token).is_file()


def cache_of(home: Path, remote: str) -> Reach:
    """Objects of a remote by way of a cache under the state folder `home`; what lay there for a day is removed."""
    store = _store(home / "shards")
    _forget_old(store.root, SystemClock().now())
    return Reach(store, _remote(remote), _remote(f"{remote.rstrip('/')}/shards"))


def _score(shard: Shard, settings: Settings) -> ScoredShard:
    _require_same_code(shard.job)
    reach = _find(shard.job, settings)
    arms = _open_arms(shard.job, settings.home_path, reach)
    scores = score_night(arms, reach.path_of(shard.job.features_md5), settings.threads, shard.span.groups)
    md5 = put_scores(reach.store, scores)
    reach.hand_back(md5)
    return ScoredShard(md5, scores.engines)


def _require_same_code(job: Job) -> None:
    if code_hash() != job.code_sha256:
        raise SettingsError(
            "Scoring a shard", f"this worker runs the engine {code_hash()[:12]}, the driver {job.code_sha256[:12]}",
            "install one version of nightscore on the driver and on all workers, and start the workers again",
        )  # fmt: skip


def _find(job: Job, settings: Settings) -> Reach:
    if shares_lake(job.token):
        return Reach(_store(settings.lake_path))
    if job.remote is None:
        raise SettingsError(
            "Scoring a shard", f"this worker sees neither the driver's lake at {settings.lake_path} nor a remote",
            "mount the lake and say where with NIGHTSCORE_HOME on the workers, or set NIGHTSCORE_REMOTE on the driver",
        )  # fmt: skip
    return cache_of(settings.home_path, job.remote)


def _open_arms(job: Job, home: Path, reach: Reach) -> Arms:
    champion, *others = [_open(home, reach, one) for one in job.arms]
    return Arms(job.arms[0].version, champion, job.share, others[0] if others else None)


@lru_cache(CAPSULES_OPEN)
def _open(home: Path, reach: Reach, arm: ArmRef) -> Capsule:
    return open_laid_out(home, arm.manifest_sha256, lambda: reach.entries(arm.capsule_md5), reach.path_of)


@cache
def _store(root: Path) -> ObjectStore:
    return ObjectStore(root)


@cache
def _remote(url: str) -> Remote:
    return open_remote(url)


def _forget_old(root: Path, now: datetime) -> None:
    """Remove what was fetched or made so long ago that no run needs it; what is needed again is fetched again."""
    deadline = (now - GRACE).timestamp()
    for path in (root / "files" / "md5").glob("*/*"):
        if path.stat().st_mtime < deadline:
            path.unlink(missing_ok=True)
