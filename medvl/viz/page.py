"""The page that a report is: its tables and pictures. One file, no script, nothing fetched."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Mapping, Sequence

from PIL import Image

from medvl.viz.style import STYLE

# Nothing may be fetched, whatever the text in the page says.
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


def page(title: str, body: str, style: str = "") -> str:
    """Return a whole HTML document; `style` comes after the style sheet that all pages share."""
    return (
        f'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
        f"<style>{STYLE}{style}</style></head>\n<body><main>\n{body}\n</main></body></html>\n"
    )


def section(title: str, *parts: str) -> str:
    """Return a section; empty when all its parts are."""
    return f"<section><h2>{escape(title)}</h2>\n{''.join(parts)}</section>\n" if any(parts) else ""


def table(caption: str, head: Sequence[str], rows: Sequence[tuple[str, Sequence[str], bool]]) -> str:
    """Return a table.

    Args:
        caption: What it shows; HTML.
        head: Column names, that of the row names included.
        rows: Row name, cells (HTML), and whether the row is a part of one above it.
    """
    top = "".join(f'<th scope="col">{escape(name)}</th>' for name in head)
    body = "".join(
        f'<tr{" class=part" if part else ""}><th scope="row">{escape(name)}</th>'
        f"{''.join(f'<td>{cell}</td>' for cell in cells)}</tr>\n"
        for name, cells, part in rows
    )
    return (
        f'<div class="card scroll"><table><caption>{caption}</caption><thead><tr>{top}</tr></thead>'
        f"<tbody>\n{body}</tbody></table></div>\n"
    )


def facts(values: Mapping[str, str]) -> str:
    """Return a table of names and values."""
    rows = "".join(f'<tr><th scope="row">{escape(k)}</th><td>{escape(v)}</td></tr>\n' for k, v in values.items())
    return f'<div class="scroll"><table class="facts"><tbody>\n{rows}</tbody></table></div>\n'


def folded(title: str, body: str) -> str:
    """Return a part that opens on a click; empty when `body` is."""
    return f'<details class="card"><summary>{escape(title)}</summary>{body}</details>\n' if body else ""


def picture(image: Image.Image, alt: str, lossless: bool = False) -> str:
    """Return an image as part of the page; formats as in `data_uri`."""
    return f'<img alt="{escape(alt)}" loading="lazy" src="{data_uri(image, lossless)}">'


def data_uri(image: Image.Image, lossless: bool = False) -> str:
    """Return an image as an address that holds it: JPEG of quality 85, or PNG where nothing may be lost."""
    data = io.BytesIO()
    if lossless:
        image.save(data, "PNG", optimize=True)
    else:
        image.save(data, "JPEG", quality=85, subsampling=0)
    code = base64.b64encode(data.getvalue()).decode("ascii")
    return f"data:image/{'png' if lossless else 'jpeg'};base64,{code}"


def escape(text: str) -> str:
    """Make text safe inside HTML and its attributes."""
    return html.escape(text, quote=True)
