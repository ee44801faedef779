from __future__ import annotations

import csv
import gzip
import json
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from datamodules.sources import PadChestGR
from datamodules.sources.splits import hashed_splits
from datamodules.twins import padchest_gr
from medvl.errors import DataError
from medvl.io.image import read_image

TABLE = padchest_gr.IMAGES_TABLE
BOX = [0.1, 0.2, 0.3, 0.4]
Finding = dict[str, Any]


def finding(**changes: Any) -> Finding:
    return {"sentence_en": "A nodule.", "sentence_es": "Un nódulo.", "abnormal": True, "boxes": [BOX]} | changes


@pytest.fixture
def layout(tmp_path: Path) -> Callable[..., Path]:
    """Write a folder in the layout by hand: study `s0` of patient `p0` with image `i0.png`, and so on."""

    def make(
        studies: list[list[Finding] | None], master: list[dict[str, str]] | None = None, images: str = "PadChest_GR"
    ) -> Path:
        (tmp_path / images).mkdir(parents=True, exist_ok=True)
        reports = []
        for i, findings in enumerate(studies):
            grey = np.arange(320, dtype=np.uint16).reshape(20, 16) + i
            Image.fromarray(grey).save(tmp_path / images / f"i{i}.png")
            reports.append({"StudyID": f"s{i}", "ImageID": f"i{i}.png", "findings": findings})
        rows = master or [
            {"StudyID": f"s{i}", "ImageID": f"i{i}.png", "PatientID": f"p{i}", "split": "train", "label": "nodule"}
            for i in range(len(studies))
        ]
        (tmp_path / "grounded_reports_20991231.json").write_text(json.dumps(reports))
        with (tmp_path / "master_table.csv").open("w", newline="") as file:
            writer = csv.DictWriter(file, list(dict.fromkeys(key for row in rows for key in row)))
            writer.writeheader()
            writer.writerows(rows)
        return tmp_path

    return make


def read_codes(root: Path) -> list[tuple[str, bool]]:
    return [(p.code, p.fatal) for p in PadChestGR(root, split="column").read().problems]


def test_twin_loads_whole_and_agrees_with_a_plain_reading(padchest_twin: Path) -> None:
    loaded = PadChestGR(padchest_twin).load()
    assert loaded.problems == []
    with (padchest_twin / "master_table.csv").open() as file:
        master = {row["ImageID"]: row for row in csv.DictReader(file)}
    reports = json.loads((padchest_twin / padchest_gr.REPORTS).read_text())
    words = {"train": "train", "validation": "val", "test": "test"}
    expected = [
        (
            study["ImageID"],
            entry["sentence_en"],
            tuple(map(tuple, entry.get("boxes", []))),
            words[master[study["ImageID"]]["split"]],
            master[study["ImageID"]]["PatientID"],
            entry["abnormal"],
        )
        for study in reports
        for entry in study["findings"]
    ]
    found = [(r.image, r.phrase, r.boxes, r.split, r.patient_id, r.abnormal) for r in loaded.records]
    assert found == expected
    assert {r.split for r in loaded.records} == {"train", "val", "test"}
    assert any(len(r.boxes) > 1 for r in loaded.records)
    assert any(r.abnormal and not r.boxes for r in loaded.records)
    assert all(r.attributes["sex"] in "MF" for r in loaded.records)


def test_view_and_scanner_come_from_the_table_of_padchest(padchest_twin: Path, tmp_path: Path) -> None:
    with (padchest_twin / TABLE).open() as file:
        rows = {row["ImageID"]: (row["Projection"], row["Manufacturer_DICOM"]) for row in csv.DictReader(file)}
    records = PadChestGR(padchest_twin).load().records
    assert all((r.attributes["view"], r.attributes["scanner"]) == rows[r.image] for r in records)
    assert {r.attributes["view"] for r in records} == {"PA", "AP", "AP_horizontal"}
    assert len({r.attributes["scanner"] for r in records}) == 2
    assert set(rows) - {r.image for r in records}  # of other images, too
    shutil.copytree(padchest_twin, tmp_path / "without", ignore=shutil.ignore_patterns("PADCHEST*"))
    without = PadChestGR(tmp_path / "without").load()
    assert not any({"view", "scanner"} & set(r.attributes) for r in without.records)
    assert [r.phrase for r in without.records] == [r.phrase for r in records]
    assert without.fingerprint != PadChestGR(padchest_twin).load().fingerprint


def test_what_the_master_table_says_itself_stands(layout: Callable[..., Path]) -> None:
    common = {"PatientID": "p0", "split": "train", "label": "nodule"}
    rows = [{"StudyID": f"s{i}", "ImageID": f"i{i}", "ViewPosition_DICOM": view, **common}
            for i, view in enumerate(("AP", "", ""))]  # fmt: skip
    folder = layout([[finding()]] * 3, rows)
    with gzip.open(folder / f"{TABLE}.gz", "wt", newline="") as file:
        csv.writer(file).writerows([
            ("", "ImageID", "Projection", "Manufacturer_DICOM"),
            (0, "i0.png", "PA", "PhilipsMedicalSystems"),
            (1, "i1.png", "PA", ""),
            (2, "i9.png", "L", "PhilipsMedicalSystems"),
        ])  # fmt: skip
    found = [r.attributes for r in PadChestGR(folder).load().records]
    assert found == [{"view": "AP", "scanner": "PhilipsMedicalSystems"}, {"view": "PA"}, {}]


def test_spanish_differs_in_the_sentences_only(padchest_twin: Path) -> None:
    english, spanish = (PadChestGR(padchest_twin, language=word).load().records for word in ("en", "es"))
    assert [r.boxes for r in english] == [r.boxes for r in spanish]
    assert all(a.phrase != b.phrase for a, b in zip(english, spanish, strict=True))


def test_images_have_16_bits_and_read_as_more_than_white(padchest_twin: Path) -> None:
    source = PadChestGR(padchest_twin)
    path = source.path_of(source.load().records[0])
    with Image.open(path) as image:
        assert image.mode == "I;16"
        values = np.asarray(image)
    assert values.max() > 255
    assert len(np.unique(read_image(path)[0])) > 50


def test_bare_folder_of_another_maker(layout: Callable[..., Path]) -> None:
    studies = [
        [finding(), finding(sentence_en="Clear lungs.", abnormal=False)],
        [{"sentence_en": "No effusion.", "abnormal": False}, finding(boxes=None, labels=None, locations=float("nan"))],
        [finding(boxes=BOX, extra_boxes=[BOX], labels=["nodule"], locations=["left"])],
        [],
        None,
    ]
    loaded = PadChestGR(layout(studies), split="column").load()
    assert [(r.image, r.phrase, r.boxes) for r in loaded.records] == [
        ("i0.png", "A nodule.", (tuple(BOX),)),
        ("i0.png", "Clear lungs.", (tuple(BOX),)),
        ("i1.png", "No effusion.", ()),
        ("i1.png", "A nodule.", ()),
        ("i2.png", "A nodule.", (tuple(BOX),)),
    ]
    last = loaded.records[-1]
    assert (last.labels, last.extra_boxes, last.attributes) == (("nodule",), (tuple(BOX),), {"locations": "left"})
    assert [(p.code, p.fatal) for p in loaded.problems] == [("findings-missing", False)] * 2


@pytest.mark.parametrize("images", ["PadChest_GR", "Padchest_GR_files/PadChest_GR", "."])
def test_where_images_may_lie(layout: Callable[..., Path], images: str) -> None:
    source = PadChestGR(layout([[finding()]], images=images))
    assert source.path_of(source.load().records[0]).is_file()


def test_packed_images_are_named(layout: Callable[..., Path]) -> None:
    root = layout([[finding()]], images="Padchest_GR_files/PadChest_GR")
    shutil.rmtree(root / "Padchest_GR_files" / "PadChest_GR")
    with pytest.raises(DataError, match="no image of PadChest-GR"):
        PadChestGR(root).load()
    for part in ("001", "002"):
        (root / "Padchest_GR_files" / f"PadChest_GR.zip.{part}").touch()
    with pytest.raises(DataError, match=r"(?s)2 parts of one zip.*cat PadChest_GR.zip"):
        PadChestGR(root).load()


def test_zipped_master_table(layout: Callable[..., Path]) -> None:
    root = layout([[finding()]])
    plain = PadChestGR(root).load().records
    with zipfile.ZipFile(root / "master_table.csv.zip", "w") as archive:
        archive.write(root / "master_table.csv", "master_table.csv")
    (root / "master_table.csv").unlink()
    assert PadChestGR(root).load().records == plain


def test_empty_root_says_what_was_looked_for(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"(?s)grounded_reports\*.json.*medvl data twin padchest-gr"):
        PadChestGR(tmp_path).load()
    with pytest.raises(DataError, match="the folder does not exist"):
        PadChestGR(tmp_path / "none").load()


def test_master_rows_repeat_and_may_leave_cells_empty(layout: Callable[..., Path]) -> None:
    rows = [
        {"StudyID": "s0", "ImageID": "", "PatientID": "7", "split": "", "PatientAge": "", "note": "x"},
        {
            "StudyID": "s0",
            "ImageID": "i0.png",
            "PatientID": "7",
            "split": "validation",
            "PatientAge": "63.0",
            "note": "",
        },
        {"StudyID": "s0", "ImageID": "i0.png", "PatientID": "7", "split": "", "PatientAge": "NaN", "note": ""},
    ]
    (record,) = PadChestGR(layout([[finding()]], rows)).load().records
    assert (record.split, record.patient_id, record.attributes) == ("val", "7", {"age": "63"})


def test_join_by_study_where_the_image_is_not_listed(layout: Callable[..., Path]) -> None:
    rows = [{"StudyID": "s0", "ImageID": "", "PatientID": "7", "split": "test"}]
    assert PadChestGR(layout([[finding()]], rows)).load().records[0].split == "test"


def test_master_table_without_splits(layout: Callable[..., Path]) -> None:
    rows = [{"StudyID": f"s{i}", "ImageID": f"i{i}.png", "PatientID": f"p{i // 2}"} for i in range(8)]
    root = layout([[finding()]] * 8, rows)
    records = PadChestGR(root).load().records
    assert {r.patient_id: r.split for r in records} == hashed_splits(f"p{i}" for i in range(4))
    assert {r.split for r in records} == {"train", "val", "test"}
    with pytest.raises(DataError, match=r"(?s)no usable row.*no split is given.*split: deal"):
        PadChestGR(root, split="column").load()


def test_contradicting_master_table(layout: Callable[..., Path]) -> None:
    rows = [{"StudyID": "s0", "ImageID": "i0.png", "PatientID": "7", "split": split} for split in ("train", "test")]
    root = layout([[finding()]], rows)
    assert read_codes(root) == [("split-conflict", True)] * 2
    with pytest.raises(DataError, match="no usable row"):
        PadChestGR(root).load()


def test_every_bad_row_is_told(layout: Callable[..., Path]) -> None:
    rows = [
        {"StudyID": f"s{i}", "ImageID": f"i{i}.png", "PatientID": f"p{i}", "split": split}
        for i, split in enumerate(["train", "trian", "train", "train", "train", "train"])
        if i != 2
    ]
    studies = [
        [
            finding(boxes=[[0.3, 0.2, 0.1, 0.4]]),
            finding(sentence_en="", boxes=[]),
            finding(sentence_en="x", boxes=["a"]),
        ],
        [finding()],
        [finding()],
        [finding(), finding(boxes=[[0.5, 0.5, 0.6, 0.6]])],
        [finding()],
    ]
    root = layout(studies, rows)
    (root / "PadChest_GR" / "i4.png").unlink()
    loaded = PadChestGR(root, split="column").read()
    assert sorted((p.code, p.where.partition("json")[2], p.fatal) for p in loaded.problems) == [
        ("box-inverted", "[0].findings[0]", True),
        ("box-unreadable", "[0].findings[2]", True),
        ("duplicate", "[3].findings[1]", False),
        ("image-missing", "[4].findings[0]", True),
        ("phrase-empty", "[0].findings[1]", True),
        ("report-missing", "", False),
        ("split-missing", "[2].findings[0]", True),
        ("split-unknown", "[1].findings[0]", True),
    ]
    assert [r.boxes for r in loaded.records] == [(tuple(BOX), (0.5, 0.5, 0.6, 0.6))]


def test_leak_raises_and_quarantine_mends_it(layout: Callable[..., Path], tmp_path: Path) -> None:
    from datamodules.check import check_source, write_quarantine

    rows = [
        {"StudyID": f"s{i}", "ImageID": f"i{i}.png", "PatientID": "secret", "split": split}
        for i, split in enumerate(["train", "test"])
    ]
    root = layout([[finding()], [finding()]], rows)
    with pytest.raises(DataError, match="in two splits") as caught:
        PadChestGR(root).load()
    assert "secret" not in str(caught.value)
    assert "--data.source.split deal" in str(caught.value)
    assert f"medvl data check padchest-gr {root} --output FILE" in str(caught.value)  # not the folder of images
    assert {r.split for r in PadChestGR(root, split="deal").load().records} == {"train"}  # all of the one patient
    listed = tmp_path / "quarantine.jsonl"
    assert write_quarantine(listed, check_source(PadChestGR(root), workers=0).problems) == 1
    loaded = PadChestGR(root, quarantine=listed).load()
    assert [r.split for r in loaded.records] == ["test"]
    assert [(p.code, p.fatal) for p in loaded.problems] == [("quarantined", False)]


def test_fingerprint_follows_tables_and_images(layout: Callable[..., Path]) -> None:
    root = layout([[finding()]])
    first = PadChestGR(root).load().fingerprint
    assert PadChestGR(root).load().fingerprint == first
    Image.fromarray(np.zeros((30, 30), np.uint16)).save(root / "PadChest_GR" / "i0.png")
    second = PadChestGR(root).load().fingerprint
    layout([[finding(sentence_en="A mass.")]])
    assert len({first, second, PadChestGR(root).load().fingerprint}) == 3


def test_links_out_of_the_folder_need_consent(layout: Callable[..., Path], tmp_path: Path) -> None:
    root = layout([[finding()]])
    outside = tmp_path.parent / f"{tmp_path.name}-outside.png"
    (root / "PadChest_GR" / "i0.png").rename(outside)
    (root / "PadChest_GR" / "i0.png").symlink_to(outside)
    assert read_codes(root) == [("path-outside", True)]
    assert len(PadChestGR(root, follow_links=True).load().records) == 1


@pytest.mark.parametrize("boxes", [3.5, "nodule", [0.1, 0.2], {"x": 1}])
def test_what_is_no_box_is_told(layout: Callable[..., Path], boxes: object) -> None:
    assert ("box-unreadable", True) in read_codes(layout([[finding(boxes=boxes), finding(sentence_en="Clear.")]]))
