"""Collects what the model said during test and predict, and writes it into the run folder."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_info
from torch import Tensor

from datamodules.batches import GroundingBatch
from datamodules.records import Box, PhraseRecord
from medvl.distributed import gather_objects, rank
from medvl.outputs import (
    COCO_IMAGES,
    COCO_RESULTS,
    PhrasePrediction,
    PixelBox,
    make_room,
    write_coco,
    write_predictions,
)
from medvl.viz.overlay import draw_predictions
from tasks.grounding.postprocess import Detections, Postprocess

GROUPS = ("sex", "age", "view", "scanner")


def kind_of(record: PhraseRecord) -> str:
    """Return `boxed`; for a sentence without boxes `absent`, `negated` (or normal), or `zero` where it is not said."""
    if record.boxes:
        return "boxed"
    return {True: "absent", False: "negated", None: "zero"}[record.abnormal]


@dataclass(frozen=True)
class SentenceResult:
    """What the model said of one sentence.

    Attributes:
        record: The sentence, its image and its gold boxes.
        size: `(H, W)` of the original image.
        found: Every query, in original pixels.
        kept: The boxes shown, in original pixels.
    """

    record: PhraseRecord
    size: tuple[int, int]
    found: Detections
    kept: Detections

    def gold(self) -> Tensor:
        """Return the gold boxes `(m, 4)`, xyxy in original pixels."""
        return self.in_pixels(self.record.boxes)

    def in_pixels(self, boxes: Sequence[Box]) -> Tensor:
        """Return boxes of the record `(n, 4)`, xyxy in original pixels."""
        height, width = self.size
        unit = torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4)
        return unit * unit.new_tensor([width, height, width, height])


class PredictionWriter(Callback):
    """Writes `predictions/` at the end of test and predict.

    - after predict: `predictions.jsonl` (one line per sentence), `coco_results.json`, `coco_images.json`, `overlays/`;
    - after test: `test.jsonl`, which the report reads.

    Beside each lies what is known of its data, as `.data.json`; what was there of other data goes to a folder
    of its own.
    Patients appear under an id salted anew each time, so that it names nobody.
    """

    def __init__(self) -> None:
        self.results: list[SentenceResult] = []

    def on_test_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: GroundingBatch,
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
        batch: GroundingBatch,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Keep the results of a predict batch."""
        self.results += outputs

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write `test.jsonl`."""
        predictions = self._collect(trainer, pl_module)
        if rank() == 0:
            write_predictions(_place(trainer, "test.jsonl", "test"), predictions)

    def on_predict_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write `predictions.jsonl`, the COCO files and pictures of some."""
        predictions = self._collect(trainer, pl_module)
        if rank() == 0:
            split = trainer.datamodule.predict_split  # type: ignore[attr-defined]
            path = _place(trainer, "predictions.jsonl", split, COCO_RESULTS, COCO_IMAGES, "overlays")
            write_predictions(path, predictions, full=False)
            write_coco(path.parent, predictions)
            draw_predictions(path, path.parent / "overlays")

    def _collect(self, trainer: Trainer, pl_module: LightningModule) -> list[PhrasePrediction]:
        """Return the predictions of all ranks, in the order of the source."""
        data = trainer.datamodule  # type: ignore[attr-defined]
        order = {_key(record): place for place, record in enumerate(data.records("all"))}
        results = sorted(gather_objects(self.results), key=lambda result: order[_key(result.record)])
        self.results = []
        root, salt = str(Path(data.root).resolve()), secrets.token_bytes(16)
        annotated = any(record.boxes for record in data.records("all"))
        threshold = cast(Postprocess, pl_module.postprocess).least_score
        return [_prediction(result, root, salt, threshold, annotated) for result in results]


def _key(record: PhraseRecord) -> tuple[str, str, str]:
    return record.path, record.phrase, record.row


def _place(trainer: Trainer, name: str, split: str, *others: str) -> Path:
    """Return where a predictions file goes, with room made for it."""
    path = Path(trainer.default_root_dir) / "predictions" / name
    facts = {**trainer.datamodule.facts, "split": split}  # type: ignore[attr-defined]
    if aside := make_room(path, facts, others):
        rank_zero_info(f"{aside} holds {name} of other data now")
    return path


def _prediction(result: SentenceResult, root: str, salt: bytes, threshold: float, annotated: bool) -> PhrasePrediction:
    record, (height, width) = result.record, result.size
    return PhrasePrediction(
        image=record.image,
        phrase=record.phrase,
        boxes_xyxy_px=_boxes(result.kept.boxes),
        scores=tuple(result.kept.scores.tolist()),
        threshold=threshold,
        kind=kind_of(record) if annotated else "",
        patient=hashlib.sha256(salt + record.patient_id.encode()).hexdigest()[:16],
        image_path=record.path,
        root=root,
        width=width,
        height=height,
        gold_xyxy_px=_boxes(result.gold()) if annotated else None,
        all_boxes_xyxy_px=_boxes(result.found.boxes),
        all_scores=tuple(result.found.scores.tolist()),
        second_boxes_xyxy_px=None if record.extra_boxes is None else _boxes(result.in_pixels(record.extra_boxes)),
        groups=groups_of(record),
    )


def groups_of(record: PhraseRecord) -> dict[str, str]:
    """Return what may group an evaluation, where the record says it; of an age two decades, lest it names anybody."""
    known = {name: record.attributes.get(name, "") for name in GROUPS}
    return {name: value for name, value in (known | {"age": _decades(known["age"])}).items() if value}


def _decades(age: str) -> str:
    """Return `40-59` for `47` and for DICOM's `047Y`; nothing for what is no age in years."""
    years = age.strip().upper().removesuffix("Y").partition(".")[0]
    if not years.isdecimal():
        return ""
    low = int(years) // 20 * 20
    return f"{low}-{low + 19}" if low < 80 else "80+"


def _boxes(boxes: Tensor) -> tuple[PixelBox, ...]:
    return tuple((x0, y0, x1, y1) for x0, y0, x1, y1 in boxes.tolist())
