"""Our matcher beside the Hungarian matcher of DETR in transformers, on the same predictions and boxes, on the CPU.

32 phrases with 100 queries each, and the six decoder layers of DETR (arXiv 2005.12872), each of which is matched: its
loss calls the matcher once a layer, ours takes all at once. Rows: boxes per phrase as drawn for sentences of a report,
and as many as COCO has per image (7.3); one layer in place of six. That both find assignments of the same cost, to
1e-4, is asserted on every set of predictions that is timed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers.loss.loss_for_object_detection import HungarianMatcher as DetrMatcher

from benchmarks.harness import interleaved, write_result
from tasks.grounding.boxes import to_cxcywh
from tasks.grounding.matcher import HungarianMatcher, Matches, Targets

PHRASES, QUERIES, LAYERS, ROUNDS = 32, 100, 6, 25
SENTENCES = {0: 0.35, 1: 0.4, 2: 0.15, 3: 0.06, 5: 0.04}  # boxes of a sentence, about as PadChest-GR has them
COCO_MEAN = 7.3


def run(seed: int = 0) -> dict[str, Any]:
    """Measure, write `matcher.json` and return it."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # both are a string of small operations
    try:
        return _measure(np.random.default_rng(seed), seed)
    finally:
        torch.set_num_threads(threads)


def _measure(rng: np.random.Generator, seed: int) -> dict[str, Any]:
    sentences = rng.choice(list(SENTENCES), PHRASES, p=list(SENTENCES.values())).tolist()
    coco = rng.geometric(1 / COCO_MEAN, PHRASES).clip(max=QUERIES).tolist()
    cases = {"sentences": (sentences, LAYERS), "sentences, 1 layer": (sentences, 1)}
    cases |= {"coco": (coco, LAYERS), "coco, 1 layer": (coco, 1)}
    rows = {name: _row(counts, layers, rng) for name, (counts, layers) in cases.items()}
    first = rows["sentences"]
    return write_result(
        "matcher",
        f"ms per batch, {PHRASES} phrases x {QUERIES} queries, {LAYERS} layers, CPU",
        first["ours"],
        {"transformers-detr": first["transformers-detr"]},
        n=ROUNDS,
        seed=seed,
        higher_is_better=False,
        rows=rows,
    )


def _row(counts: list[int], layers: int, rng: np.random.Generator) -> dict[str, Any]:
    gold = [torch.from_numpy(_boxes(rng, n)) for n in counts]
    boxes = to_cxcywh(torch.from_numpy(_boxes(rng, layers, PHRASES, QUERIES)))
    for phrase, own in enumerate(gold):  # as of a trained model: every tenth query lies about a gold box
        if len(own):
            near = to_cxcywh(own)[rng.integers(len(own), size=QUERIES // 10)]
            noise = rng.normal(0, 0.02, (layers, QUERIES // 10, 4)).astype(np.float32)
            boxes[:, phrase, ::10] = (near + torch.from_numpy(noise)).clamp(min=0.01)  # DETR's takes no inverted boxes
    logits = torch.from_numpy(rng.standard_normal((layers, PHRASES, QUERIES), dtype=np.float32))
    ours, theirs = _ours(logits, boxes, gold), _theirs(logits, boxes, gold)
    _assert_equal(ours(), theirs(), logits, boxes, gold)
    times = interleaved({"ours": ours, "transformers-detr": theirs}, ROUNDS)
    row: dict[str, Any] = {name: 1000 * seconds for name, seconds in times.items()}
    return row | {"ratio": times["transformers-detr"] / times["ours"], "gold_boxes": sum(counts), "layers": layers}


def _ours(logits: Tensor, boxes: Tensor, gold: list[Tensor]) -> Callable[[], Matches]:
    matcher = HungarianMatcher(score=1, l1=5, giou=2)
    return lambda: matcher(logits, boxes, Targets.pack(gold, like=boxes))


def _theirs(logits: Tensor, boxes: Tensor, gold: list[Tensor]) -> Callable[[], list[list[tuple[Tensor, Tensor]]]]:
    """Return DETR's matcher in a loop over layers; with a second class of logit 0 its softmax is our sigmoid."""
    matcher = DetrMatcher(class_cost=1, bbox_cost=5, giou_cost=2)
    classes = torch.stack([logits, torch.zeros_like(logits)], dim=-1)
    outputs = [{"logits": classes[layer], "pred_boxes": boxes[layer]} for layer in range(len(logits))]
    targets = [{"class_labels": torch.zeros(len(own), dtype=torch.long), "boxes": to_cxcywh(own)} for own in gold]
    return lambda: [matcher(output, targets) for output in outputs]


def _assert_equal(
    found: Matches, theirs: list[list[tuple[Tensor, Tensor]]], logits: Tensor, boxes: Tensor, gold: list[Tensor]
) -> None:
    """Compare the summed cost of every phrase in every layer; of assignments that cost the same either is right."""
    targets = Targets.pack(gold, like=boxes)
    cost = torch.from_numpy(HungarianMatcher().cost(logits, boxes, targets))
    starts = np.cumsum([0, *targets.counts])
    first, second = torch.zeros(logits.shape[:2]), torch.zeros(logits.shape[:2])
    first.index_put_((found.layer, found.phrase), cost[found.layer, found.gold, found.query], accumulate=True)
    for layer, phrases in enumerate(theirs):
        for phrase, (queries, rows) in enumerate(phrases):
            second[layer, phrase] = cost[layer, rows + int(starts[phrase]), queries].sum()
    torch.testing.assert_close(first, second, rtol=0, atol=1e-4)
    if len(found.gold) != sum(len(rows) for phrases in theirs for _, rows in phrases):
        raise AssertionError("the matchers match different numbers of boxes")


def _boxes(rng: np.random.Generator, *shape: int) -> np.ndarray:
    corner = rng.uniform(0, 0.6, (*shape, 2))
    return np.concatenate([corner, corner + rng.uniform(0.05, 0.4, (*shape, 2))], axis=-1).astype(np.float32)
