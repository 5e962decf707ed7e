"""Run as `python -m nightscore.registry.load_probe FOLDER`: may this capsule be loaded into a process that matters?

Loads it and scores its golden rows; prints every difference. Exit 0: same scores; 1: others; anything else: it
could not be loaded, or ended this process. Not here: verification of hashes (`verify.py`), which comes first.
"""

import sys
from pathlib import Path

from nightscore.registry.capsule import golden_differences


def main() -> int:
    """Probe the capsule in the folder that is the only argument."""
    differences = golden_differences(Path(sys.argv[1]))
    sys.stdout.write("\n".join(differences))
    return 1 if differences else 0


if __name__ == "__main__":
    try:
        status = main()
    except Exception as error:  # the parent shows this one line; a traceback would hide it
        sys.stdout.write(f"it cannot be loaded: {type(error).__name__}: {error}")
        status = 2
    sys.exit(status)
