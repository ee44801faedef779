"""CT studies drawn with the depths of their snippets: three planes to one scale, a band for each interval."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image, ImageColor, ImageDraw

from medvl.io.volume import DepthAxis, Volume
from medvl.viz.overlay import lettering
from medvl.viz.planes import WINDOWS, Plane, axial, coronal, sagittal
from medvl.viz.ties import COLOURS

WIDTH = 900  # px of a panel
_GAP, _LINE, _SIZE = 8, 20, 13  # px between planes, of a line of text, of its letters
_MOST = 10  # snippets of a study that are drawn
_PAPER, _INK, _QUIET = (255, 255, 255), (28, 32, 38), (96, 104, 116)
_VEIL = 58  # opacity of a band, of 255


@dataclass(frozen=True, slots=True)
class Band:
    """A snippet's text and the depths in mm that it speaks of; none where the scan does not show it."""

    text: str
    intervals: tuple[tuple[float, float], ...]


def study_panel(volume: Volume, bands: Sequence[Band], title: str, report: str = "") -> Image.Image:
    """Draw coronal, sagittal and axial planes of a study, its snippets' depths across the first two.

    Args:
        volume: The scan.
        bands: Its snippets; the first ten are drawn.
        title: Written above.
        report: Written below, shortened, where there are no snippets.

    Returns:
        An RGB picture; the axial plane is that of the first snippet's middle, else the scan's.
    """
    depth, shown = volume.depth, bands[:_MOST]
    first = next((low + high for band in shown for low, high in band.intervals), 2 * depth.z(depth.count / 2)) / 2
    planes = [coronal(volume), sagittal(volume), axial(volume, depth.nearest(first))]
    scale = (WIDTH - 2 * _GAP) / sum(plane.width for plane in planes)  # px per mm
    tall = max(round(plane.height * scale) for plane in planes)
    lines = _lines(shown, len(bands) - len(shown), report)
    panel = Image.new("RGB", (WIDTH, _LINE + tall + _GAP + _LINE * len(lines)), _PAPER)
    pen, font = ImageDraw.Draw(panel), lettering(_SIZE)
    spacing = " x ".join(f"{step:.3g}" for step in volume.spacing)
    low, high = depth.z(-0.5), depth.z(depth.count - 0.5)
    pen.text((2, 0), f"{title}: {low:.0f} to {high:.0f} mm, voxels of {spacing} mm", fill=_INK, font=font)
    x = 0
    for number, plane in enumerate(planes):
        picture = _scaled(plane, scale)
        panel.paste(_banded(picture, shown, depth, scale) if number < 2 else picture, (x, _LINE))
        x += picture.width + _GAP
    for row, (text, colour, badge) in enumerate(lines):
        y = _LINE + tall + _GAP + row * _LINE
        if badge:
            pen.rectangle((2, y + 2, 22, y + _LINE - 3), fill=colour)
            pen.text((12, y + _LINE / 2), badge, fill=_INK, font=font, anchor="mm")
        pen.text((28, y), text, fill=_INK if badge else _QUIET, font=font)
    return panel


def _scaled(plane: Plane, scale: float) -> Image.Image:
    size = max(1, round(plane.width * scale)), max(1, round(plane.height * scale))
    return plane.picture(WINDOWS["soft"]).resize(size, Image.Resampling.BICUBIC).convert("RGB")


def _banded(picture: Image.Image, bands: Sequence[Band], depth: DepthAxis, scale: float) -> Image.Image:
    """Lay a veil and a frame over each interval, and its number into a column of its own."""
    veil = Image.new("RGBA", picture.size)
    pen, font, top = ImageDraw.Draw(veil), lettering(_SIZE), depth.z(depth.count - 0.5)
    for number, band in enumerate(bands):
        rgb = ImageColor.getrgb(COLOURS[number % len(COLOURS)])[:3]
        for low, high in band.intervals:
            head, feet = (round((top - z) * scale) for z in (high, low))
            box = (0, min(head, feet - 2), picture.width - 1, feet)
            one = Image.new("RGBA", picture.size)
            ImageDraw.Draw(one).rectangle(box, fill=(*rgb, _VEIL), outline=(*rgb, 255))
            veil.alpha_composite(one)
            place = (3 + number * 20 % max(20, picture.width - 20), (head + feet) / 2)
            pen.text(place, str(number + 1), fill=(*rgb, 255), font=font, anchor="lm", stroke_width=2, stroke_fill=_INK)
    return Image.alpha_composite(picture.convert("RGBA"), veil).convert("RGB")


def _lines(bands: Sequence[Band], more: int, report: str) -> list[tuple[str, str, str]]:
    """Return text, colour and number of each line below the planes."""
    found = []
    for number, band in enumerate(bands):
        where = ", ".join(f"{low:.0f} to {high:.0f} mm" for low, high in band.intervals) or "not in this scan"
        said = textwrap.shorten(band.text, 96 - len(where), placeholder=" …")
        found.append((f"{said}  ({where})", COLOURS[number % len(COLOURS)], str(number + 1)))
    if more > 0:
        found.append((f"and {more} more snippets", "", ""))
    if not bands:
        found = [(line, "", "") for line in textwrap.wrap(report, 105, max_lines=3, placeholder=" …")]
    return found
