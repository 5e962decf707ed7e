"""Writing a report to a file that people choose: whole or not at all.

Added here: another way to hand a report over. Not here: what it says.
"""

import os
from pathlib import Path

from nightscore.errors import SettingsError


def write_report(path: Path, text: str, make_folder: bool = False) -> None:
    """Write `text`; who reads `path` meanwhile sees the old file or the new one.

    `make_folder` makes its folder too where it is not there. SettingsError where the file cannot be written.
    """
    try:
        if path.exists() and not path.is_file():
            # A device or a pipe, such as /dev/stdout, must not be replaced by a file.
            path.write_text(text, encoding="utf-8")
            return
        target = path.resolve()
        if make_folder:
            target.parent.mkdir(parents=True, exist_ok=True)
        part = target.with_name(f".{target.name}.{os.getpid()}.part")
        try:
            part.write_text(text, encoding="utf-8")
            os.replace(part, target)
        finally:
            part.unlink(missing_ok=True)
    except OSError as error:
        raise SettingsError(f"Writing {path}", str(error), "give a file in a folder that you may write to") from error
