from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from datamodules.records import PhraseRecord, Problem, leaks, sift_records

GOOD = PhraseRecord("a", "a.png", "A nodule.", ((0.1, 0.2, 0.3, 0.4),), "p1", "s1", "train", "toy", row="t.csv:2")


def record(**changes: Any) -> PhraseRecord:
    return replace(GOOD, **changes)


def check_records(records: Sequence[PhraseRecord]) -> list[Problem]:
    usable, problems = sift_records(records)
    return problems + leaks(usable)


def codes(*records: PhraseRecord) -> list[str]:
    return [problem.code for problem in check_records(records)]


@pytest.mark.parametrize(
    ("box", "code"),
    [
        ((0.1, 0.2, float("nan"), 0.4), "box-nan"),
        ((0.1, 0.2, float("inf"), 0.4), "box-nan"),
        ((0.3, 0.2, 0.1, 0.4), "box-inverted"),
        ((0.1, 0.4, 0.3, 0.2), "box-inverted"),
        ((0.1, 0.2, 0.1, 0.4), "box-empty"),
        ((0.1, 0.2, 0.3, 0.2), "box-empty"),
        ((1.0, 0.2, 1.0005, 0.4), "box-empty"),
        ((0.1, 0.2, 1.2, 0.4), "box-outside"),
        ((-0.1, 0.2, 0.3, 0.4), "box-outside"),
        ((20.0, 30.0, 50.0, 80.0), "box-outside"),
    ],
)
def test_unusable_box_refuses_the_whole_sentence(box: tuple[float, ...], code: str) -> None:
    records, problems = sift_records([record(boxes=(*GOOD.boxes, box))])
    assert records == []
    assert [(p.code, p.where, p.fatal) for p in problems] == [(code, "t.csv:2", True)]


def test_box_that_sticks_out_a_little_is_clipped_and_counted() -> None:
    records, problems = sift_records([record(boxes=((-0.0005, 0.0, 0.5, 1.0009),))])
    assert records[0].boxes == ((0.0, 0.0, 0.5, 1.0),)
    assert [(p.code, p.fatal) for p in problems] == [("box-clipped", False)]


def test_second_reader_with_a_bad_box_is_left_out() -> None:
    records, problems = sift_records([record(extra_boxes=(GOOD.boxes[0], (0.5, 0.5, 0.5, 0.6)))])
    assert (records[0].boxes, records[0].extra_boxes) == (GOOD.boxes, None)
    assert [(p.code, p.fatal) for p in problems] == [("extra-box", False)]
    records, problems = sift_records([record(extra_boxes=())])
    assert (records[0].extra_boxes, problems) == ((), [])


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"phrase": " \n"}, "phrase-empty"),
        ({"split": "validatoin"}, "split-unknown"),
        ({"split": ""}, "split-missing"),
        ({"image": "", "path": ""}, "image-unnamed"),
    ],
)
def test_bad_rows(changes: dict[str, str], code: str) -> None:
    assert codes(record(**changes)) == [code]


def test_no_message_holds_a_phrase_or_a_patient() -> None:
    rows = [GOOD, record(patient_id="p1", split="test", image="b"), record(row="t.csv:3", boxes=())]
    problems = check_records(rows)
    assert {p.code for p in problems} == {"patient-leak", "duplicate"}
    assert not any("nodule" in p.message or "p1" in p.message for p in problems)


def test_duplicates_are_fatal_only_when_their_boxes_differ() -> None:
    assert [p.fatal for p in check_records([GOOD, record(row="t.csv:3")])] == [False]
    assert [p.fatal for p in check_records([GOOD, record(row="t.csv:3", boxes=())])] == [True]
    assert codes(GOOD, record(row="t.csv:3", labels=("mass",))) == []


def test_leak_names_the_rows_outside_the_patients_last_split() -> None:
    rows = [record(image=f"{i}", split=split, row=f"r{i}") for i, split in enumerate(["train", "val", "test", "train"])]
    assert [p.where for p in check_records(rows)] == ["r0", "r3", "r1"]
