"""Boxes of one sentence that another box of it makes redundant, or that its labels deny."""

from __future__ import annotations

from collections.abc import Sequence

from datamodules.records import Box

HELD = 0.7  # share of a smaller box that lies in a larger one, from which on the larger says nothing more
ALIKE = 0.6  # IoU from which on two boxes show the same place
_SIDES = ("left ", "right ")


def redundant(names: Sequence[str], boxes: Sequence[Box], sentence: str) -> set[int]:
    """Return which boxes of a sentence to leave out, so that the smallest that still tell its places stay.

    A box goes where a smaller one that stays lies in it (`HELD`). Of two that show the same place (`ALIKE`), `left X`
    and `X`, the sided one goes first where the sentence names no side.

    Args:
        names: Anatomy of each box.
        boxes: xyxy.
        sentence: What is said of them.
    """
    gone = set() if any(side.strip() in sentence.lower() for side in _SIDES) else _unsaid_sides(names, boxes)
    kept: list[int] = []
    for i in sorted(set(range(len(boxes))) - gone, key=lambda i: (area(boxes[i]), i)):
        if any(_shared(boxes[k], boxes[i]) >= HELD * area(boxes[k]) for k in kept):
            gone.add(i)
        else:
            kept.append(i)
    return gone


def _unsaid_sides(names: Sequence[str], boxes: Sequence[Box]) -> set[int]:
    whole = {name: i for i, name in enumerate(names)}
    found = set()
    for i, name in enumerate(names):
        other = whole.get(name.removeprefix("left ").removeprefix("right "), i)
        if other != i and _iou(boxes[i], boxes[other]) >= ALIKE:
            found.add(i)
    return found


def denied(context: Sequence[str]) -> set[int]:
    """Return which boxes to leave out because the labels deny there what they affirm at others.

    Args:
        context: For each box what the labels say there: `yes`, `no`, nothing, or several of these joined by ` + `.
    """
    said = [set(words.split(" + ")) for words in context]
    if not any("yes" in words for words in said):
        return set()
    return {i for i, words in enumerate(said) if "no" in words and "yes" not in words}


def area(box: Box) -> float:
    """Return the area of a box."""
    return (box[2] - box[0]) * (box[3] - box[1])


def _shared(a: Box, b: Box) -> float:
    width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    return max(width, 0.0) * max(height, 0.0)


def _iou(a: Box, b: Box) -> float:
    shared = _shared(a, b)
    return shared / (area(a) + area(b) - shared)
