"""What test keeps of each volume: its embeddings, labels and scores, for protocols and for `volumes.parquet`."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from datamodules.batches import VolumeBatch
from medvl.distributed import gather_objects, rank
from medvl.io.atomic import replacing
from medvl.metrics.retrieval import text_id
from medvl.outputs import make_room
from tasks.volume.predictions import SnippetResult

FILE = "volumes.parquet"


@dataclass(frozen=True)
class ScanResult:
    """What the model made of one volume. Tensors are on the CPU.

    Attributes:
        volume: The volume, relative to its source's root.
        study: The study.
        patient: The patient; an id salted anew each time in what is written.
        first: Whether it is the first of its study's volumes.
        text: A hash of the report, the same for reports that differ in case and white space only; None without one.
        vector: Unit vector `(C,)`.
        report: Unit vector of the report `(C,)`, or None without one.
        labels: By class: 1 present, 0 absent, -1 uncertain, NaN not said.
        scores: Margins of the prompts by class; none where the task has no disease loss.
    """

    volume: str
    study: str
    patient: str
    first: bool
    text: int | None
    vector: Tensor
    report: Tensor | None
    labels: dict[str, float]
    scores: dict[str, float]

    @classmethod
    def of(cls, batch: VolumeBatch, volumes: Tensor, reports: Tensor, diseases: Tensor | None) -> list[ScanResult]:
        """Put what was embedded beside what is known of it."""
        scores = [[]] * len(batch) if diseases is None else diseases.tolist()
        told, vectors, texts = batch.has_text.tolist(), volumes.float().cpu(), reports.float().cpu()
        return [
            cls(
                volume=batch.paths[i],
                study=record.study_id,
                patient=record.patient_id,
                first=batch.paths[i] == record.volumes[0],
                text=text_id(batch.texts[i]) if told[i] else None,
                vector=vectors[i],
                report=texts[i] if told[i] else None,
                labels=dict(zip(batch.label_names, batch.labels[i].tolist(), strict=True)),
                scores=dict(zip(batch.label_names, scores[i], strict=False)),
            )
            for i, record in enumerate(batch.records)
        ]


class StepResults(NamedTuple):
    """What a step of test or validation found, for callbacks and protocols."""

    snippets: list[SnippetResult]
    scans: list[ScanResult]


class ScanWriter(Callback):
    """Writes `predictions/volumes.parquet` after test: a row per volume, with embeddings, labels and scores."""

    def __init__(self) -> None:
        self.results: list[ScanResult] = []

    def on_test_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Keep the volumes of a batch."""
        self.results += outputs.scans

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the file."""
        data = trainer.datamodule  # type: ignore[attr-defined]
        results = sorted(gather_objects(self.results), key=lambda one: one.volume)
        self.results = []
        if rank() == 0:
            path = Path(trainer.default_root_dir) / "predictions" / FILE
            make_room(path, {**data.facts, "split": "test"})
            write_scans(path, results)


def write_scans(path: Path, results: Sequence[ScanResult]) -> None:
    """Write a row per volume: `volume, study, patient, first, text, vector, report, labels, scores`."""
    salt = secrets.token_bytes(16)
    columns = {
        name: [getattr(one, name) for one in results]
        for name in ("volume", "study", "first", "text", "labels", "scores")
    }
    columns["patient"] = [hashlib.sha256(salt + one.patient.encode()).hexdigest()[:16] for one in results]
    columns |= {
        name: [None if (row := getattr(one, name)) is None else row.tolist() for one in results]
        for name in ("vector", "report")
    }
    columns |= {name: [list(row.items()) for row in columns[name]] for name in ("labels", "scores")}
    by_class, unit = pa.map_(pa.string(), pa.float32()), pa.list_(pa.float32())
    kinds = {"labels": by_class, "scores": by_class, "vector": unit, "report": unit, "text": pa.int64()}
    table = pa.table({name: pa.array(values, kinds.get(name)) for name, values in columns.items()})
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as draft:
        pq.write_table(table, draft)


def read_scans(path: Path) -> list[ScanResult]:
    """Read what `ScanWriter` wrote."""
    found = []
    for row in pq.read_table(path).to_pylist():
        tensors = {
            name: None if row[name] is None else torch.tensor(row[name], dtype=torch.float32)
            for name in ("vector", "report")
        }
        found.append(ScanResult(**row | tensors | {name: dict(row[name]) for name in ("labels", "scores")}))
    return found
