"""The shop with six weeks of data and a spec that lets its models live: enough held-out dates for evidence.

Added here: what tests of a model's life share. Not here: tests.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import yaml

from nightscore.catalog.postgres import Server
from orchestration.cli.night_runs import Session, open_session
from tests.orchestration.conftest import call_here, shop_session
from tests.shop import FIRST, write_day

DAYS = 42
FIRST_NIGHT = date(2024, 3, 15)
"""The first with a full training window, given `SPEC`."""
SPEC: dict[str, Any] = {
    "training": {
        "window_days": 14, "holdout_days": 10, "min_rows": 100, "seed": 7, "baselines": [{"type": "constant"}],
        "algorithm": {"type": "lightgbm", "trees": 6, "leaves": 5, "min_rows_in_leaf": 5},
    },
    "promotion": {"approve": "auto", "dates": 10, "cooldown_days": 3, "max_in_30_days": 9, "max_gain": 9.0},
    "rollout": {"min_days": 2, "steps": [30, 60, 100]},
}  # fmt: skip


@contextmanager
def model_shop(server: Server, folder: Path) -> Iterator[Session]:
    """A deployment of its own with `DAYS` days of data, and no version yet."""
    with shop_session(server, folder) as opened:
        root = opened.workspace.settings.root
        for day in range(DAYS):
            write_day(root, FIRST + timedelta(days=day))
        session = reopen(opened, **SPEC)
        yield session
        close(session)


def reopen(session: Session, **sections: Any) -> Session:
    """The same deployment after its spec's sections have been changed."""
    path = session.workspace.settings.root / "pipelines" / "visits.yaml"
    path.write_text(yaml.safe_dump(yaml.safe_load(path.read_text()) | sections, sort_keys=False))
    return open_session("visits")


def close(session: Session) -> None:
    """Let go of a reopened deployment; the one that made it lets go of its own."""
    session.instance.dispose()
    session.workspace.engine.dispose()


def with_trees(trees: int) -> dict[str, Any]:
    """The training section with another number of trees: more of them fit better here."""
    training = SPEC["training"]
    return {"training": training | {"algorithm": training["algorithm"] | {"trees": trees}}}


def spoken(*arguments: str, code: int = 0) -> Any:
    """What a command prints as JSON, having ended with `code`."""
    done = call_here(*arguments, "--json")
    assert done.returncode == code, done.stderr
    return json.loads(done.stdout)
