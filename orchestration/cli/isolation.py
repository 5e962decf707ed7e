"""A command that proves something runs the installed code, whatever PYTHONPATH says.

Added here: nothing else. Not here: the child process of a reproduction, which isolates itself.
"""

import os
import sys
from importlib.metadata import PackageNotFoundError, distribution

START = "import sys; sys.argv[0] = 'nightscore'; from orchestration.cli.app import main; main()"


def leave_module_path() -> None:
    """Start this command again without PYTHONPATH, so that neither side of a comparison is someone else's code."""
    if "PYTHONPATH" not in os.environ:
        return
    try:
        distribution("nightscore")
    except PackageNotFoundError:
        return  # only the module path leads to the project
    del os.environ["PYTHONPATH"]
    sys.stdout.flush()
    os.execv(sys.executable, [sys.executable, "-I", "-c", START, *sys.argv[1:]])  # noqa: S606 (the same command)
