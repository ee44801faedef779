from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from datamodules.records import PhraseRecord, check_records, sift_records
from datamodules.tables import SCHEMA, read_fingerprint, read_records, write_records
from medvl.errors import DataError

GOOD = PhraseRecord("a", "a.png", "A nodule.", ((0.1, 0.2, 0.3, 0.4),), "p1", "s1", "train", "toy", row="t.csv:2")


def record(**changes: Any) -> PhraseRecord:
    return replace(GOOD, **changes)


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


def test_round_trip(tmp_path: Path) -> None:
    rows = [
        record(abnormal=True, labels=("nodule",), extra_boxes=GOOD.boxes, attributes={"sex": "F"}),
        record(image="b", phrase="Sin nódulos.", boxes=()),
        record(image="c", extra_boxes=()),
    ]
    write_records(tmp_path / "new" / "r.parquet", rows, "abc")
    assert read_records(tmp_path / "new" / "r.parquet") == rows
    assert read_fingerprint(tmp_path / "new" / "r.parquet") == "abc"
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["r.parquet"]


def test_write_names_row_and_column(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"(?s)'abnormal'.*r.parquet, row 2.*expected bool, found str"):
        write_records(tmp_path / "r.parquet", [GOOD, record(image="b", abnormal="yes")], "")
    with pytest.raises(DataError, match=r"(?s)'split'.*row 1.*expected string, found nothing"):
        write_records(tmp_path / "r.parquet", [record(split=None)], "")
    with pytest.raises(DataError, match="box-inverted"):
        write_records(tmp_path / "r.parquet", [record(boxes=((0.5, 0.0, 0.1, 1.0),))], "")
    assert not list(tmp_path.iterdir())


def test_read_checks_the_schema_and_the_values(tmp_path: Path) -> None:
    path = tmp_path / "r.parquet"
    write_records(path, [GOOD], "")
    table = pq.read_table(path)
    pq.write_table(table.drop_columns(["patient_id"]), path)
    with pytest.raises(DataError, match="'patient_id' is missing"):
        read_records(path)
    pq.write_table(table.set_column(table.column_names.index("split"), "split", pa.array([1])), path)
    with pytest.raises(DataError, match=r"(?s)'split'.*expected string, found int64"):
        read_records(path)
    pq.write_table(table.set_column(table.column_names.index("split"), "split", pa.array(["dev"])), path)
    with pytest.raises(DataError, match=r"(?s)split-unknown.*row 1"):
        read_records(path)
    path.write_bytes(b"not parquet")
    with pytest.raises(DataError, match="not a readable Parquet"):
        read_records(path)
    with pytest.raises(DataError, match="does not exist"):
        read_records(tmp_path / "none.parquet")


def test_schema_has_every_field() -> None:
    assert set(SCHEMA.names) == set(PhraseRecord.__dataclass_fields__)
