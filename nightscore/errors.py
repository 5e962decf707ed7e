"""The one tree of errors, split by what the operator does next.

`Permanent`: retrying cannot help; repair the spec, the data or the artefact named.
`Transient`: the same call may succeed later; the scheduler retries it.
`ContractViolation`: a gate held data back; nothing was published, look at the data.

A new error is added here when an operator would act differently on it.
Mapping to an orchestrator's retry behaviour lives in `orchestration/failures.py`, not here.
"""

from collections.abc import Iterable


class NightscoreError(Exception):
    """What was attempted, every reason it failed, and the remedy."""

    exit_code = 1

    def __init__(self, attempted: str, found: Iterable[str] | str, remedy: str) -> None:
        self.attempted = attempted
        self.found = (found,) if isinstance(found, str) else tuple(found)
        self.remedy = remedy
        super().__init__(self._render())

    def _render(self) -> str:
        reasons = "\n".join(f"  - {reason}" for reason in self.found)
        return f"{self.attempted} failed:\n{reasons}\nRemedy: {self.remedy}"

    def __reduce__(self) -> tuple[type["NightscoreError"], tuple[str, tuple[str, ...], str]]:
        return type(self), (self.attempted, self.found, self.remedy)


class Permanent(NightscoreError):
    """Repair something first; a retry meets the same failure."""

    exit_code = 2


class Transient(NightscoreError):
    """Try again later; nothing needs repair."""

    exit_code = 4


class ContractViolation(NightscoreError):
    """A gate held data back; what was published before still stands."""

    exit_code = 3


class SpecError(Permanent):
    """A pipeline spec is wrong; every finding names file, line, key, found and expected."""


class SettingsError(Permanent):
    """The environment or settings cannot work together."""


class SourceMissing(Permanent):
    """A declared source file or table is not there."""


class SourceMalformed(Permanent):
    """A source is there, but not in the declared shape."""


class ObjectMissing(Permanent):
    """The lake lacks an object that the catalog names."""


class ObjectCorrupt(Permanent):
    """An object's bytes do not match the hash it is named by."""


class AccountingError(Permanent):
    """Rows in do not equal rows out + quarantined + excluded."""


class FeatureBuildFailed(Permanent):
    """The feature SQL failed or broke its contract."""


class CapsuleRejected(Permanent):
    """A model capsule failed verification and was not loaded."""


class AliasMissing(Permanent):
    """No model version holds the alias that the work needs."""


class CannotReproduce(Permanent):
    """Something that a version or a night was made of cannot be had any more; nothing was compared."""

    exit_code = 6


class LockMissing(CannotReproduce):
    """There is no lock file that says which packages were installed."""


class LockStale(CannotReproduce):
    """The lock file does not describe the environment that the work was done in."""


class EnvironmentUnavailable(CannotReproduce):
    """The locked environment cannot be made: a wheel, an index or an interpreter is missing."""


class SourcesMissing(CannotReproduce):
    """There is neither an archive of the sources nor the commit they were at."""


class Undetermined(Permanent):
    """Something was declared whose result may differ from run to run."""


class PublicationMissing(Permanent):
    """There is no such publication, or none at that time."""


class ChangesetMissing(Permanent):
    """There is no such changeset."""


class ChangesetRefused(Permanent):
    """A changeset cannot be decided on as it stands; nothing moved."""


class RowMissing(Permanent):
    """A publication has no row with that key."""


class PromotionRefused(Permanent):
    """The spec's policy forbids this version to become champion."""


class IncidentRefused(Permanent):
    """There is no such open incident, or it cannot be decided on as asked; nothing moved."""


class FeedbackRefused(Permanent):
    """A file of reviews cannot be written, or cannot be taken in as it stands; nothing was added."""


class NotEnoughData(Permanent):
    """A training set or evaluation has too little mature data."""


class PartitionConflict(Transient):
    """Another writer moved the partition first; nothing of either writer is lost."""


class DatabaseUnavailable(Transient):
    """The database did not answer."""


class RemoteUnavailable(Transient):
    """The lake's remote did not answer."""


class ClusterUnavailable(Transient):
    """The cluster that scores shards did not answer, or lost every worker."""


class OutOfSpace(Transient):
    """The disk refused a write."""


class NotReadable(ContractViolation):
    """A partition was asked for that has not passed its gates, or was never made."""


class GateBlocked(ContractViolation):
    """A gate's blocking expectation failed."""
