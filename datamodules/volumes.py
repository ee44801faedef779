"""3D CT data: a source of volume records in, batches of volumes, reports, labels and snippets out."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from datamodules.batches import VolumeBatch
from datamodules.features import FeatureGrids
from datamodules.intake import OnError
from datamodules.loader import BatchSet
from datamodules.mined import Mined
from datamodules.organs import OrganExtents
from datamodules.packing import PackedBatchSampler
from datamodules.phrases import Blind
from datamodules.records import Sections, VolumeRecord
from datamodules.scans import ScanAugment, ScanDataset, Several
from datamodules.shared import PredictSplit, SourceData
from datamodules.sources.volumes import VolumeSource
from datamodules.triplets import StudyEntities
from datamodules.voxels import Spacing, Voxels
from medvl.errors import ConfigError


class VolumeData(SourceData[VolumeRecord, VolumeBatch]):
    """CT studies as a volume, a report, labels and snippets.

    Volumes are converted at the first look (`medvl data convert` does it beforehand, on many cores), resampled to one
    spacing as they are read, and padded to the largest of their batch; as nothing is cropped, no snippet loses its
    slice.

    Args:
        source: The dataset on disk.
        spacing: Millimetres between the network's voxels, along depth, height and width.
        window: Hounsfield units that become 0 and 1.
        trim: Whether rows and columns of air beside the patient are left away: about half of what the network would
            see.
        batch_size: Studies per rank and step.
        eval_batch_size: The same for evaluation; default `batch_size`.
        sections: The report's text: findings and impression (`both`), or one of them, the other where it is empty.
        several: What a study with several volumes is in training: `draw` one anew each epoch, the `first`, or a row for
            `each`. Evaluation takes the first one, unless it is `each`.
        most_snippets: At most so many snippets of a study in a step, drawn anew each epoch; evaluation takes all.
        num_workers: Loader processes; 0 loads in the main one.
        augment: Augmentation of training volumes.
        on_error: `raise` at the first look when rows or volumes cannot be used; `quarantine` leaves them out, counts
            them and warns, also those that can be read no more when their batch is made. A patient in two splits always
            raises. A study goes on with the volumes left to it when the run begins.
        max_quarantine: Largest share of the studies that may be left out.
        blind: A control that must fail: `image` leaves of a volume its depth alone; `text` deals the snippets of a scan
            out anew among their depths, and the reports among the studies.
        predict_split: The split that predict runs over.
        seed: Seed of order, of what is drawn and of augmentation.
        guard: What is evaluated on elsewhere, so that none of its val and test patients may be trained on: a table with
            a row per volume, or a list of them.
        guard_sources: The same, as sources: ReXGroundingCT and RadGenome-ChestCT split CT-RATE's patients anew.
        features: Folder of a frozen encoder's features (`tasks.volume.features`), read in place of volumes; spacing and
            window are then those that it was filled with, and nothing can be augmented.
        organs: Where organs lie, in place of where findings do, for reports that cite no image.
        triplets: Train on these: a Parquet table of `medvl ontology mine` (see `ReportData`).
        entities: The entities of every study (`EntityFile`), by which losses and miners compare studies.
        remine_every: Train on triplets mined from `entities`, anew every so many epochs, in place of a table.

    Raises:
        ConfigError: A spacing or window that cannot be, features that are to be augmented, or options of triplets that
            exclude or lack each other.
    """

    def __init__(
        self,
        source: VolumeSource,
        spacing: Spacing = (3.0, 1.5, 1.5),
        window: tuple[float, float] = (-1000.0, 1000.0),
        trim: bool = True,
        batch_size: int = 8,
        eval_batch_size: int | None = None,
        sections: Sections = "both",
        several: Several = "draw",
        most_snippets: int | None = 16,
        num_workers: int = 0,
        augment: ScanAugment | None = None,
        on_error: OnError = "raise",
        max_quarantine: float = 0.05,
        blind: Blind = "none",
        predict_split: PredictSplit = "test",
        seed: int = 0,
        guard: str | list[str] | None = None,
        guard_sources: list[VolumeSource] | None = None,
        features: str | None = None,
        organs: OrganExtents | None = None,
        triplets: str | None = None,
        entities: StudyEntities | None = None,
        remine_every: int | None = None,
    ) -> None:
        if not all(math.isfinite(step) and step > 0 for step in spacing):
            raise ConfigError(f"spacing is {spacing}", where="data.spacing", hint="expected three numbers of mm > 0")
        if not window[0] < window[1]:
            raise ConfigError(f"window is {window}", where="data.window", hint="expected HU of black, then of white")
        if features and augment:
            raise ConfigError("features cannot be augmented", where="data.augment", hint="expected null")
        self.mined = Mined(triplets, entities, remine_every, several)
        voxels = FeatureGrids(features) if features else Voxels(source, spacing, window, trim)
        super().__init__(
            source,
            pixels=voxels,
            batch_size=batch_size,
            eval_batch_size=eval_batch_size,
            num_workers=num_workers,
            on_error=on_error,
            max_quarantine=max_quarantine,
            predict_split=predict_split,
            seed=seed,
            guard=[*([guard] if isinstance(guard, str) else guard or ()), *(guard_sources or ())],
        )
        self.voxels, self.spacing, self.sections = voxels, spacing, sections
        self.several, self.most_snippets, self.augment, self.blind = several, most_snippets, augment, blind
        self.organs = organs

    def setup(self, stage: str) -> None:
        """Load the records, open the volumes, and for `fit` read the triplets or mine the first ones.

        Raises:
            DataError: As in `SourceData.setup`, or triplets or entities do not belong to the data.
        """
        super().setup(stage)
        if stage == "fit":
            self.mined.load(self.intake)

    @property
    def facts(self) -> dict[str, str]:
        """What a reader of the results should know of the data: also where its triplets come from."""
        return super().facts | self.mined.facts

    @property
    def label_names(self) -> tuple[str, ...]:
        """Every label of the source, in alphabetical order."""
        return tuple(sorted({name for record in self.records("all") for name in record.labels}))

    def label_table(self, split: str) -> Tensor:
        """Return the labels of a split's studies `(n, K)`: 1, 0, -1 uncertain, NaN not said."""
        names = self.label_names
        rows = [[record.labels.get(name, math.nan) for name in names] for record in self.records(split)]
        return torch.tensor(rows, dtype=torch.float32).reshape(-1, len(names))

    def make_dataset(self, split: str, train: bool) -> ScanDataset:
        """Return the studies of an opened split as a dataset, augmented where it is to train on."""
        records = self.records(split)
        return ScanDataset(
            self.organs.applied(records) if self.organs is not None and split != "test" else records,
            self.voxels,
            label_names=self.label_names,
            sections=self.sections,
            several="first" if self.several == "draw" and not train else self.several,
            most_snippets=self.most_snippets if train else None,
            seed=self.seed,
            augment=self.augment if train else None,
            blind=self.blind,
            codes=self.mined.codes(split, records),
        )

    def train_sampler(self, dataset: BatchSet[VolumeBatch]) -> PackedBatchSampler:
        """Return what draws this rank's training batches: of triplets, where there are any."""
        mined = self.mined.sampler(self.batch_size, self.place(), self.seed, self.overfits, self.root)
        return super().train_sampler(dataset) if mined is None else mined
