"""Sentences placed along a CT volume: the series, the image and the depth that each of them speaks of."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from medvl.io.sidecar import Place, Sidecar

Span = tuple[float, float]


@dataclass(frozen=True, slots=True)
class DepthProfile:
    """How probable each depth is, if the scan shows what was asked for.

    Attributes:
        edges: mm along the patient, ascending; stretch `i` lies between edges `i` and `i + 1`.
        probability: Of each stretch; they sum to 1.
    """

    edges: tuple[float, ...]
    probability: tuple[float, ...]

    @property
    def density(self) -> tuple[float, ...]:
        """Probability per mm of each stretch."""
        spans = zip(self.edges, self.edges[1:], self.probability, strict=False)
        return tuple(share / (high - low) for low, high, share in spans)


@dataclass(frozen=True, slots=True)
class LocatedSentence:
    """Where in a scan a sentence is true. Depths are mm along the patient, towards the head.

    Attributes:
        snippet: The sentence as it was given.
        mm: Median of the depth.
        low_mm: Lower end of the interval around it.
        high_mm: Upper end of that interval.
        present: Probability that the scan shows it.
        extents_mm: Stretches that are about as likely as the best one, best first.
        place: The image nearest to the median.
        interval_images: Numbers of the images that the interval begins and ends in, smaller first; None where they have
            none.
        profile: What the depths were read off.
    """

    snippet: str
    mm: float
    low_mm: float
    high_mm: float
    present: float
    extents_mm: tuple[Span, ...]
    place: Place
    interval_images: tuple[int, int] | None
    profile: DepthProfile

    @property
    def found(self) -> bool:
        """Whether the answer is a depth, rather than "not in this scan"."""
        return self.present >= 0.5

    def as_dict(self) -> dict[str, Any]:
        """Return what goes into JSON: depths in 1/100 mm; `mm` and the rest are said of what is not `found`, too."""
        return {
            "snippet": self.snippet,
            "series": self.place.series,
            "image": self.place.image,
            "mm": round(self.mm, 2),
            "low_mm": round(self.low_mm, 2),
            "high_mm": round(self.high_mm, 2),
            "interval_images": self.interval_images,
            "present": round(self.present, 6),
            "extents_mm": [[round(low, 2), round(high, 2)] for low, high in self.extents_mm],
        }

    def to_json(self) -> str:
        """Return one line of JSON."""
        return json.dumps(self.as_dict(), ensure_ascii=False, allow_nan=False)


@dataclass(frozen=True, slots=True)
class LocatedVolume:
    """A volume with the sentences that were looked for in it.

    Attributes:
        name: What the volume is called: its file or folder.
        sentences: In the order they were given.
        confidence: Share of the probability that their intervals hold.
    """

    name: str
    sentences: tuple[LocatedSentence, ...]
    confidence: float


def nearest_place(sidecar: Sidecar, z: float) -> Place:
    """Return the image nearest to a depth, which may lie beyond the outermost images."""
    low, high = sidecar.extent
    return sidecar.at(min(max(z, low), high))


def images_between(sidecar: Sidecar, low: float, high: float) -> tuple[int, int] | None:
    """Return the numbers of the images at two depths, smaller first; None where an image has no number."""
    numbers: Sequence[int | None] = [nearest_place(sidecar, z).image for z in (low, high)]
    known = sorted(number for number in numbers if number is not None)
    return (known[0], known[1]) if len(known) == 2 else None
