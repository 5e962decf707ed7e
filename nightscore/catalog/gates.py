"""Verdicts of gates and the row accounts that go with them.

Added here: queries on `gate_result` and `row_account`. Not here: how a verdict is reached (`nightscore/quality`).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

import sqlalchemy as sa

from nightscore.catalog.tables import gate_result, row_account


@dataclass(frozen=True)
class Verdict:
    """One judgement of one candidate content; the report holds counts and never a value."""

    pipeline: str
    dataset: str
    score_date: date
    passed: bool
    candidate_md5: str
    rules_hash: str
    accepted_md5: str | None
    quarantined_md5: str | None
    report: Mapping[str, Any]
    run_id: str
    judged_at: datetime

    @property
    def reasons(self) -> tuple[str, ...]:
        """One sentence for each reason it was blocked."""
        return tuple(self.report.get("reasons", ()))


def record_verdict(connection: sa.Connection, verdict: Verdict) -> None:
    """Append a verdict."""
    connection.execute(gate_result.insert().values(vars(verdict) | {"report": dict(verdict.report)}))


def latest_verdict(connection: sa.Connection, dataset: str, night: date) -> Verdict | None:
    """The newest verdict on a partition, or None when it was never judged."""
    at_partition = sa.and_(gate_result.c.dataset == dataset, gate_result.c.score_date == night)
    return _first(connection, at_partition)


def passed_verdict(connection: sa.Connection, dataset: str, candidate_md5: str, rules_hash: str) -> Verdict | None:
    """A verdict that let this very content pass under these very rules, on any night."""
    same = sa.and_(
        gate_result.c.dataset == dataset, gate_result.c.candidate_md5 == candidate_md5,
        gate_result.c.rules_hash == rules_hash, gate_result.c.passed,
    )  # fmt: skip
    return _first(connection, same)


def verdict_on(connection: sa.Connection, dataset: str, accepted_md5: str) -> Verdict | None:
    """The newest verdict that let this very content in, or None."""
    return _first(connection, sa.and_(gate_result.c.dataset == dataset, gate_result.c.accepted_md5 == accepted_md5))


def _first(connection: sa.Connection, condition: sa.ColumnElement[bool]) -> Verdict | None:
    columns = [column for column in gate_result.c if column.name != "gate_id"]
    query = sa.select(*columns).where(condition).order_by(gate_result.c.gate_id.desc()).limit(1)
    row = connection.execute(query).mappings().first()
    return None if row is None else Verdict(**row)


def verdicts_of_night(connection: sa.Connection, pipeline: str, night: date) -> list[Verdict]:
    """The newest verdict on each dataset of a night, in the order they were judged."""
    columns = [column for column in gate_result.c if column.name != "gate_id"]
    newest = (
        sa.select(sa.func.max(gate_result.c.gate_id))
        .where(gate_result.c.pipeline == pipeline, gate_result.c.score_date == night)
        .group_by(gate_result.c.dataset)
    )
    query = sa.select(*columns).where(gate_result.c.gate_id.in_(newest)).order_by(gate_result.c.gate_id)
    return [Verdict(**row) for row in connection.execute(query).mappings()]


@dataclass(frozen=True)
class RowAccount:
    """Rows in = rows out + quarantined + excluded; the database refuses anything else."""

    pipeline: str
    dataset: str
    score_date: date
    rows_in: int
    rows_out: int
    quarantined: int
    excluded: Mapping[str, int]


def record_account(connection: sa.Connection, account: RowAccount, run_id: str, now: datetime) -> None:
    """Append a row account."""
    values = vars(account) | {"excluded": dict(account.excluded), "excluded_rows": sum(account.excluded.values())}
    connection.execute(row_account.insert().values(values | {"run_id": run_id, "recorded_at": now}))


def accounts_of_night(connection: sa.Connection, pipeline: str, night: date) -> list[RowAccount]:
    """The newest account of each dataset of a night, in the order of the chain."""
    newest = (
        sa.select(sa.func.max(row_account.c.account_id))
        .where(row_account.c.pipeline == pipeline, row_account.c.score_date == night)
        .group_by(row_account.c.dataset)
    )
    names = ("pipeline", "dataset", "score_date", "rows_in", "rows_out", "quarantined", "excluded")
    query = sa.select(*(row_account.c[name] for name in names)).where(row_account.c.account_id.in_(newest))
    rows = connection.execute(query.order_by(row_account.c.account_id)).mappings()
    return [RowAccount(**row) for row in rows]
