"""Collects what the model said of snippets during test and predict, and writes it into the run folder."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_info

from datamodules.batches import VolumeBatch
from medvl.distributed import gather_objects, rank
from medvl.io.atomic import write_text
from medvl.outputs import make_room
from tasks.volume.localisation import Answer

Span = tuple[float, float]


@dataclass(frozen=True)
class SnippetResult:
    """What the model said of one snippet. Depths are in mm along the patient, towards the head.

    Attributes:
        volume: The volume, relative to its source's root.
        snippet: The words.
        mm: The depth answered.
        low: Lower end of the interval around it.
        high: Upper end of it.
        present: Probability that the scan shows it.
        extents: Stretches that are about as likely as the best position, best first.
        gold: Where it is, each with a weight; empty where the scan does not show it.
        scan: Lower and upper end of the scan.
        organ: The organ that it speaks of, where the source says it.
        finding: Its kind, likewise.
        patient: The patient; an id salted anew each time in what is written.
    """

    volume: str
    snippet: str
    mm: float
    low: float
    high: float
    present: float
    extents: tuple[Span, ...]
    gold: tuple[tuple[float, float, float], ...]
    scan: Span
    organ: str
    finding: str
    patient: str

    @classmethod
    def of(cls, batch: VolumeBatch, answers: Sequence[Answer]) -> list[SnippetResult]:
        """Put answers beside what was asked."""
        extents = [(low, high) for low, high in batch.extent_mm.tolist()]
        rows = zip(batch.snippet_index.tolist(), batch.snippets, batch.targets, answers, strict=True)
        return [
            cls(
                volume=batch.paths[i],
                snippet=text,
                mm=answer.mm,
                low=answer.low,
                high=answer.high,
                present=answer.present,
                extents=answer.extents,
                gold=tuple((one.low, one.high, one.weight) for one in target.intervals),
                scan=extents[i],
                organ=target.organ,
                finding=target.finding,
                patient=batch.records[i].patient_id,
            )
            for i, text, target, answer in rows
        ]


def read_results(path: Path) -> list[SnippetResult]:
    """Read what `DepthWriter` wrote."""
    with path.open(encoding="utf-8") as file:
        lines = [json.loads(line) for line in file]
    spans = {name: [tuple(map(tuple, line[name])) for line in lines] for name in ("extents", "gold")}
    return [
        SnippetResult(**line | {"extents": extents, "gold": gold, "scan": tuple(line["scan"])})
        for line, extents, gold in zip(lines, spans["extents"], spans["gold"], strict=True)
    ]


class DepthWriter(Callback):
    """Writes a line per snippet: `predictions/test.jsonl` after test, `predictions/predictions.jsonl` after predict."""

    def __init__(self) -> None:
        self.results: list[SnippetResult] = []

    def on_test_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Keep the results of a test batch."""
        self.results += outputs.snippets

    def on_predict_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Keep the results of a predict batch."""
        self.results += outputs

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write `test.jsonl`."""
        self._write(trainer, "test.jsonl", "test")

    def on_predict_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write `predictions.jsonl`."""
        self._write(trainer, "predictions.jsonl", trainer.datamodule.predict_split)  # type: ignore[attr-defined]

    def _write(self, trainer: Trainer, name: str, split: str) -> None:
        data = trainer.datamodule  # type: ignore[attr-defined]
        order = {path: place for place, path in enumerate(p for r in data.records("all") for p in r.paths)}
        results = sorted(gather_objects(self.results), key=lambda one: order[one.volume])
        self.results = []
        if rank() != 0:
            return
        path, salt = Path(trainer.default_root_dir) / "predictions" / name, secrets.token_bytes(16)
        if aside := make_room(path, {**data.facts, "split": split}):
            rank_zero_info(f"{aside} holds {name} of other data now")
        write_text(path, (_line(one, salt) for one in results))


def _line(result: SnippetResult, salt: bytes) -> str:
    patient = hashlib.sha256(salt + result.patient.encode()).hexdigest()[:16]
    return json.dumps(dataclasses.asdict(result) | {"patient": patient}, ensure_ascii=False) + "\n"
