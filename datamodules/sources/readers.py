"""Several readers of one image: their boxes as one target."""

from __future__ import annotations

from collections.abc import Sequence

from datamodules.records import Box


def fuse_readers(readers: Sequence[Sequence[Box]], iou: float = 0.1, agree: int = 1) -> tuple[Box, ...]:
    """Fuse the boxes that readers drew for one finding (weighted boxes fusion, arXiv 1910.13302, equal weights).

    Boxes that overlap a cluster's mean by more than `iou` join it, two of the same reader as well, and each cluster
    becomes its mean.

    Args:
        readers: The boxes of each reader, xyxy in [0, 1]; a reader without any counts too.
        iou: Overlap from which boxes are the same place.
        agree: How many readers must have a box that overlaps the fused one by more than `iou`.
    """
    from ensemble_boxes import weighted_boxes_fusion

    boxes = [[list(box) for box in reader] for reader in readers]
    ones, zeros = [[1.0] * len(reader) for reader in boxes], [[0] * len(reader) for reader in boxes]
    fused = weighted_boxes_fusion(boxes, ones, zeros, iou_thr=iou, skip_box_thr=0.0)[0].tolist()
    places: list[Box] = [(x1, y1, x2, y2) for x1, y1, x2, y2 in fused]
    if agree < 2:
        return tuple(places)
    return tuple(p for p in places if sum(any(_iou(p, box) > iou for box in reader) for reader in readers) >= agree)


def _iou(a: Box, b: Box) -> float:
    width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    shared = max(width, 0.0) * max(height, 0.0)
    return shared / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - shared)
