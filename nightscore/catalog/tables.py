"""The catalog's tables in SQLAlchemy Core, the mirror of `migrations/`.

A test compares this module with a migrated database. Added here: a column or table, together with its migration.
"""

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import JSONB

METADATA = sa.MetaData(schema="nightscore")


def _identity(name: str) -> sa.Column[int]:
    return sa.Column(name, sa.BigInteger, sa.Identity(always=True), primary_key=True)


def _text(name: str, nullable: bool = False) -> sa.Column[str]:
    return sa.Column(name, sa.Text, nullable=nullable)


def _instant(name: str, nullable: bool = False) -> sa.Column[object]:
    return sa.Column(name, sa.DateTime(timezone=True), nullable=nullable)


def _json(name: str, nullable: bool = False) -> sa.Column[object]:
    return sa.Column(name, JSONB, nullable=nullable)


def _count(name: str, nullable: bool = False) -> sa.Column[int]:
    return sa.Column(name, sa.BigInteger, nullable=nullable)


def _night(nullable: bool = False) -> sa.Column[object]:
    return sa.Column("score_date", sa.Date, nullable=nullable)


partition_version = sa.Table(
    "partition_version", METADATA, _identity("version_id"), _text("dataset"), _night(), _text("md5"),
    _count("rows"), _count("bytes"), _text("fingerprint"), _json("inputs"), _text("run_id"), _instant("created_at"),
    _text("content_sha256", nullable=True), _json("origin", nullable=True),
    sa.Index("partition_version_by_partition", "dataset", "score_date"),
)  # fmt: skip

partition_current = sa.Table(
    "partition_current", METADATA,
    sa.Column("dataset", sa.Text, primary_key=True), sa.Column("score_date", sa.Date, primary_key=True),
    sa.Column("version_id", sa.BigInteger, sa.ForeignKey("nightscore.partition_version.version_id"), nullable=False),
    _text("fingerprint"), _instant("moved_at"),
)  # fmt: skip

partition_event = sa.Table(
    "partition_event", METADATA, _identity("event_id"), _text("dataset"), _night(),
    sa.Column("version_id", sa.BigInteger, sa.ForeignKey("nightscore.partition_version.version_id"), nullable=False),
    _count("replaced_id", nullable=True), _text("run_id"), _instant("moved_at"),
    sa.Index("partition_event_by_partition", "dataset", "score_date", "moved_at"),
)  # fmt: skip

gate_result = sa.Table(
    "gate_result", METADATA, _identity("gate_id"), _text("pipeline"), _text("dataset"), _night(),
    sa.Column("passed", sa.Boolean, nullable=False), _text("candidate_md5"), _text("rules_hash"),
    _text("accepted_md5", nullable=True), _text("quarantined_md5", nullable=True), _json("report"),
    _text("run_id"), _instant("judged_at"),
    sa.Index("gate_result_by_partition", "dataset", "score_date", "gate_id"),
    sa.Index("gate_result_by_content", "dataset", "candidate_md5", "rules_hash"),
)  # fmt: skip

row_account = sa.Table(
    "row_account", METADATA, _identity("account_id"), _text("pipeline"), _text("dataset"), _night(),
    _count("rows_in"), _count("rows_out"), _count("quarantined"), _count("excluded_rows"), _json("excluded"),
    _text("run_id"), _instant("recorded_at"),
    sa.CheckConstraint("rows_in = rows_out + quarantined + excluded_rows", name="row_account_balances"),
    sa.Index("row_account_by_partition", "pipeline", "score_date"),
)  # fmt: skip

model_version = sa.Table(
    "model_version", METADATA,
    sa.Column("pipeline", sa.Text, primary_key=True), sa.Column("version", sa.Integer, primary_key=True),
    _text("capsule_md5"), _text("manifest_sha256"), _text("function_hash"), _text("recipe_hash"),
    _text("snapshot_md5"), _text("algorithm"), _text("task"), sa.Column("as_of", sa.Date, nullable=False),
    sa.Column("parent", sa.Integer, nullable=True), _text("status"), _json("metrics"), _text("created_by"),
    _text("purpose"), _text("run_id"), _instant("created_at"), _json("provenance", nullable=True),
    _text("family", nullable=True),
    sa.UniqueConstraint("pipeline", "recipe_hash", name="model_version_once_a_recipe"),
)  # fmt: skip

alias_event = sa.Table(
    "alias_event", METADATA, _identity("event_id"), _text("pipeline"), _text("alias"),
    sa.Column("version", sa.Integer, nullable=True), sa.Column("previous", sa.Integer, nullable=True),
    _text("actor"), _text("reason"), _instant("at"),
    sa.ForeignKeyConstraint(
        ["pipeline", "version"], ["nightscore.model_version.pipeline", "nightscore.model_version.version"]
    ),
    sa.Index("alias_event_by_alias", "pipeline", "alias", "event_id"),
)  # fmt: skip

model_event = sa.Table(
    "model_event", METADATA, _identity("event_id"), _text("pipeline"), sa.Column("version", sa.Integer, nullable=False),
    _text("event"), _text("actor"), _text("reason"), _instant("at"),
    sa.ForeignKeyConstraint(
        ["pipeline", "version"], ["nightscore.model_version.pipeline", "nightscore.model_version.version"]
    ),
    sa.Index("model_event_by_version", "pipeline", "version", "event_id"),
)  # fmt: skip

study = sa.Table(
    "study", METADATA, _identity("study_id"), _text("pipeline"), sa.Column("as_of", sa.Date, nullable=False),
    _text("fingerprint"), _json("space"), sa.Column("trials", sa.Integer, nullable=False),
    sa.Column("minutes", sa.Double, nullable=False), _text("created_by"), _instant("created_at"),
    sa.UniqueConstraint("pipeline", "fingerprint", name="study_once_a_fingerprint"),
)  # fmt: skip

training_run = sa.Table(
    "training_run", METADATA, _identity("training_run_id"), _text("pipeline"), _text("kind"),
    sa.Column("study_id", sa.BigInteger, sa.ForeignKey("nightscore.study.study_id"), nullable=True),
    sa.Column("number", sa.Integer, nullable=True), sa.Column("as_of", sa.Date, nullable=False),
    sa.Column("version", sa.Integer, nullable=True), _text("status"), _text("algorithm"), _json("parameters"),
    _text("snapshot_md5"), _json("metrics"), sa.Column("seconds", sa.Double, nullable=False), _text("code_sha256"),
    _json("provenance"), _text("created_by"), _text("run_id"), _instant("at"),
    sa.UniqueConstraint("study_id", "number", name="training_run_once_a_trial"),
    sa.Index("training_run_by_pipeline", "pipeline", "training_run_id"),
)  # fmt: skip

rollout = sa.Table(
    "rollout", METADATA, _identity("rollout_id"), _text("pipeline"), _text("kind"),
    sa.Column("version", sa.Integer, nullable=False), sa.Column("base_version", sa.Integer, nullable=False),
    _text("salt"), _json("entity"), sa.Column("percent", sa.Double, nullable=False),
    sa.Column("step_from", sa.Date, nullable=False), _text("status"), _text("opened_by"), _instant("opened_at"),
    *(
        sa.ForeignKeyConstraint(
            ["pipeline", version], ["nightscore.model_version.pipeline", "nightscore.model_version.version"]
        )
        for version in ("version", "base_version")
    ),
    sa.Index("rollout_one_runs_at_a_time", "pipeline", unique=True, postgresql_where=sa.text("status = 'running'")),
)  # fmt: skip

rollout_event = sa.Table(
    "rollout_event", METADATA, _identity("event_id"),
    sa.Column("rollout_id", sa.BigInteger, sa.ForeignKey("nightscore.rollout.rollout_id"), nullable=False),
    _text("event"), sa.Column("percent", sa.Double, nullable=False), _night(), _text("actor"), _text("reason"),
    _json("evidence"), _instant("at"), sa.Index("rollout_event_by_rollout", "rollout_id", "event_id"),
)  # fmt: skip

receipt = sa.Table(
    "receipt", METADATA, _identity("receipt_id"), _text("pipeline"), _night(),
    sa.Column("predictions_id", sa.BigInteger, sa.ForeignKey("nightscore.partition_version.version_id"),
              nullable=False),
    sa.Column("model_version", sa.Integer, nullable=False), _text("fingerprint"), _json("body"),
    _text("run_id"), _instant("made_at"), _text("snapshot_md5", nullable=True),
    sa.UniqueConstraint("pipeline", "score_date", "fingerprint", name="receipt_once_a_fingerprint"),
)  # fmt: skip

publication = sa.Table(
    "publication", METADATA, _identity("publication_id"), _text("pipeline"), _night(),
    sa.Column("revision", sa.Integer, nullable=False),
    sa.Column("receipt_id", sa.BigInteger, sa.ForeignKey("nightscore.receipt.receipt_id"), nullable=False),
    sa.Column("model_version", sa.Integer, nullable=False), _count("rows"), _text("content_md5"),
    _text("kind"), _text("run_id"), _instant("published_at"),
    sa.UniqueConstraint("pipeline", "score_date", "revision", name="publication_revision_once"),
)  # fmt: skip

publication_current = sa.Table(
    "publication_current", METADATA,
    sa.Column("pipeline", sa.Text, primary_key=True), sa.Column("score_date", sa.Date, primary_key=True),
    sa.Column("publication_id", sa.BigInteger, sa.ForeignKey("nightscore.publication.publication_id"),
              nullable=False),
    _instant("moved_at"),
)  # fmt: skip

publication_event = sa.Table(
    "publication_event", METADATA, _identity("event_id"), _text("pipeline"), _night(),
    sa.Column("publication_id", sa.BigInteger, sa.ForeignKey("nightscore.publication.publication_id"),
              nullable=True),
    _count("replaced_id", nullable=True), _text("actor"), _text("reason"), _instant("moved_at"),
    sa.Index("publication_event_by_night", "pipeline", "score_date", "moved_at"),
)  # fmt: skip

night_event = sa.Table(
    "night_event", METADATA, _identity("event_id"), _text("pipeline"), _night(), _text("status"),
    _text("reason"), _text("run_id"), _instant("at"),
    sa.Index("night_event_by_night", "pipeline", "score_date", "event_id"),
)  # fmt: skip

step_time = sa.Table(
    "step_time", METADATA, _identity("step_id"), _text("pipeline"), _text("step"),
    sa.Column("first_date", sa.Date, nullable=False), sa.Column("last_date", sa.Date, nullable=False),
    _count("made"), _count("reused"), _count("blocked"), _count("rows"),
    sa.Column("seconds", sa.Double, nullable=False), _text("run_id"), _instant("finished_at"),
    sa.Index("step_time_by_run", "run_id"),
)  # fmt: skip

changeset = sa.Table(
    "changeset", METADATA, _identity("changeset_id"), _text("pipeline"), _text("kind"),
    sa.Column("first_date", sa.Date, nullable=False), sa.Column("last_date", sa.Date, nullable=False),
    _text("model_policy"), _text("scope"), _text("reason"), _text("status"), _text("created_by"),
    _instant("created_at"), sa.Index("changeset_by_pipeline", "pipeline", "changeset_id"),
)  # fmt: skip

changeset_item = sa.Table(
    "changeset_item", METADATA,
    sa.Column("changeset_id", sa.BigInteger, sa.ForeignKey("nightscore.changeset.changeset_id"), primary_key=True),
    sa.Column("score_date", sa.Date, primary_key=True), _count("base_publication_id", nullable=True),
    sa.Column("model_version", sa.Integer, nullable=False), _text("outcome"), _text("reason"),
    sa.Column("predictions_id", sa.BigInteger, sa.ForeignKey("nightscore.partition_version.version_id"), nullable=True),
    sa.Column("receipt_id", sa.BigInteger, sa.ForeignKey("nightscore.receipt.receipt_id"), nullable=True),
    sa.Column("publication_id", sa.BigInteger, sa.ForeignKey("nightscore.publication.publication_id"), nullable=True),
    _count("rows"), sa.Column("seconds", sa.Double, nullable=False), _json("difference", nullable=True),
    _text("run_id"), _instant("at"),
)  # fmt: skip

changeset_event = sa.Table(
    "changeset_event", METADATA, _identity("event_id"),
    sa.Column("changeset_id", sa.BigInteger, sa.ForeignKey("nightscore.changeset.changeset_id"), nullable=False),
    _text("event"), _text("actor"), _text("reason"), _instant("at"),
    sa.Index("changeset_event_by_changeset", "changeset_id", "event_id"),
)  # fmt: skip

decision = sa.Table(
    "decision", METADATA, _identity("decision_id"), _text("pipeline"), _text("kind"), _text("subject"),
    _text("verdict"), _text("reason"), _json("evidence"), _text("actor"), _instant("at"),
    sa.Index("decision_by_pipeline", "pipeline", "kind", "decision_id"),
)  # fmt: skip

wheelhouse = sa.Table(
    "wheelhouse", METADATA,
    sa.Column("lock_sha256", sa.Text, primary_key=True), sa.Column("platform", sa.Text, primary_key=True),
    _text("directory_md5"), _count("bytes"), _instant("stored_at"),
)  # fmt: skip

reproduction = sa.Table(
    "reproduction", METADATA, _identity("reproduction_id"), _text("pipeline"), _text("kind"),
    sa.Column("version", sa.Integer, nullable=False), _night(nullable=True), _count("receipt_id", nullable=True),
    _text("outcome"), _text("level", nullable=True), _text("first_difference", nullable=True), _json("report"),
    _text("asked_by"), _text("run_id"), sa.Column("seconds", sa.Double, nullable=False), _instant("at"),
    sa.Index("reproduction_by_subject", "pipeline", "kind", "version", "score_date", "reproduction_id"),
)  # fmt: skip

deployment_fact = sa.Table(
    "deployment_fact", METADATA, sa.Column("name", sa.Text, primary_key=True), _text("value"), _instant("set_at"),
)  # fmt: skip

watch_event = sa.Table(
    "watch_event", METADATA, _identity("event_id"), _text("pipeline"), _text("kind"), _night(), _json("body"),
    _count("superseded_by", nullable=True), _text("run_id"), _instant("at"),
    sa.Index("watch_event_by_pipeline", "pipeline", "event_id"),
)  # fmt: skip

watch_state = sa.Table(
    "watch_state", METADATA,
    sa.Column("event_id", sa.BigInteger, sa.ForeignKey("nightscore.watch_event.event_id"), primary_key=True),
    _text("pipeline"), _night(), _json("state"), sa.Index("watch_state_by_pipeline", "pipeline", "event_id"),
)  # fmt: skip

watch_verdict = sa.Table(
    "watch_verdict", METADATA, _identity("verdict_id"), _text("pipeline"), _night(), _text("predictions_md5"),
    _text("reference"), sa.Column("passed", sa.Boolean, nullable=False), _json("reasons"), _json("notes"),
    _json("evidence"), _text("run_id"), _instant("at"),
    sa.Index("watch_verdict_by_content", "pipeline", "score_date", "predictions_md5", "verdict_id"),
)  # fmt: skip

watch_signal = sa.Table(
    "watch_signal", METADATA,
    sa.Column("pipeline", sa.Text, primary_key=True), sa.Column("score_date", sa.Date, primary_key=True),
    sa.Column("cause", sa.Text, primary_key=True), _text("level"), _text("column_name", nullable=True),
    *(sa.Column(name, sa.Double, nullable=False) for name in ("value", "threshold", "ratio")),
    sa.Column("fires", sa.Boolean, nullable=False), _text("message"), _text("reference"), _instant("at"),
)  # fmt: skip

incident = sa.Table(
    "incident", METADATA,
    sa.Column("pipeline", sa.Text, primary_key=True), sa.Column("incident_id", sa.Text, primary_key=True),
    _text("level"), _text("status"), _text("cause"), _json("columns"), _json("messages"),
    sa.Column("opened", sa.Date, nullable=False), sa.Column("last_seen", sa.Date, nullable=False),
    sa.Column("closed", sa.Date, nullable=True), sa.Column("nights", sa.Integer, nullable=False),
    _text("actor", nullable=True), _text("reason"), sa.Column("false_alarm", sa.Boolean, nullable=False),
    _instant("at"),
)  # fmt: skip

metric_value = sa.Table(
    "metric_value", METADATA, _identity("value_id"), _text("pipeline"), _night(),
    sa.Column("known_on", sa.Date, nullable=False), _text("scope"), _text("metric"),
    *(sa.Column(name, sa.Double, nullable=True) for name in ("value", "low", "high")), _count("rows"),
    _text("maturity"), sa.Column("model_version", sa.Integer, nullable=True), _json("detail"), _text("run_id"),
    _instant("at"),
    sa.UniqueConstraint("pipeline", "score_date", "known_on", "scope", "metric", name="metric_value_once_known"),
)  # fmt: skip

review_item = sa.Table(
    "review_item", METADATA,
    sa.Column("pipeline", sa.Text, primary_key=True), sa.Column("score_date", sa.Date, primary_key=True),
    sa.Column("key", JSONB, primary_key=True),
    sa.Column("publication_id", sa.BigInteger, sa.ForeignKey("nightscore.publication.publication_id"), nullable=False),
    sa.Column("score", sa.Double, nullable=True), _json("why"), _instant("queued_at"),
)  # fmt: skip

feedback = sa.Table(
    "feedback", METADATA, _identity("feedback_id"), _text("pipeline"), _night(), _json("key"), _text("verdict"),
    sa.Column("label", sa.Double, nullable=True), _text("note"), _text("reviewer"), _text("source"), _instant("at"),
    sa.Index("feedback_by_row", "pipeline", "score_date", "feedback_id"),
)  # fmt: skip

alert = sa.Table(
    "alert", METADATA, _identity("alert_id"), _text("pipeline"), _text("subject"), _text("occasion"), _text("title"),
    _text("body"), _text("status"), sa.Column("attempts", sa.Integer, nullable=False),
    _text("last_error", nullable=True), _json("delivered"), _instant("created_at"), _instant("next_try_at"),
    _instant("sent_at", nullable=True), sa.UniqueConstraint("pipeline", "subject", "occasion", name="alert_once"),
    sa.Index("alert_by_status", "status", "next_try_at"),
)  # fmt: skip
