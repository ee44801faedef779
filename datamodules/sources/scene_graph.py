"""Scene graphs of Chest ImaGenome: sentences of a report, and the boxes of the anatomies they are attached to.

A box is given twice: in pixels of the original image (`original_x1` ...), and in a square of 224 pixels into which the
image was shrunk and centred (`x1` ...). The originals are finer, so they are what counts; the others must agree, and
they tell how large the original was where the image on disk is a smaller copy. `width`, `height`, `original_width` and
`original_height` are sides of the box, not of the image.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from math import isfinite
from statistics import median
from typing import Any

from datamodules.records import Box, box_fault, clip_box
from datamodules.sources.cells import box_tuple, cell, number
from datamodules.sources.rows import Table

SQUARE = 224
_APART = 4.0  # pixels of the square by which the two boxes of an object may differ: each side is rounded to whole ones
_ENLARGED = 0.03  # share by which the original's size may differ from the image's before this counts as a smaller copy
_HUGE = 1 << 31  # beyond any pixel; Python's whole numbers have no end, and those of floats do
_SHORTEST = 12.0  # shorter sides (pixels of the square) say too little about the scale
_FINDINGS = ("anatomicalfinding", "disease", "tubesandlines", "device")
_SIDES = ("x1", "y1", "x2", "y2")
_FINE = tuple(f"original_{side}" for side in _SIDES)

Graph = dict[str, Any]
Pair = tuple[Box | None, Box | None]
Remark = tuple[str, str]  # code and message of a problem


@dataclass
class Sentence:
    """One sentence of a report.

    Attributes:
        text: The sentence, its line breaks gone.
        regions: Per anatomy it is attached to: whether a finding is affirmed there (None where nothing is said).
        affirmed: Findings that it affirms.
        denied: Findings that it denies.
    """

    text: str
    regions: dict[str, bool | None] = field(default_factory=dict)
    affirmed: dict[str, None] = field(default_factory=dict)
    denied: dict[str, None] = field(default_factory=dict)

    @property
    def abnormal(self) -> bool | None:
        """Whether it affirms a finding anywhere; None where it says nothing of findings."""
        said = [value for value in self.regions.values() if value is not None]
        return any(said) if said else None

    def attach(self, region: str, tokens: Iterable[str]) -> None:
        """Attach the sentence to an anatomy with its tokens there: `category|yes or no|name`."""
        said = self.regions.get(region)
        for category, context, name in (token.split("|", 2) for token in tokens if token.count("|") >= 2):
            if category in _FINDINGS:
                (self.affirmed if context == "yes" else self.denied)[name] = None
            elif category != "nlp":
                continue  # severity, comparison, technical assessment: no finding
            said = bool(said) or (context == "yes" and name != "normal")
        self.regions[region] = said


def sentences_of(graph: Graph) -> list[Sentence]:
    """Return the sentences of a graph, in order of first mention, each joined over its anatomies."""
    found: dict[str, Sentence] = {}
    for entry in _dicts(graph.get("attributes")):
        region, tokens = cell(entry.get("bbox_name")), entry.get("attributes")
        lists = tokens if isinstance(tokens, list) else []
        for i, phrase in enumerate(_list(entry.get("phrases"))):
            text = " ".join(cell(phrase).split())
            if text and region:
                said = _list(lists[i]) if i < len(lists) else []
                found.setdefault(text, Sentence(text)).attach(region, map(str, said))
    return list(found.values())


@dataclass
class Regions:
    """The boxes of a graph.

    Attributes:
        boxes: Box of each anatomy, xyxy in [0, 1] of the image, clipped to it.
        refused: Anatomies whose box cannot be trusted.
        remarks: What was wrong with objects: one of each kind.
    """

    boxes: dict[str, Box] = field(default_factory=dict)
    refused: set[str] = field(default_factory=set)
    remarks: dict[str, str] = field(default_factory=dict)


def regions_of(graph: Graph, size: tuple[int, int]) -> Regions:
    """Return the boxes of a graph.

    Several objects of one name become the box around them all; what sticks out of the image is cut off; what has no
    area in it is left out; an object whose two boxes differ is refused.

    Args:
        graph: The scene graph.
        size: Height and width of the image on disk, which may be a smaller copy of the original.
    """
    found, objects = Regions(), _dicts(graph.get("objects"))
    pairs = [_pair(entry) for entry in objects]
    frame = _original(pairs, size)
    for entry, pair in zip(objects, pairs, strict=True):
        name, (box, fault) = cell(entry.get("bbox_name")), _box(pair, frame)
        if fault:
            found.remarks.setdefault(*fault)
        if not name or box is None:
            found.refused |= {name} if fault and fault[0] in ("box-systems", "box-unreadable") else set()
            continue
        known = found.boxes.get(name)
        if known is not None:
            found.remarks.setdefault("object-duplicate", f"several objects are called {name!r}; one box around all")
            box = (*map(min, known[:2], box[:2]), *map(max, known[2:], box[2:]))  # type: ignore[assignment]
        found.boxes[name] = box
    for name in found.refused:
        found.boxes.pop(name, None)
    return found


def _box(pair: Pair, frame: tuple[float, float]) -> tuple[Box | None, Remark | None]:
    """Return an object's box, clipped, and what is to say about it."""
    height, width = frame
    fine, coarse = pair
    if fine is not None:
        fine = (fine[0] / width, fine[1] / height, fine[2] / width, fine[3] / height)
    if coarse is not None:
        coarse = _out_of_square(coarse, frame)
    box = fine or coarse
    if box is None:
        return None, ("box-unreadable", "an object has no box; expected original_x1, ... or x1, ...")
    if fine and coarse and _apart(fine, coarse, frame) > _APART:
        return None, ("box-systems", "the original box and that of the 224 square differ; the sentences there are left")
    fault = box_fault(box, tolerance=float("inf"))
    if fault:
        return None, ("box-empty", "a box has no area inside the image; left out")
    clipped = clip_box(box)
    out = max(abs(a - b) * side for a, b, side in zip(box, clipped, (width, height) * 2, strict=True))
    return clipped, ("box-clipped", "a box reaches out of the image; cut off") if out > 1 else None


def _original(pairs: list[Pair], size: tuple[int, int]) -> tuple[float, float]:
    """Return height and width of the original image: those on disk, or larger ones of the same shape."""
    ratios = []
    for fine, coarse in pairs:
        if fine is not None and coarse is not None:
            lengths = [(fine[i + 2] - fine[i], coarse[i + 2] - coarse[i]) for i in (0, 1)]
            ratios += [long / short for long, short in lengths if short >= _SHORTEST and long > 0]
    height, width = size
    scale = SQUARE * median(ratios) / max(size) if ratios else 1.0
    return (height, width) if abs(scale - 1) < _ENLARGED else (height * scale, width * scale)


def _out_of_square(box: Box, frame: tuple[float, float]) -> Box:
    """Convert a box in the padded square of 224 pixels to [0, 1] of the image."""
    height, width = (side * SQUARE / max(frame) for side in frame)
    left, top = (SQUARE - width) / 2, (SQUARE - height) / 2
    return (box[0] - left) / width, (box[1] - top) / height, (box[2] - left) / width, (box[3] - top) / height


def _apart(one: Box, other: Box, frame: tuple[float, float]) -> float:
    """Return by how many pixels of the square two boxes differ inside the image."""
    height, width = (side * SQUARE / max(frame) for side in frame)
    sides = zip(clip_box(one), clip_box(other), (width, height) * 2, strict=True)
    return max(abs(a - b) * scale for a, b, scale in sides)


def _pair(entry: Graph) -> Pair:
    """Return an object's box in the original and in the square; None for one that it lacks."""
    return _sides(entry, _FINE), _sides(entry, _SIDES)


def _sides(entry: Graph, names: tuple[str, ...]) -> Box | None:
    values: list[Any] = [entry.get(name) for name in names]
    plain = all(type(value) is int and abs(value) < _HUGE for value in values)
    x1, y1, x2, y2 = values if plain else map(number, values)
    return (x1, y1, x2, y2) if all(map(isfinite, (x1, y1, x2, y2))) else None


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []


def _dicts(value: object) -> list[Graph]:
    return [item for item in _list(value) if isinstance(item, dict)]


def gold_graphs(table: Table) -> Iterator[Graph]:
    """Yield the gold annotations as graphs like the silver ones: a row has an image, an anatomy and one attribute."""
    table.require("patient_id", "study_id", "image_id", "bbox", "coord_original", "sentence", "attribute")
    graphs: dict[str, Graph] = {}
    for row in table.rows:
        image, region = cell(row.cells["image_id"]).removesuffix(".dcm"), cell(row.cells["bbox"])
        start = {"image_id": image, "objects": [], "attributes": [], "where": row.where, **_ids(row.cells)}
        graph = graphs.setdefault(image, start)
        if row.fault or not image:
            graph["fault"] = row.fault or "the row names no image"
            continue
        boxes = [_listed(row.cells.get(name)) for name in ("coord224", "coord_original")]
        sides = [dict(zip(_SIDES, box, strict=True)) if box else {} for box in boxes]
        entry = {"bbox_name": region, **sides[0], **{f"original_{side}": value for side, value in sides[1].items()}}
        if entry not in graph["objects"]:
            graph["objects"].append(entry)
        phrase, token = cell(row.cells["sentence"]), cell(row.cells["attribute"])
        graph["attributes"].append({"bbox_name": region, "phrases": [phrase], "attributes": [[token]]})
    yield from graphs.values()


def _ids(cells: dict[str, Any]) -> Graph:
    return {name: cell(cells[name]).removesuffix(".0") for name in ("patient_id", "study_id")}


def _listed(value: object) -> Box | None:
    """Read `[x1, y1, x2, y2]`."""
    return box_tuple(cell(value).strip("[]()").split(","))
