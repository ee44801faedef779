"""The calibration of a run as a chart: what silence costs in boxes found."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from medvl.viz.chart import Line, line_chart

_SPLIT = 0.5  # the sweep that the literature shows begins here


def calibration_chart(path: Path) -> str:
    """Draw N-acc against P@(F1=1) of the validation data over all score thresholds, at the fusion IoU chosen.

    Args:
        path: `calibration.json` of a run; it may be missing.

    Returns:
        A `<figure>`; empty without a file, or where no sentence lacks a box, so that there is nothing to trade.
    """
    if not path.is_file():
        return ""
    found = json.loads(path.read_text(encoding="utf-8"))
    points = [point for point in found["points"] if point["fusion_iou"] == found["fusion_iou"]]
    points = [point for point in points if point["n_acc"] is not None]
    if not points:
        return ""
    chosen = next(point for point in points if point["threshold"] == found["threshold"])
    high = [point for point in points if point["threshold"] >= _SPLIT]
    low = [point for point in points if point["threshold"] <= min((p["threshold"] for p in high), default=1.0)]
    fused = "not fused" if found["fusion_iou"] is None else f"fused at IoU {found['fusion_iou']:g}"
    return line_chart(
        f"Validation set: boxes found against silence kept, {fused}",
        [_line("P@(F1=1), with boxes; thresholds 0.50 to 0.95", high), _line("thresholds below", low)],
        "N-acc, sentences without boxes",
        None,
        (chosen["n_acc"], f"chosen: {found['threshold']:.2f} (floor {found['n_acc_floor']:g})"),
    )


def _line(name: str, points: list[dict[str, Any]]) -> Line:
    pairs = sorted((point["n_acc"], point["p_at_f1"]) for point in points)
    return Line(name, [x for x, _ in pairs], [y for _, y in pairs])
