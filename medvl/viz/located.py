"""The page of sentences placed along a CT: their depths across the planes and the slice at each; without script."""

from __future__ import annotations

from pathlib import Path

from medvl.io.atomic import write_text
from medvl.io.volume import Volume
from medvl.located import LocatedSentence, LocatedVolume
from medvl.viz import levels, ties
from medvl.viz.page import escape, page, picture
from medvl.viz.planes import WINDOWS, axial

_NOTICE = (
    "For research use only. Not a medical device: not for diagnosis or treatment. A depth is a model's guess at where "
    "a sentence is true; it does not say that it is. This page shows a scan: guard it as you guard that."
)
_LEGEND = (
    "The patient's left is on the right of the coronal and axial pictures; head and front are up; in the sagittal "
    "one the front is on the left. Lengths in the pictures are to scale. A line is the median depth, the band around "
    "it the {share} interval; bars beside the profile are the stretches about as likely as its peak. Millimetres count "
    "along the patient, towards the head, as in the file."
)
_NAMES = {"soft": "soft tissue", "lung": "lung"}
_STYLE = """
.study { display: grid; grid-template-columns: minmax(0, 8fr) minmax(0, 5fr); gap: 28px; margin-top: 16px; }
.plates { position: sticky; top: 12px; align-self: start; }
.plate { --high: calc(100vh - 48px); width: min(100%, var(--high) * var(--ratio)); margin: 0 auto; }
.plate { background: #0b0d10; border-radius: 10px; overflow: hidden; }
.plate svg { display: block; width: 100%; height: auto; }
.windows { border: 0; margin: 18px 0 0; padding: 0; display: flex; flex-wrap: wrap; gap: 4px 18px; }
.windows legend { float: left; padding: 0; margin-right: 18px; color: var(--quiet); }
.windows label { cursor: pointer; }
.said { margin-bottom: 12px; padding-bottom: 10px; }
.said .answer { font-weight: 650; margin: 4px 0 0; }
.slice { position: relative; max-width: 340px; margin-top: 8px; background: #0b0d10; border-radius: 8px; }
.slice { overflow: hidden; }
.slice img { display: block; width: 100%; height: auto; }
.slice b { position: absolute; bottom: 4px; color: #e8ecf1; font-size: .85rem; text-shadow: 0 0 3px #000; }
.slice b:first-of-type { left: 8px; }
.slice b:last-of-type { right: 8px; }
.page .window-lung { display: none; }
.page:has(#lung:checked) .window-soft { display: none; }
.page:has(#lung:checked) .window-lung { display: block; }
@media (max-width: 820px) {
  .study { grid-template-columns: minmax(0, 1fr); gap: 14px; }
  .plates { position: static; }
}
@media print { .study { display: block; } .plates { position: static; } .said { break-inside: avoid; } }
"""


def write_page(path: Path, located: LocatedVolume, volume: Volume) -> Path:
    """Write the page of one volume.

    Args:
        path: Where to.
        located: The sentences and where they were found.
        volume: What they were found in.
    """
    drawn, ratio = levels.draw_levels(volume, located)
    said = "".join(_sentence(n, one, located, volume) for n, one in enumerate(located.sentences, start=1))
    legend = _LEGEND.format(share=_share(located))
    body = (
        f'<div class="page">{_header(located, volume)}{_windows()}<div class="study">'
        f'<div class="plates"><div class="plate" style="--ratio: {ratio:.5f}">{drawn}</div>'
        f'<p class="quiet"><small>{legend}</small></p></div><div>{said}</div></div></div>'
    )
    rules = _STYLE + levels.STYLE + ties.style(len(located.sentences), "level", "--fill: .22; ")
    return write_text(path, [page(f"Sentences in a CT · {located.name}", body, rules)])


def _header(located: LocatedVolume, volume: Volume) -> str:
    found, count = sum(one.found for one in located.sentences), len(located.sentences)
    (deep, high, wide), low = volume.spacing, volume.sidecar.extent
    told = [
        *([f"series {volume.sidecar.series}"] if volume.sidecar.series is not None else []),
        f"{len(volume.sidecar.slices)} slices of {wide:.3g} × {high:.3g} mm, {deep:.3g} mm apart",
        f"{_mm(low[0])} to {_mm(low[1])} mm",
        f"{found} of {count} sentence{'s' * (count > 1)} found",
    ]
    notes = f'<p class="quiet">{escape("; ".join(volume.notes))}</p>' if volume.notes else ""
    return (
        f'<header><p class="quiet">medvl · sentences in a CT</p><h1>{escape(located.name)}</h1>'
        f'<p class="quiet">{" · ".join(told)}</p>{notes}<p class="notice">{_NOTICE}</p></header>'
    )


def _windows() -> str:
    """Return the switch between the windows, which the style sheet obeys."""
    choices = "".join(
        f'<label><input type="radio" name="window" id="{name}"{" checked" * (name == "soft")}> {_NAMES[name]} '
        f"<small>{low:.0f} to {high:.0f} HU</small></label>".replace("-", "−")
        for name, (low, high) in WINDOWS.items()
    )
    return f'<fieldset class="windows"><legend>Window</legend>{choices}</fieldset>'


def _sentence(n: int, one: LocatedSentence, located: LocatedVolume, volume: Volume) -> str:
    text, badge = escape(one.snippet), f'<b class="badge">{n}</b>'
    if not one.found:
        note = f"<small>the probability that it shows this is {100 * one.present:.0f} %</small>"
        return f'<article class="said silent">{badge}{text}<p class="answer">Not in this scan</p>{note}</article>'
    interval = f"{_share(located)} between {_mm(one.low_mm)} and {_mm(one.high_mm)} mm"
    if one.interval_images:
        first, last = one.interval_images
        interval += f" (image{f's {first} to {last}' if first < last else f' {first}'})"
    return (
        f'<article class="said placed {ties.classes(n)}" tabindex="0">{badge}{text}'
        f'<p class="answer">{_image(one, volume)} · {_mm(one.mm)} mm</p><small>{interval}</small>'
        f"<small>in this scan with a probability of {100 * one.present:.0f} %</small>{_slice(n, one, volume)}</article>"
    )


def _image(one: LocatedSentence, volume: Volume) -> str:
    """Name the slice as a report would; by its place where the file numbers none."""
    place = one.place
    if place.image is None:
        nearest = volume.depth.nearest(place.z) + 1
        named = f"slice {nearest} of {volume.depth.count} from the feet"
    else:
        named = f"image {place.image}"
    named = named if place.series is None else f"series {place.series}, {named}"
    return named[0].upper() + named[1:]


def _slice(n: int, one: LocatedSentence, volume: Volume) -> str:
    plane = axial(volume, volume.depth.nearest(one.place.z))
    shown = "".join(
        f'<span class="window-{name}">'
        f"{picture(plane.picture(limits), f'The axial slice of sentence {n}', lossless=True)}</span>"
        for name, limits in WINDOWS.items()
    )
    return f'<div class="slice">{shown}<b>R</b><b>L</b></div>'


def _share(located: LocatedVolume) -> str:
    return f"{100 * located.confidence:.0f} %"


def _mm(value: float) -> str:
    return f"{value:.1f}".replace("-", "−")
