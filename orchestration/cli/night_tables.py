"""The closing report of a run as tables: rows by stage, gates, model, publication, time, and how to look at it.

Added here: another table of a night. Not here: the facts (`nightscore/reports/night.py`).
"""

import os
import shutil
import sys
from collections import defaultdict

from nightscore.catalog.models import ModelVersion
from nightscore.reports.night import NightReport
from nightscore.training.worth import worth_line
from orchestration.cli.output import print_table, stdout


def print_night(report: NightReport, seconds: float) -> None:
    """Print the whole report."""
    _print_accounts(report)
    _print_gates(report)
    if report.model is not None:
        print_model(report.model)
    _print_times(report, seconds)
    _print_outcome(report)


def _print_accounts(report: NightReport) -> None:
    rows = [
        (one.dataset.split(".", 1)[1], one.rows_in, one.rows_out, one.quarantined, sum(one.excluded.values()))
        for one in report.accounts
        if ".source." not in one.dataset
    ]
    title = f"Rows of {report.pipeline} {report.night}: in = out + quarantined + excluded"
    print_table(title, ("stage", "in", "out", "quarantined", "excluded"), rows)


def _print_gates(report: NightReport) -> None:
    rows = []
    for verdict in report.verdicts:
        results = verdict.report["results"]
        failed = [f"{one['name']} ({one['severity']})" for one in results if not one["passed"]]
        passed = sum(bool(one["passed"]) for one in results)
        outcome = "passed" if verdict.passed else "HELD BACK"
        rows.append((verdict.dataset.split(".", 1)[1], outcome, f"{passed}/{len(results)}", ", ".join(failed)))
    print_table("Gates", ("dataset", "verdict", "expectations", "not met"), rows)


def print_model(version: ModelVersion) -> None:
    """Print a version with its held-out metrics beside its baselines."""
    held_out = version.metrics["held_out"]
    algorithms = version.metrics["algorithms"]
    wanted = ("roc_auc", "log_loss", "brier", "average_precision", "rmse", "mae", "r2")
    metrics = [name for name in wanted if name in next(iter(algorithms.values()), {"overall": {}})["overall"]]
    names = sorted(algorithms, key=lambda name: (name != version.metrics["algorithm"], name))
    rows = [(name, *(algorithms[name]["overall"].get(metric) for metric in metrics)) for name in names]
    title = (
        f"Model {version.name}: {version.algorithm}, trained for {version.as_of} on {version.metrics['all']['rows']:,} "
        f"rows; held out {held_out['first']} to {held_out['last']} ({held_out['rows']:,} rows)"
    )
    print_table(title, ("algorithm", *metrics), rows)
    if version.metrics.get("worth"):
        stdout().print(f"{worth_line(version.metrics)}\n", soft_wrap=True)


def _print_times(report: NightReport, seconds: float) -> None:
    totals: dict[str, list[float]] = defaultdict(lambda: [0, 0, 0, 0, 0.0])
    for step in report.steps:
        for at, value in enumerate((step.made, step.reused, step.blocked, step.rows, step.seconds)):
            totals[step.step][at] += value
    rows = [(name, *(int(one) for one in values[:4]), round(values[4], 2)) for name, values in totals.items()]
    spent = sum(values[4] for values in totals.values())
    rows.append(("everything else", 0, 0, 0, 0, round(seconds - spent, 2)))
    print_table(f"Time: {seconds:.1f} s", ("step", "made", "reused", "held back", "rows", "seconds"), rows)


def _print_outcome(report: NightReport) -> None:
    console = stdout()
    status, made = report.status, report.publication
    if status is not None and status.status != "published":
        console.print(f"{report.night} is {status.status}: {status.reason}", style="bold")
    if made is not None:
        run_ids = {step.run_id for step in report.steps}
        unchanged = "Readers see as before" if report.changeset else "Already published, nothing changed:"
        verb = "Published" if made.run_id in run_ids else unchanged
        line = f"{verb} {report.night}: {made.rows:,} rows, publication {made.publication_id}, revision {made.revision}"
        console.print(f"{line}, {report.pipeline}@{made.model_version}", style="bold")
    elif report.latest is not None:
        console.print(f"Readers still see {report.latest.score_date}, publication {report.latest.publication_id}.")
    else:
        console.print("Readers see nothing yet.")
    if report.changeset is not None:
        console.print(f"It comes out otherwise now; staged for review: nightscore changes diff {report.changeset}")
    console.print()
    console.print("Look at it:")
    command = _own_command()
    query = f"select * from bi.{report.pipeline}_latest order by rank limit 5"  # noqa: S608 (shown, not run)
    console.print(f'  psql "$({command} db url)" -c "{query}"')
    console.print(f"  {command} up      the Dagster UI, with every asset, check and run")


def _own_command() -> str:
    """How this person can call us again: by name where the shell finds it, else by path."""
    return "nightscore" if shutil.which("nightscore") else os.path.relpath(sys.argv[0])
