"""Which publication of a night is meant: the current one, a given one, or the one that readers saw at an instant.

Added here: another way to name a revision. Not here: reading its rows (`rows.py`).
"""

from datetime import date, datetime

from nightscore.catalog.publications import (
    Publication,
    current_publications,
    publication_as_of,
    publications_of_night,
)
from nightscore.errors import PublicationMissing, SettingsError
from nightscore.lake.workspace import Workspace


def choose_publication(
    workspace: Workspace, pipeline: str, night: date, publication_id: int | None = None, at: datetime | None = None
) -> Publication:
    """The current publication of `night`, the one with the id, or the one readers saw at the instant `at`.

    Raises PublicationMissing naming the revisions that exist.
    """
    if publication_id is not None and at is not None:
        raise SettingsError("Choosing a publication", "both an id and an instant were given", "give one of them")
    with workspace.engine.connect() as connection:
        known = publications_of_night(connection, pipeline, night)
        wanted = publication_id
        if at is not None:
            wanted = publication_as_of(connection, pipeline, night, at)
        elif wanted is None:
            current = current_publications(connection, pipeline, night, night).get(night)
            wanted = current.publication_id if current else None
    found = next((one for one in known if one.publication_id == wanted), None)
    if found is None:
        raise _missing(pipeline, night, publication_id, at, known)
    return found


def _missing(
    pipeline: str, night: date, publication_id: int | None, at: datetime | None, known: list[Publication]
) -> PublicationMissing:
    meant = "current" if at is None else f"as of {at:%Y-%m-%d %H:%M:%S%z}"
    meant = meant if publication_id is None else f"publication {publication_id}"
    there = [
        f"publication {one.publication_id}: revision {one.revision}, {one.published_at:%Y-%m-%d %H:%M:%S}Z"
        for one in known
    ]
    found = [f"there is none ({meant})", *(there or ["nothing was ever published for that night"])]
    return PublicationMissing(
        f"Choosing a publication of {pipeline} for {night}", found, f"see `nightscore status {pipeline}`"
    )
