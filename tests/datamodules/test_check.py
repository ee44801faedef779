from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from datamodules.check import check_source, read_quarantine, write_quarantine
from datamodules.records import Problem
from datamodules.sources import PadChestGR, PhraseTable
from medvl.errors import DataError


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """A table with one fault of each kind that only a look into the files, or across rows, can find."""
    rng = np.random.default_rng(0)
    for name in ("good", "other", "cut16", "cutjpg"):
        suffix = "jpg" if name == "cutjpg" else "png"
        deep = name == "cut16"
        grey = rng.integers(0, 60_000 if deep else 255, (64, 64)).astype(np.uint16 if deep else np.uint8)
        Image.fromarray(grey).save(tmp_path / f"{name}.{suffix}")
    for name in ("cut16.png", "cutjpg.jpg"):
        content = (tmp_path / name).read_bytes()
        (tmp_path / name).write_bytes(content[: len(content) // 2])
    (tmp_path / "text.png").write_text("this is no image")
    two = json.dumps([[0.1, 0.1, 0.5, 0.5], [0.6, 0.6, 0.9, 0.9]])
    rows = [
        f'good.png,Two nodules.,"{two}",1,train',
        "good.png,Clear lungs.,,1,train",
        "good.png,Clear bones.,,2,test",
        "other.png,Clear lungs.,,2,train",
        "cut16.png,A,,3,train",
        "cutjpg.jpg,A,,3,train",
        "cutjpg.jpg,B,,3,train",
        "text.png,A,,3,train",
        "none.png,A,,3,train",
    ]
    (tmp_path / "t.csv").write_text("image,phrase,boxes,patient_id,split\n" + "\n".join(rows))
    return tmp_path / "t.csv"


def test_finds_everything_and_counts(table: Path) -> None:
    report = check_source(PhraseTable(table, box_format="xyxy_norm", split="column"), max_boxes=1, workers=0)
    assert {(p.code, p.where, p.path) for p in report.fatal} == {
        ("patient-leak", "t.csv:5", ""),
        ("image-unreadable", "t.csv:6", "cut16.png"),
        ("image-unreadable", "t.csv:7", "cutjpg.jpg"),
        ("image-unreadable", "t.csv:8", "cutjpg.jpg"),
        ("image-unreadable", "t.csv:9", "text.png"),
        ("image-missing", "t.csv:10", "none.png"),
    }
    assert [(p.code, p.where) for p in report.problems if not p.fatal] == [("too-many-boxes", "t.csv:2")]
    assert report.counts == {
        "records": 3,
        "images": 1,
        "patients": 2,
        "boxes": 2,
        "with boxes": 1,
        "without boxes": 2,
        "test": 1,
        "train": 2,
        "problem/image-missing": 1,
        "problem/image-unreadable": 4,
        "problem/patient-leak": 1,
        "problem/too-many-boxes": 1,
    }


def test_without_decoding_damaged_images_pass(table: Path) -> None:
    report = check_source(PhraseTable(table, box_format="xyxy_norm"), decode=False)
    assert {p.code for p in report.fatal} == {"patient-leak", "image-missing"}


def test_quarantine_list_leaves_a_clean_dataset(table: Path, tmp_path: Path) -> None:
    listed = tmp_path / "new" / "quarantine.jsonl"
    report = check_source(PhraseTable(table, box_format="xyxy_norm"), workers=0)
    assert write_quarantine(listed, report.problems) == 6
    rows = [json.loads(line) for line in listed.read_text().splitlines()]
    assert all(set(row) == {"path", "row", "code", "message"} for row in rows)
    found = read_quarantine(listed)
    assert found.paths == {"cut16.png", "cutjpg.jpg", "text.png", "none.png"}
    source = PhraseTable(table, box_format="xyxy_norm", quarantine=listed)
    assert [r.row for r in source.load().records] == ["t.csv:2", "t.csv:3", "t.csv:4"]
    again = check_source(source, workers=0)
    assert again.fatal == []
    assert again.counts["problem/quarantined"] == 6


def test_bad_quarantine_list_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"(?s)cannot be read.*medvl data check"):
        read_quarantine(tmp_path / "none.jsonl")
    (tmp_path / "q.jsonl").write_text('{"row": "a"}\nnonsense\n')
    with pytest.raises(DataError, match=r"q.jsonl:2"):
        read_quarantine(tmp_path / "q.jsonl")
    assert write_quarantine(tmp_path / "q.jsonl", [Problem("x", "a", "remark", fatal=False)]) == 0
    assert read_quarantine(tmp_path / "q.jsonl").rows == frozenset()


def test_twin_is_clean(padchest_twin: Path) -> None:
    report = check_source(PadChestGR(padchest_twin), max_boxes=8)
    assert report.problems == []
    assert report.counts["images"] == 24


def test_catalogue_imports_nothing_heavy() -> None:
    code = "import sys, datamodules.catalog, datamodules.twins; print({'torch', 'numpy', 'pyarrow'} & set(sys.modules))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "set()"
