"""`nightscore attempt`: train for one night or a series of nights, and let the gate judge each version.

Added here: what an attempt is and how it is told. Not here: the job (`jobs/attempts.py`), or when an attempt is due.
"""

import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import date, datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Any

import typer

from orchestration.cli.output import JSON_OPTION, print_json

if TYPE_CHECKING:
    from orchestration.cli.launch import Launched
    from orchestration.cli.night_runs import Session

FAILED, FIRST, NOTHING_NEW = "failed", "first champion", "nothing new"
GOES_ON = (0, 2, 3)
"""Exit codes after which the next night is tried: a night's own lack of data says nothing of the others."""


@dataclass(frozen=True)
class Attempt:
    """What came of one night: a version with its verdict and what followed, or why there is none."""

    as_of: date
    action: str
    reason: str
    version: str = ""
    verdict: str = ""
    gain: float | None = None
    lower: float | None = None
    upper: float | None = None
    run_id: str = ""
    exit_code: int = 0


def attempt(
    pipeline: Annotated[str, typer.Argument(help="A pipeline.")],
    as_of: Annotated[
        datetime | None, typer.Option(formats=["%Y-%m-%d"], help="One night; default: the next night to score.")
    ] = None,
    from_: Annotated[datetime | None, typer.Option("--from", formats=["%Y-%m-%d"], help="First night.")] = None,
    to: Annotated[datetime | None, typer.Option("--to", formats=["%Y-%m-%d"], help="No night after this one.")] = None,
    every: Annotated[int, typer.Option(min=1, help="Days from one night to the next.")] = 7,
    purpose: Annotated[str, typer.Option(help="Why; kept with each version.")] = "an attempt",
    as_json: Annotated[bool, JSON_OPTION] = False,
) -> None:
    """Train a version for each night, judge it against the champion of that moment, and do what the spec says follows.

    The same recipe on the same data is the version it was: nothing new. A night with too little data is told, and the
    next one tried; the exit code is that of the first night that could not be attempted, and 0 whatever the verdicts.
    """
    from orchestration.cli.night_runs import open_session

    session = open_session(pipeline)
    alone, first, last = (None if one is None else one.date() for one in (as_of, from_, to))
    nights = choose_nights(session, alone, first, last, every)
    made: list[Attempt] = []
    for night in nights:
        made.append(make_attempt(session, night, purpose))
        if not as_json:
            _say(made[-1])
        if made[-1].exit_code not in GOES_ON:
            break
    if as_json:
        print_json([asdict(one) for one in made])
    else:
        _sum_up(pipeline, made, len(nights))
    raise SystemExit(next((one.exit_code for one in made if one.exit_code), 0))


def choose_nights(
    session: "Session", as_of: date | None, first: date | None, last: date | None, every: int
) -> list[date]:
    """One night, or every so many from the first to at most the last; SpecError for a night that is no score date."""
    from nightscore.errors import SpecError
    from orchestration.cli.night_runs import choose_nights as choose

    if as_of is not None and (first or last):
        raise SpecError("Reading the dates", "both --as-of and --from/--to were given", "give one or the other")
    return choose(session.workspace, session.pipeline, as_of, first, last)[::every]


def make_attempt(session: "Session", night: date, purpose: str) -> Attempt:
    """Prepare the history that is missing, train for `night` and judge, as runs of Dagster."""
    from getpass import getuser

    from orchestration.cli.launch import run_job
    from orchestration.run_tags import USER_TAG

    launched = prepare_missing(session, night)
    if all(one.success for one in launched):
        name, asked = session.pipeline.name, {"as_of": night.isoformat()}
        config = {
            f"{name}__model": {"config": asked | {"purpose": purpose}},
            f"{name}__promotion": {"config": asked | {"reason": purpose}},
        }
        launched.append(
            run_job(session.definitions, session.instance, f"{name}_attempt", {USER_TAG: getuser()}, {"ops": config})
        )
    return _read(session, night, launched[-1])


def prepare_missing(session: "Session", night: date) -> "list[Launched]":
    """The history that training for `night` needs, from the first to the last of its nights that the lake lacks."""
    from nightscore.spec.datasets import features_dataset, labels_dataset
    from nightscore.spec.windows import nights_between
    from orchestration.cli.launch import run_nights

    pipeline, lake = session.pipeline, session.workspace.lake
    begin = max(night - timedelta(days=pipeline.training.window_days), pipeline.score_dates.start)
    datasets = (features_dataset(pipeline.name), labels_dataset(pipeline.name))
    there = [lake.current(dataset, begin, night) for dataset in datasets]
    missing = [day for day in nights_between(begin, night) if not all(day in one for one in there)]
    if not missing:
        return []
    wanted = nights_between(missing[0], missing[-1])
    return run_nights(session.definitions, session.instance, f"{pipeline.name}_history", wanted)


def _read(session: "Session", night: date, launched: "Launched") -> Attempt:
    if not launched.success:
        reason = "; ".join(line.strip() for line in launched.message.splitlines())
        return Attempt(night, FAILED, reason, run_id=launched.run_id, exit_code=launched.exit_code)
    told = _materialised(session, launched.run_id)
    judged, is_new = told["promotion"], told["model"]["new"]
    action, verdict = judged["action"], judged["verdict"]
    if action == "settled":
        action, verdict = (FIRST if is_new else NOTHING_NEW), ""
    return Attempt(
        night, action, judged["reason"], judged["version"], verdict, judged.get("gain"), judged.get("lower"),
        judged.get("upper"), launched.run_id,
    )  # fmt: skip


def _materialised(session: "Session", run_id: str) -> dict[str, dict[str, Any]]:
    """Metadata of what a run has made, by the asset's name."""
    import dagster as dg

    made = dg.DagsterEventType.ASSET_MATERIALIZATION
    found = [one.asset_materialization for one in session.instance.get_records_for_run(run_id, of_type=made).records]
    return {
        one.asset_key.path[-1]: {name: value.value for name, value in one.metadata.items()}
        for one in found if one is not None
    }  # fmt: skip


def _say(one: Attempt) -> None:
    """A line, flushed, since the next night takes its time."""
    parts = [str(one.as_of), one.version, one.verdict.replace("_", " "), one.action, _gain(one), one.reason]
    sys.stdout.write("  ".join(part for part in parts if part) + "\n")
    sys.stdout.flush()


def _gain(one: Attempt) -> str:
    if one.gain is None:
        return ""
    bounds = "" if one.lower is None or one.upper is None else f" ({100 * one.lower:+.2f} to {100 * one.upper:+.2f} %)"
    return f"gain {100 * one.gain:+.2f} %{bounds}"


def _sum_up(pipeline: str, made: Sequence[Attempt], wanted: int) -> None:
    counts = Counter(one.action for one in made)
    listed = ", ".join(f"{count} {action}" for action, count in sorted(counts.items()))
    left = f"; {wanted - len(made)} nights were not reached" if len(made) < wanted else ""
    sys.stdout.write(f"\n{len(made)} attempts: {listed}{left}.\n")
    sys.stdout.write(f"The evidence of each:   nightscore decisions {pipeline}\n")
    sys.stdout.write(f"The versions:           nightscore models list {pipeline}\n")
