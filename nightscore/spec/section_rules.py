"""What must hold inside one section and cannot be said by a type: ranges the right way round, patterns that compile.

Added here: a rule that reads one section. Not here: a rule between sections (`pipeline.py`).
"""

import re
from collections.abc import Callable, Collection, Iterator, Sequence
from zoneinfo import available_timezones

from nightscore.spec.expectations import Between, Expectation, Matches, RowCount
from nightscore.spec.pipeline import Finding, Location, Pipeline


def check_each_section(spec: Pipeline) -> list[Finding]:
    """Every contradiction inside a section of `spec`; sections that a salvaged spec lacks are left out."""
    there = vars(spec)
    return [finding for section, check in _CHECKS.items() if section in there for finding in check(spec)]


def _entity(spec: Pipeline) -> Iterator[Finding]:
    yield from _repeated(("entity", "key"), spec.entity.key)


def _sources(spec: Pipeline) -> Iterator[Finding]:
    for name, source in spec.sources.items():
        yield from _repeated(("sources", name, "key"), source.key)
        yield from _expectations(("sources", name, "expectations"), source.expectations)
        if source.cadence == "snapshot" and source.late_days:
            expected = "0; a snapshot is the whole table as it is that night, which nothing corrects later"
            yield ("sources", name, "late_days"), str(source.late_days), expected
        for at, column in enumerate(source.columns):
            where = ("sources", name, "columns", at)
            if column.sql is not None and column.source_name is not None:
                yield (*where, "source_name"), column.source_name, "either sql or source_name, not both"
            if column.timezone is not None and column.timezone not in available_timezones():
                yield (*where, "timezone"), column.timezone, "an IANA time zone such as America/New_York"


def _features(spec: Pipeline) -> Iterator[Finding]:
    yield from _expectations(("features", "expectations"), spec.features.expectations)


def _publish(spec: Pipeline) -> Iterator[Finding]:
    yield from _repeated(("publish", "columns"), spec.publish.columns)
    yield from _expectations(("publish", "expectations"), spec.publish.expectations)


def _decision(spec: Pipeline) -> Iterator[Finding]:
    low, high = spec.decision.score_min, spec.decision.score_max
    if low is not None and high is not None and high < low:
        yield ("decision", "score_max"), str(high), f"a number >= score_min {low}"


def _repeated(where: Location, names: Collection[str]) -> Iterator[Finding]:
    for at, name in enumerate(names):
        if name in list(names)[:at]:
            yield (*where, at), f"{name} again", "each column once"


def _expectations(section: Location, expectations: Sequence[Expectation]) -> Iterator[Finding]:
    for at, one in enumerate(expectations):
        where = (*section, at)
        if isinstance(one, Between | RowCount):
            yield from _bounds(where, one.min, one.max)
        if isinstance(one, Matches):
            yield from _compiles((*where, "pattern"), one.pattern)


def _bounds(where: Location, low: float | None, high: float | None) -> Iterator[Finding]:
    if low is None and high is None:
        yield where, "neither min nor max", "at least one of them"
    if low is not None and high is not None and high < low:
        yield (*where, "max"), str(high), f"a number >= min {low}"


def _compiles(where: Location, pattern: str) -> Iterator[Finding]:
    try:
        re.compile(pattern)
    except re.error as error:
        yield where, repr(pattern), f"a regular expression ({error})"


_CHECKS: dict[str, Callable[[Pipeline], Iterator[Finding]]] = {
    "entity": _entity,
    "sources": _sources,
    "features": _features,
    "publish": _publish,
    "decision": _decision,
}
