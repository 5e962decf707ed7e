"""`nightscore policy`: the rules that nights are watched by, and what another policy would have made of them.

Added here: a command about a policy. Not here: replaying (`nightscore/monitoring/backtest.py`), or incidents
(`incidents.py`).
"""

import sys
from collections.abc import Iterator
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from orchestration.cli.models import AsJson, PipelineName, open_deployment
from orchestration.cli.output import print_json, print_table
from orchestration.cli.specs import find_pipeline

if TYPE_CHECKING:
    from nightscore.monitoring.backtest import Backtest, Figures

app = typer.Typer(help="The policy of the watch: show it, back-test another.", no_args_is_help=True)


@app.command("show")
def show_policy(pipeline: PipelineName, as_json: AsJson = False) -> None:
    """The policy in force and its hash, as YAML that a back-test reads."""
    import yaml

    from nightscore.monitoring.nights import policy_hash, policy_of
    from nightscore.settings import Settings

    policy = policy_of(find_pipeline(Settings(), pipeline))
    sections = policy.model_dump(mode="json")
    if as_json:
        print_json({"pipeline": pipeline, "policy": policy_hash(policy), **sections})
        return
    sys.stdout.write(f"# policy {policy_hash(policy)} of {pipeline}\n")
    sys.stdout.write(yaml.safe_dump(sections, sort_keys=False, allow_unicode=True))


@app.command("backtest")
def backtest_policy(
    pipeline: PipelineName,
    policy: Annotated[Path, typer.Option("--policy", help="YAML with the sections monitoring, promotion or both.")],
    from_: Annotated[
        datetime | None, typer.Option("--from", formats=["%Y-%m-%d"], help="First night to compare; default: all.")
    ] = None,
    until: Annotated[
        datetime | None, typer.Option(formats=["%Y-%m-%d"], help="Last night to replay; default: all.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Replay every night that was watched under another policy, beside the one in force; nothing changes.

    A section that FILE does not have is that of the spec; in a section that it has, a key that is absent has its
    default, as in a spec. What people decided of incidents is replayed where the other policy opens one of the same
    cause, and promotions by the gate are taken as they happened.

    Not to be tried, and refused where FILE changes it: monitoring.daily_variance_share and
    monitoring.outcomes.wait_days, which act when a night is measured, and all of promotion but approve, cooldown_days
    and max_in_30_days, which acts when versions are compared.
    """
    from nightscore.monitoring.backtest import backtest, read_policy
    from nightscore.settings import Settings

    spec = find_pipeline(Settings(), pipeline)
    wanted = read_policy(policy, spec)
    days = (None if one is None else one.date() for one in (from_, until))
    made = backtest(open_deployment(), spec, wanted, *days)
    if as_json:
        print_json(_as_json(made))
    else:
        _print(made)


def _as_json(made: "Backtest") -> dict[str, Any]:
    decisions = {
        name: [one.model_dump(mode="json") for one in getattr(made, name)] for name in ("only_present", "only_other")
    }
    return {
        "pipeline": made.pipeline, "first": made.first, "last": made.last, "present": asdict(made.present),
        "other": asdict(made.other), **decisions,
    }  # fmt: skip


def _print(made: "Backtest") -> None:
    rows = [(name, one, other) for (name, one), (_, other) in zip(_rows(made.present), _rows(made.other), strict=True)]
    title = f"{made.pipeline}, nights {made.first} to {made.last}"
    print_table(title, ("figure", f"present {made.present.policy}", f"other {made.other.policy}"), rows)
    sides = [("present", one) for one in made.only_present] + [("other", one) for one in made.only_other]
    if not sides:
        sys.stdout.write("Both policies decide the same.\n")
    for side, one in sorted(sides, key=lambda pair: (pair[1].night, pair[0] == "other")):
        sys.stdout.write(f"{one.night}  only {side}: {one.kind} {one.verdict.replace('_', ' ')}: {one.reason}\n")


def _rows(figures: "Figures") -> Iterator[tuple[str, str]]:
    """Every figure as text, in an order that is the same for both policies."""
    yield "nights", str(figures.nights)
    yield "nights blocked", str(figures.blocked)
    for level, one in figures.levels.items():
        days = "" if one.median_days_open is None else f", {one.median_days_open:g} days open (median)"
        yield f"{level} incidents", f"{one.opened} opened, {one.false_alarms} false{days}"
    yield "incidents in 91 nights", f"{figures.incidents_per_quarter:.2f}"
    yield "false alarms in 91 nights", f"{figures.false_per_quarter:.2f} ({figures.tolerated_per_quarter} tolerated)"
    yield "alerts", str(figures.told)
    yield "retrain attempts", str(figures.attempts)
    yield "retrain questions to a person", str(figures.asks)
    yield "retrain refusals", str(figures.refusals)
    yield "decisions of people without an incident", str(figures.skipped)
