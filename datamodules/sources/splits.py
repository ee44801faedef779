"""Which split a record is in: the dataset's own, or dealt by patient where it has none."""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import replace
from typing import Literal, get_args

from datamodules.records import SPLITS, AnyRecord, Problem
from datamodules.sources.cells import cell
from medvl.errors import ConfigError, nearest

SplitRule = Literal["auto", "column", "deal", "train", "val", "test"]
SPLIT_DEALT = "split-dealt"
_SPLIT_WORDS = {
    "train": "train", "training": "train",
    "val": "val", "valid": "val", "validation": "val", "validate": "val", "dev": "val",
    "test": "test", "testing": "test",
}  # fmt: skip


def split_word(word: object) -> str:
    """Return `train`, `val` or `test` for any of the words in use; another word comes back as it is."""
    text = cell(word)
    return _SPLIT_WORDS.get(text.lower(), text)


def split_rule(word: str) -> str:
    """Return `word` if it is a `SplitRule`.

    Raises:
        ConfigError: It is none; names the nearest.
    """
    if word not in get_args(SplitRule):
        raise ConfigError(f"unknown split {word!r}", hint=nearest(word, get_args(SplitRule)))
    return word


def hashed_splits(patients: Iterable[str], val: float = 0.1, test: float = 0.2) -> dict[str, str]:
    """Deal patients to splits by the order of their SHA-256, so that no state and no seed is needed.

    The order is cut at the fractions (70/10/20 by default); with three patients or more no split is empty.
    """
    order = _hashed(patients)
    count = len(order)
    tests = max(round(test * count), int(count > 1))
    vals = max(round(val * count), int(count > 2))
    return {name: "test" if i < tests else "val" if i < tests + vals else "train" for i, name in enumerate(order)}


def _hashed(patients: Iterable[str]) -> list[str]:
    return sorted(set(patients), key=lambda name: hashlib.sha256(name.encode()).hexdigest())


def settle_splits(items: Iterable[AnyRecord | Problem], rule: str, where: str) -> list[AnyRecord | Problem]:
    """Fill in the splits that a dataset leaves open.

    Patients are dealt, never images, and whether an image is readable changes nothing for the others.

    Args:
        items: Records with the splits that the dataset gives them, '' for none; problems pass through.
        rule: A split for all; `column` fills in nothing; otherwise, where no record has a split, patients are dealt
            70/10/20 (`auto` puts all in test when there is no box, and so nothing to train on), and where there is a
            train and no val, a tenth of the patients who are in train only becomes val. A given test stays as it is.
        where: The dataset's table, for the remark.

    Returns:
        The items, and one remark (`SPLIT_DEALT`) that tells the counts if patients were dealt.
    """
    settled: list[AnyRecord | Problem] = list(items)
    records = [item for item in settled if not isinstance(item, Problem)]
    dealt, remark = _dealt(records, rule)
    settled = [
        replace(item, split=dealt[item.patient_id])
        if not isinstance(item, Problem) and item.patient_id in dealt
        else item
        for item in settled
    ]
    if remark:
        settled.append(Problem(SPLIT_DEALT, where, remark, fatal=False))
    return settled


def _dealt(records: list[AnyRecord], rule: str) -> tuple[dict[str, str], str]:
    """Return the patients whose split is not the dataset's, each with that split, and the remark on it."""
    own: dict[str, set[str]] = defaultdict(set)
    for record in records:
        own[record.patient_id].add(record.split)
    given = set().union(*own.values())
    who = "images (no patient is named)" if all(r.anonymous for r in records) else "patients"
    if rule in SPLITS:
        return dict.fromkeys(own, rule), ""
    if given == {""} and rule == "auto" and not any(record.teaches for record in records):
        return dict.fromkeys(own, "test"), "no row has a split and none has a box: all are test, for predicting"
    if given == {""} and rule != "column":
        dealt = hashed_splits(own)
        counts = Counter(dealt.values())
        shares = ", ".join(f"{counts[split]} to {split}" for split in SPLITS)
        return dealt, f"{who} are dealt by a hash of their id: {shares}"
    if rule == "auto" and "train" in given and "val" not in given:
        order = _hashed(patient for patient, splits in own.items() if splits == {"train"})
        chosen = order[: max(round(0.1 * len(order)), int(len(order) > 1))]
        if chosen:
            remark = f"no row is in val: {len(chosen)} of {len(order)} {who} in train become val, by a hash of their id"
            return dict.fromkeys(chosen, "val"), remark
    return {}, ""
