from __future__ import annotations

import csv
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest

from datamodules.sources import RSNAPneumonia
from datamodules.sources.rsna import CLASSES, LABELS, MAPPING
from datamodules.twins import rsna as twin
from datamodules.twins.dicom import write_dicom
from datamodules.twins.studies import make_study
from medvl.errors import DataError
from medvl.io.image import image_size, read_image

STUDIES, SIZE = 30, 96
BOX, NOT_NORMAL = (256.0, 512.0, 256.0, 128.0), "No Lung Opacity / Not Normal"
NORM = ((0.25, 0.5, 0.5, 0.625),)


@pytest.fixture(scope="module")
def rsna_twin(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("twins") / "rsna"
    twin.write(folder, STUDIES, seed=0, size=SIZE)
    return folder


@pytest.fixture
def layout(tmp_path: Path) -> Callable[..., Path]:
    def make(rows: Sequence[tuple[Any, ...]], classes: dict[str, str]) -> Path:
        (tmp_path / "stage_2_train_images").mkdir(exist_ok=True)
        for image in {row[0] for row in rows}:
            write_dicom(tmp_path / "stage_2_train_images" / f"{image}.dcm", np.zeros((8, 8), np.uint8))
        for name, columns, lines in (
            (LABELS, ("patientId", "x", "y", "width", "height", "Target"), rows),
            (CLASSES, ("patientId", "class"), [(row[0], classes[row[0]]) for row in rows if row[0] in classes]),
        ):
            with (tmp_path / name).open("w", newline="") as file:
                csv.writer(file).writerows([columns, *lines])
        return tmp_path

    return make


def test_twin_reads_back_as_painted(rsna_twin: Path) -> None:
    records = {r.image: r for r in RSNAPneumonia(rsna_twin).load().records if r.abnormal}
    assert len(records) == STUDIES
    several = 0
    for index in range(STUDIES):
        boxes = twin.boxes(make_study(index, 0, size=SIZE))
        found = records[twin.image_id(index, 0)]
        assert len(found.boxes) == len(boxes)
        several += len(boxes) > 1
        np.testing.assert_allclose(
            np.reshape(found.boxes, (-1, 4)), np.reshape(boxes, (-1, 4)), atol=1 / 1024, err_msg=str(index)
        )
    assert several


def test_films_are_squares_and_boxes_are_of_1024_pixels(rsna_twin: Path, tmp_path: Path) -> None:
    source = RSNAPneumonia(rsna_twin)
    path = source.path_of(source.load().records[0])
    assert image_size(path) == (SIZE, SIZE)
    assert read_image(path).pixels.std() > 20
    twin.write(tmp_path / "full", 1, seed=0)
    assert image_size(next((tmp_path / "full").rglob("*.dcm"))) == (1024, 1024)


def test_layout_of_the_twin(rsna_twin: Path) -> None:
    tables = {}
    for name in (LABELS, CLASSES):
        with (rsna_twin / name).open() as file:
            tables[name] = list(csv.DictReader(file))
    labels, classes = tables[LABELS], tables[CLASSES]
    assert [row["patientId"] for row in labels] == [row["patientId"] for row in classes]
    assert {row["class"] for row in classes} == {"Lung Opacity", NOT_NORMAL, "Normal"}
    for row, kind in zip(labels, classes, strict=True):
        assert (row["Target"] == "1") == (kind["class"] == "Lung Opacity") == (row["x"] != "")
    assert len(labels) > len({row["patientId"] for row in labels}) == STUDIES
    assert {path.stem for path in (rsna_twin / "stage_2_train_images").iterdir()} == {r["patientId"] for r in labels}
    headers = [pydicom.dcmread(path) for path in rsna_twin.rglob("*.dcm")]
    assert {(h.PhotometricInterpretation, h.BitsStored) for h in headers} == {("MONOCHROME2", 8)}
    assert len({tuple(h.PixelSpacing) for h in headers}) > 2


def test_rows_of_one_image_are_one_phrase_and_nan_is_no_box(layout: Callable[..., Path]) -> None:
    nothing = ("", "nan", "NaN", "")
    rows = [("a", *BOX, 1), ("b", *nothing, 0), ("c", *nothing, 0), ("a", 0, 0, 512, 512, 1)]
    root = layout(rows, {"a": "Lung Opacity", "b": NOT_NORMAL, "c": "Normal"})
    found = [(r.image, r.phrase, r.boxes, r.abnormal) for r in RSNAPneumonia(root).load().records]
    assert found == [
        ("a", "lung opacity", (*NORM, (0.0, 0.0, 0.5, 0.5)), True),
        ("b", "lung opacity", (), True),
        ("c", "lung opacity", (), True),
        ("c", "no abnormal finding", (), False),
    ]
    shorter = RSNAPneumonia(root, absent=False, names={"Lung Opacity": "opacity"}, template="an {finding}").load()
    assert [(r.image, r.phrase) for r in shorter.records] == [("a", "an opacity"), ("c", "no abnormal finding")]


def test_patients_of_nih_are_dealt_whole(rsna_twin: Path, tmp_path: Path) -> None:
    loaded = RSNAPneumonia(rsna_twin).load()
    names = {e["subset_img_id"]: e["img_id"] for e in json.loads((rsna_twin / MAPPING).read_text())}
    assert all(r.patient_id == names[r.image][:8] for r in loaded.records)
    splits: dict[str, set[str]] = {}
    for record in loaded.records:
        splits.setdefault(record.patient_id, set()).add(record.split)
    assert len(splits) < STUDIES
    assert all(len(own) == 1 for own in splits.values())
    assert set.union(*splits.values()) == {"train", "val", "test"}

    twin.write(tmp_path / "bare", STUDIES, seed=0, size=SIZE, mapping=False)
    bare = RSNAPneumonia(tmp_path / "bare").load()
    assert all(r.patient_id == r.image for r in bare.records)
    assert bare.fingerprint != loaded.fingerprint


def test_contradicting_rows(layout: Callable[..., Path]) -> None:
    nothing = ("",) * 4
    rows: list[tuple[Any, ...]] = [
        ("a", *BOX, 0),
        ("b", *nothing, 1),
        ("c", *BOX, 1),
        ("d", *nothing, 0),
        ("d", *BOX, 1),
    ]
    rows += [("e", *BOX, "x"), ("f", *BOX[:3], "", 1), ("g", 900, 0, 300, 50, 1), ("h", *BOX, 1)]
    loaded = RSNAPneumonia(layout(rows, {"c": "Normal", "h": "Lung Opacity"})).read()
    assert sorted((p.where.partition(":")[2], p.code) for p in loaded.problems if p.fatal) == [
        ("2", "target-conflict"),
        ("3", "target-conflict"),
        ("4", "target-conflict"),
        ("7", "row-unreadable"),
        ("8", "box-nan"),
        ("9", "box-outside"),
    ]
    assert [(r.image, r.boxes) for r in loaded.records] == [("d", NORM), ("h", NORM)]


def test_what_is_not_there(layout: Callable[..., Path], tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"(?s)stage_2_train_labels.csv.*medvl data twin rsna"):
        RSNAPneumonia(tmp_path).load()
    root = layout([("a", *BOX, 1), ("b", *BOX, 1)], {})
    (root / "stage_2_train_images" / "a.dcm").unlink()
    loaded = RSNAPneumonia(root).read()
    assert [(p.code, p.path) for p in loaded.problems if p.fatal] == [("image-missing", "stage_2_train_images/a.dcm")]
    (root / MAPPING).write_text('[{"img_id": 3}]')
    with pytest.raises(DataError, match="in another form"):
        RSNAPneumonia(root).load()
    (root / CLASSES).unlink()
    with pytest.raises(DataError, match=CLASSES):
        RSNAPneumonia(root).load()
