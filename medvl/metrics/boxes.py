"""Box arithmetic over many phrases at once, in float64 NumPy: padded arrays `(n, k, 4)`, xyxy, any unit.

Padding is a row of zeros: a box without area, whose IoU with anything is 0 and which adds nothing to a union.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
_CELLS = 4_000_000  # grid cells held at once by `union_iou`: about 100 MB


def pad(boxes: Array, counts: NDArray[np.int64]) -> tuple[Array, NDArray[np.bool_]]:
    """Lay `(sum(counts), 4)` boxes out as `(n, max(counts), 4)`, with the mask `(n, max(counts))` of real boxes."""
    mask = np.arange(counts.max(initial=0)) < counts[:, None]
    padded = np.zeros((*mask.shape, 4))
    padded[mask] = boxes
    return padded, mask


def pairwise_overlap(a: Array, b: Array) -> tuple[Array, Array]:
    """Return IoU and generalised IoU of every pair: `(n, k, 4)` and `(n, m, 4)` to two arrays `(n, k, m)`.

    A pair whose union has no area has IoU 0. GIoU: Rezatofighi et al., CVPR 2019, algorithm 1.
    """
    a, b = a[:, :, None], b[:, None]
    inner = np.minimum(a[..., 2:], b[..., 2:]) - np.maximum(a[..., :2], b[..., :2])
    outer = np.maximum(a[..., 2:], b[..., 2:]) - np.minimum(a[..., :2], b[..., :2])
    shared, hull = inner.clip(min=0).prod(-1), outer.prod(-1)
    union = (a[..., 2:] - a[..., :2]).prod(-1) + (b[..., 2:] - b[..., :2]).prod(-1) - shared
    iou = _ratio(shared, union)
    return iou, iou - _ratio(hull - union, hull)


def union_iou(a: Array, b: Array) -> Array:
    """Return, per phrase, the IoU of the area covered by boxes `a` with that covered by boxes `b`.

    Exact, by coordinate compression: the edges of all boxes cut the plane into cells that are wholly inside or
    outside each box, so no raster and no choice of resolution comes in.

    Args:
        a: `(n, k, 4)`.
        b: `(n, m, 4)`.

    Returns:
        `(n,)`; 0 where neither side covers anything.
    """
    total, edges = len(a), 2 * (a.shape[1] + b.shape[1])
    step = max(1, _CELLS // max(edges, 1) ** 2)
    parts = [_union_iou(a[i : i + step], b[i : i + step]) for i in range(0, total, step)]
    return np.concatenate(parts) if parts else np.zeros(0)


def _union_iou(a: Array, b: Array) -> Array:
    both = np.concatenate([a, b], axis=1)
    xs = np.sort(both[..., 0::2].reshape(len(both), -1))
    ys = np.sort(both[..., 1::2].reshape(len(both), -1))
    in_a, in_b = _covered(a, xs, ys), _covered(b, xs, ys)
    area = np.diff(ys)[:, :, None] * np.diff(xs)[:, None, :]
    return _ratio((area * (in_a & in_b)).sum((1, 2)), (area * (in_a | in_b)).sum((1, 2)))


def _covered(boxes: Array, xs: Array, ys: Array) -> NDArray[np.bool_]:
    """Tell for each cell of the grid `(n, len(ys) - 1, len(xs) - 1)` whether any box covers it."""
    spans = []
    for axis, edges in enumerate((xs, ys)):
        low, high = boxes[:, :, axis, None], boxes[:, :, axis + 2, None]
        spans.append(((low <= edges[:, None, :-1]) & (edges[:, None, 1:] <= high)).astype(np.float32))
    across, down = spans
    counts: NDArray[np.float32] = down.transpose(0, 2, 1) @ across
    return counts > 0


def _ratio(top: Array, bottom: Array) -> Array:
    return np.divide(top, bottom, out=np.zeros_like(top), where=bottom > 0)
