"""Where the rows of a night are scored: in this process, or in shards on a cluster. The settings say; no bit changes.

Added here: another place. Not here: what becomes of the scores (`predictions.py`).
"""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from nightscore.catalog.partitions import PartitionVersion
from nightscore.lake.fingerprints import code_hash
from nightscore.lake.remotes import open_remote
from nightscore.lake.transfer import send_objects
from nightscore.lake.workspace import Workspace
from nightscore.scoring.arms import Arms
from nightscore.scoring.cluster import all_share_lake, open_cluster, score_shards
from nightscore.scoring.crew import Crew
from nightscore.scoring.predictions import Score
from nightscore.scoring.reuse import EarlierNight
from nightscore.scoring.scores import Scores, score_night
from nightscore.scoring.shards import Job, ScoredShard, Shard, Span, arms_of, cut, put_together
from nightscore.scoring.worker import Reach, cache_of
from nightscore.settings import LOCAL


@dataclass
class Execution:
    """A step's place to score in; a cluster is reached when a first night needs it, and let go with the step."""

    workspace: Workspace
    stack: ExitStack = field(default_factory=ExitStack)

    def of(self, crew: Crew, features: PartitionVersion) -> Score:
        """What scores the rows of a features partition with the versions of `crew`."""
        if self.workspace.settings.execution.engine == LOCAL:
            return score_night
        return partial(self._score_in_shards, crew, features.md5)

    @cached_property
    def _client(self) -> Any:
        return self.stack.enter_context(open_cluster(self.workspace.settings))

    def _score_in_shards(
        self, crew: Crew, features_md5: str, arms: Arms, features: Path, threads: int,
        earlier: EarlierNight | None = None,
    ) -> Scores:  # fmt: skip
        """What `score_night` gives; a night of a single shard is scored here. Workers know no earlier night."""
        spans = cut(features, self.workspace.settings.execution.shard_rows)
        if len(spans) < 2:
            return score_night(arms, features, threads, earlier=earlier)
        refs, share = arms_of(crew)
        with self.workspace.lake.store.scratch() as token:
            token.touch()
            remote = self._remote_for_workers(token.name, [features_md5, *(one.capsule_md5 for one in refs)])
            job = Job(features_md5, refs, share, token.name, remote, code_hash())
            scores = put_together(arms, spans[-1].stop, self._parts(job, spans))
        # One shard's difference casts doubt on all of them: the whole night is LightGBM's then.
        differed = {one.version: one for one in scores.engines if one.differing}
        return score_night(arms, features, threads, refused=differed) if differed else scores

    def _remote_for_workers(self, token: str, md5s: Sequence[str]) -> str | None:
        """The remote, where the workers need it; then `md5s` are there."""
        remote = self.workspace.settings.remote
        if remote is None or all_share_lake(self._client, token):
            return None
        send_objects(self.workspace.lake.store, open_remote(remote), md5s)
        return remote

    def _parts(self, job: Job, spans: Sequence[Span]) -> Iterator[tuple[Span, ScoredShard, Path]]:
        """The scores of each span, verified, as they are done; the remote is left without them."""
        store, settings = self.workspace.lake.store, self.workspace.settings
        reach = Reach(store) if job.remote is None else cache_of(settings.home_path, job.remote)
        fetched: set[str] = set()
        for shard, scored in score_shards(self._client, [Shard(job, one) for one in spans], settings.execution):
            if store.has(scored.md5):
                yield shard.span, scored, store.verified_path(scored.md5)
            else:
                yield shard.span, scored, reach.path_of_scores(scored.md5)
                fetched.add(scored.md5)
        reach.forget_scores(fetched)


@contextmanager
def open_execution(workspace: Workspace) -> Iterator[Execution]:
    """What the settings choose, for as long as a step runs."""
    with ExitStack() as stack:
        yield Execution(workspace, stack)
