"""VinDr-CXR: findings boxed by three readers each in training, by consensus in test."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Literal

from datamodules.records import Box, PhraseRecord, Problem
from datamodules.sources.base import PhraseSource
from datamodules.sources.readers import fuse_readers
from datamodules.sources.splits import SplitRule
from datamodules.sources.vindr_tables import Film, read_films
from datamodules.sources.wording import NORMAL, SLOT, Wording, seeded
from medvl.errors import ConfigError, DataError

Readers = Literal["fused", "consensus", "single"]
FINDINGS = {
    "Aortic enlargement": "aortic enlargement",
    "Atelectasis": "atelectasis",
    "Calcification": "calcification",
    "Cardiomegaly": "cardiomegaly",
    "Clavicle fracture": "clavicle fracture",
    "Consolidation": "consolidation",
    "Edema": "pulmonary oedema",
    "Emphysema": "emphysema",
    "Enlarged PA": "enlarged pulmonary artery",
    "ILD": "interstitial lung disease",
    "Infiltration": "infiltration",
    "Lung Opacity": "lung opacity",
    "Lung cavity": "lung cavity",
    "Lung cyst": "lung cyst",
    "Mediastinal shift": "mediastinal shift",
    "Nodule/Mass": "nodule or mass",
    "Pleural effusion": "pleural effusion",
    "Pleural thickening": "pleural thickening",
    "Pneumothorax": "pneumothorax",
    "Pulmonary fibrosis": "pulmonary fibrosis",
    "Rib fracture": "rib fracture",
    "Other lesion": "other lesion",
}
# Where one of these is named, its neighbours are not asked for as absent: readers choose between them.
_OPACITIES = {"Atelectasis", "Consolidation", "Edema", "ILD", "Infiltration", "Lung Opacity", "Pulmonary fibrosis"}
_VAGUE = {"Other lesion"}
_FOLDERS = ("", "1.0.0", "vindr-cxr/1.0.0", "files/vindr-cxr/1.0.0")


class VinDrCXR(PhraseSource):
    """VinDr-CXR 1.0.0 as it is distributed: DICOM images, tables of boxes and of image labels.

    Every train image was read by three of 17 radiologists, alone; the boxes of test are the consensus of five. A
    finding becomes one phrase with the boxes of its readers. An image in which all its readers found nothing has a
    phrase that says so. Diagnoses of the whole image (`Pneumonia`, `Other diseases`, ...) have no boxes and no phrase.

    The tables name no patient, so an image stands for one; there is no val split either. The field takes val from the
    train images at random, or from half of test: here it is a tenth of train, by the hash of the image.

    Args:
        root: The folder `1.0.0`, or one above it.
        readers: Whose boxes a train image has. `fused`: those of all readers, fused. `consensus`: of these, the ones
            that two readers or more agree on; a finding without any is left out. `single`: those of one reader.
        second_reader: Keep one reader out of that, as `extra_boxes`: what a model scored on the same boxes may be held
            against. With `single` it is always so. Test has none; `split: deal` makes another that has.
        fusion_iou: Overlap from which boxes of one finding are the same place.
        absent: Phrases per image of findings that are not there, drawn as often as they are where they are: without
            them a phrase alone would tell that there is a box.
        template: What stands around a finding's name; several are parted by `|`.
        names: Names to put in place of ours, by label; several are parted by `|`.
        seed: Of what is drawn: absent findings and words.
        split: Whose splits count: `auto`, `column`, `deal`, or one for all (see `PhraseSource`).
        quarantine: A list of rows and images to leave out, from `medvl data check`.
        follow_links: Whether symbolic links may leave the folder of images.
    """

    name = "vindr-cxr"
    cohort = "vindr-cxr"

    def __init__(
        self,
        root: str | Path,
        readers: Readers = "fused",
        second_reader: bool = False,
        fusion_iou: float = 0.1,
        absent: int = 1,
        template: str = SLOT,
        names: dict[str, str] | None = None,
        seed: int = 0,
        split: SplitRule = "auto",
        quarantine: str | Path | None = None,
        follow_links: bool = False,
    ) -> None:
        super().__init__(split=split, quarantine=quarantine, follow_links=follow_links)
        if readers not in ("fused", "consensus", "single"):
            raise ConfigError(f"unknown readers {readers!r}", hint="expected one of: fused, consensus, single")
        self.given, self.readers, self.second_reader = Path(root).expanduser(), readers, second_reader
        self.fusion_iou, self.absent, self.seed = fusion_iou, absent, seed
        self.wording = Wording({**FINDINGS, NORMAL: "no abnormal finding"}, names, template, seed)

    @cached_property
    def root(self) -> Path:  # type: ignore[override]
        """The folder that holds `train`, `test` and `annotations`."""
        for name in _FOLDERS:
            if any((self.given / name / "annotations").glob("annotations_*.csv")):
                return self.given / name
        raise DataError(
            "the tables of VinDr-CXR are not here",
            where=str(self.given),
            hint="looked for annotations/annotations_train.csv and annotations_test.csv",
            command="medvl data twin vindr-cxr FOLDER, for a synthetic dataset in this layout",
        )

    def tables(self) -> list[Path]:
        """Return the tables of boxes and of image labels, of train, test or both."""
        return [path for part in ("train", "test") for path in self._tables(part)]

    def _tables(self, part: str) -> list[Path]:
        """Return the tables of boxes and of labels of one part; none where it has not been downloaded."""
        folder = self.root / "annotations"
        both = [folder / f"annotations_{part}.csv", folder / f"image_labels_{part}.csv"]
        return both if any(path.is_file() for path in both) else []

    def candidates(self) -> Iterator[PhraseRecord | Problem]:
        """Yield the phrases of every image, or their problems."""
        common: Counter[str] = Counter()  # of train, for test too; of test where it is alone
        for part in ("train", "test"):
            if not self._tables(part):
                continue
            boxes, labels = self._tables(part)
            films, problems = read_films(boxes, labels, part)
            yield from problems
            common = common or Counter(label for film in films.values() for label in film.marks)
            for film in films.values():
                fault = self._measure(film)
                yield from [fault] if fault else self._sentences(film, part, common)

    def _measure(self, film: Film) -> Problem | None:
        """Read the size of a film with boxes, which are in pixels; without the file it stays unknown."""
        from medvl.io.image import image_size

        if film.marks and self.images.fault(film.path) is None:
            try:
                film.size = image_size(self.root / film.path)
            except DataError as error:
                return Problem("image-unreadable", film.where, f"{error.what}: {film.path}", path=film.path)
        return None

    def _sentences(self, film: Film, part: str, common: Counter[str]) -> Iterator[PhraseRecord | Problem]:
        gold, second = self._roles(film, part)
        for label in sorted((film.named(film.readers) & FINDINGS.keys()) - film.marks.keys()):
            message = f"the labels name {label!r} here, and no row boxes it"
            yield Problem("box-missing", film.where, message, fatal=False)
        for label in film.marks:
            order = film.order(label, gold)
            rows = film.rows(label, order)
            if faults := film.faults(label, order):
                yield from faults
            elif rows and (boxes := self._target([film.boxes(label, reader) for reader in order])) is not None:
                yield self._record(film, part, label, rows[0], second, boxes)
        if all(film.readers[reader] == {NORMAL} for reader in gold):
            yield self._record(film, part, NORMAL, film.where, second)
        for label in self._absent(film, film.named(gold), common):
            yield self._record(film, part, label, film.where, second)

    def _roles(self, film: Film, part: str) -> tuple[list[str], str | None]:
        """Return the readers whose boxes count, and the one kept apart, if any; chance says who is who."""
        order = sorted(film.readers)
        if part == "test" or len(order) == 1:
            return order, None
        order = [order[i] for i in seeded("readers", film.image).permutation(len(order))]
        if self.readers == "single":
            return order[:1], order[1]
        return (order[:-1], order[-1]) if self.second_reader else (order, None)

    def _target(self, readers: list[tuple[Box, ...]]) -> tuple[Box, ...] | None:
        """Return one reader's boxes as they are, several readers' fused; None where too few agree on any."""
        if len(readers) == 1 or not any(readers):
            return readers[0]
        return fuse_readers(readers, self.fusion_iou, agree=2 if self.readers == "consensus" else 1) or None

    def _absent(self, film: Film, named: set[str], common: Counter[str]) -> list[str]:
        """Draw findings that none of the readers named, by how often they are boxed in train images."""
        beside = _OPACITIES if named & _OPACITIES else set()
        free = sorted(label for label in FINDINGS if common[label] and label not in named | beside | _VAGUE)
        count = min(self.absent, len(free))
        if count < 1:
            return []
        weights = [common[label] for label in free]
        shares = [weight / sum(weights) for weight in weights]
        drawn = seeded(self.seed, "absent", film.image).choice(len(free), count, replace=False, p=shares)
        return [free[place] for place in drawn]

    def _record(
        self, film: Film, part: str, label: str, where: str, second: str | None, boxes: tuple[Box, ...] = ()
    ) -> PhraseRecord:
        return PhraseRecord(
            image=film.image,
            path=film.path,
            phrase=self.wording.phrase(label, film.image),
            boxes=boxes,
            patient_id=film.image,
            study_id=film.image,
            split=self.own_split(part),
            source=self.name,
            abnormal=label != NORMAL,
            labels=(label,),
            extra_boxes=None if second is None else film.boxes(label, second),
            row=where,
        )
