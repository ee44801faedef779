"""A split of studies as embeddings, and what of it lies nearest to a query."""

from __future__ import annotations

from argparse import ArgumentError
from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq
import torch
import yaml
from lightning.fabric.utilities import move_data_to_device
from lightning.pytorch import LightningDataModule
from lightning.pytorch.cli import LightningArgumentParser
from torch import Tensor
from torch.nn.functional import normalize

from datamodules.batches import ReportBatch
from datamodules.packing import Draw
from datamodules.pairs import ReportDataset
from datamodules.pixels import Pixels
from datamodules.records import ReportRecord
from datamodules.reports import ReportData
from medvl.cli.kept import forget
from medvl.cli.mistakes import explain, mistake_behind
from medvl.cli.words import options_of
from medvl.errors import DataError
from medvl.io.image import WINDOW
from medvl.metrics.retrieval import text_id
from tasks.alignment import AlignmentTask

COLUMNS = ("study_id", "split", "image", "image_embedding", "text_embedding")  # of `embeddings.parquet`


@dataclass(frozen=True, slots=True)
class Gallery:
    """Studies (or, where each image counts, images) and their embeddings, row by row.

    Attributes:
        records: The studies.
        paths: Their images, '' where there is none.
        texts: Their texts, '' where there is none.
        vectors: Unit vectors `(n, C)` of images (`i`) and of texts (`t`).
        present: Bool `(n,)`, which studies have an image (`i`) or a text (`t`).
    """

    records: list[ReportRecord]
    paths: list[str]
    texts: list[str]
    vectors: dict[str, Tensor]
    present: dict[str, Tensor]

    def row_of(self, study: str) -> int:
        """Return the first row of a study.

        Raises:
            DataError: There is no such study.
        """
        for row, record in enumerate(self.records):
            if record.study_id == study:
                return row
        hint = f"expected an id as the data set has it, of one of these {len(self.records)} studies; or another --split"
        raise DataError("no such study", where=f"--study {study}", hint=hint)

    def names(self, kind: str) -> list[Hashable]:
        """Return what is one answer: texts of the same words are, images are one each."""
        return [text_id(text) for text in self.texts] if kind == "t" else list(range(len(self.paths)))


def read_gallery(path: Path, data: ReportData, split: str) -> Gallery:
    """Return a split from a run's `embeddings.parquet`, instead of embedding it.

    Args:
        path: The file.
        data: The data set that was embedded.
        split: `train`, `val`, `test` or `all`.

    Raises:
        DataError: It is not such a file, holds nothing of the split, or a study that the data set has not.
    """
    hint = "expected predictions/embeddings.parquet, as medvl test or predict of this task leaves it"
    try:
        rows = pq.read_table(path, columns=list(COLUMNS)).to_pylist()
    except (OSError, pa.ArrowException) as error:
        raise DataError("these are no embeddings", where=str(path), hint=hint) from error
    data.intake.load()
    rows, records = [row for row in rows if split in ("all", row["split"])], data.records(split)
    known = {record.study_id: record for record in records}
    if not rows or not all(row["study_id"] in known for row in rows):
        what = "are of another data set" if rows else f"hold no study of {split}"
        raise DataError(f"these embeddings {what}", where=str(path), hint="another --split, or --data.source")
    found = [known[row["study_id"]] for row in rows]
    vectors = {kind: [row[f"{name}_embedding"] for row in rows] for kind, name in (("i", "image"), ("t", "text"))}
    return Gallery(
        found,
        [row["image"] for row in rows],
        [record.text_of(data.sections) for record in found],
        {kind: _matrix(column) for kind, column in vectors.items()},
        {kind: torch.tensor([one is not None for one in column]) for kind, column in vectors.items()},
    )


def _matrix(rows: Sequence[Sequence[float] | None]) -> Tensor:
    """Return unit vectors `(n, C)`, zeros where there is none."""
    width = next((len(row) for row in rows if row is not None), 0)
    return normalize(torch.tensor([row if row is not None else [0.0] * width for row in rows]), dim=1)


class Hit(NamedTuple):
    """A row of the gallery, its cosine to the query, and how many rows are the same answer."""

    row: int
    cosine: float
    copies: int


def nearest(query: Tensor, keys: Tensor, candidates: Tensor, names: Sequence[Hashable], first: int = -1) -> list[Hit]:
    """Return one hit for each different answer, the nearest first.

    Args:
        query: Unit vector `(C,)`.
        keys: Unit vectors `(n, C)`.
        candidates: Bool `(n,)`, which of them are.
        names: What is the same answer.
        first: A row that stands for its answer; else it is the nearest one.
    """
    cosines = (keys @ query).tolist()
    rows = sorted(candidates.nonzero().flatten().tolist(), key=lambda row: (-cosines[row], row != first, row))
    copies, found = Counter(names[row] for row in rows), dict[Hashable, int]()
    for row in rows:
        found.setdefault(names[row], row)
    if 0 <= first < len(names) and names[first] in found and candidates[first]:
        found[names[first]] = first
    return [Hit(row, cosines[row], copies[name]) for name, row in found.items()]


class Embedder:
    """Embeds studies, texts and images with a trained model.

    Args:
        task: The model.
        window: Percentiles of the grey values shown black and white to it.
        device: A torch device; `auto` takes the accelerator where there is one.
    """

    def __init__(self, task: AlignmentTask, window: tuple[float, float] = WINDOW, device: str = "auto") -> None:
        self.window = window
        found = "cuda" if torch.cuda.is_available() else "cpu"
        self.task = task.eval().to(torch.device(found if device == "auto" else device))

    @torch.inference_mode()
    def gallery(self, data: ReportData, split: str) -> Gallery:
        """Return a split, embedded.

        Raises:
            DataError: It cannot be read, or there is nothing in it.
        """
        from rich.console import Console
        from rich.progress import track

        data.predict_split = split  # type: ignore[assignment]
        data.setup("predict")
        loader, console = data.predict_dataloader(), Console(stderr=True)
        gallery = Gallery([], [], [], {}, {})
        parts: dict[str, list[Tensor]] = {name: [] for name in ("i", "t", "has i", "has t")}
        for batch in track(loader, "Studies", console=console, disable=not console.is_terminal):
            for name, value in self._embed(batch).items():
                parts[name].append(value)
            gallery.records.extend(batch.records)
            gallery.paths.extend(batch.paths)
            gallery.texts.extend(batch.texts)
        whole = {name: torch.cat(part) for name, part in parts.items()}
        gallery.vectors.update({kind: whole[kind] for kind in "it"})
        gallery.present.update({kind: whole[f"has {kind}"] for kind in "it"})
        return gallery

    def _embed(self, batch: ReportBatch) -> dict[str, Tensor]:
        moved = move_data_to_device(batch, self.task.device)
        image, text = (normalize(vectors.float(), dim=1).cpu() for vectors in self.task(moved)[:2])
        return {"i": image, "t": text, "has i": batch.has_image, "has t": batch.has_text}

    @torch.inference_mode()
    def text(self, text: str) -> Tensor:
        """Return the unit vector `(C,)` of a text."""
        return normalize(self.task.model.embed_texts([text])[0].float().cpu(), dim=0)

    @torch.inference_mode()
    def image(self, path: Path, size: int) -> Tensor:
        """Return the unit vector `(C,)` of an image file, framed to a square of `size` pixels as a data set's are.

        Raises:
            DataError: It cannot be read; names the file.
        """
        pixels = Pixels(Path(), size, self.window, "none")
        record = ReportRecord((str(path),), "", "", "test", "query")
        dataset = ReportDataset([record], pixels, size, several="first")
        batch = move_data_to_device(dataset[Draw(0, dataset.pairs_of_image)], self.task.device)
        return normalize(self.task.model.embed_images(batch.images, batch.valid)[0].float().cpu(), dim=0)


def build_data(kept: Mapping[str, Any], words: Sequence[str]) -> ReportData:
    """Build the datamodule of a run.

    Args:
        kept: The arguments that it was trained with.
        words: Options `--data.NAME VALUE` that change them.

    Raises:
        ConfigError: They do not fit.
        DataError: There is no such data.
    """
    config: dict[str, Any] = {"data": {"class_path": "ReportData", "init_args": dict(kept)}}
    for flag in (word for word in words if word.startswith("--")):
        forget(config, flag[2:].partition("=")[0].split("."), options_of(list(words), flag))
    parser = LightningArgumentParser(exit_on_error=False, prog="medvl")
    parser.add_argument("--config", action="config")
    parser.add_lightning_class_args(LightningDataModule, "data", subclass_mode=True)
    given = ["--config", yaml.safe_dump(config, sort_keys=False), *words]
    try:
        data = parser.instantiate_classes(parser.parse_args(given)).data
    except (ArgumentError, OSError, TypeError, ValueError, KeyError) as error:
        options = parser.get_defaults(skip_validation=True).keys(branches=False)
        raise (mistake_behind(error) or explain(error, options, ["retrieve", *words])) from error
    if not isinstance(data, ReportData):
        raise DataError("these are no studies with images and reports", where=type(data).__name__)
    return data
