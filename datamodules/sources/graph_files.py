"""Files of Chest ImaGenome's scene graphs, read in bulk: a graph and its image's header become records."""

from __future__ import annotations

import json
import os
import zipfile
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from datamodules.records import Box, PhraseRecord, Problem
from datamodules.sources.cells import cell
from datamodules.sources.files import ImageFolder, OutsideError, resolve_inside
from datamodules.sources.scene_graph import Graph, Sentence, regions_of, sentences_of
from medvl.errors import DataError
from medvl.io.bounded import read_member
from medvl.io.image import image_size
from medvl.text.untrusted import parse_json

SUFFIX = "_SceneGraph.json"
_SAID = {True: "yes", False: "no", None: ""}


@dataclass(frozen=True, slots=True)
class GraphImage:
    """A row of a split: which image, of whom, in which split, and where it was read."""

    dicom: str
    path: str
    patient: str
    study: str
    view: str
    split: str
    where: str


class GraphFiles:
    """Graphs by file name, in a folder or in a zip.

    Raises:
        DataError: The zip is damaged.
    """

    def __init__(self, place: Path) -> None:
        self.place = place
        try:
            self._zip = zipfile.ZipFile(place) if place.is_file() else None
        except (OSError, zipfile.BadZipFile) as error:
            raise DataError("the scene graphs cannot be read", where=str(place), hint=str(error)[:120]) from None
        members = self._zip.infolist() if self._zip else ()
        self._members = {member.filename.rpartition("/")[2]: member for member in members}

    def read(self, name: str, follow_links: bool = False) -> bytes | None:
        """Return a file as it stands; None where there is none.

        Raises:
            OutsideError: The name is a path to somewhere else.
        """
        if self._zip:
            return read_member(self._zip, self._members[name]) if name in self._members else None
        try:
            return resolve_inside(self.place, name, follow_links).read_bytes()
        except FileNotFoundError:
            return None

    def stamp(self) -> bytes:
        """Return what identifies the content cheaply: names, sizes, and checksums (zip) or times (folder)."""
        if self._zip:
            return json.dumps(sorted((name, m.file_size, m.CRC) for name, m in self._members.items())).encode()
        with os.scandir(self.place) as entries:
            found = [(entry.name, entry.stat(follow_symlinks=False)) for entry in entries]
        return json.dumps(sorted((name, stat.st_size, stat.st_mtime_ns) for name, stat in found)).encode()


_opened = lru_cache(maxsize=1)(GraphFiles)  # one per process: a zip of 242 k members takes seconds to open


def records_of_files(
    place: str, root: str, follow_links: bool, views: Collection[str], images: list[GraphImage]
) -> list[PhraseRecord | Problem]:
    """Read the graphs of some images: a job for another process.

    Args:
        place: Folder or zip of the graphs.
        root: The folder that image paths are relative to.
        follow_links: Whether symbolic links may leave it.
        views: View positions to read, where only the graph tells it.
        images: Which.
    """
    files, folder = _opened(Path(place)), ImageFolder(Path(root), follow_links)
    found: list[PhraseRecord | Problem] = []
    for image in images:
        graph = _graph(files, image, follow_links)
        if isinstance(graph, Problem):
            found.append(graph)
        elif image.view or not cell(graph.get("viewpoint")) or graph["viewpoint"] in views:
            found += records_of(image, graph, folder)
        else:
            message = "the view is not among those asked for"
            found.append(Problem("view-excluded", f"{image.dicom}{SUFFIX}", message, fatal=False))
    return found


def _graph(files: GraphFiles, image: GraphImage, follow_links: bool) -> Graph | Problem:
    name = f"{image.dicom}{SUFFIX}"
    try:
        content = files.read(name, follow_links)
        graph = None if content is None else parse_json(content)
    except OutsideError as error:
        return Problem("path-outside", image.where, f"its dicom_id makes no file name: {error.what}")
    except (ValueError, OSError, zipfile.BadZipFile) as error:  # of JSON or of UTF-8: the message may quote the text
        return Problem("graph-unreadable", name, f"the graph is not valid JSON ({type(error).__name__})")
    if graph is None:
        return Problem("graph-missing", image.where, "this image of the split has no scene graph", fatal=False)
    if not isinstance(graph, dict):
        return Problem("graph-unreadable", name, "expected a JSON object with objects and attributes")
    patient = cell(graph.get("patient_id")).removesuffix(".0")
    if patient and patient.lstrip("p") != image.patient.lstrip("p"):
        return Problem("patient-conflict", name, f"the graph is of another patient than the row at {image.where}")
    return graph


def records_of(image: GraphImage, graph: Graph, folder: ImageFolder) -> Iterator[PhraseRecord | Problem]:
    """Yield the sentences of one graph, and what is wrong with it."""
    name = f"{image.dicom}{SUFFIX}" if "where" not in graph else image.where
    if not graph.get("objects"):
        yield Problem("objects-missing", name, "the graph has no objects, so its sentences have no place", fatal=False)
        return
    if fault := folder.fault(image.path):
        yield Problem(fault[0], image.where, fault[1], path=image.path)
        return
    try:
        regions = regions_of(graph, image_size(folder.root / image.path))
    except DataError as error:
        yield Problem("image-unreadable", image.where, f"{error.what}: {image.path}", path=image.path)
        return
    for code, message in regions.remarks.items():
        yield Problem(code, name, message, fatal=False)
    attributes = _attributes(image, graph)
    for number, sentence in enumerate(sentences_of(graph)):
        row = f"{name}:sentence {number + 1}"
        places = {region: regions.boxes[region] for region in sentence.regions if region in regions.boxes}
        if not regions.refused.isdisjoint(sentence.regions):
            yield Problem("box-sibling", row, "a box of this sentence cannot be trusted; left out", fatal=False)
        elif not places and sentence.abnormal:
            message = "a finding only in anatomies that have no box; left out"
            yield Problem("region-unboxed", row, message, fatal=False)
        else:
            yield _record(image, sentence, places, attributes, row)


def _record(
    image: GraphImage, sentence: Sentence, places: dict[str, Box], attributes: dict[str, str], row: str
) -> PhraseRecord:
    boxes: dict[Box, list[str]] = {}
    for region, box in places.items():
        boxes.setdefault(box, []).append(region)
    context = (" + ".join(_SAID[sentence.regions[name]] for name in names) for names in boxes.values())
    told = {"locations": "; ".join(map(" + ".join, boxes.values())), "context": "; ".join(context)} if boxes else {}
    return PhraseRecord(
        image=image.dicom,
        path=image.path,
        phrase=sentence.text,
        boxes=tuple(boxes),
        patient_id=image.patient,
        study_id=image.study,
        split=image.split,
        source="imagenome",
        abnormal=sentence.abnormal,
        labels=tuple(sentence.affirmed if sentence.abnormal else sentence.denied),
        attributes=attributes | told,
        row=row,
    )


def _attributes(image: GraphImage, graph: Graph) -> dict[str, str]:
    known: dict[str, Any] = {
        "sex": graph.get("gender"), "age": graph.get("age_decile"), "view": image.view or graph.get("viewpoint"),
    }  # fmt: skip
    return {name: text for name, value in known.items() if (text := cell(value))}
