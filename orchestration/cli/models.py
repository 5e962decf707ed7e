"""`nightscore models`: the registry's versions and aliases.

Added here: a command that reads the registry. Not here: promotion.
"""

from typing import Annotated

import typer

from orchestration.cli.output import JSON_OPTION, print_json, print_table
from orchestration.cli.specs import parse_version, require_pipeline_name

app = typer.Typer(help="Model versions: list them, show one.", no_args_is_help=True)
AsJson = Annotated[bool, JSON_OPTION]


@app.command("list")
def list_models(
    pipeline: Annotated[str | None, typer.Argument(help="One pipeline; all when absent.")] = None,
    as_json: AsJson = False,
) -> None:
    """Every registered version, with its champion marked."""
    from nightscore.catalog.models import alias_holder, list_versions
    from nightscore.lake.workspace import open_workspace
    from nightscore.settings import Settings

    settings = Settings()
    if pipeline is not None:
        require_pipeline_name(settings, pipeline)
    with open_workspace(settings).engine.connect() as connection:
        versions = list_versions(connection, pipeline)
        champions = {name: alias_holder(connection, name, "champion") for name in {one.pipeline for one in versions}}
    if as_json:
        print_json([vars(one) | {"champion": champions[one.pipeline] == one.version} for one in versions])
        return
    rows = [
        (one.name, "champion" if champions[one.pipeline] == one.version else "", one.algorithm, str(one.as_of),
         one.function_hash[:12], one.created_by, f"{one.created_at:%Y-%m-%d %H:%M}Z", one.purpose)
        for one in versions
    ]  # fmt: skip
    print_table("Models", ("version", "alias", "algorithm", "trained for", "function", "by", "at", "purpose"), rows)


@app.command("show")
def show_model(
    version: Annotated[str, typer.Argument(help="pipeline@version, such as flight_delay@1.")], as_json: AsJson = False
) -> None:
    """One version: identity, data, held-out metrics and the most important features."""
    from nightscore.lake.workspace import open_workspace
    from nightscore.registry.versions import require_version
    from nightscore.settings import Settings
    from orchestration.cli.night_tables import print_model

    found = require_version(open_workspace(Settings()), *parse_version(version))
    if as_json:
        print_json(vars(found))
        return
    facts = ("capsule_md5", "manifest_sha256", "function_hash", "recipe_hash", "snapshot_md5", "parent", "purpose")
    rows = [(fact, str(getattr(found, fact))) for fact in facts]
    provenance = found.provenance or {}
    rows += [(fact, str(provenance[fact])) for fact in ("commit", "dirty", "sources_sha256", "lock_sha256", "python")
             if fact in provenance]  # fmt: skip
    print_table(found.name, ("fact", "value"), rows)
    print_model(found)
    gains = sorted(found.metrics.get("importance", {}).items(), key=lambda pair: -pair[1])[:15]
    print_table("Importance (total gain)", ("feature", "gain"), gains)
