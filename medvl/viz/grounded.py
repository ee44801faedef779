"""The page of a grounded report: sentences and boxes tied by colour and number; hover, tap or tab to pick one out.

One file without script: the ties are style rules (`:has`), so the page's policy may forbid everything else.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

from PIL import Image

from medvl.grounded import GroundedBox, GroundedImage, GroundedReport, GroundedSentence
from medvl.io.atomic import write_text
from medvl.io.image import WINDOW, read_image
from medvl.outputs import PixelBox
from medvl.viz import ties
from medvl.viz.overlay import touch
from medvl.viz.page import escape, page, picture

Spot = tuple[float, float, float, float]  # xyxy of a number

SIDE = 1100  # of a picture in the page, in pixels
_NOTICE = (
    "For research use only. Not a medical device: not for diagnosis or treatment. Boxes are a model's guess at where a "
    "sentence is true; they do not say that it is. This page shows an image and a report: guard it as you guard those."
)
_SILENT = {"finding": "affirmed, but no place found", "negated": "denied: no box", "normal": "normal: no box"}
_STYLE = """
.study { display: grid; grid-template-columns: minmax(0, 11fr) minmax(0, 9fr); gap: 28px; margin-top: 24px; }
.plates { position: sticky; top: 12px; align-self: start; display: grid; gap: 12px; }
.plate { position: relative; margin: 0 auto; background: #0b0d10; border-radius: 10px; overflow: hidden; }
.plate { --high: calc(100vh - 48px); width: min(100%, var(--high) * var(--ratio)); aspect-ratio: var(--ratio); }
.plate img { display: block; width: 100%; height: 100%; }
.plate svg { position: absolute; inset: 0; width: 100%; height: 100%; }
.plate + p { margin: -4px 0 0; }
.box rect { fill: transparent; vector-effect: non-scaling-stroke; }
.box .edge { stroke: #0009; stroke-width: 5px; pointer-events: none; }
.box .line { stroke: var(--k); stroke-width: 2.5px; }
.number rect { fill: var(--k); }
.number text { fill: #10131a; font-weight: 700; text-anchor: middle; }
.report h2 { margin: 22px 0 6px; text-transform: capitalize; }
.report h2:first-child { margin-top: 0; }
@media (max-width: 820px) {
  .study { grid-template-columns: minmax(0, 1fr); gap: 14px; }
  .plates { top: 0; z-index: 1; background: var(--page); padding: 4px 0; }
  .plate { --high: 52vh; }
}
@media print { .study { display: block; } .plates { position: static; } .plate { --high: 60vh; } }
"""


def write_page(path: Path, report: GroundedReport, window: tuple[float, float] = WINDOW) -> Path:
    """Write the page of one study: its images, its sentences, and what ties them.

    Args:
        path: Where to.
        report: The study.
        window: Percentiles of the grey values shown black and white, where the image has more than 8 bits.

    Raises:
        DataError: An image cannot be read; names the file.
    """
    placed = list({one.text: one for one in report.sentences if one.groundable}.values())  # one number for one text
    plates = [_plate(report, number, image, placed, window) for number, image in enumerate(report.images)]
    body = (
        f'{_header(report, placed)}<div class="study"><div class="plates">{"".join(plates)}</div>'
        f'<div class="report">{_sentences(report, placed)}</div></div>'
    )
    rules = _STYLE + ties.style(len(placed), "mark")
    return write_text(path, [page(f"Grounded report · {report.study}", body, rules)])


def _header(report: GroundedReport, placed: list[GroundedSentence]) -> str:
    count, shown = sum(one.groundable for one in report.sentences), sum(len(one.boxes) for one in placed)
    files = ", ".join(Path(image.file).name for image in report.images)
    told = f"{_count(len(report.sentences), 'sentence')}, {count} with a place, "
    told += f"{_count(shown, 'box')} above {report.threshold:.2f}"
    by = f"<p><strong>The report was written by {escape(report.generator)}, a program.</strong></p>" * bool(
        report.generator
    )
    return (
        f'<header><p class="quiet">medvl · grounded report</p><h1>{escape(report.study)}</h1>'
        f'<p class="quiet">{escape(files)} · {told}</p>{by}<p class="notice">{_NOTICE}</p></header>'
    )


def _plate(
    report: GroundedReport,
    number: int,
    image: GroundedImage,
    placed: list[GroundedSentence],
    window: tuple[float, float],
) -> str:
    pixels, _ = read_image(image.file, SIDE, window)
    shown = picture(Image.fromarray(pixels), f"Image {number + 1} of {len(report.images)}")
    here = [
        (n, sentence, box)
        for n, sentence in enumerate(placed, start=1)
        for box in sorted(sentence.boxes, key=lambda box: box.score)
        if box.image == number
    ]
    boxes = "".join(_box(*one) for one in here)
    numbers = _numbers([(n, box) for n, _, box in here], image)
    bare = len(here) - len(numbers)
    note = f'<p class="quiet">No room for the numbers of {_count(bare, "box")}: hover or tap to see whose.</p>'
    ratio, view = f"--ratio: {image.width / image.height:.5f}", f"0 0 {image.width} {image.height}"
    drawn = f'<svg viewBox="{view}">{boxes}{"".join(numbers)}</svg>'
    return f'<div class="plate" style="{ratio}">{shown}{drawn}</div>{note * bool(bare)}'


def _count(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}{'es' if what.endswith('x') else 's'}"


def _box(n: int, sentence: GroundedSentence, box: GroundedBox) -> str:
    x0, y0, x1, y1 = box.xyxy_px
    frame = f'x="{x0:.1f}" y="{y0:.1f}" width="{x1 - x0:.1f}" height="{y1 - y0:.1f}"'
    title = f"<title>{escape(f'{sentence.text} ({box.score:.2f})')}</title>"
    lines = f'<rect class="edge" {frame}/><rect class="line" {frame}/>'
    return f'<g class="mark box {ties.classes(n)}" tabindex="0">{title}{lines}</g>'


def _numbers(boxes: list[tuple[int, GroundedBox]], image: GroundedImage) -> list[str]:
    """Write the number of its sentence at each box, over all lines; where there is no room left, at the surer ones."""
    high, taken, written = max(image.width, image.height) / 34, list[Spot](), []
    for n, box in sorted(boxes, key=lambda one: -one[1].score):
        wide = high * (0.75 + 0.45 * len(str(n)))
        spot = next((s for s in _spots(box.xyxy_px, wide, high, image) if not any(touch(s, t) for t in taken)), None)
        if spot is not None:
            taken.append(spot)
            x, y = spot[:2]
            tag = f'<rect x="{x:.1f}" y="{y:.1f}" width="{wide:.1f}" height="{high:.1f}" rx="{high / 5:.1f}"/>'
            place = f'x="{x + wide / 2:.1f}" y="{y + high * 0.78:.1f}" font-size="{high * 0.8:.1f}"'
            written.append(f'<g class="mark number {ties.classes(n)}">{tag}<text {place}>{n}</text></g>')
    return written


def _spots(box: PixelBox, wide: float, high: float, image: GroundedImage) -> Iterator[Spot]:
    """Yield where a number may stand, best first: above, below or within the box, at its corners or between them."""
    x0, y0, x1, y1 = box
    between = [x0 + i * wide for i in range(1, int((x1 - x0) // wide))]
    for columns in ((x0, x1 - wide), between):
        for y, x in itertools.product((y0 - high, y1, y0, y1 - high), columns):
            left, top = min(max(x, 0), image.width - wide), min(max(y, 0), image.height - high)
            yield left, top, left + wide, top + high


def _sentences(report: GroundedReport, placed: list[GroundedSentence]) -> str:
    parts = []
    numbers = {sentence.text: n for n, sentence in enumerate(placed, start=1)}
    for section, sentences in itertools.groupby(report.sentences, key=lambda sentence: sentence.section):
        parts.append(f"<h2>{escape(section)}</h2>" if section else "")
        parts += [_sentence(sentence, numbers.get(sentence.text, 0)) for sentence in sentences]
    return "".join(parts)


def _sentence(sentence: GroundedSentence, number: int) -> str:
    text = escape(sentence.text)
    if number:
        scores = ", ".join(f"{box.score:.2f}" for box in sentence.boxes)
        words = {"negated": " · its words deny a finding", "normal": " · its words call something normal"}
        note = f"{_count(len(sentence.boxes), 'box')} · {scores}{words.get(sentence.kind, '')}"
        tied = f"placed {ties.classes(number)}"
        return f'<p class="said {tied}" tabindex="0"><b class="badge">{number}</b>{text}<small>{note}</small></p>'
    note = _SILENT.get(sentence.kind, "no box") if sentence.asked else "says nothing of this image: not looked for"
    return f'<p class="said silent"><b class="badge">–</b>{text}<small>{note}</small></p>'
