"""The model card: what a version is for, how good it is, what it cannot do and what became of it, for people.

Added here: a section, or a line of one. Not here: facts and limits (`card_facts.py`), charts (`charts.py`), the form of
the two texts (`card_pages.py`).
"""

from collections.abc import Iterator, Mapping
from typing import Any

from nightscore.reports.card_facts import CardFacts, Level, credible_gain, find_limits, name_some, percent
from nightscore.reports.card_pages import NOT_MEASURED, Block, Bullets, Chart, Commands, Table, as_markdown, as_page
from nightscore.reports.charts import (
    calibration_chart,
    importance_chart,
    learning_curve_chart,
    paired_chart,
    ranked_shares,
    segments_chart,
)
from nightscore.spec.pipeline import Pipeline
from nightscore.spec.serving import TopK
from nightscore.training.savings import savings_line

_MEASURES = {
    "log_loss": "log loss, nats (lower is better)", "brier": "Brier score (lower is better)",
    "rmse": "RMSE (lower is better)", "mae": "mean absolute error (lower is better)", "r2": "R² (higher is better)",
    "roc_auc": "ROC AUC (higher is better)", "average_precision": "average precision (higher is better)",
    "calibration_error": "calibration error (lower is better)", "mean_bias": "mean bias (best at 0)",
    "accuracy": "accuracy (higher is better)", "precision": "precision (higher is better)",
    "recall": "recall (higher is better)", "f1": "F1 (higher is better)",
}  # fmt: skip
_WEEKLY = ("log_loss", "rmse", "roc_auc", "mae", "calibration_error", "mean_bias")
_WORST_LEVELS, _TOP_FEATURES = 12, 20
_SPANS = {
    "all": "whole window", "fit": "fitted on, before the last held-out dates", "calibrate": "calibrated on",
    "held_out": "held out, for the figures below",
}  # fmt: skip


def render_markdown(facts: CardFacts) -> str:
    """The card as Markdown for a terminal or a wiki; ends with a newline."""
    return as_markdown(_title(facts), _sections(facts))


def render_html(facts: CardFacts) -> str:
    """The card as one page with charts; no scripts, no links."""
    return as_page(_title(facts), _sections(facts))


def _title(facts: CardFacts) -> str:
    return f"Model card: {facts.version.name}"


def _sections(facts: CardFacts) -> Iterator[tuple[str, list[Block]]]:
    yield "What it is for", list(_purpose(facts))
    yield "Is it worth a model", list(_worth(facts))
    yield "Data", list(_data(facts))
    yield "Recipe", list(_recipe(facts))
    yield "Performance", list(_performance(facts))
    yield "Calibration", list(_calibration(facts))
    yield "Segments", list(_segments(facts))
    yield "Fairness", list(_fairness(facts))
    yield "What it looks at", list(_importance(facts))
    yield "Limits", [Bullets(find_limits(facts))]
    yield "Life", list(_life(facts))
    yield "How to check", [Commands(_commands(facts))]


def _purpose(facts: CardFacts) -> Iterator[Block]:
    version, spec = facts.version, facts.spec
    aliases = ", ".join(facts.aliases) or "none"
    made = f"{version.created_at:%Y-%m-%d %H:%M %Z} by {version.created_by}"
    rows = [("purpose of this version", version.purpose), ("made", made), ("aliases now", aliases)]
    if spec:
        about = [("predicts", spec.description), ("one row is", spec.entity.description or spec.entity.name)]
        rows = [*about, ("label", spec.label.description), ("decision", _decision(spec)), ("owner", spec.owner), *rows]
    yield Table(("", ""), [row for row in rows if row[1]])


def _decision(spec: Pipeline) -> str:
    rule = spec.decision.rule
    said = "score" if spec.task == "regression" else "probability"
    first = f"yes for the {rule.k} highest scores of a night" if isinstance(rule, TopK) else (
        f"yes where the {said} is {rule.value} or more"
    )  # fmt: skip
    rules = [one.name for one in spec.decision.business_rules]
    return first + (f"; then the business rules {', '.join(rules)}" if rules else "")


def _worth(facts: CardFacts) -> Iterator[Block]:
    worth = facts.metrics.get("worth")
    if not worth:
        yield f"{NOT_MEASURED.capitalize()}."
        return
    gain, against = worth.get("gain") or {}, f"the {worth.get('against', 'best')} baseline"
    verdict = {True: "Yes", False: "No, it is worse", None: "Not shown"}[credible_gain(worth)]
    what = "squared error" if worth.get("metric") == "mse" else _short(worth.get("metric", "loss"))
    bounds = f"one-sided 90 % bounds {percent(gain.get('lower'))} and {percent(gain.get('upper'))}"
    over = f"{gain.get('dates', 0)} score dates and {gain.get('rows', 0):,} rows"
    yield f"{verdict}: against {against} it saves {percent(gain.get('gain'))} of the {what} ({bounds}, over {over})."
    if worth.get("value"):
        yield _value(worth["value"], against)
    costs = facts.spec.decision.costs if facts.spec else None
    if costs:
        unit = f" {costs.unit}" if costs.unit else ""
        yield f"A false alarm costs {costs.false_alarm:g}{unit}, a miss {costs.miss:g}{unit}."


def _value(value: Mapping[str, Any], against: str) -> str:
    unit = value.get("unit") or "units of cost"
    model, baseline = _number(value.get("model")), _number(value.get("baseline"))
    return (
        f"In value per decision: {model} {unit}, with {against} {baseline} {unit}; gained "
        f"{_interval(value.get('gain'))} {unit} (90 % interval over dates)."
    )


def _data(facts: CardFacts) -> Iterator[Block]:
    version, metrics = facts.version, facts.metrics
    spans = [
        (name, one["first"], one["last"], f"{one['dates']:,}", f"{one['rows']:,}")
        for key, name in _SPANS.items()
        if (one := metrics.get(key))
    ]
    if spans:
        yield Table(("part", "first score date", "last", "dates", "rows"), spans)
    yield f"Trained for the night {version.as_of} on what was known by then; snapshot {version.snapshot_md5}."
    if facts.left_out:
        yield Table(("date left out", "why"), sorted(facts.left_out.items()))


def _recipe(facts: CardFacts) -> Iterator[Block]:
    version, provenance = facts.version, facts.version.provenance or {}
    commit = provenance.get("commit") or "not known"
    rows = [("algorithm", version.algorithm)]
    rows += [(_words(name), str(value)) for name, value in _settings(facts)]
    rows += [("commit", commit + (", with uncommitted changes" if provenance.get("dirty") else ""))]
    rows += [("Python", str(provenance.get("python", "not known"))), ("recipe hash", version.recipe_hash)]
    rows += [("function hash", version.function_hash), ("capsule", version.capsule_md5)]
    parent = f"{version.pipeline}@{version.parent}" if version.parent is not None else "none"
    yield Table(("", ""), [*rows, ("champion when it was trained", parent)])
    if facts.spec and (tuning := facts.spec.training.tuning):
        searched = ", ".join(map(_words, tuning.space.ranges))
        yield (
            f"The spec allows a search over {searched} ({tuning.trials} trials, {tuning.minutes:g} minutes), which may "
            f"have replaced those settings: nightscore experiments list {version.pipeline}"
        )


def _settings(facts: CardFacts) -> Iterator[tuple[str, object]]:
    if facts.spec is None:
        return
    training = facts.spec.training
    if training.algorithm.type == facts.version.algorithm:
        yield from training.algorithm.model_dump(exclude={"type"}).items()
    yield from (("window, days", training.window_days), ("held out, days", training.holdout_days))
    yield from (("folds", training.folds), ("seed", training.seed))
    yield "features", f"{len(facts.columns)}, {name_some(facts.titles.values())}"


def _performance(facts: CardFacts) -> Iterator[Block]:
    algorithms = facts.algorithms
    if not algorithms:
        yield f"{NOT_MEASURED.capitalize()}."
        return
    names = [name for name in _MEASURES if any(name in (one.get("overall") or {}) for one in algorithms.values())]
    rows = [(_MEASURES[name], *(_measured(one, name) for one in algorithms.values())) for name in names]
    if facts.own.get("intervals"):
        yield "On held-out score dates, with 90 % intervals over dates:"
    else:
        yield f"On held-out score dates; intervals are {NOT_MEASURED}:"
    yield Table(("figure", *algorithms), rows)
    if saved := savings_line(facts.metrics):
        yield saved
    yield from _over_time(facts)
    yield Chart(lambda: learning_curve_chart(facts.metrics.get("curve")))


def _measured(result: Mapping[str, Any], name: str) -> str:
    overall, interval = result.get("overall") or {}, (result.get("intervals") or {}).get(name)
    if name not in overall:
        return NOT_MEASURED
    return _interval(interval) if interval else _number(overall[name])


def _over_time(facts: CardFacts) -> Iterator[Block]:
    """By week; by date for versions that have no weeks."""
    for key, unit, heading in (("by_week", "week", "week from Monday"), ("by_date", "score_date", "score date")):
        if rows := facts.own.get(key):
            names = [name for name in _WEEKLY if name in rows[0]]
            lines = [(str(one[unit]), f"{one['rows']:,}", *(_number(one.get(name)) for name in names)) for one in rows]
            yield Table((heading, "rows", *map(_short, names)), lines)
            return


def _calibration(facts: CardFacts) -> Iterator[Block]:
    metrics, found = facts.metrics, facts.metrics.get("calibration")
    if facts.version.task != "binary":
        yield "A regression has no probabilities to calibrate."
        return
    yield "The scores are published as they are, without a calibration." if not found else _calibrated(found)
    if found:
        before, after = found.get("before") or {}, found.get("after") or {}
        rows = [(_MEASURES.get(name, name), _number(before[name]), _number(after.get(name))) for name in before]
        yield Table(("on held-out dates", "before", "after"), rows)
    bins = metrics.get("reliability")
    if not bins:
        yield f"How often it comes true is {NOT_MEASURED} by probability."
        return
    lines = [(f"{one['rows']:,}", percent(one["mean_probability"]), percent(one.get("share"))) for one in bins]
    yield Table(("rows", "mean probability", "came true"), lines)
    yield Chart(lambda: calibration_chart(bins))


def _calibrated(found: Mapping[str, Any]) -> str:
    span = found.get("dates") or {}
    fitted = (
        f"{span.get('dates', 0)} score dates, {span.get('first')} to {span.get('last')}, {span.get('rows', 0):,} rows"
    )
    return f"Probabilities are calibrated ({found.get('method')}), fitted on {fitted}, that nothing else uses."


def _segments(facts: CardFacts) -> Iterator[Block]:
    levels, overall = facts.levels, (facts.own.get("overall") or {}).get(facts.loss)
    if not levels:
        declared = any(column.segment for column in facts.columns)
        yield f"{NOT_MEASURED.capitalize()}{'' if declared else ': the spec declares no segment'}."
        return
    yield f"Over all rows the {_short(facts.loss)} is {_number(overall)}. The worst levels come first."
    for column, found in levels.items():
        shown = found[:_WORST_LEVELS]
        cut = f"{column} ({len(shown)} of {len(found)})" if len(found) > len(shown) else column
        header = (cut, "rows", "share of rows", _short(facts.loss), "against all rows", "")
        yield Table(header, [_level(one, overall) for one in shown])
    rows = [{"label": f"{column} {one.name}", "value": one.loss} for column, found in levels.items()
            for one in found[:_WORST_LEVELS] if one.judged]  # fmt: skip
    yield Chart(lambda: segments_chart(rows, facts.loss, overall))


def _level(one: Level, overall: float | None) -> tuple[str, ...]:
    against = f"{100 * (one.loss / overall - 1):+.1f} %" if one.loss is not None and overall else "-"
    few = "" if one.judged else "too few rows to judge"
    return one.name, f"{one.rows:,}", percent(one.share), _number(one.loss), against, few


def _fairness(facts: CardFacts) -> Iterator[Block]:
    found = facts.metrics.get("fairness") or {}
    if not found:
        sensitive = [facts.titles[column.name] for column in facts.columns if column.sensitive]
        why = f"sensitive are {name_some(sensitive)}" if sensitive else "no feature is marked sensitive"
        yield f"{NOT_MEASURED.capitalize()}: {why}."
        return
    limits = {one.measure: one for one in facts.spec.promotion.fairness.limits} if facts.spec else {}
    rows = [
        (facts.titles.get(column, column), _words(one["measure"]), _interval(one), one.get("worst") or "-",
         one.get("best") or "-", _limit(limits.get(one["measure"])))
        for column, measures in found.items()
        for one in measures
    ]  # fmt: skip
    yield "Between the worst level and the best, with 90 % intervals over dates; they are equal at 0, as a ratio at 1."
    yield Table(("column", "measure", "value", "worst level", "best level", "limit in the spec"), rows)
    yield from _groups(facts)


def _groups(facts: CardFacts) -> Iterator[Block]:
    """The figures behind the disparities, level by level."""
    names = ("selection_rate", "accuracy", "precision", "recall", "log_loss")
    rows = [
        (facts.titles.get(column, column), level, f"{found['rows']:,}", *(_share(found.get(name)) for name in names))
        for column, levels in (facts.metrics.get("groups") or {}).items()
        for level, found in levels.items()
    ]
    if rows:
        yield Table(("column", "level", "rows", *map(_words, names)), rows)


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"


def _limit(limit: Any) -> str:
    if limit is None:
        return "none"
    side = "at least" if limit.measure.endswith("ratio") else "at most"
    return f"{side} {limit.limit:g} ({limit.severity})"


def _importance(facts: CardFacts) -> Iterator[Block]:
    importance = facts.metrics.get("importance") or {}
    shares = ranked_shares(importance)[:_TOP_FEATURES]
    if not shares:
        yield f"{NOT_MEASURED.capitalize()} for {facts.version.algorithm}."
        return
    columns = {column.name: column for column in facts.columns}
    yield f"By share of the total gain of its splits; {len(shares)} of {len(importance)} features:"
    rows = []
    for name, share in shares:
        column = columns.get(name)
        kind = f"{column.type}{', sensitive' * column.sensitive}" if column else "-"
        rows.append((facts.titles.get(name, name), percent(share), kind, column.description if column else ""))
    yield Table(("feature", "share of gain", "type", "what it is"), rows)
    yield Chart(lambda: importance_chart(importance, facts.titles, _TOP_FEATURES))


def _life(facts: CardFacts) -> Iterator[Block]:
    rows = [(f"{one.at:%Y-%m-%d %H:%M %Z}", one.what, one.who, one.why) for one in facts.life]
    if rows:
        yield Table(("when", "what", "who", "why"), rows)
    gate = facts.gate
    if gate is None:
        yield "The promotion gate has not judged it."
    else:
        yield f"Newest verdict of the promotion gate, {gate.at:%Y-%m-%d %H:%M %Z}: {gate.verdict}. {gate.reason}"
        judged = gate.evidence.get("gate") or {}
        paired = judged.get("paired") or {}
        yield Chart(
            lambda: paired_chart(
                judged.get("by_date") or (), paired.get("gain"), paired.get("lower"), paired.get("upper")
            )
        )
    made = facts.reproduction
    if made is None:
        yield "It was never reproduced."
    else:
        level = f" ({made.level})" if made.level else ""
        yield f"Trained again on {made.at:%Y-%m-%d}: {made.outcome}{level}, in {made.seconds:,.0f} s."
    yield f"Published nights of it that were made again and came out equal: {facts.nights_reproduced}."


def _commands(facts: CardFacts) -> list[str]:
    name, pipeline = facts.version.name, facts.version.pipeline
    keys = " ".join(f"--key {column}=…" for column in facts.spec.entity.key) if facts.spec else "--key …=…"
    return [
        f"nightscore models show {name} # identity and figures", f"nightscore reproduce {name} # train it again",
        f"nightscore trace {pipeline} --date … {keys} # one published row back to its sources",
    ]  # fmt: skip


def _interval(found: Mapping[str, Any] | None) -> str:
    """`0.5100 (0.4900 to 0.5300)`, without brackets where there are no bounds."""
    one = found or {}
    if one.get("lower") is None or one.get("upper") is None:
        return _number(one.get("value"))
    return f"{_number(one['value'])} ({_number(one['lower'])} to {_number(one['upper'])})"


def _number(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:.4f}" if abs(value) < 100 else f"{value:,.2f}"


def _short(measure: str) -> str:
    """`log loss`: the measure's name without its unit and direction."""
    return _MEASURES.get(measure, _words(measure)).partition(" (")[0].partition(",")[0]


def _words(name: str) -> str:
    return name.replace("_", " ")
