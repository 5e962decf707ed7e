"""pydantic's validation errors as plain faults: where in the YAML, what was found, what was expected.

Added here: words for an error type of pydantic. Not here: why a setting of training is refused (`training.py`), rules
between sections (`pipeline.py`), faults of notation (`yaml_nodes.py`).
"""

from collections.abc import Callable, Iterable
from difflib import get_close_matches
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from nightscore.spec.base import SpecModel
from nightscore.spec.pipeline import Finding, Location, Pipeline
from nightscore.spec.training import IRREPRODUCIBLE
from nightscore.spec.yaml_nodes import shorten, show

_SYNONYMS = {
    "n_estimators": "trees",
    "num_iterations": "trees",
    "num_trees": "trees",
    "num_leaves": "leaves",
    "min_data_in_leaf": "min_rows_in_leaf",
    "min_child_samples": "min_rows_in_leaf",
    "lambda_l2": "l2",
    "reg_lambda": "l2",
}
_PATTERNS = {
    r"^[a-z][a-z0-9_]{0,47}$": "a name: a lower-case letter, then at most 47 lower-case letters, digits or underscores",
    r"^(\S+ ){4}\S+$": "five fields of cron separated by single spaces, such as '0 3 * * *'",
    r"^[A-Z][A-Z0-9_]*$": "the name of an environment variable, such as WAREHOUSE_URL",
}
_DATE = "a date such as 2013-01-31"

Words = Callable[[ErrorDetails], str]


def _context(error: ErrorDetails, key: str) -> Any:
    return error.get("ctx", {}).get(key)


def _bound(key: str, sign: str) -> Words:
    def expected(error: ErrorDetails) -> str:
        bound = _context(error, key)
        return f"{'an integer' if isinstance(bound, int) else 'a number'} {sign} {bound:.15g}" + _thread_reason(error)

    return expected


def _thread_reason(error: ErrorDetails) -> str:
    zero_threads = error["loc"][-1] == "threads" and error["input"] in (0, -1)
    return f"; {IRREPRODUCIBLE['num_threads']}" if zero_threads else ""


def _unquoted(kind: str) -> Words:
    return lambda error: f"{kind}, without quotes" if isinstance(error["input"], str) else kind


def _text(error: ErrorDetails) -> str:
    return "text, in quotes" if isinstance(error["input"], int | float) else "text"


def _entries(error: ErrorDetails) -> str:
    count = _context(error, "min_length")
    return f"at least {count} {'entry' if count == 1 else 'entries'}"


def _characters(key: str, limit: str) -> Words:
    return lambda error: f"text of {limit} {_context(error, key)} characters"


def _tags(error: ErrorDetails) -> str:
    reason = IRREPRODUCIBLE.get(str(_context(error, "tag")).lower())
    return f"one of {_context(error, 'expected_tags')}" + (f"; {reason}" if reason else "")


_WORDS: dict[str, Words] = {
    "missing": lambda error: "this key",
    "literal_error": lambda error: str(_context(error, "expected")),
    "string_pattern_mismatch": lambda error: _PATTERNS[_context(error, "pattern")],
    "string_type": _text,
    "string_too_short": _characters("min_length", "at least"),
    "string_too_long": _characters("max_length", "at most"),
    "int_type": _unquoted("an integer in plain digits"),
    "float_type": _unquoted("a number such as 0.05"),
    "bool_type": _unquoted("true or false"),
    "date_type": lambda error: _DATE,
    "date_parsing": lambda error: _DATE,
    "tuple_type": lambda error: "a list",
    "dict_type": lambda error: "a mapping",
    "model_type": lambda error: "a mapping",
    "model_attributes_type": lambda error: "a mapping",
    "too_short": _entries,
    "greater_than": _bound("gt", ">"),
    "greater_than_equal": _bound("ge", ">="),
    "less_than": _bound("lt", "<"),
    "less_than_equal": _bound("le", "<="),
    "value_error": lambda error: str(_context(error, "error")).removeprefix("expected "),
}


def translate(error: ValidationError) -> list[Finding]:
    """Every error as (location, found, expected); the alternatives of one value are joined by `or`."""
    findings: dict[tuple[Location, str], list[str]] = {}
    for detail in error.errors(include_url=False):
        where, found, expected = _translate_one(detail)
        findings.setdefault((where, found), []).append(expected)
    return [(where, found, " or ".join(dict.fromkeys(wanted))) for (where, found), wanted in findings.items()]


def suggest(word: str, allowed: Iterable[str]) -> str:
    """`did you mean x?` when something close is allowed, else all that is allowed."""
    known = list(allowed)
    synonym = _SYNONYMS.get(word)
    close = [synonym] if synonym in known else get_close_matches(word, known, n=1)
    return f"did you mean {close[0]}?" if close else f"allowed: {', '.join(known) or 'nothing'}"


def _translate_one(error: ErrorDetails) -> Finding:
    kind = error["type"]
    where, owner = locate(error["loc"])
    if kind == "extra_forbidden":
        return where, _unknown_key(error["input"]), _explain_key(where, owner)
    if kind == "missing":
        return where, "nothing", _describe(owner, str(where[-1]))
    if kind == "union_tag_invalid":
        return (*where, "type"), show(_context(error, "tag")), _tags(error)
    if kind == "union_tag_not_found":
        return (*where, "type"), "nothing", f"one of {', '.join(map(repr, _tags_at(error['loc'])))}"
    return where, show(error["input"]), _WORDS[kind](error) if kind in _WORDS else error["msg"]


def _unknown_key(value: object) -> str:
    return f"an unknown key (value {show(value)})"


def _explain_key(where: Location, owner: type[SpecModel] | None) -> str:
    key, allowed = str(where[-1]), owner.model_fields if owner else ()
    if where[:1] == ("training",) and key in IRREPRODUCIBLE:
        return f"no such key; {IRREPRODUCIBLE[key]}"
    return f"no such key; {suggest(key, allowed)}"


def _describe(owner: type[SpecModel] | None, key: str) -> str:
    description = owner.model_fields[key].description if owner and key in owner.model_fields else None
    return f"this key ({shorten(description)})" if description else "this key"


def locate(loc: Location) -> tuple[Location, type[SpecModel] | None]:
    """The path in the YAML of a pydantic location (no union tags or labels), and the model that has its last key."""
    where: list[str | int] = []
    owner: Any = None
    kind: Any = Pipeline
    for step in loc:
        members = _members(kind)
        kind = _inside(members, step)
        if len(members) == 1 and (kind is not None or _is_model(members[0])):
            where.append(step)
            owner = members[0] if _is_model(members[0]) else None
    return tuple(where), owner


def _tags_at(loc: Location) -> list[str]:
    kind: Any = Pipeline
    for step in loc:
        kind = _inside(_members(kind), step)
    return [tag for member in _members(kind) for tag in _literals(member)]


def _is_model(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, SpecModel)


def _members(kind: Any) -> list[Any]:
    """The alternatives of a type, without None; one for a type that is no union."""
    if get_origin(kind) is Annotated:
        return _members(get_args(kind)[0])
    if get_origin(kind) in (Union, UnionType):
        return [member for member in get_args(kind) if member is not type(None)]
    return [] if kind is None else [kind]


def _literals(member: Any) -> tuple[Any, ...]:
    """The tags that choose `member` of a union of models."""
    return get_args(member.model_fields["type"].annotation) if _is_model(member) else ()


def _inside(members: list[Any], step: str | int) -> Any:
    """The type that `step` leads to: a key, an index, or the tag of one of several members; None for no type."""
    if len(members) != 1:
        return next((member for member in members if step in _literals(member)), None)
    kind, arguments = members[0], get_args(members[0])
    if _is_model(kind):
        return kind.model_fields[step].annotation if step in kind.model_fields else None
    if get_origin(kind) is tuple:
        return arguments[0] if isinstance(step, int) else None
    return arguments[1] if get_origin(kind) is dict else None
