from __future__ import annotations

import csv
import json
import shutil
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from datamodules.sources import MSCXR
from datamodules.sources.splits import hashed_splits
from datamodules.twins import ms_cxr
from medvl.errors import ConfigError, DataError

COLUMNS = ["dicom_id", "category_name", "label_text", "path", "x", "y", "w", "h", "image_width", "image_height"]


def row(x: Any, y: Any, w: Any, h: Any, **changes: str) -> dict[str, Any]:
    path = "files/p10/p10000032/s50414267/d0.jpg"
    values = ["d0", "Pneumonia", "An opacity.", path, x, y, w, h, 200, 100]
    return dict(zip(COLUMNS, values, strict=True)) | {"split": "train"} | changes


def write_rows(root: Path, *rows: dict[str, Any]) -> Path:
    with (root / "MS_CXR_Local_Alignment_v1.1.0.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    for each in rows:
        if ".." not in each["path"]:
            (root / each["path"]).parent.mkdir(parents=True, exist_ok=True)
            Image.new("L", (20, 10)).save(root / each["path"])  # resized by someone: the table's size still counts
    return root


def test_rows_of_a_phrase_are_joined_and_boxes_converted(tmp_path: Path) -> None:
    rows = [
        row(20, 10, 40, 50),
        row(0, 0, 20, 10, label_text="Another.", split="train"),
        row(100, 50, 100, 50),
        row(10, 10, 10, 10, category_name="Edema"),
        row("", "NaN", "", "", label_text="Nothing."),
    ]
    loaded = MSCXR(write_rows(tmp_path, *rows)).load()
    assert loaded.problems == []
    assert [(r.phrase, r.labels, r.boxes, r.abnormal) for r in loaded.records] == [
        ("An opacity.", ("Pneumonia",), ((0.1, 0.1, 0.3, 0.6), (0.5, 0.5, 1.0, 1.0)), True),
        ("Another.", ("Pneumonia",), ((0.0, 0.0, 0.1, 0.1),), True),
        ("An opacity.", ("Edema",), ((0.05, 0.1, 0.1, 0.2),), True),
        ("Nothing.", ("Pneumonia",), (), None),
    ]
    first = loaded.records[0]
    assert (first.image, first.patient_id, first.study_id, first.split) == ("d0", "p10000032", "s50414267", "train")


def test_twin_agrees_with_a_plain_reading(mscxr_twin: Path) -> None:
    loaded = MSCXR(mscxr_twin).load()
    groups: dict[tuple[str, str, str], list[tuple[float, ...]]] = defaultdict(list)
    with (mscxr_twin / "MS_CXR_Local_Alignment_v1.1.0.csv").open() as file:
        for r in csv.DictReader(file):
            x, y, w, h, width, height = (float(r[key]) for key in COLUMNS[4:])
            groups[r["dicom_id"], r["category_name"], r["label_text"]].append(
                (x / width, y / height, (x + w) / width, (y + h) / height)
            )
    found = {(r.image, r.labels[0], r.phrase): list(r.boxes) for r in loaded.records}
    assert loaded.problems == []
    assert found.keys() == groups.keys()
    for key, boxes in groups.items():
        assert found[key] == [pytest.approx(box) for box in boxes]
    assert any(len(boxes) > 1 for boxes in groups.values())
    assert {r.split for r in loaded.records} == {"train", "val", "test"}


def test_json_and_csv_give_the_same_records(mscxr_twin: Path, tmp_path: Path) -> None:
    shutil.copytree(mscxr_twin, tmp_path / "copy")
    (tmp_path / "copy" / "MS_CXR_Local_Alignment_v1.1.0.csv").unlink()

    def content(root: Path) -> list[tuple[Any, ...]]:
        return [(r.image, r.path, r.phrase, r.boxes, r.split, r.labels) for r in MSCXR(root).load().records]

    assert content(tmp_path / "copy") == content(mscxr_twin)


def test_release_0_1_has_no_split_and_gets_one_by_patient(tmp_path: Path) -> None:
    ms_cxr.write_v01(tmp_path / "twin", 16, seed=3, size=64)
    assert (tmp_path / "twin" / "MS_CXR_Local_Alignment_v1.0.0.csv").read_text().count("split") == 0
    records = MSCXR(tmp_path / "twin").load().records
    dealt = hashed_splits(r.patient_id for r in records)
    assert {r.patient_id: r.split for r in records} == dealt
    assert set(dealt.values()) == {"train", "val", "test"}
    with pytest.raises(DataError, match=r"v1\.1\.0"):
        MSCXR(tmp_path / "twin", version="1.1.0").load()


def test_images_elsewhere_and_table_in_the_releases_folder(mscxr_twin: Path, tmp_path: Path) -> None:
    folder = tmp_path / "ms-cxr-making-the-most-1.1.0"
    folder.mkdir()
    shutil.copy(mscxr_twin / "MS_CXR_Local_Alignment_v1.1.0.csv", folder)
    source = MSCXR(tmp_path, images=mscxr_twin)
    records = source.load().records
    assert source.path_of(records[0]) == mscxr_twin / records[0].path
    assert len(records) == len(MSCXR(mscxr_twin).load().records)


def test_every_bad_row_is_told(tmp_path: Path) -> None:
    rows = [
        row(0, 0, 10, 10),
        row(0, 0, 0, 10),
        row(0, 0, -5, 10, label_text="b"),
        row(190, 0, 30, 10, label_text="c"),
        row(0, "", 10, 10, label_text="d"),
        row(0, 0, 10, 10, label_text="e", image_width=""),
        row(0, 0, 10, 10, label_text="f", split="holdout"),
        row(0, 0, 10, 10, label_text="g", path="d0.jpg"),
        row(0, 0, 10, 10, label_text="h", path="files/../../p10/p1/s1/d0.jpg"),
        row(0, 0, 10, 10, label_text="i"),
        row(0, 0, 20, 20, label_text="i", split="val"),
        row(0, 0, 10, 10, label_text=""),
        row(0, 0, 201, 100, label_text="rounded up"),
    ]
    loaded = MSCXR(write_rows(tmp_path, *rows)).read()
    assert sorted((int(p.where.split(":")[1]), p.code) for p in loaded.problems) == [
        (2, "box-sibling"),
        (3, "box-empty"),
        (4, "box-inverted"),
        (5, "box-outside"),
        (6, "box-nan"),
        (7, "size-unknown"),
        (8, "split-unknown"),
        (9, "path-unreadable"),
        (10, "path-outside"),
        (11, "box-sibling"),
        (12, "row-conflict"),
        (13, "phrase-empty"),
    ]
    assert [(r.phrase, r.boxes) for r in loaded.records] == [("rounded up", ((0.0, 0.0, 1.0, 1.0),))]


def test_errors_name_what_is_missing(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="unknown release"):
        MSCXR(tmp_path, version="2.0")  # type: ignore[arg-type]
    with pytest.raises(DataError, match=r"(?s)MS_CXR_Local_Alignment_v1.0.0.csv.*medvl data twin ms-cxr"):
        MSCXR(tmp_path, version="0.1").load()
    write_rows(tmp_path, {key: value for key, value in row(0, 0, 1, 1).items() if key != "label_text"})
    with pytest.raises(DataError, match="column 'label_text' is missing"):
        MSCXR(tmp_path).load()
    (tmp_path / "MS_CXR_Local_Alignment_v1.1.0.csv").unlink()
    (tmp_path / "MS_CXR_Local_Alignment_v1.1.0.json").write_text(json.dumps({"images": []}))
    with pytest.raises(DataError, match="expected COCO with 'categories'"):
        MSCXR(tmp_path).load()
