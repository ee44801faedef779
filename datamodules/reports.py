"""Image-report data: a source of report records in, batches of images and texts out."""

from __future__ import annotations

from datamodules.augment import GroundingAugment
from datamodules.batches import ReportBatch
from datamodules.intake import OnError
from datamodules.loader import BatchSet
from datamodules.mined import Mined
from datamodules.packing import PackedBatchSampler
from datamodules.pairs import ReportDataset, Several
from datamodules.phrases import Blind
from datamodules.pixels import CacheKind, Pixels
from datamodules.records import ReportRecord, Sections
from datamodules.shared import PredictSplit, SourceData
from datamodules.sources.base import PhraseSource
from datamodules.sources.reporting import ReportSource
from datamodules.triplets import StudyEntities


class ReportData(SourceData[ReportRecord, ReportBatch]):
    """Studies as an image and a text of each, with labels.

    Args:
        source: The dataset on disk.
        image_size: Side of the square, letterboxed network input, in pixels.
        batch_size: Studies per rank and step; with triplets, so many of them, and every study that they need once.
        eval_batch_size: The same for evaluation; default `batch_size`.
        sections: The text: findings and impression (`both`), or one of them, the other where it is empty.
        several: What a study with several images is in training: `draw` one anew each epoch, the `first` (PA before
            AP), or a pair for `each`. Evaluation takes the first one, unless it is `each`.
        num_workers: Loader processes; 0 loads in the main one.
        augment: Augmentation of training images; its `lent` plays no part here.
        window: Percentiles of the grey values that become black and white.
        cache: Where resized images are kept: on `disk` (in `$MEDVL_CACHE`, shared by runs), in `memory`, or nowhere.
        on_error: `raise` at the first look when rows or images cannot be used; `quarantine` leaves them out, counts
            them and warns, also those that can be read no more when their batch is made. A patient in two splits always
            raises. A study goes on with the images left to it when the run begins.
        max_quarantine: Largest share of the studies that may be left out.
        blind: A control that must fail: `image` blanks the pixels, `text` gives studies each other's texts.
        predict_split: The split that predict runs over.
        seed: Seed of order, drawn images and augmentation.
        guard: What is evaluated on elsewhere, so that none of its val and test patients may be trained on: a table with
            a row per image (as the CSV of MS-CXR), or a list of them.
        guard_sources: The same, as sources.
        triplets: Train on these: a Parquet table of `medvl ontology mine`. Rows of other splits than train are passed
            over; a row with a study that is not there raises, or is left out, as `on_error` tells.
        entities: The entities of every study (`EntityFile`): batches carry them, so that losses and miners compare
            studies by them in place of labels.
        remine_every: Train on triplets mined from `entities`, anew every so many epochs, in place of a table.

    Raises:
        ConfigError: Options that exclude or lack each other.
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
        triplets: str | None = None,
        entities: StudyEntities | None = None,
        remine_every: int | None = None,
    ) -> None:
        self.mined = Mined(triplets, entities, remine_every, several)
        pixels = Pixels(source.root, image_size, window, cache, source.folders)
        super().__init__(
            source,
            pixels=pixels,
            batch_size=batch_size,
            eval_batch_size=eval_batch_size,
            num_workers=num_workers,
            on_error=on_error,
            max_quarantine=max_quarantine,
            predict_split=predict_split,
            seed=seed,
            guard=[*([guard] if isinstance(guard, str) else guard or ()), *(guard_sources or ())],
        )
        self.image_size, self._pixels = image_size, pixels
        self.sections, self.several, self.augment, self.blind = sections, several, augment, blind

    def setup(self, stage: str) -> None:
        """Load the records, open the images, and for `fit` read the triplets or mine the first ones.

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
            codes=self.mined.codes(split, self.records(split)),
        )

    def train_sampler(self, dataset: BatchSet[ReportBatch]) -> PackedBatchSampler:
        """Return what draws this rank's training batches: of triplets, where there are any."""
        mined = self.mined.sampler(self.batch_size, self.place(), self.seed, self.overfits, self.root)
        return super().train_sampler(dataset) if mined is None else mined
