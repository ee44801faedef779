"""Boxes drawn on radiographs: gold dashed green, predicted solid orange with its score.

The colours are told apart by people with any form of colour blindness (after Okabe & Ito 2008), and the dashes tell
them apart in print. Every line has a dark edge, so that it is seen on bone as well as on air.
"""

from __future__ import annotations

import functools
import math
import textwrap
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from medvl.errors import DataError
from medvl.io.image import read_image
from medvl.outputs import PhrasePrediction, PixelBox, read_predictions

GOLD, PREDICTED, SHADE = (46, 214, 160), (255, 149, 0), (0, 0, 0)
_LEGEND = 24  # height of the legend
_LINES = 6  # of a caption
_PAPER, _INK, _QUIET = (255, 255, 255), (28, 32, 38), (96, 104, 116)


def draw_boxes(
    image: NDArray[np.uint8],
    gold: Sequence[PixelBox] = (),
    predicted: Sequence[PixelBox] = (),
    scores: Sequence[float] = (),
    scale: float = 1.0,
) -> Image.Image:
    """Draw boxes on a grey image.

    Args:
        image: `(h, w)` uint8, as it will be shown.
        gold: xyxy boxes.
        predicted: xyxy boxes, one per score.
        scores: Written beside the predicted boxes.
        scale: Shown pixels per unit of the boxes.

    Returns:
        An RGB picture `(h, w)`. Where boxes crowd, the scores that find no room are left out, and counted in a corner.
    """
    picture = Image.fromarray(image).convert("RGB")
    pen, width = ImageDraw.Draw(picture), max(2, round(max(picture.size) / 170))
    for box in predicted:
        x0, y0, x1, y1 = _inside(box, scale, picture.size, width)
        pen.rectangle((x0 - 1, y0 - 1, x1 + 1, y1 + 1), outline=SHADE, width=width + 2)
        pen.rectangle((x0, y0, x1, y1), outline=PREDICTED, width=width)
    for box in gold:  # on top: where both agree, orange shows between the dashes
        corners = _inside(box, scale, picture.size, width)
        _dashes(pen, corners, SHADE, width, edge=1)
        _dashes(pen, corners, GOLD, width)
    taken: list[tuple[float, float, float, float]] = []
    bare = 0
    for box, score in zip(predicted, scores, strict=True):
        bare += not _label(pen, _inside(box, scale, picture.size, width), f"{score:.2f}", picture.size, taken)
    if bare:
        corner = (0, picture.height, picture.width, picture.height)
        _label(pen, corner, f"{bare} without score", picture.size, [], _PAPER)
    return picture


def draw_prediction(prediction: PhrasePrediction, size: int = 480) -> Image.Image:
    """Read the image of a prediction, at most `size` pixels long, and draw its gold and kept boxes.

    Raises:
        DataError: The image cannot be read; names the file.
    """
    pixels, (height, width) = read_image(prediction.file, size=size)
    return draw_boxes(
        pixels,
        prediction.gold_xyxy_px or (),
        prediction.boxes_xyxy_px,
        prediction.scores,
        scale=max(pixels.shape) / max(height, width),
    )


def caption(picture: Image.Image, text: str, note: str = "", width: int | None = None) -> Image.Image:
    """Put `text`, wrapped to a few lines, and a quieter `note` on white under a picture, in a panel `width` wide."""
    width = width or picture.width
    size = max(13, round(width / 26))
    columns = max(12, int(width / (size * 0.54)))
    lines = [(line, _INK) for line in textwrap.wrap(text, columns, max_lines=_LINES, placeholder=" …")] + [
        (line, _QUIET) for line in note.splitlines()
    ]
    step = round(size * 1.35)
    panel = Image.new("RGB", (width, picture.height + step * len(lines) + size), _PAPER)
    panel.paste(picture, (0, 0))
    pen = ImageDraw.Draw(panel)
    for i, (line, ink) in enumerate(lines):
        pen.text((2, picture.height + size // 2 + i * step), line, fill=ink, font=lettering(size))
    return panel


def grid(panels: Sequence[Image.Image], columns: int = 3, gap: int = 18, legend: bool = True) -> Image.Image:
    """Lay pictures out in rows on white, tops aligned, with a legend above them.

    Raises:
        ValueError: There are no pictures.
    """
    if not panels:
        raise ValueError("a grid needs at least one picture")
    rows = [panels[i : i + columns] for i in range(0, len(panels), columns)]
    cell = max(panel.width for panel in panels)
    width = gap + (cell + gap) * min(columns, len(panels))
    heights = [max(panel.height for panel in row) for row in rows]
    top = gap + (_LEGEND + gap if legend else 0)
    sheet = Image.new("RGB", (width, top + sum(heights) + gap * len(rows)), _PAPER)
    if legend:
        _legend(ImageDraw.Draw(sheet), gap)
    for row, height in zip(rows, heights, strict=True):
        for i, panel in enumerate(row):
            sheet.paste(panel, (gap + i * (cell + gap), top))
        top += height + gap
    return sheet


def draw_predictions(source: Path, out_dir: Path | None = None, n: int = 24, size: int = 640) -> list[Path]:
    """Write overlays of the first `n` phrases of a predictions file, and `overview.png` of the first twelve.

    Args:
        source: A predictions file, or a run folder, whose `predictions/predictions.jsonl` is taken.
        out_dir: Where to; `overlays` beside the predictions file if not given.
        n: How many.
        size: Longest side of a picture, in pixels.

    Returns:
        The files written: named by line number, since an image's name may tell who the patient is.

    Raises:
        DataError: The predictions file or an image cannot be read.
    """
    path = source / "predictions" / "predictions.jsonl" if source.is_dir() else source
    chosen = read_predictions(path)[:n]
    if not chosen:
        raise DataError("no predictions to draw", where=str(path))
    folder = out_dir or path.parent / "overlays"
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for number, prediction in enumerate(chosen, start=1):
        written.append(_save(grid([_panel(prediction, size)]), folder / f"{number:05d}.png"))
    panels = [_panel(prediction, size // 2) for prediction in chosen[:12]]
    return [*written, _save(grid(panels, columns=4), folder / "overview.png")]


def _panel(prediction: PhrasePrediction, size: int) -> Image.Image:
    note = "" if prediction.boxes_xyxy_px else f"no box scores above {prediction.threshold:.2f}"
    return caption(draw_prediction(prediction, size), prediction.phrase, note, size)


def _legend(pen: ImageDraw.ImageDraw, gap: int) -> None:
    x, middle, font = float(gap), gap + _LEGEND / 2, lettering(16)
    for name, colour in (("gold", GOLD), ("predicted, with score", PREDICTED)):
        box = (x, middle - 9, x + 40, middle + 9)
        pen.rectangle(box, fill=(60, 64, 70))
        if colour == GOLD:
            _dashes(pen, tuple(round(edge) for edge in box), colour, 3)
        else:
            pen.rectangle(box, outline=colour, width=3)
        pen.text((x + 48, middle), name, fill=_INK, font=font, anchor="lm")
        x += 48 + font.getlength(name) + 28


def _inside(box: PixelBox, scale: float, size: tuple[int, int], width: int) -> tuple[int, ...]:
    """Scale a box and round it to pixels, so that its whole outline is in the picture and at least a dot is seen."""
    x0, y0, x1, y1 = (round(edge * scale) for edge in box)
    right, bottom = (max(side - 2, width) for side in size)
    x0, y0 = min(max(x0, 1), right - width), min(max(y0, 1), bottom - width)
    return x0, y0, max(min(x1, right), x0 + width), max(min(y1, bottom), y0 + width)


def _dashes(
    pen: ImageDraw.ImageDraw, box: tuple[int, ...], colour: tuple[int, int, int], width: int, edge: int = 0
) -> None:
    """Draw a dashed outline inside `box`, each dash grown by `edge` on every side."""
    x0, y0, x1, y1 = box
    for start, stop in _spans(x0, x1, width):
        for y in (y0, y1 - width + 1):
            pen.rectangle((start - edge, y - edge, stop + edge, y + width - 1 + edge), fill=colour)
    for start, stop in _spans(y0, y1, width):
        for x in (x0, x1 - width + 1):
            pen.rectangle((x - edge, start - edge, x + width - 1 + edge, stop + edge), fill=colour)


def _spans(low: int, high: int, width: int) -> list[tuple[int, int]]:
    """Cut an edge into dashes, spread evenly so that one ends in each corner; a short edge is one dash."""
    dash, period = 4 * width, 7 * width
    count = round((high - low - dash) / period)
    if count < 1:
        return [(low, high)]
    starts = [round(low + i * (high - low - dash) / count) for i in range(count + 1)]
    return [(start, start + dash) for start in starts]


def _label(
    pen: ImageDraw.ImageDraw,
    box: tuple[int, ...],
    text: str,
    size: tuple[int, int],
    taken: list[tuple[float, float, float, float]],
    paper: tuple[int, int, int] = PREDICTED,
) -> bool:
    """Write a score at a corner of its box where no other is yet, above, below, or within; return whether it could."""
    font = lettering(max(12, round(max(size) / 25)))
    left, top, right, bottom = font.getbbox(text)
    width, height = math.ceil(right - left) + 8, math.ceil(bottom - top) + 6
    x0, y0, x1, y1 = box
    places = [(x0, y0 - height), (x1 - width, y0 - height), (x0, y1), (x1 - width, y1), (x0, y0), (x1 - width, y0)]
    spots = [(x, y, x + width, y + height) for x, y in places]
    fits = [s for s in spots if s[0] >= 0 and s[1] >= 0 and s[2] <= size[0] and s[3] <= size[1]]
    free = [s for s in fits if not any(touch(s, other) for other in taken)]
    if taken and not free:
        return False
    spot = (free or spots)[0]
    taken.append(spot)
    pen.rectangle(spot, fill=paper)
    pen.text((spot[0] + 4 - left, spot[1] + 3 - top), text, fill=(20, 12, 0), font=font)
    return True


def touch(a: tuple[float, float, float, float], b: tuple[float, float, float, float]) -> bool:
    """Whether two boxes (xyxy) share an area."""
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def _save(picture: Image.Image, path: Path) -> Path:
    picture.save(path, optimize=False)
    return path


@functools.lru_cache(maxsize=16)
def lettering(size: int) -> ImageFont.FreeTypeFont:
    """Return DejaVu Sans, which comes with matplotlib and knows every letter that a report may hold."""
    import matplotlib

    return ImageFont.truetype(str(Path(matplotlib.get_data_path()) / "fonts/ttf/DejaVuSans.ttf"), size)
