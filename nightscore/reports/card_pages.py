"""A document of headings and blocks, as Markdown without images and as one HTML page that needs nothing from elsewhere.

Pure; every text is escaped, since people write them.
Added here: a kind of block. Not here: what a document says (`model_card.py`).
"""

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from html import escape
from typing import Literal

NOT_MEASURED = "not measured"
_NUMBER = re.compile(r"[-−+]?[\d,]+(\.\d+)?(e[-+]\d+)?( %)?( \(.*\))?")
_STYLE = """
body{font:15px/1.5 system-ui,sans-serif;max-width:66rem;margin:2rem auto;padding:0 1rem;color:#1c2430;background:#fff}
h1{font-size:1.5rem}h2{font-size:1.1rem;margin-top:2rem}table{border-collapse:collapse;margin:.6rem 0}
th,td{padding:.15rem .9rem .15rem 0;text-align:left;border-bottom:1px solid #e3e6ea;vertical-align:top}
td.n,th.n{text-align:right;white-space:nowrap;font-variant-numeric:tabular-nums}td{overflow-wrap:anywhere}
td:not(:last-child){overflow-wrap:break-word}
svg{display:block;max-width:100%;height:auto;margin:.6rem 0}
.lead{font-size:1.1rem;padding:.5rem .9rem;border-left:6px solid #009e73;background:#f4f6f8}
.lead.warned{border-color:#e69f00}.lead.bad{border-color:#d55e00}
pre{background:#f4f6f8;padding:.6rem .8rem;overflow-x:auto}
"""


@dataclass(frozen=True)
class Table:
    """Header and rows of text."""

    header: Sequence[str]
    rows: Sequence[Sequence[str]]


@dataclass(frozen=True)
class Bullets:
    """One sentence or two each."""

    lines: Sequence[str]


@dataclass(frozen=True)
class Commands:
    """What to type in a shell."""

    lines: Sequence[str]


@dataclass(frozen=True)
class Lead:
    """What must be read first; the tone colours its edge, and the text says it too."""

    text: str
    tone: Literal["good", "warned", "bad"] = "good"


@dataclass(frozen=True)
class Chart:
    """A chart of the page, drawn only there."""

    draw: Callable[[], str]


Block = str | Lead | Table | Bullets | Commands | Chart
Sections = Iterable[tuple[str, Sequence[Block]]]
"""Headings, each with what stands under it."""


def as_markdown(title: str, sections: Sections) -> str:
    """The document as Markdown, without its charts; ends with a newline."""
    parts = [f"# {_plain(title)}"]
    for heading, blocks in sections:
        parts += [f"## {_plain(heading)}", *(_markdown(block) for block in blocks if not isinstance(block, Chart))]
    return "\n\n".join(parts) + "\n"


def as_page(title: str, sections: Sections) -> str:
    """The document as one page with its charts; no scripts, no links."""
    named = escape(_printable(title))
    policy = "default-src 'none'; style-src 'unsafe-inline'"
    body = (f"<h2>{escape(heading)}</h2>\n" + "\n".join(map(_html, blocks)) for heading, blocks in sections)
    return "\n".join([
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">',
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">',
        f"<title>{named}</title><style>{_STYLE}</style></head><body>", f"<h1>{named}</h1>", *body, "</body></html>\n",
    ])  # fmt: skip


def _printable(text: str) -> str:
    """One line, without characters that redraw a terminal or turn the text around them."""
    return " ".join("".join(letter if letter.isprintable() else " " for letter in text).split())


def _numeric(rows: Sequence[Sequence[str]]) -> list[bool]:
    """Which columns are set to the right."""
    return [
        all(_NUMBER.fullmatch(cell) or cell in {"-", NOT_MEASURED} for cell in one) for one in zip(*rows, strict=True)
    ]


def _markdown(block: Block) -> str:
    match block:
        case Table(header, rows):
            line = [" | ".join(map(_plain, cells)) for cells in (header, *rows)]
            rule = " | ".join("---:" if right else "---" for right in _numeric(rows))
            return "\n".join(f"| {one} |" for one in (line[0], rule, *line[1:]))
        case Bullets(lines):
            return "\n".join(f"- {_plain(line)}" for line in lines)
        case Commands(lines):
            return "\n".join(["```console", *map(_printable, lines), "```"])
        case Lead(text):
            return f"**{_plain(text)}**"
        case str(text):
            return _plain(text)
    return ""


def _plain(text: str) -> str:
    """Text that Markdown shows as it is: nothing in it is markup, and underscores within words stay readable."""
    escaped = re.sub(r"([\\`*\[\]<>|~&$])", r"\\\1", _printable(text))
    return re.sub(r"(?<!\w)_|_(?!\w)", r"\\_", escaped)


def _html(block: Block) -> str:
    match block:
        case Table(header, rows):
            return _html_table(header, rows)
        case Bullets(lines):
            return f"<ul>{''.join(f'<li>{escape(_printable(line))}</li>' for line in lines)}</ul>"
        case Commands(lines):
            return f"<pre>{escape(chr(10).join(map(_printable, lines)))}</pre>"
        case Chart(draw):
            # Within a page of HTML the name spaces go without saying; nothing in it then looks like a link.
            return re.sub(r' xmlns(:xlink)?="[^"]*"', "", draw())
        case Lead(text, tone):
            return f'<p class="lead {tone}">{escape(_printable(text))}</p>'
        case str(text):
            return f"<p>{escape(_printable(text))}</p>"


def _html_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    numeric = _numeric(rows)

    def line(cells: Iterable[str], tag: str) -> str:
        marked = zip(cells, numeric, strict=True)
        return "".join(f"<{tag}{' class=n' * right}>{escape(_printable(cell))}</{tag}>" for cell, right in marked)

    head = f"<tr>{line(header, 'th')}</tr>" if any(header) else ""
    body = (f"<tr>{line(row, 'td')}</tr>" for row in rows)
    return f"<table>{head}{''.join(body)}</table>"
