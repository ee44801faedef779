"""Small batches of each task whose parts are known beforehand, so that ranks may hold any of their items.

Item 8 counts for nothing: an image without boxes, a study without a text, a scan without report, snippet or label.
"""

from __future__ import annotations

import torch
from torch import Tensor

from datamodules.batches import GroundingBatch, ReportBatch, VolumeBatch
from datamodules.records import PhraseRecord, ReportRecord
from datamodules.volume_records import Interval, Snippet, VolumeRecord
from medvl.geometry import AxisTransform

IDLE = 8
SIDE = 32
BOXES = ((0.2, 0.1, 0.5, 0.3), (0.6, 0.2, 0.9, 0.45), (0.1, 0.05, 0.3, 0.4))  # above all padding
WORDS = ("bright spot", "dark spot")
TEXTS = (
    *("pulmonary edema", "a rib fracture", "clear lungs", "edema and a fracture", "left effusion"),
    *("the heart is enlarged", "clear lungs", "a fracture of two ribs on the right", ""),
)
LABELS = ((1, 0), (0, 1), (0, 0), (1, 1), (0, -1), (1, 0), (0, 0), (0, 1), (torch.nan, torch.nan))


def noise(item: int, *shape: int) -> Tensor:
    """Return the pixels of an item."""
    return torch.rand(*shape, generator=torch.Generator().manual_seed(item), dtype=torch.float64)


def grounding(items: list[int]) -> GroundingBatch:
    """Return images of one to three sentences, each with no to three boxes; padding differs."""
    boxes = {i: [BOXES[: 0 if i == IDLE else (i + k) % 4] for k in range(1 + i % 3)] for i in items}
    valid = torch.ones(len(items), SIDE, SIDE, dtype=torch.bool)
    for row, item in enumerate(items):
        valid[row, SIDE - 8 * (item % 3) :] = item % 3 == 0
    gold = [found for item in items for found in boxes[item]]
    said = [f"{TEXTS[item]}, sentence {k}" for item in items for k in range(len(boxes[item]))]
    counts = torch.tensor([len(boxes[item]) for item in items])
    return GroundingBatch(
        images=torch.stack([noise(item, 1, SIDE, SIDE) for item in items]),
        valid=valid,
        phrases=said,
        image_index=torch.arange(len(items)).repeat_interleave(counts),
        boxes=[_rows(found, 4) for found in gold],
        image_boxes=[_rows([box for found in boxes[item] for box in found], 4) for item in items],
        share=torch.tensor([1.0 if item % 2 else 0.5 for item in items], dtype=torch.float64),
        transforms=[AxisTransform.letterbox((SIDE, SIDE), (SIDE, SIDE))] * len(items),
        records=[
            PhraseRecord(f"{i}.png", f"{i}.png", TEXTS[i], found, f"p{i}", f"s{i}", "train", "test", abnormal=i % 2 > 0)
            for i in items
            for found in boxes[i]
        ],
    )


def reports(items: list[int], triplets: list[list[int]] | None = None) -> ReportBatch:
    """Return studies; two neighbours are of one patient, and the triplets are rows of this batch."""
    return ReportBatch(
        images=torch.stack([noise(item, 1, SIDE, SIDE) for item in items]),
        valid=torch.tensor([item != IDLE for item in items])[:, None, None].expand(-1, SIDE, SIDE).clone(),
        texts=[TEXTS[item] for item in items],
        labels=torch.tensor([LABELS[item] for item in items]),
        label_names=("Edema", "Fracture"),
        paths=[f"{item}.png" for item in items],
        records=[ReportRecord((f"{i}.png",), f"p{i // 2}", f"s{i}", "train", "test") for i in items],
        triplets=None if triplets is None else torch.tensor(triplets, dtype=torch.long).reshape(-1, 3),
    )


def halved(batch: ReportBatch, items: list[int]) -> ReportBatch:
    """Take the image of items 1 and 6, and the text of items 3 and 5."""
    batch.valid[[row for row, item in enumerate(items) if item in (1, 6)]] = False
    batch.texts = ["" if item in (3, 5) else text for item, text in zip(items, batch.texts, strict=True)]
    return batch


def volumes(items: list[int]) -> VolumeBatch:
    """Return scans of 8 to 16 slices with no to two snippets."""
    deep, step = 16, 3.0
    slices = torch.tensor([deep - 4 * (item % 3) for item in items])
    valid = (torch.arange(deep)[None] < slices[:, None])[:, :, None, None].expand(-1, -1, 16, 16)
    snippets = [_snippets(item, step) for item in items]
    said = [snippet for own in snippets for snippet in own]
    cubes = torch.stack([noise(item, 1, deep, 16, 16) for item in items])
    return VolumeBatch(
        volumes=cubes * valid[:, None],
        valid=valid,
        first_mm=torch.tensor([30.0 * item for item in items], dtype=torch.float64),
        step_mm=torch.full((len(items),), step, dtype=torch.float64),
        slices=slices,
        texts=[TEXTS[item] for item in items],
        labels=torch.tensor([LABELS[item] for item in items]),
        label_names=WORDS,
        snippets=[snippet.text for snippet in said],
        snippet_index=torch.arange(len(items)).repeat_interleave(torch.tensor([*map(len, snippets)])),
        intervals=[_rows(snippet.intervals, 3) for snippet in said],
        paths=[f"{item}.nii.gz" for item in items],
        records=[
            VolumeRecord((f"{i}.nii.gz",), f"p{i}", f"s{i}", "train", "test", labels={}, snippets=tuple(own))
            for i, own in zip(items, snippets, strict=True)
        ],
        targets=said,
    )


def _snippets(item: int, step: float) -> list[Snippet]:
    """Return those of an item: on item 4 none, on item 3 one, which its scan does not show."""
    if item in (IDLE, 4):
        return []
    low = 30.0 * item + step * (item % 3)
    shown = Snippet(f"there is a {WORDS[item % 2]}", (Interval(low, low + 4 * step),))
    return [Snippet("no stones", ())] if item == 3 else [shown, Snippet("stones", ())][: 1 + item % 2]


def _rows(values: object, width: int) -> Tensor:
    return torch.tensor(values, dtype=torch.float64).reshape(-1, width)
