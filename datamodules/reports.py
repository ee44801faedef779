"""Image-report data: a source of report records in, batches of images and texts out."""

from __future__ import annotations

from datamodules.augment import GroundingAugment
from datamodules.batches import ReportBatch
from datamodules.intake import OnError
from datamodules.pairs import ReportDataset, Several
from datamodules.phrases import Blind
from datamodules.pixels import CacheKind
from datamodules.records import ReportRecord, Sections
from datamodules.shared import PredictSplit, SourceData
from datamodules.sources.base import PhraseSource
from datamodules.sources.reporting import ReportSource


class ReportData(SourceData[ReportRecord, ReportBatch]):
    """Studies as an image and a text of each, with labels.

    Args:
        source: The dataset on disk.
        image_size: Side of the square, letterboxed network input, in pixels.
        batch_size: Studies per rank and step.
        eval_batch_size: The same for evaluation; default `batch_size`.
        sections: The text: findings and impression (`both`), or one of them, the other where it is empty.
        several: What a study with several images is in training: `draw` one anew each epoch, the `first` (PA before
            AP), or a pair for `each`. Evaluation takes the first one, unless it is `each`.
        num_workers: Loader processes; 0 loads in the main one.
        augment: Augmentation of training images; its `lent` plays no part here.
        window: Percentiles of the grey values that become black and white.
        cache: Where resized images are kept: on `disk` (in `$MEDVL_CACHE`, shared by runs), in `memory`, or nowhere.
        on_error: `raise` at the first look when rows or images cannot be used; `quarantine` leaves them out, counts
            them and warns. A patient in two splits always raises. A study goes on with the images left to it.
        max_quarantine: Largest share of the studies that may be left out.
        blind: A control that must fail: `image` blanks the pixels, `text` gives studies each other's texts.
        predict_split: The split that predict runs over.
        seed: Seed of order, drawn images and augmentation.
        guard: What is evaluated on elsewhere, so that none of its val and test patients may be trained on: a table with
            a row per image (as the CSV of MS-CXR), or a list of them.
        guard_sources: The same, as sources.
    """

    def __init__(
        self,
        source: ReportSource,
        image_size: int = 224,
        batch_size: int = 64,
        eval_batch_size: int | None = None,
        sections: Sections = "both",
        several: Several = "draw",
        num_workers: int = 0,
        augment: GroundingAugment | None = None,
        window: tuple[float, float] = (0.5, 99.5),
        cache: CacheKind = "disk",
        on_error: OnError = "raise",
        max_quarantine: float = 0.05,
        blind: Blind = "none",
        predict_split: PredictSplit = "test",
        seed: int = 0,
        guard: str | list[str] | None = None,
        guard_sources: list[PhraseSource | ReportSource] | None = None,
    ) -> None:
        super().__init__(
            source,
            image_size=image_size,
            batch_size=batch_size,
            eval_batch_size=eval_batch_size,
            num_workers=num_workers,
            window=window,
            cache=cache,
            on_error=on_error,
            max_quarantine=max_quarantine,
            predict_split=predict_split,
            seed=seed,
            guard=[*([guard] if isinstance(guard, str) else guard or ()), *(guard_sources or ())],
        )
        self.sections, self.several, self.augment, self.blind = sections, several, augment, blind

    @property
    def label_names(self) -> tuple[str, ...]:
        """Every label of the source, in alphabetical order."""
        return tuple(sorted({name for record in self.records("all") for name in record.labels}))

    def dataset(self, split: str) -> ReportDataset:
        """Return the studies of a split as a dataset; only that of `train` is augmented."""
        self.open(split)
        return self.make_dataset(split, train=split == "train")

    def make_dataset(self, split: str, train: bool) -> ReportDataset:
        """Return the studies of an opened split as a dataset, augmented where it is to train on."""
        return ReportDataset(
            self.records(split),
            self._pixels,
            self.image_size,
            label_names=self.label_names,
            sections=self.sections,
            several="first" if self.several == "draw" and not train else self.several,
            seed=self.seed,
            augment=self.augment if train else None,
            blind=self.blind,
        )
