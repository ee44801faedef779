"""A report with its findings in colour, as a page: what stands where, and what was understood."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

from medvl.viz.page import escape, page

COLOURS = {"present": "s1", "absent": "s2", "uncertain": "s4", "historical": "s3"}
STYLE = """
mark { background: color-mix(in srgb, var(--c) 18%, transparent); color: inherit; border-bottom: 2px solid var(--c);
  border-radius: 4px; padding: 2px 3px; }
mark small { color: var(--c); margin-left: 5px; }
"""
_SPACED = ".report { white-space: pre-wrap; line-height: 2.1; }"


class Mark(NamedTuple):
    """A stretch of text to colour: its characters, its status, and what to write beside it."""

    start: int
    end: int
    status: str
    label: str


def pieces(text: str, marks: Sequence[Mark]) -> list[tuple[str, list[Mark]]]:
    """Cut a text where marks begin and end; each piece comes with the marks that cover it."""
    edges = sorted({0, len(text), *(mark.start for mark in marks), *(mark.end for mark in marks)})
    return [(text[a:b], [mark for mark in marks if mark.start <= a and b <= mark.end]) for a, b in pairwise(edges)]


def marked(text: str, marks: Sequence[Mark], labels: bool = True) -> str:
    """Return a text as HTML with its findings in colour; needs `STYLE`.

    Args:
        text: The report.
        marks: Its findings.
        labels: Whether a label stands behind its finding, where that ends; else it shows when the pointer rests on it.
    """
    parts, at = [], 0
    for piece, covering in pieces(text, marks):
        at += len(piece)
        if not covering:
            parts.append(escape(piece))
            continue
        ending = "".join(f"<small>{escape(mark.label)}</small>" for mark in covering if labels and mark.end == at)
        title = "" if labels else f' title="{escape("; ".join(mark.label for mark in covering))}"'
        parts.append(f'<mark class="{COLOURS[covering[-1].status]}"{title}>{escape(piece)}{ending}</mark>')
    return "".join(parts)


def legend() -> str:
    """Return which colour stands for which status."""
    keys = "".join(f'<li><i class="key {colour}"></i>{status}</li>' for status, colour in COLOURS.items())
    return f'<ul class="keys">{keys}</ul>'


def entity_page(title: str, text: str, marks: Sequence[Mark]) -> str:
    """Return a report as an HTML page; a finding that ends shows its label."""
    body = f'<h1>{escape(title)}</h1>{legend()}<div class="card report">{marked(text, marks)}</div>'
    return page(title, body, STYLE + _SPACED)
