"""RadGenome-ChestCT: sentences of CT-RATE's reports with the region that each speaks of, as weak depths."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from datamodules.records import Interval, Problem, Snippet, VolumeRecord
from datamodules.sources.cells import cell
from datamodules.sources.ct_rate_tables import COHORT, TABLE_WORDS, VolumeName, patient_of_volume, volume_name
from datamodules.sources.organ_masks import Depths, measure_folders
from datamodules.sources.rows import stream_columns
from datamodules.sources.splits import SplitRule
from datamodules.sources.volumes import VolumeSource
from medvl.errors import DataError
from medvl.text.sections import one_line

_TABLE = "radgenome_files/{table}_region_report.csv"
_OUR_SPLIT = {"train": "train", "valid": "test"}
Sentence = tuple[str, str, str]  # row, region, words


class RadGenomeChestCT(VolumeSource):
    """RadGenome-ChestCT: `dataset/radgenome_files/{train,validation}_region_report.csv`, region masks and volumes.

    A study is a volume; its snippets are its sentences that name a region, their depths those of the region's mask, 100
    to 300 mm mostly: they teach which organ a sentence is about, whether it affirms a finding or denies it, and not
    where in the organ. A sentence of no region, or of one without a mask, stays in the report and is no snippet; both
    are counted. The official `validation` is `test` here, as CT-RATE's is.

    Assumed, for lack of the files: masks lie in `{train,valid}_region_mask/seg_<volume>/<region>.nii.gz` (blanks may be
    underscores), volumes in `{train,valid}_preprocessed/train_1/train_1_a/train_1_a_1.nii.gz` in one frame with them.

    Args:
        root: The folder that holds `dataset`, or that one.
        workers: Processes that measure masks; one per core by default, 0 for none.
        unpaired: Whether studies without a sentence count.
        split: Whose splits count: `auto`, `column`, `deal`, or one for all (see `Source`).
        quarantine: A list of rows and volumes to leave out, from `medvl data check` or `medvl data convert`.
        follow_links: Whether symbolic links may leave the folder of volumes.
    """

    name = "radgenome-chestct"
    cohort = COHORT

    def __init__(
        self,
        root: str | Path,
        workers: int | None = None,
        unpaired: bool = False,
        split: SplitRule = "auto",
        quarantine: str | Path | None = None,
        follow_links: bool = False,
    ) -> None:
        super().__init__(unpaired=unpaired, split=split, quarantine=quarantine, follow_links=follow_links)
        self.given, self.workers = Path(root).expanduser(), workers
        inner = self.given / "dataset"
        self._root = inner if inner.is_dir() else self.given

    @property
    def root(self) -> Path:
        """The folder `dataset`."""
        return self._root

    def tables(self) -> list[Path]:
        """Return the tables of sentences that are there."""
        found = [path for table in TABLE_WORDS.values() if (path := self.root / _TABLE.format(table=table)).is_file()]
        if not found:
            hint = f"expected the folder with dataset/{_TABLE.format(table='train')}"
            raise DataError("no table of RadGenome-ChestCT is here", where=str(self.given), hint=hint)
        return found

    def patient_of(self, record: VolumeRecord) -> tuple[str, str]:
        """Return cohort and patient: `train_7` and `valid_7` are two people."""
        return self.cohort, patient_of_volume(record.patient_id)

    def candidates(self) -> Iterator[VolumeRecord | Problem]:
        """Yield every volume with its sentences, and what is left out."""
        volumes: dict[VolumeName, list[Sentence]] = {}
        for table in self.tables():
            for row, volume, region, sentence in stream_columns(table, "Volumename", "Anatomy", "Sentence"):
                if name := volume_name(volume):
                    volumes.setdefault(name, []).append((row, cell(region).lower(), one_line(cell(sentence))))
                else:
                    yield Problem("volume-unnamed", row, "expected a Volumename such as train_1_a_1.nii.gz")
        folders = [self.root / f"{name.split}_region_mask" / f"seg_{name.name}" for name in volumes]
        masks = measure_folders(self.given, folders, self.workers, self.follow_links)
        for (name, sentences), depths in zip(volumes.items(), masks, strict=True):
            yield from self._study(name, sentences, {key.replace("_", " ").lower(): one for key, one in depths.items()})

    def _study(
        self, name: VolumeName, sentences: list[Sentence], depths: dict[str, Depths | str]
    ) -> Iterator[VolumeRecord | Problem]:
        snippets, lost = [], 0
        for row, region, text in sentences:
            found = depths.get(region.replace("_", " "))
            if isinstance(found, str):
                yield Problem("mask-unreadable", row, f"the mask of this region: {found}; no snippet", fatal=False)
            elif found and text:
                intervals = tuple(Interval(*ends) for ends in found)
                snippets.append(Snippet(text, intervals, organ=region, row=row))
            else:
                lost += bool(text)
        if lost:
            message = f"{lost} sentences of no region, or of one without a mask; kept as report, no snippets"
            yield Problem("region-unknown", sentences[0][0], message, fatal=False)
        yield VolumeRecord(
            volumes=(name.path("_preprocessed"),),
            patient_id=name.patient,
            study_id=name.name,
            split=self.own_split(_OUR_SPLIT[name.split]),
            source=self.name,
            findings=" ".join(dict.fromkeys(text for _, _, text in sentences if text)),
            snippets=tuple(snippets),
            row=sentences[0][0],
        )
