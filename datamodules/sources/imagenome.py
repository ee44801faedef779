"""Chest ImaGenome: sentences of MIMIC-CXR reports with the boxes of the anatomies that they are attached to."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Literal

from datamodules.records import PhraseRecord, Problem
from datamodules.sources.base import PhraseSource
from datamodules.sources.cells import cell
from datamodules.sources.clean_table import cleaned_records
from datamodules.sources.files import ImageFolder
from datamodules.sources.graph_files import GraphFiles, GraphImage, records_of, records_of_files
from datamodules.sources.patients import UNGUARDED, patient_key, patients_held_out
from datamodules.sources.rows import read_table
from datamodules.sources.scene_graph import Graph, gold_graphs
from datamodules.sources.splits import SplitRule
from medvl.errors import ConfigError, DataError
from medvl.io.workers import run_all

_SPLITS, _AVOID = ("train", "valid", "test"), "images_to_avoid.csv"
_GOLD = "gold_object_attribute_with_coordinates.txt"
_CHUNK = 400  # graphs per job: enough that starting one costs nothing
Subset = Literal["silver", "gold"]


class ChestImaGenome(PhraseSource):
    """Chest ImaGenome 1.0.0 as it is distributed, over the images of MIMIC-CXR-JPG.

    A record is a sentence of a report with the box of every anatomy it is attached to: weak labels, since an anatomy
    is larger than a finding in it, sentences hang on nested anatomies at once, and those that deny a finding or say
    nothing of any have boxes too. `abnormal` tells which sentences affirm a finding; `labels` are the findings
    affirmed, or denied where none is; `attributes` has the anatomies (`locations`, one per box, `+` between those that
    share one) and what is said there (`context`: yes, no, or nothing).

    A sentence attached only to anatomies without a box is left out with a remark where it affirms a finding, and has
    no box otherwise. What the format is known for (ids without a graph, graphs without objects, objects twice, empty
    or outside) is remarked, not fatal.

    Args:
        root: The dataset's folder (or the one that holds `chest-imagenome-dataset-1.0.0`).
        images: The folder that holds `files/p10/...`; `root` by default.
        subset: `silver` (242 k images, graphs in `scene_graph/` or still in `scene_graph.zip`), or `gold` (500 images
            annotated by hand, all in `test`).
        views: View positions to read.
        avoid: Whether to leave out the patients of the gold set, as `images_to_avoid.csv` asks. Where it does not and
            that table is not there, nobody can tell who they are, which is remarked, and warned of before training.
        exclude: Tables whose patients of val and test (of all splits where a table has none) are left out: name the
            MS-CXR table that is evaluated on later.
        workers: Processes that read graphs; one per core by default.
        clean: The `pairs.parquet` that `medvl data clean imagenome` wrote: read instead of the graphs. Splits, views
            and patients left out are settled here all the same.
        split: How to split; see `PhraseSource`.
        quarantine: A list of rows and images to leave out, from `medvl data check`.
        follow_links: Whether symbolic links may leave the folder of images.
    """

    name = "imagenome"
    cohort = "mimic-cxr"

    def __init__(
        self,
        root: str | Path,
        images: str | Path | None = None,
        subset: Subset = "silver",
        views: list[str] | None = None,
        avoid: bool = True,
        exclude: list[str] | None = None,
        workers: int | None = None,
        clean: str | Path | None = None,
        split: SplitRule = "auto",
        quarantine: str | Path | None = None,
        follow_links: bool = False,
    ) -> None:
        super().__init__(split=split, quarantine=quarantine, follow_links=follow_links)
        if subset not in ("silver", "gold"):
            raise ConfigError(f"unknown subset {subset!r} of Chest ImaGenome", hint="expected one of: silver, gold")
        if clean is not None and subset != "silver":
            raise ConfigError("only the silver set is cleaned", where="clean", hint="the gold one is annotated by hand")
        self.given, self.subset, self.avoid, self.workers = Path(root).expanduser(), subset, avoid, workers
        self.clean = None if clean is None else Path(clean).expanduser()
        self.views = frozenset(views or ("AP", "PA"))
        self.exclude = [Path(table).expanduser() for table in exclude or ()]
        self._images = None if images is None else Path(images).expanduser()

    @property
    def root(self) -> Path:
        """The folder that holds `files/p10/...`."""
        if self._images is not None:
            return self._images
        return self.given if (self.given / "files").is_dir() else self.folder

    @cached_property
    def folder(self) -> Path:
        """The folder that holds `silver_dataset` and `gold_dataset`."""
        for place in (self.given, *sorted(self.given.glob("chest-imagenome*")), self.given / "1.0.0"):
            if (place / f"{self.subset}_dataset").is_dir():
                return place
        raise DataError(
            f"the {self.subset} set of Chest ImaGenome is not here",
            where=str(self.given),
            hint=f"looked for a folder {self.subset}_dataset",
            command="medvl data twin imagenome FOLDER, for a synthetic dataset in this layout",
        )

    def tables(self) -> list[Path]:
        """Return the tables that are read; graphs are not among them."""
        if self.subset == "gold":
            return [self.folder / "gold_dataset" / _GOLD]
        avoided = [self._split_table(_AVOID)] if self.avoid else []
        cleaned = [] if self.clean is None else [self.clean]
        return [*(self._split_table(f"{split}.csv") for split in _SPLITS), *avoided, *self.exclude, *cleaned]

    def _require_avoided(self) -> None:
        """Refuse to go on without the list of gold patients where they are to be left out."""
        if self.avoid and not self._split_table(_AVOID).is_file():
            raise DataError(
                "the list of gold patients, who are not to be trained on, does not exist",
                where=str(self._split_table(_AVOID)),
                hint="get it where the splits are from; --data.source.avoid false goes on without it, and warns",
            )

    def _unguarded(self) -> Iterator[Problem]:
        """Remark that gold patients cannot be told from others, where their list is neither here nor excluded."""
        if not self.guards and all(table.name != _AVOID for table in self.exclude):
            message = (
                f"{_AVOID} is not among the splits of Chest ImaGenome, so images of the gold set are among those "
                "trained on, and whatever is measured on it afterwards is too good; put the list there, or name it: "
                f"--data.source.exclude [PATH/{_AVOID}]"
            )
            yield Problem(UNGUARDED, _AVOID, message, fatal=False)

    def _split_table(self, name: str) -> Path:
        return self.folder / "silver_dataset" / "splits" / name

    @property
    def guards(self) -> list[Path]:
        """The list of gold patients, who are never trained on, whatever `avoid` says."""
        listed = self._split_table(_AVOID)
        return [listed] if self.subset == "silver" and listed.is_file() else []

    def how_to_leave_out(self, guard: str) -> str:
        """Return which option leaves out the patients of a guard."""
        return "set --data.source.avoid true" if guard.endswith(_AVOID) else f"add --data.source.exclude [{guard}]"

    @cached_property
    def _graphs(self) -> Path:
        """The folder of graphs, or the zip."""
        silver = self.folder / "silver_dataset"
        for place in (silver / "scene_graph" / "scene_graph", silver / "scene_graph", silver / "scene_graph.zip"):
            if place.exists():
                return place
        raise DataError("the scene graphs are not here", where=str(silver), hint="looked for scene_graph{,.zip}")

    def candidates(self) -> Iterator[PhraseRecord | Problem]:
        """Yield every sentence of every graph, or its problem, and remarks on what is left out."""
        if self.subset == "gold":
            for graph in gold_graphs(read_table(self.tables()[0])):
                yield from records_of(
                    _gold_image(graph, self.own_split("test")), graph, ImageFolder(self.root, self.follow_links)
                )
            return
        self._require_avoided()
        yield from self._unguarded()
        images, remarks = self._rows()
        yield from remarks
        images, remarks = self._without(images)
        yield from remarks
        if self.clean is not None:
            yield from cleaned_records(self.clean, images)
            return
        chunks = [images[first : first + _CHUNK] for first in range(0, len(images), _CHUNK)]
        jobs = [(str(self._graphs), str(self.root), self.follow_links, self.views, chunk) for chunk in chunks]
        for found in run_all(records_of_files, jobs, self.workers, "reading scene graphs", list(map(len, chunks))):
            yield from found

    def _rows(self) -> tuple[list[GraphImage], list[Problem]]:
        images, problems = [], []
        for split in _SPLITS:
            table = read_table(self._split_table(f"{split}.csv"))
            table.require("subject_id", "study_id", "dicom_id", "path")
            for row in table.rows:
                cells = row.cells
                dicom = "" if row.fault else cell(cells["dicom_id"]).removesuffix(".dcm")
                if not dicom or not cell(cells["path"]):
                    message = row.fault or "the row lacks its dicom_id or its path"
                    problems.append(Problem("row-unreadable", row.where, message))
                    continue
                path = f"{cell(cells['path']).removesuffix('.dcm').removesuffix('.jpg')}.jpg"
                patient, study = (cell(cells[name]).removesuffix(".0") for name in ("subject_id", "study_id"))
                view = cell(cells.get("ViewPosition"))
                images.append(GraphImage(dicom, path, patient, study, view, self.own_split(split), row.where))
        return images, problems

    def _without(self, images: list[GraphImage]) -> tuple[list[GraphImage], list[Problem]]:
        """Leave out patients who are avoided or excluded, and views not asked for; tell how many images each cost."""
        remarks = []
        for table in [*([self._split_table(_AVOID)] if self.avoid else ()), *self.exclude]:
            out = patients_held_out(table)
            kept = [image for image in images if patient_key(image.patient) not in out]
            lost = f"{len(images) - len(kept):,} images are left out: their patients are held out by this table"
            remarks += [Problem("patients-excluded", table.name, lost, fatal=False)] if len(kept) < len(images) else []
            images = kept
        kept = [image for image in images if not image.view or image.view in self.views]
        if len(kept) < len(images):
            lost = f"{len(images) - len(kept):,} images are left out: their view is none of {sorted(self.views)}"
            remarks.append(Problem("view-excluded", "ViewPosition", lost, fatal=False))
        return kept, remarks

    def _fingerprint(self) -> str:
        digest = hashlib.sha256(super()._fingerprint().encode())
        if self.subset == "silver" and self.clean is None:
            digest.update(GraphFiles(self._graphs).stamp())
        return digest.hexdigest()


def _gold_image(graph: Graph, split: str) -> GraphImage:
    patient, study, dicom = (graph[name] for name in ("patient_id", "study_id", "image_id"))
    path = f"files/p{patient[:2]}/p{patient}/s{study}/{dicom}.jpg"
    return GraphImage(dicom, path, patient, study, "", split, graph["where"])
