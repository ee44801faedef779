"""Two prediction files side by side: the same sentences, the same gold boxes, the same patients."""

from __future__ import annotations

import dataclasses
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medvl.errors import DataError
from medvl.outputs import PhrasePrediction, PixelBox

Key = tuple[str, str, int]
_SAME_PX = 0.5  # gold boxes this close are the same: files are rounded


@dataclass(frozen=True)
class Pairs:
    """What two models said of the same sentences.

    Attributes:
        first: One line per sentence, with gold boxes.
        second: The lines of the same sentences, with the same gold boxes.
        patients: `(sentences,)`, whom to resample together.
        by_image: How many sentences name no patient and are resampled by image.
    """

    first: list[PhrasePrediction]
    second: list[PhrasePrediction]
    patients: NDArray[np.str_]
    by_image: int


def pair(
    first: Sequence[PhrasePrediction], second: Sequence[PhrasePrediction], where: str = "", shared: bool = False
) -> Pairs:
    """Pair the lines of two files by image and phrase.

    Patients are salted anew in each file, so their ids cannot be compared; but each file's ids part the lines in the
    same way, which is all that resampling needs. That they do is checked.

    Args:
        first: Lines of one file.
        second: Lines of the other; gold boxes may be missing in one of the two.
        where: Both files, for errors.
        shared: Compare on the sentences that are in both, where not all are.

    Raises:
        DataError: The files cover other sentences, hold other gold boxes or none, or part patients differently.
    """
    left, right = _by_key(first), _by_key(second)
    keys = [key for key in left if key in right]
    only = len(left) - len(keys), len(right) - len(keys)
    if not keys or (any(only) and not shared):
        raise DataError(
            "the files do not cover the same sentences",
            where=where,
            hint=f"{len(keys)} in both, {only[0]} only in the first, {only[1]} only in the second"
            + ("; --shared compares those in both" if keys else " (image names and phrases must agree)"),
        )
    one, two = [left[key] for key in keys], [right[key] for key in keys]
    _check_gold(one, two, where)
    _check_patients(one, two, where)
    known = [_known(a, b) for a, b in zip(one, two, strict=True)]
    return Pairs(
        [dataclasses.replace(line, **facts) for line, facts in zip(one, known, strict=True)],
        [dataclasses.replace(line, **facts) for line, facts in zip(two, known, strict=True)],
        np.array([facts["patient"] or f"image {a.image}" for facts, a in zip(known, one, strict=True)], dtype=np.str_),
        sum(not facts["patient"] for facts in known),
    )


def _known(a: PhrasePrediction, b: PhrasePrediction) -> dict[str, Any]:
    """Return what either file says of the sentence itself, the first before the second."""
    gold = b.gold_xyxy_px if a.gold_xyxy_px is None else a.gold_xyxy_px
    return {
        "gold_xyxy_px": gold,
        "patient": a.patient or b.patient,
        "kind": a.kind or b.kind,
        "groups": a.groups or b.groups,
    }


def _by_key(lines: Sequence[PhrasePrediction]) -> dict[Key, PhrasePrediction]:
    """Index lines by image and phrase; the n-th time that both agree is the n-th in the other file."""
    seen: Counter[tuple[str, str]] = Counter()
    found: dict[Key, PhrasePrediction] = {}
    for line in lines:
        key = line.image, line.phrase
        found[*key, seen[key]] = line
        seen[key] += 1
    return found


def _check_gold(first: list[PhrasePrediction], second: list[PhrasePrediction], where: str) -> None:
    golds = [(a.gold_xyxy_px, b.gold_xyxy_px) for a, b in zip(first, second, strict=True)]
    if unknown := sum(a is None and b is None for a, b in golds):
        raise DataError(
            f"{unknown} of {len(golds)} sentences have no gold boxes in either file",
            where=where,
            hint="`medvl test` writes them (predictions/test.jsonl); [] says that a sentence has no box",
        )
    if other := sum(a is not None and b is not None and not _same(a, b) for a, b in golds):
        raise DataError(
            f"{other} of {len(golds)} sentences have other gold boxes in the second file than in the first",
            where=where,
            hint="both must be of the same version of the data, in pixels of the original image",
        )


def _same(a: Sequence[PixelBox], b: Sequence[PixelBox]) -> bool:
    return len(a) == len(b) and bool(np.allclose(sorted(a), sorted(b), rtol=0, atol=_SAME_PX))


def _check_patients(first: list[PhrasePrediction], second: list[PhrasePrediction], where: str) -> None:
    for one, two in ((first, second), (second, first)):
        others: dict[str, set[str]] = defaultdict(set)
        for a, b in zip(one, two, strict=True):
            if a.patient and b.patient:
                others[a.patient].add(b.patient)
        if mixed := sum(len(names) > 1 for names in others.values()):
            raise DataError(
                f"the files part the sentences into patients differently: {mixed} patients of one are several in the "
                "other",
                where=where,
                hint="both must be of the same data set",
            )
