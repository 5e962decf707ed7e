"""`nightscore data`: the lake's objects: send them to a remote, fetch, verify, clear out, list and lay out versions.

Added here: a command about stored bytes. Not here: how a subject is looked up or a result shown (`data_subjects.py`).
"""

from datetime import datetime, timedelta
from pathlib import Path
from typing import Annotated

import typer

from orchestration.cli.output import JSON_OPTION

SUBJECT_HELP = "pipeline@version, a pipeline, or an md5 (also ….dir); everything that something names when absent."
AsJson = Annotated[bool, JSON_OPTION]
Subject = Annotated[str | None, typer.Argument(help=SUBJECT_HELP)]
RemoteUrl = Annotated[str | None, typer.Option("--remote", help="A folder or fsspec URL; default: NIGHTSCORE_REMOTE.")]

app = typer.Typer(
    no_args_is_help=True, help="The lake's data: push, pull, verify, clear out, list versions, lay one out."
)


@app.command("push")
def push(subject: Subject = None, remote: RemoteUrl = None, as_json: AsJson = False) -> None:
    """Send to the remote what it lacks, each object verified first."""
    from nightscore.lake.transfer import push as send
    from orchestration.cli.data_subjects import find_pins, find_remote, open_deployment, print_transfer

    workspace = open_deployment()
    to = find_remote(workspace.settings, remote)
    done = send(workspace.lake.store, to, find_pins(workspace, subject))
    print_transfer("pushed", to.name, done, as_json)


@app.command("pull")
def pull(subject: Subject = None, remote: RemoteUrl = None, as_json: AsJson = False) -> None:
    """Fetch from the remote what the lake lacks or has damaged, each object verified before it is kept."""
    from nightscore.lake.transfer import pull as fetch
    from orchestration.cli.data_subjects import find_pins, find_remote, open_deployment, print_transfer

    workspace = open_deployment()
    source = find_remote(workspace.settings, remote)
    done = fetch(workspace.lake.store, source, find_pins(workspace, subject))
    print_transfer("pulled", source.name, done, as_json)


@app.command("verify")
def verify(
    remote: Annotated[bool, typer.Option("--remote", help="Verify the copies on NIGHTSCORE_REMOTE instead.")] = False,
    everything: Annotated[bool, typer.Option("--all", help="Also objects that nothing names.")] = False,
    as_json: AsJson = False,
) -> None:
    """Hash every object again; name each that is missing or corrupt, and who needs it (exit code 2)."""
    from nightscore.lake.upkeep import LocalShelf, inspect
    from orchestration.cli.data_subjects import find_pins, find_remote, open_deployment, print_inspection

    workspace = open_deployment()
    shelf = find_remote(workspace.settings, None) if remote else LocalShelf(workspace.lake.store)
    found = inspect(shelf, find_pins(workspace, None), everything)
    print_inspection(found, as_json)
    found.require_sound(shelf.name)


@app.command("gc")
def gc(
    apply: Annotated[bool, typer.Option("--apply", help="Remove them; without it they are only counted.")] = False,
    older_than: Annotated[
        float, typer.Option(min=0, help="Keep objects stored in these last hours: a run may be about to name them.")
    ] = 24,
    as_json: AsJson = False,
) -> None:
    """Find, and with --apply remove, the lake's objects that nothing names; the remote is left alone."""
    from nightscore.lake.garbage import gc as collect
    from orchestration.cli.data_subjects import find_pins, open_deployment, print_garbage

    workspace = open_deployment()
    pins, grace = find_pins(workspace, None), timedelta(hours=older_than)
    print_garbage(collect(workspace.lake.store, pins, grace, workspace.clock.now(), apply), as_json)


@app.command("versions")
def versions(
    name: Annotated[str, typer.Argument(metavar="PIPELINE|DATASET", help="flight_delay, or flight_delay.features.")],
    date: Annotated[datetime | None, typer.Option(formats=["%Y-%m-%d"], help="One score date.")] = None,
    as_json: AsJson = False,
) -> None:
    """Every version that a partition ever had, which one is current, and who else needs it."""
    from orchestration.cli.data_subjects import list_partition_versions, open_deployment, print_versions

    found = list_partition_versions(open_deployment(), name, None if date is None else date.date())
    print_versions(name, found, as_json)


@app.command("restore")
def restore(
    subject: Annotated[str, typer.Argument(help="pipeline@version, a pipeline (what is current), or an md5.")],
    to: Annotated[Path, typer.Option("--to", help="A new or empty folder.")],
    as_json: AsJson = False,
) -> None:
    """Lay a version's files out in a folder of its own, each verified; what is current stays as it is."""
    from nightscore.lake.upkeep import restore as lay_out
    from orchestration.cli.data_subjects import find_files, open_deployment, print_restored

    workspace = open_deployment()
    files = find_files(workspace, subject)
    written = lay_out(workspace.lake.store, files, to.absolute())
    print_restored(subject, to, len(files), written, as_json)
