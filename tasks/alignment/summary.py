"""What the report shows of a test of alignment: retrieval beside chance, and findings by prompts."""

from __future__ import annotations

import math
from collections.abc import Mapping

from medvl.summary import Row, Summary, Table, alone

_WAYS = {"i2t": "image to text", "t2i": "text to image", "i2i": "image to image", "t2t": "text to text"}
_TILES = {
    "Own report of an image, R@5": "i2t/r@5",
    "Own image of a report, R@5": "t2i/r@5",
    "Reports alike, P@10": "i2t/p@10",
    "Zero-shot AUC": "zero_shot/auc",
}
_TERMS = {
    "R@K": "share of studies whose own partner is among the K nearest; equal texts are one",
    "P@10": "share of the ten nearest studies that share a finding with the one that asks",
    "Chance": "what a random order reaches",
}


def summarise(metrics: Mapping[str, float]) -> Summary:
    """Return what the report shows of the metrics of a test, which come without `test/`."""
    tiles = {name: alone(metrics[key]) for name, key in _TILES.items() if key in metrics}
    return Summary(tiles, [_own(metrics), _alike(metrics), _prompts(metrics)], terms=_TERMS)


def _own(metrics: Mapping[str, float]) -> Table:
    ways, kinds = ("i2t", "t2i"), ("r", "chance")
    rows = [
        Row(f"R@{k}", tuple(alone(metrics.get(f"{way}/{kind}@{k}", math.nan)) for way in ways for kind in kinds))
        for k in (1, 5, 10)
    ]
    columns = tuple(name for way in ways for name in (_WAYS[way], "chance"))
    return Table("One's own partner", "Among all studies of the test.", columns, tuple(rows))


def _alike(metrics: Mapping[str, float]) -> Table:
    names = [key.removeprefix("i2t/p@10/") for key in metrics if key.startswith("i2t/p@10/")]
    rows = [
        Row(name.replace("_", " "), tuple(_pair(metrics, way, suffix) for way in _WAYS), bool(suffix))
        for name, suffix in (("All findings", ""), *((name, f"/{name}") for name in sorted(names)))
        if f"i2t/p@10{suffix}" in metrics
    ]
    return Table("Studies alike, P@10", "In brackets what a random order reaches.", tuple(_WAYS.values()), tuple(rows))


def _pair(metrics: Mapping[str, float], way: str, suffix: str) -> str:
    found, chance = (metrics.get(f"{way}/{kind}{suffix}", math.nan) for kind in ("p@10", "chance"))
    return "–" if math.isnan(found) else f"{found:.3f} ({chance:.3f})"


def _prompts(metrics: Mapping[str, float]) -> Table:
    stem = "zero_shot/auc"
    names = [
        key.removeprefix(f"{stem}/") for key in metrics if key.startswith(f"{stem}/") and key != f"{stem}/minority"
    ]
    rows = [
        Row(
            name,
            tuple(alone(metrics.get(f"zero_shot/{kind}{suffix}", math.nan)) for kind in ("auc", "f1")),
            bool(suffix),
        )
        for name, suffix in (("Mean over findings", ""), *((name, f"/{name}") for name in sorted(names)))
    ]
    return Table("Findings by prompts", "Zero-shot.", ("AUC", "F1"), tuple(rows if names else ()))
