"""YAML text to plain data, with the line of every key, in the part of YAML that reads only one way.

A plain word is a number, `true`, `false` or null only where YAML 1.1 and 1.2 agree; `no`, `012`, `12:30`, `1e5` and
dates stay text. Anchors, aliases, merge keys, tags, repeated keys, keys that are not text and deep nesting are faults.
Added here: a rule of notation. Not here: what a spec may say (`pipeline.py`), pydantic's errors (`translation.py`).
"""

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, field

import yaml

from nightscore.spec.pipeline import Location

MAX_DEPTH = 20
MAX_SHOWN = 60
_REFUSED_KEY = "?"

_INTEGER = re.compile(r"[-+]?(0|[1-9][0-9]{0,17})")
_DECIMAL = re.compile(r"[-+]?(0|[1-9][0-9]{0,17})\.[0-9]*([eE][-+][0-9]{1,3})?")
_WORDS: dict[str, bool | None] = {"true": True, "false": False, "null": None, "~": None, "": None}
_DATE = re.compile(r"[0-9]{4}-[0-9]{1,2}-[0-9]{1,2}")
_CREDENTIALS = re.compile(r"://[^/@\s]*@")
_NOT_TEXT = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff]")


@dataclass(frozen=True)
class Fault:
    """One thing wrong at one line."""

    line: int
    where: Location
    found: str
    expected: str

    def render(self, file: str) -> str:
        """One line of text, `file:line: key path: found ..., expected ...`."""
        path = f"{render_path(self.where)}: " if self.where else ""
        return f"{file}:{self.line}: {path}found {self.found}, expected {self.expected}"


@dataclass
class Document:
    """What a YAML text holds: its data, the line of every path, its faults, and paths whose data are unusable."""

    data: object = None
    lines: dict[Location, int] = field(default_factory=dict)
    faults: list[Fault] = field(default_factory=list)
    holes: set[Location] = field(default_factory=set)
    whole: bool = False

    def line_of(self, where: Location) -> int:
        """The line of `where`, or of the nearest thing around it that has one."""
        while where and where not in self.lines:
            where = where[:-1]
        return self.lines.get(where, 1)


class _AbandonedError(Exception):
    """The rest of the text cannot be read; the fault is already noted."""


def render_path(where: Location) -> str:
    """`sources.flights.columns[2].type`."""
    steps = (f"[{step}]" if isinstance(step, int) else f".{_key(step)}" for step in where)
    return "".join(steps).removeprefix(".")


def _key(step: str) -> str:
    return step if re.fullmatch(r"[\w$-]{1,60}", step) else shorten(repr(step))


def show(value: object) -> str:
    """A value as a finding shows it: short, on one line, lists and mappings by kind, without passwords in URLs."""
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list | dict):
        return "a list" if isinstance(value, list) else "a mapping"
    return shorten(repr(value) if isinstance(value, str) else str(value))


def shorten(text: str) -> str:
    """`text` on one line of at most 60 characters, without the credentials of a URL."""
    line = _CREDENTIALS.sub("://***@", " ".join(text.split()))
    return line if len(line) <= MAX_SHOWN else f"{line[: MAX_SHOWN - 3]}..."


def read_yaml(text: str) -> Document:
    """Data, lines and faults of `text`; `whole` is false when a syntax error stopped the reading."""
    reader = _Reader(text)
    try:
        reader.read_document()
        reader.document.whole = True
    except _AbandonedError:
        pass
    except yaml.YAMLError as error:
        reader.document.faults.append(_syntax_fault(error, text))
    return reader.document


def _syntax_fault(error: yaml.YAMLError, text: str) -> Fault:
    if isinstance(error, yaml.reader.ReaderError):
        line = text.count("\n", 0, error.position) + 1
        return Fault(line, (), f"the character U+{ord(text[error.position]):04X}", "printable text")
    mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
    line = mark.line + 1 if mark else 1
    problem = str(getattr(error, "problem", None) or error)
    if "'\\t'" in problem:
        return Fault(line, (), "a tab", "spaces for indentation")
    return Fault(line, (), f"a syntax error ({shorten(problem)})", "valid YAML")


def resolve_scalar(text: str, quoted: bool) -> object:
    """The value of a scalar: text, unless every version of YAML reads it as the same number, boolean or null."""
    if quoted:
        return text
    if text in _WORDS:
        return _WORDS[text]
    if _INTEGER.fullmatch(text):
        return int(text)
    return float(text) if _DECIMAL.fullmatch(text) and math.isfinite(float(text)) else text


class _Reader:
    """Builds plain data from parser events, so that an alias is never expanded."""

    def __init__(self, text: str) -> None:
        self._text = text
        self.document = Document()

    def read_document(self) -> None:
        events: Iterator[yaml.Event] = yaml.parse(self._text, Loader=yaml.SafeLoader)
        for event in events:
            if isinstance(event, yaml.DocumentStartEvent):
                if () in self.document.lines:
                    self._fault(event, (), "a second document", "one document a file")
                    raise _AbandonedError
                root = next(events)
                self.document.lines[()] = _line(root)
                self.document.data = self._value(root, events, ())

    def _fault(self, event: yaml.Event, where: Location, found: str, expected: str) -> None:
        self.document.faults.append(Fault(_line(event), _nameable(where), found, expected))

    def _value(self, event: yaml.Event, events: Iterator[yaml.Event], where: Location) -> object:
        self._refuse_sharing(event, where)
        if isinstance(event, yaml.ScalarEvent):
            return self._scalar(event, where)
        if len(where) >= MAX_DEPTH:
            self._fault(event, where[:4], "nesting too deep to read", f"at most {MAX_DEPTH} levels")
            raise _AbandonedError
        if isinstance(event, yaml.SequenceStartEvent):
            return self._sequence(events, where)
        return self._mapping(events, where) if isinstance(event, yaml.MappingStartEvent) else None

    def _refuse_sharing(self, event: yaml.Event, where: Location) -> None:
        anchor, tag = getattr(event, "anchor", None), getattr(event, "tag", None)
        if isinstance(event, yaml.AliasEvent):
            self._fault(event, where, f"the alias *{shorten(str(anchor))}", "the value written out")
            self.document.holes.add(_nameable(where))
        elif anchor is not None:
            self._fault(event, where, f"the anchor &{shorten(anchor)}", "a value without an anchor")
        if tag is not None:
            self._fault(event, where, f"the tag {shorten(tag)}", "a value without a tag")
            self.document.holes.add(_nameable(where))

    def _scalar(self, event: yaml.ScalarEvent, where: Location) -> object:
        if _NOT_TEXT.search(event.value):
            self._fault(event, where, "a control character or half a surrogate pair", "printable text")
            self.document.holes.add(_nameable(where))
            return None
        return resolve_scalar(event.value, quoted=event.style is not None)

    def _sequence(self, events: Iterator[yaml.Event], where: Location) -> list[object]:
        items: list[object] = []
        while not isinstance(event := next(events), yaml.SequenceEndEvent):
            inside = (*where, len(items))
            self.document.lines.setdefault(inside, _line(event))
            items.append(self._value(event, events, inside))
        return items

    def _mapping(self, events: Iterator[yaml.Event], where: Location) -> dict[str, object]:
        entries: dict[str, object] = {}
        while not isinstance(event := next(events), yaml.MappingEndEvent):
            key = self._mapping_key(event, events, where)
            if key is None:
                self._value(next(events), events, (*where, _REFUSED_KEY))
                continue
            inside = (*where, key)
            if key in entries:
                first = self.document.lines[inside]
                self._fault(event, inside, f"this key again (first on line {first})", "each key once")
            self.document.lines.setdefault(inside, _line(event))
            entries.setdefault(key, self._value(next(events), events, inside))
        return entries

    def _mapping_key(self, event: yaml.Event, events: Iterator[yaml.Event], where: Location) -> str | None:
        """The key, or None when it is not one a spec may use (and is noted as a fault)."""
        key = self._value(event, events, (*where, _REFUSED_KEY))
        plain = isinstance(event, yaml.ScalarEvent) and event.style is None
        if plain and key == "<<":
            self._fault(event, where, "the merge key <<", "every key written out")
        elif plain and isinstance(key, str) and _DATE.match(key):
            self._fault(event, where, f"the date {shorten(key)} as a key", "a text key")
        elif isinstance(key, str):
            return key
        else:
            self._fault(event, where, f"{show(key)} as a key", "a text key")
        return None


def _nameable(where: Location) -> Location:
    return where[: where.index(_REFUSED_KEY)] if _REFUSED_KEY in where else where


def _line(event: yaml.Event) -> int:
    return int(event.start_mark.line) + 1 if event.start_mark else 1
