from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest

from datamodules.records import PhraseRecord, Problem
from datamodules.sources.splits import SPLIT_DEALT, hashed_splits, settle_splits
from medvl.errors import ConfigError

BOX = (0.1, 0.1, 0.5, 0.5)


def rows(splits: dict[str, str], boxed: bool = True, images: int = 2) -> list[PhraseRecord | Problem]:
    """Return `images` images of each patient, in the split given by patient, and a row that is none."""
    records = [
        PhraseRecord(f"{name}-{i}", f"{name}-{i}.png", "x", (BOX,) if boxed else (), name, "s", split, "toy")
        for i in range(images)
        for name, split in splits.items()
    ]
    return [Problem("row-unreadable", "t.csv:1", "x"), *records]


def settle(items: list[PhraseRecord | Problem], rule: str = "auto") -> tuple[dict[str, set[str]], list[str]]:
    """Return the splits of each patient, and the remarks."""
    own: dict[str, set[str]] = defaultdict(set)
    settled = settle_splits(items, rule, "t.csv")
    for item in settled:
        if isinstance(item, PhraseRecord):
            own[item.patient_id].add(item.split)
    remarks = [p.message for p in settled if isinstance(p, Problem) and (p.code, p.fatal) == (SPLIT_DEALT, False)]
    assert len(settled) == len(items) + len(remarks)
    return own, remarks


def patients(count: int, split: str, prefix: str = "p") -> dict[str, str]:
    return dict.fromkeys((f"{prefix}{i}" for i in range(count)), split)


@pytest.mark.parametrize("rule", ["auto", "deal"])
def test_without_any_split_patients_are_dealt_whole(rule: str) -> None:
    own, remarks = settle(rows(patients(100, "")), rule)
    assert own == {name: {split} for name, split in hashed_splits(own).items()}
    assert remarks == ["patients are dealt by a hash of their id: 70 to train, 10 to val, 20 to test"]


def test_without_val_a_tenth_of_the_train_patients_becomes_it() -> None:
    given = patients(40, "train") | patients(9, "test", "q")
    own, remarks = settle(rows(given))
    assert sum(splits == {"val"} for splits in own.values()) == 4
    assert {name for name, splits in own.items() if splits == {"test"}} == set(patients(9, "", "q"))
    assert remarks == ["no row is in val: 4 of 40 patients in train become val, by a hash of their id"]
    again, _ = settle(rows(dict(reversed(given.items()))))
    assert again == own


@pytest.mark.parametrize("given", [{"a": "train", "b": "val"}, {"a": "test"}, {"a": "val"}, {"a": "train", "b": ""}])
def test_what_the_dataset_says_stands(given: dict[str, str]) -> None:
    items = rows(given)
    assert settle_splits(items, "auto", "t.csv") == items


@pytest.mark.parametrize("given", [patients(20, ""), patients(20, "train")])
def test_column_fills_in_nothing(given: dict[str, str]) -> None:
    items = rows(given)
    assert settle_splits(items, "column", "t.csv") == items


def test_a_patient_in_two_splits_is_not_hidden_by_the_deal() -> None:
    own, _ = settle([*rows(patients(6, "train")), *rows(patients(5, "test"))])
    assert sum(splits == {"train", "test"} for splits in own.values()) == 5
    assert own["p5"] == {"train"}  # the only one who could go to val, and somebody must be left to train on


def test_without_boxes_there_is_nothing_to_train_on() -> None:
    own, remarks = settle(rows(patients(10, ""), boxed=False))
    assert set.union(*own.values()) == {"test"}
    assert "none has a box" in remarks[0]
    own, _ = settle(rows(patients(10, ""), boxed=False), "deal")
    assert set.union(*own.values()) == {"train", "val", "test"}


def test_one_split_for_all_needs_no_remark() -> None:
    assert settle(rows({"a": "", "b": ""}), "val") == ({"a": {"val"}, "b": {"val"}}, [])


def test_images_without_patients_are_called_so() -> None:
    items: list[Any] = [PhraseRecord(f"{i}", f"{i}.png", "x", (BOX,), f"{i}", f"{i}", "", "toy") for i in range(10)]
    assert settle(items)[1] == [
        "images (no patient is named) are dealt by a hash of their id: 7 to train, 1 to val, 2 to test"
    ]


def test_hashed_splits_need_no_seed_and_keep_their_shares() -> None:
    names = [f"p{i}" for i in range(1000)]
    dealt = hashed_splits(names)
    assert dealt == hashed_splits(reversed(names))
    assert [list(dealt.values()).count(split) for split in ("train", "val", "test")] == [700, 100, 200]
    assert sorted(hashed_splits("abc").values()) == ["test", "train", "val"]
    assert sorted(hashed_splits("ab").values()) == ["test", "train"]
    assert hashed_splits("a") == {"a": "train"}
    assert hashed_splits([]) == {}


def test_unknown_rule_is_named(tmp_path: Path) -> None:
    from datamodules.sources import MSCXR, PadChestGR, PhraseTable

    for source in (MSCXR, PadChestGR, PhraseTable):
        with pytest.raises(ConfigError, match=r"(?s)unknown split 'columns'.*did you mean 'column'"):
            source(tmp_path, split="columns")  # type: ignore[arg-type]
