"""Which version scores which row: the champion all of them, or a share of entities by the other version of a rollout.

An entity stays in its arm for as long as the salt does: the arm is a hash of both, and of nothing else.
Added here: a way to divide rows. Not here: when the share grows (`nightscore/registry/rollout.py`).
"""

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import polars as pl

from nightscore.registry.capsule import Capsule
from nightscore.registry.names import CHAMPION

Mask = npt.NDArray[np.bool_]

SEPARATOR = "\x1f"
BUCKETS = 10_000


@dataclass(frozen=True)
class Share:
    """`percent` of entities are scored by `version`, and say `arm`."""

    arm: str
    version: int
    manifest_sha256: str
    percent: float
    salt: str
    entity: tuple[str, ...]

    def as_json(self) -> dict[str, Any]:
        """What a receipt keeps."""
        return asdict(self) | {"entity": list(self.entity)}

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> Self:
        """The inverse of `as_json`."""
        return cls(**{**stored, "entity": tuple(stored["entity"])})

    def takes(self, rows: pl.DataFrame) -> pl.Series:
        """Which rows of a frame with the entity's columns are in this share (Boolean); a hash is taken once an entity.

        The first 8 bytes, big-endian, of SHA-256(salt, unit separator, values joined by it), modulo 10,000.
        """
        entities = rows.select(pl.concat_str(self.entity, separator=SEPARATOR, ignore_nulls=True)).to_series()
        taken = {one: bucket_of(self.salt, one) < self.percent * BUCKETS / 100 for one in entities.unique()}
        # polars takes the type of an empty map from the keys, whatever it is told.
        return entities.replace_strict(taken, return_dtype=pl.Boolean) if taken else pl.Series(dtype=pl.Boolean)


def bucket_of(salt: str, entity: str) -> int:
    """The bucket, 0 to 9,999, of an entity."""
    digest = hashlib.sha256(f"{salt}{SEPARATOR}{entity}".encode()).digest()
    return int.from_bytes(digest[:8], "big") % BUCKETS


@dataclass(frozen=True)
class Arms:
    """The opened versions of a night: the champion, and the one of a rollout with its share."""

    version: int
    capsule: Capsule
    share: Share | None = None
    challenger: Capsule | None = None

    @property
    def versions(self) -> list[tuple[int, Capsule]]:
        """(version, capsule) of each arm, the champion first."""
        if self.share is None or self.challenger is None:
            return [(self.version, self.capsule)]
        return [(self.version, self.capsule), (self.share.version, self.challenger)]

    @property
    def names(self) -> list[str]:
        """What each arm is called in predictions."""
        return [CHAMPION] if self.share is None or self.challenger is None else [CHAMPION, self.share.arm]

    @property
    def entity(self) -> tuple[str, ...]:
        """The columns that decide who scores a row; none without a rollout."""
        return () if self.share is None or self.challenger is None else self.share.entity

    def masks(self, rows: pl.DataFrame) -> list[Mask | None]:
        """For each arm which rows of a frame with `entity` are its own; None where they all are."""
        if self.share is None or self.challenger is None:
            return [None]
        taken = self.share.takes(rows).to_numpy()
        return [~taken, taken]
