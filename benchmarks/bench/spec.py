"""The reference work as a Nightscore pipeline: its spec and its SQL as text.

Added here: what the pipeline says. Not here: its data (`data.py`, `night.py`).
"""

from benchmarks.bench.work import FEATURES, FLOATS, INTEGERS, KEY, LEVELS, THRESHOLD

FIRST_DATE = "2026-01-07"
NAME = "night"
TREES, LEAVES = 300, 63
_SPEC = """name: night
description: the reference work of the benchmark
owner: data@example.com
task: binary
entity: { name: entity, key: [$KEY] }
score_dates: { start: $FIRST, timezone: UTC }
sources:
  rows:
    description: the rows of a score date, known before it begins
    type: file
    path: data/rows-{date}.parquet
    event_date: event_date::date
    first_date: $FIRST
    key: [$KEY]
    columns:
      - { name: event_date, type: date, description: score date of the row }
      - { name: $KEY, type: integer, description: number of the entity }
$SOURCE_COLUMNS
    expectations:
      - { type: row_count, min: 1000 }
      - { type: not_null, columns: [$KEY] }
      - { type: unique, columns: [$KEY], severity: quarantine }
$EXPECTATIONS
  outcomes:
    description: what came of each row, known a day later
    type: file
    path: data/outcomes-{date}.parquet
    event_date: event_date::date
    known_after_days: 1
    first_date: $FIRST
    key: [$KEY]
    columns:
      - { name: event_date, type: date, description: score date of the row }
      - { name: $KEY, type: integer, description: number of the entity }
      - { name: label, type: integer, description: the outcome }
    expectations: [{ type: row_count, min: 1000 }]
features:
  model: night_features
  lookback_days: 1
  columns:
$FEATURE_COLUMNS
label: { model: night_labels, column: label, horizon_days: 1, min_coverage: 0.5 }
training:
  window_days: 8
  holdout_days: 2
  min_rows: 100
  seed: 7
  algorithm: { type: lightgbm, trees: $TREES, leaves: $LEAVES, learning_rate: 0.05 }
  baselines: [{ type: constant }]
decision: { rule: { type: threshold, value: $THRESHOLD } }
publish: { restate: direct }
# The night has many times the rows of the days before it.
monitoring: { pages: on_demand, blocking: { rows_high: 100000 } }
"""
_FEATURES_SQL = """select
    event_date as score_date,
    $KEY,
    $FEATURES
from {{ source('night', 'rows') }}
where {{ in_build_range('event_date') }}
order by score_date, $KEY
"""
_LABELS_SQL = """select
    event_date as score_date,
    $KEY,
    known_on,
    label
from {{ source('night', 'outcomes') }}
where
    event_date = known_on - {{ var('horizon_days') | int }}
    and {{ in_build_range('known_on') }}
order by score_date, $KEY
"""
_SOURCES_YML = """version: 2

sources:
  - name: night
    schema: clean
    tables: [{ name: rows }, { name: outcomes }]
"""
_MODEL_YML = """version: 2

models:
  - name: $MODEL
    description: "Grain: one row a (score_date, $KEY)"
    config: { contract: { enforced: false } }
"""


def spec_text() -> str:
    """The pipeline's YAML."""
    kinds = {"f": ("float", "float"), "i": ("integer", "integer"), "c": ("string", "category")}
    raw = [f"      - {{ name: {name}, type: {kinds[name[0]][0]}, description: a feature }}" for name in FEATURES]
    learnt = [f"    - {{ name: {name}, type: {kinds[name[0]][1]}, may_be_null: true }}" for name in FEATURES]
    ranges = [_between(name, -1000, 1000) for name in FLOATS] + [_between(name, 0, 10_000) for name in INTEGERS]
    sets = [f"      - {{ type: in_set, column: {name}, values: [{', '.join(LEVELS[name])}] }}" for name in LEVELS]
    parts = {"SOURCE_COLUMNS": raw, "EXPECTATIONS": [*ranges, *sets], "FEATURE_COLUMNS": learnt}
    single = {"KEY": KEY, "FIRST": FIRST_DATE, "TREES": TREES, "LEAVES": LEAVES, "THRESHOLD": THRESHOLD}
    return _fill(_SPEC, {**{name: "\n".join(lines) for name, lines in parts.items()}, **single})


def _between(name: str, least: int, greatest: int) -> str:
    return f"      - {{ type: between, column: {name}, min: {least}, max: {greatest}, severity: quarantine }}"


def dbt_files() -> dict[str, str]:
    """Path under dbt/models → text, of the pipeline's SQL."""
    said: dict[str, object] = {"KEY": KEY, "FEATURES": ",\n    ".join(FEATURES)}
    return {
        "night/_sources.yml": _SOURCES_YML,
        "night/features/night_features.sql": _fill(_FEATURES_SQL, said),
        "night/features/night_features.yml": _fill(_MODEL_YML, said | {"MODEL": "night_features"}),
        "night/labels/night_labels.sql": _fill(_LABELS_SQL, said),
        "night/labels/night_labels.yml": _fill(_MODEL_YML, said | {"MODEL": "night_labels"}),
    }


def _fill(text: str, said: dict[str, object]) -> str:
    # Longer names first: FEATURES is the beginning of another.
    for name in sorted(said, key=len, reverse=True):
        text = text.replace(f"${name}", str(said[name]))
    return text
