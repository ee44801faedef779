"""What test and predict leave in the run folder: embeddings, and which studies lie nearest to each."""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import compress
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_info
from torch import Tensor

from datamodules.batches import StudyBatch
from datamodules.records import ReportRecord, VolumeRecord
from medvl.distributed import gather_objects, rank
from medvl.io.atomic import replacing, write_text
from medvl.metrics.retrieval import text_id
from medvl.outputs import make_room
from medvl.relevance import share_any
from medvl.summary import SUMMARY, tested, write_summary
from tasks.alignment.model import Embeddings
from tasks.alignment.studies import finding_names, findings
from tasks.alignment.summary import summarise

NEIGHBOURS = 10
CHUNK = 256  # queries at once: memory is O(studies * CHUNK)
_MODALITIES = ("image", "text")
_WAYS = {"i2t": ("image", "text"), "t2i": ("text", "image"), "i2i": ("image", "image"), "t2t": ("text", "text")}


@dataclass(frozen=True)
class StudyResult:
    """What the model made of one study.

    Attributes:
        record: The study.
        path: Its image or volume, relative to the source's root; '' where it has none.
        image: `(C,)` unit vector on the CPU, or None where it has no image.
        text: `(C,)`, or None where it has no text.
        findings: `(K,)` which findings are present.
        shows: The names of these.
        said: A hash of the text, the same for texts that differ in case and white space only; None without one.
    """

    record: ReportRecord | VolumeRecord
    path: str
    image: Tensor | None
    text: Tensor | None
    findings: Tensor
    shows: tuple[str, ...] = ()
    said: int | None = None


def results_of(embeddings: Embeddings, batch: StudyBatch) -> list[StudyResult]:
    """Return what is kept of the studies of a batch."""
    images = _where(embeddings.image, batch.has_image)
    texts = _where(embeddings.text, batch.has_text)
    found = findings(batch).cpu()
    names = finding_names(batch.label_names)
    shows = [tuple(compress(names, row)) for row in found.bool().tolist()]
    said = [text_id(text) if text else None for text in batch.texts]
    records: Sequence[ReportRecord | VolumeRecord] = batch.records
    return [StudyResult(*one) for one in zip(records, batch.paths, images, texts, found, shows, said, strict=True)]


class PredictionWriter(Callback):
    """Writes `predictions/` at the end of test and predict.

    - after both: `embeddings.parquet`, a row per study: `study_id, split, source, image, patient`, a hash of its
      `text`, the names of the `findings` that are present, and the unit vectors `image_embedding` and `text_embedding`,
      null where there is no image or no text;
    - after test: `neighbours.jsonl`, a line per study: for each direction the studies nearest to it (`studies`), their
      `cosines`, and which of them are `alike`, that is share a finding or have none both; and `summary.json`.

    What was there of other data goes to a folder of its own. Patients appear under an id salted anew each time.
    """

    def __init__(self) -> None:
        self.results: list[StudyResult] = []

    def on_test_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: StudyBatch,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Keep the results of a test batch."""
        self.results += outputs

    def on_predict_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: StudyBatch,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Keep the results of a predict batch."""
        self.results += outputs

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write embeddings, neighbours and what the report shows."""
        results = self._collect(trainer)
        if rank() == 0:
            path = _place(trainer, "neighbours.jsonl", "test")
            write_text(path, (json.dumps(line) + "\n" for line in neighbours(results)))
            write_embeddings(_place(trainer, "embeddings.parquet", "test"), results)
            write_summary(_place(trainer, SUMMARY, "test"), summarise(tested(trainer.callback_metrics)))

    def on_predict_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write embeddings."""
        results = self._collect(trainer)
        if rank() == 0:
            split = trainer.datamodule.predict_split  # type: ignore[attr-defined]
            write_embeddings(_place(trainer, "embeddings.parquet", split), results)

    def _collect(self, trainer: Trainer) -> list[StudyResult]:
        """Return the results of all ranks, in the order of the source."""
        records = trainer.datamodule.records("all")  # type: ignore[attr-defined]
        order = {record.study_id: place for place, record in enumerate(records)}
        found = gather_objects(self.results)
        self.results = []
        return sorted(found, key=lambda one: (order[one.record.study_id], one.path))


def write_embeddings(path: Path, results: Sequence[StudyResult]) -> None:
    """Write a row per study (or, where each of its images counts, per image) as Parquet."""
    salt = secrets.token_bytes(16)
    columns: dict[str, Any] = {
        "study_id": [one.record.study_id for one in results],
        "split": [one.record.split for one in results],
        "source": [one.record.source for one in results],
        "image": [one.path for one in results],
        "patient": [hashlib.sha256(salt + one.record.patient_id.encode()).hexdigest()[:16] for one in results],
        "text": pa.array([one.said for one in results], pa.int64()),
        "findings": pa.array([one.shows for one in results], pa.list_(pa.string())),
    }
    for name in _MODALITIES:
        rows: list[Tensor | None] = [getattr(one, name) for one in results]
        width = next((len(row) for row in rows if row is not None), 0)
        values = [None if row is None else row.numpy() for row in rows]
        columns[f"{name}_embedding"] = pa.array(values, pa.list_(pa.float32(), width))
    with replacing(path) as draft:
        pq.write_table(pa.table(columns), draft, compression="zstd")


def neighbours(results: Sequence[StudyResult], count: int = NEIGHBOURS) -> Iterator[dict[str, Any]]:
    """Yield for each study what lies nearest to it, in each direction for which it has what it takes.

    Within a modality a study is no neighbour of itself; across, its own partner is a candidate.
    """
    rows = {name: _stack([getattr(one, name) for one in results]) for name in _MODALITIES}
    ids = [one.record.study_id for one in results]
    number = {name: place for place, name in enumerate(ids)}
    study = torch.tensor([number[name] for name in ids], dtype=torch.long)
    labels = torch.stack([one.findings for one in results]) if results else torch.zeros(0, 0)
    for start in range(0, len(results), CHUNK):
        block = slice(start, start + CHUNK)
        lines: list[dict[str, Any]] = [{"study_id": one.record.study_id, "image": one.path} for one in results[block]]
        alike, own = share_any(labels[block], labels), study[block, None] == study[None]
        for way, (asked, answering) in _WAYS.items():
            if not (rows[asked].shape[1] and rows[answering].shape[1]):  # no study has an image, or none a text
                continue
            cosines = (rows[asked][block] @ rows[answering].T).nan_to_num(-torch.inf)  # NaN where either is missing
            top, places = cosines.masked_fill(own & (asked == answering), -torch.inf).topk(min(count, len(ids)), dim=1)
            for line, values, near, right in zip(lines, top, places, alike.gather(1, places), strict=True):
                found = values.isfinite()
                if found.any():
                    line[way] = {
                        "studies": [ids[place] for place in near[found].tolist()],
                        "cosines": [round(value, 5) for value in values[found].tolist()],
                        "alike": right[found].tolist(),
                    }
        yield from lines


def _stack(rows: Sequence[Tensor | None]) -> Tensor:
    """Return vectors `(n, C)`, NaN where there is none."""
    width = next((len(row) for row in rows if row is not None), 0)
    filled = [torch.full((width,), torch.nan) if row is None else row for row in rows]
    return torch.stack(filled) if filled else torch.zeros(0, width)


def _where(rows: Tensor, present: Tensor) -> list[Tensor | None]:
    kept = rows.detach().float().cpu()
    return [row.clone() if there else None for row, there in zip(kept, present.tolist(), strict=True)]


def _place(trainer: Trainer, name: str, split: str) -> Path:
    """Return where a file goes, with room made for it."""
    path = Path(trainer.default_root_dir) / "predictions" / name
    facts = {**trainer.datamodule.facts, "split": split}  # type: ignore[attr-defined]
    if aside := make_room(path, facts):
        rank_zero_info(f"{aside} holds {name} of other data now")
    return path
