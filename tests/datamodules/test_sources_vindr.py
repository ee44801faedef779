from __future__ import annotations

import csv
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from ensemble_boxes import weighted_boxes_fusion

from datamodules.records import PhraseRecord
from datamodules.sources import VinDrCXR
from datamodules.sources.readers import fuse_readers
from datamodules.sources.vindr import FINDINGS
from datamodules.sources.wording import Wording
from datamodules.twins import vindr as twin
from datamodules.twins.dicom import write_dicom
from datamodules.twins.studies import make_study, study_plan
from medvl.errors import ConfigError, DataError
from medvl.io.image import read_image

STUDIES, SIZE = 40, 96
NORMAL = "No finding"
DISEASES = ("COPD", "Lung tumor", "Pneumonia", "Tuberculosis")
Row = tuple[Any, ...]


@pytest.fixture(scope="module")
def vindr_twin(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("twins") / "vindr-cxr"
    twin.write(folder, STUDIES, seed=0, size=SIZE)
    return folder


@pytest.fixture
def layout(tmp_path: Path) -> Callable[..., Path]:
    """Write a folder by hand: images of 100 x 200 (H x W), rows of boxes and, by reader, of labels."""

    def make(boxes: Sequence[Row], labels: dict[tuple[str, str], Sequence[str]], part: str = "train") -> Path:
        folder = tmp_path / "annotations"
        for each in (folder, tmp_path / part):
            each.mkdir(exist_ok=True)
        for image in {image for image, _ in labels}:
            write_dicom(tmp_path / part / f"{image}.dicom", np.zeros((100, 200), np.uint16))
        names = [*FINDINGS, "Pneumonia", "Other diseases" if part == "train" else "Other disease", NORMAL]
        reader = ["rad_id"] if part == "train" else []
        with (folder / f"image_labels_{part}.csv").open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["image_id", *reader, *names])
            for (image, who), given in labels.items():
                writer.writerow([image, *([who] if reader else []), *(float(name in given) for name in names)])
        with (folder / f"annotations_{part}.csv").open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["image_id", *reader, "class_name", "x_min", "y_min", "x_max", "y_max"])
            writer.writerows(boxes)
        return tmp_path

    return make


def by_label(records: Sequence[PhraseRecord]) -> dict[tuple[str, str], PhraseRecord]:
    return {(record.image, record.labels[0]): record for record in records}


def library(readers: Sequence[Sequence[Sequence[float]]], iou: float = 0.1) -> np.ndarray[Any, Any]:
    ones = [[1.0] * len(reader) for reader in readers]
    boxes = weighted_boxes_fusion(readers, ones, ones, iou_thr=iou, skip_box_thr=0.0)[0]
    return np.asarray(sorted(boxes.tolist())).reshape(-1, 4)


# --- the twin, read back ----------------------------------------------------------------------------------------------


def test_test_images_hold_what_was_painted(vindr_twin: Path) -> None:
    found = by_label([r for r in VinDrCXR(vindr_twin).load().records if r.split == "test"])
    boxed: dict[tuple[str, str], list[Any]] = {}
    for index, _, split in study_plan(STUDIES, 0):
        if split == "test":
            for name, box in twin.findings(make_study(index, 0, size=SIZE)):
                boxed.setdefault((twin.image_id(index, 0), name), []).append(box)
    assert boxed
    assert {key for key, record in found.items() if record.boxes} == set(boxed)
    for key, boxes in boxed.items():
        np.testing.assert_allclose(found[key].boxes, boxes, atol=1e-4)
        assert found[key].extra_boxes is None


def test_train_boxes_are_the_readers_fused(vindr_twin: Path) -> None:
    source = VinDrCXR(vindr_twin)
    rows: dict[tuple[str, str], dict[str, list[list[float]]]] = {}
    with (vindr_twin / "annotations" / "annotations_train.csv").open() as file:
        for row in csv.DictReader(file):
            if row["class_name"] != NORMAL:
                height, width = read_image(vindr_twin / "train" / f"{row['image_id']}.dicom")[1]
                sides = zip(("x_min", "y_min", "x_max", "y_max"), (width, height) * 2, strict=True)
                box = [float(row[side]) / length for side, length in sides]
                readers = rows.setdefault((row["image_id"], row["class_name"]), {})
                readers.setdefault(row["rad_id"], []).append(box)
    found = {key: r for key, r in by_label(source.load().records).items() if r.split != "test" and r.boxes}
    assert found.keys() == rows.keys()
    for key, record in found.items():
        np.testing.assert_allclose(sorted(record.boxes), library(list(rows[key].values())), atol=1e-6)
    assert max(len(readers) for readers in rows.values()) == 3


def test_val_is_dealt_from_train_images(vindr_twin: Path) -> None:
    loaded = VinDrCXR(vindr_twin).load()
    assert {r.split for r in loaded.records} == {"train", "val", "test"}
    assert all((r.split == "test") == r.path.startswith("test/") for r in loaded.records)
    assert [p.code for p in loaded.problems] == ["split-dealt", "patient-unnamed"]
    assert all(r.patient_id == r.image for r in loaded.records)


def test_inverted_films_read_like_the_others(vindr_twin: Path, tmp_path: Path) -> None:
    image = make_study(0, 0, size=SIZE).image
    for name, inverted in (("a", False), ("b", True)):
        write_dicom(tmp_path / f"{name}.dicom", image, monochrome1=inverted, spacing=0.2)
    plain, turned = (read_image(tmp_path / f"{name}.dicom").pixels.astype(int) for name in "ab")
    assert np.abs(plain - turned).max() <= 1
    assert plain.std() > 20
    headers = [pydicom.dcmread(path, stop_before_pixels=True) for path in vindr_twin.glob("t*/*.dicom")]
    assert {h.PhotometricInterpretation for h in headers} == {"MONOCHROME1", "MONOCHROME2"}
    assert len({tuple(h.PixelSpacing) for h in headers}) > 2


# --- readers ----------------------------------------------------------------------------------------------------------

A: list[Any] = ["x", "R1", "Cardiomegaly", 20, 10, 60, 50]
B: list[Any] = ["x", "R2", "Cardiomegaly", 24, 10, 60, 54]
FAR = (120, 60, 180, 90)
THREE = {("x", "R1"): ["Cardiomegaly"], ("x", "R2"): ["Cardiomegaly"], ("x", "R3"): ["Cardiomegaly"]}


def test_fusion_and_consensus(layout: Callable[..., Path]) -> None:
    root = layout([A, B, ["x", "R3", "Cardiomegaly", *FAR]], THREE)
    (fused,) = VinDrCXR(root, absent=0).load().records
    np.testing.assert_allclose(sorted(fused.boxes), [(0.11, 0.1, 0.3, 0.52), (0.6, 0.6, 0.9, 0.9)], atol=1e-6)
    (agreed,) = VinDrCXR(root, readers="consensus", absent=0).load().records
    np.testing.assert_allclose(agreed.boxes, [(0.11, 0.1, 0.3, 0.52)], atol=1e-6)
    assert fused.extra_boxes is agreed.extra_boxes is None


def test_consensus_wants_two_readers_not_two_boxes(layout: Callable[..., Path]) -> None:
    root = layout([A, [*A[:3], 22, 10, 60, 50]], THREE)
    assert VinDrCXR(root, readers="consensus", absent=0).read().records == []
    assert len(VinDrCXR(root, absent=0).load().records) == 1


def test_single_reader_keeps_another_apart(layout: Callable[..., Path]) -> None:
    images = [f"i{i}" for i in range(12)]
    rows = [[image, f"R{k}", "Cardiomegaly", 10 * k, 10, 100, 50] for image in images for k in (1, 2, 3)]
    given = {(image, f"R{k}"): ["Cardiomegaly"] for image in images for k in (1, 2, 3)}
    records = VinDrCXR(layout(rows, given), readers="single", absent=0).load().records
    drawn = {(round(200 * r.boxes[0][0]), round(200 * r.extra_boxes[0][0])) for r in records if r.extra_boxes}
    assert len(records) == 12
    assert all(first != second for first, second in drawn)
    assert len({first for first, _ in drawn}) == 3  # the first reader is not always the same


def test_second_reader_is_no_part_of_the_target(layout: Callable[..., Path]) -> None:
    rows = [A, B, ["x", "R3", "Cardiomegaly", 28, 10, 60, 58]]
    (record,) = VinDrCXR(layout(rows, THREE), second_reader=True, absent=0).load().records
    assert record.extra_boxes is not None
    drawn = {tuple(row[3:]) for row in rows}
    second = tuple(round(v * s) for v, s in zip(record.extra_boxes[0], (200, 100, 200, 100), strict=True))
    assert second in drawn
    others = [[[v / s for v, s in zip(box, (200, 100, 200, 100), strict=True)]] for box in drawn - {second}]
    np.testing.assert_allclose(record.boxes, library(others), atol=1e-6)


def test_second_reader_who_drew_nothing(layout: Callable[..., Path]) -> None:
    images = [f"i{i}" for i in range(9)]
    given = {(image, f"R{k}"): ["Cardiomegaly"] if k == 1 else [NORMAL] for image in images for k in (1, 2)}
    rows = [[image, "R1", "Cardiomegaly", 10, 10, 100, 50] for image in images]
    records = VinDrCXR(layout(rows, given), readers="single", absent=1).load().records
    boxed = {r.extra_boxes for r in records if r.boxes}
    silent = {(r.labels[0], bool(r.extra_boxes)) for r in records if not r.boxes}
    assert boxed == {()}
    assert silent == {(NORMAL, False), ("Cardiomegaly", True)}  # the second reader's own finding counts against them


def test_fuse_readers_is_the_librarys() -> None:
    rng = np.random.default_rng(0)
    for _ in range(50):
        low = rng.uniform(0, 0.5, (3, int(rng.integers(1, 4)), 2))
        readers = np.concatenate([low, low + rng.uniform(0.05, 0.5, low.shape)], -1).tolist()
        readers[int(rng.integers(3))] = []
        for iou in (0.1, 0.5):
            found = fuse_readers([[tuple(box) for box in reader] for reader in readers], iou)
            np.testing.assert_allclose(sorted(found), library(readers, iou), atol=1e-6)
    assert fuse_readers([[], []]) == ()


# --- sentences without boxes ------------------------------------------------------------------------------------------


def test_normal_needs_all_readers(layout: Callable[..., Path]) -> None:
    given = {
        ("x", "R1"): [NORMAL], ("x", "R2"): [NORMAL],
        ("y", "R1"): [NORMAL], ("y", "R2"): ["Pneumonia"],
    }  # fmt: skip
    rows = [[image, reader, NORMAL, "", "", "", ""] for image, reader in given if image == "x"]
    (record,) = VinDrCXR(layout(rows, given)).load().records
    assert (record.image, record.phrase, record.boxes) == ("x", "no abnormal finding", ())
    assert (record.abnormal, record.labels) == (False, (NORMAL,))


def test_absent_findings_are_named_by_nobody(vindr_twin: Path) -> None:
    first, other = (VinDrCXR(vindr_twin, absent=2, seed=seed).load().records for seed in (0, 1))
    assert VinDrCXR(vindr_twin, absent=2, seed=0).load().records == first
    assert {type(label) for r in first for label in r.labels} == {str}
    named: dict[str, set[str]] = {}
    for part in ("train", "test"):
        with (vindr_twin / "annotations" / f"image_labels_{part}.csv").open() as file:
            for row in csv.DictReader(file):
                named.setdefault(row["image_id"], set()).update(k for k, v in row.items() if v == "1")
    absent = [r for r in first if not r.boxes and r.abnormal]
    assert len(absent) == 2 * STUDIES
    assert not any(named[r.image] & set(r.labels) for r in absent)
    assert [r.labels for r in other] != [r.labels for r in first]
    opaque = [r for r in absent if named[r.image] & {"Consolidation", "ILD", "Atelectasis", "Pulmonary fibrosis"}]
    assert opaque
    assert not any(r.labels[0] in {"Consolidation", "ILD", "Atelectasis", "Pulmonary fibrosis"} for r in opaque)


def test_absent_findings_are_as_frequent_as_present_ones(layout: Callable[..., Path]) -> None:
    common = [f"c{i}" for i in range(90)]
    rows = [[image, "R1", "Cardiomegaly", 10, 10, 100, 50] for image in common]
    rows += [[f"r{i}", "R1", "Pneumothorax", 10, 10, 100, 50] for i in range(10)]
    given = {(row[0], "R1"): [row[2]] for row in rows} | {(f"n{i}", "R1"): [NORMAL] for i in range(200)}
    records = VinDrCXR(layout(rows, given)).load().records
    drawn = [r.labels[0] for r in records if r.image.startswith("n") and r.abnormal]
    assert 0.82 < drawn.count("Cardiomegaly") / len(drawn) < 0.97


# --- traps ------------------------------------------------------------------------------------------------------------


def test_other_disease_is_one_label(layout: Callable[..., Path]) -> None:
    for part, name in (("train", "Other diseases"), ("test", "Other disease")):
        reader = ["R1"] if part == "train" else []
        rows = [[f"{part}1", *reader, name, 10, 10, 60, 50]]
        root = layout(rows, {(f"{part}1", "R1"): [name]}, part)
    records = VinDrCXR(root).load().records
    assert {(r.phrase, r.labels) for r in records} == {("other diseases", ("Other diseases",))}


def test_one_bad_box_refuses_the_finding_and_no_other(layout: Callable[..., Path]) -> None:
    rows = [A, [*B[:3], 60, 10, 24, 54], ["x", "R1", "Edema", 20, 10, 60, 50], ["x", "R2", "Edema", 190, 10, 260, 50]]
    rows += [
        ["x", "R3", "Lung cyst", "", "", "", ""],
        ["x", "R3", "ILD", 20, 10, 201, 50],
        ["y", "R1", "ILD", 1, 1, 9, 9],
    ]
    loaded = VinDrCXR(layout(rows, THREE), absent=0).read()
    assert sorted((p.code, p.where) for p in loaded.problems if p.fatal) == [
        ("box-inverted", "annotations_train.csv:3"),
        ("box-nan", "annotations_train.csv:6"),
        ("box-outside", "annotations_train.csv:5"),
        ("box-sibling", "annotations_train.csv:2"),
        ("box-sibling", "annotations_train.csv:4"),
        ("labels-missing", "annotations_train.csv:8"),
    ]
    assert [(r.phrase, r.boxes) for r in loaded.records] == [("interstitial lung disease", ((0.1, 0.1, 1.0, 0.5),))]


def test_missing_and_damaged_images(layout: Callable[..., Path]) -> None:
    rows = [[image, "R1", "Edema", 10, 10, 60, 50] for image in "abc"]
    root = layout(rows, {(image, "R1"): ["Edema"] for image in "abc"})
    (root / "train" / "a.dicom").unlink()
    (root / "train" / "b.dicom").write_bytes(b"nonsense")
    loaded = VinDrCXR(root).read()
    assert {(p.code, p.path) for p in loaded.problems if p.fatal} == {
        ("image-missing", "train/a.dicom"),
        ("image-unreadable", "train/b.dicom"),
    }
    assert [r.image for r in loaded.records] == ["c"]


def test_where_the_tables_may_lie(layout: Callable[..., Path], tmp_path: Path) -> None:
    root = layout([A], THREE)
    above = tmp_path.parent / f"{tmp_path.name}-above"
    (above / "vindr-cxr").mkdir(parents=True)
    root.rename(above / "vindr-cxr" / "1.0.0")
    assert len(VinDrCXR(above, absent=0).load().records) == 1
    (above / "vindr-cxr" / "1.0.0" / "annotations" / "image_labels_train.csv").unlink()
    with pytest.raises(DataError, match="does not exist"):
        VinDrCXR(above).load()
    with pytest.raises(DataError, match=r"(?s)annotations_train.csv.*medvl data twin vindr-cxr"):
        VinDrCXR(above / "none").load()


# --- words ------------------------------------------------------------------------------------------------------------


def test_words_can_be_changed(vindr_twin: Path) -> None:
    names = {"Nodule/Mass": "nodule|mass", NORMAL: "clear chest"}
    changed = VinDrCXR(vindr_twin, template="there is {finding}|signs of {finding}", names=names).load().records
    phrases = {label: {r.phrase for r in changed if r.labels == (label,)} for label in ("Nodule/Mass", NORMAL)}
    assert phrases[NORMAL] == {"clear chest"}
    said = {f"{start} {name}" for start in ("there is", "signs of") for name in ("nodule", "mass")}
    assert len(phrases["Nodule/Mass"]) > 1
    assert phrases["Nodule/Mass"] <= said
    assert [r.boxes for r in changed] == [r.boxes for r in VinDrCXR(vindr_twin).load().records]


def test_words_that_cannot_be() -> None:
    names = {"A": "nodule", "B": "mass"}
    with pytest.raises(ConfigError, match="no place for the name"):
        Wording(names, template="there is {finding}|signs of it")
    with pytest.raises(ConfigError, match=r"(?s)unknown label 'C' in names"):
        Wording(names, {"C": "cyst"})
    with pytest.raises(ConfigError, match="have one name"):
        Wording(names, {"B": "mass|Nodule"})
    with pytest.raises(ConfigError, match="unknown readers"):
        VinDrCXR(".", readers="two")  # type: ignore[arg-type]


def test_layout_of_the_twin(vindr_twin: Path) -> None:
    tables = {}
    for name in ("annotations_train", "annotations_test", "image_labels_train", "image_labels_test"):
        with (vindr_twin / "annotations" / f"{name}.csv").open() as file:
            tables[name] = list(csv.DictReader(file))
    for part, other in (("train", "Other diseases"), ("test", "Other disease")):
        boxes, labels = tables[f"annotations_{part}"], tables[f"image_labels_{part}"]
        images = {path.stem for path in (vindr_twin / part).iterdir()}
        assert {row["image_id"] for row in boxes} == {row["image_id"] for row in labels} == images
        assert all(path.suffix == ".dicom" for path in (vindr_twin / part).iterdir())
        assert set(labels[0]) - {"image_id", "rad_id"} == {*FINDINGS, NORMAL, other, *DISEASES}
        assert all((row["x_min"] == "") == (row["class_name"] == NORMAL) for row in boxes)
    train, test = tables["image_labels_train"], tables["image_labels_test"]
    assert "rad_id" not in test[0]
    assert len({(row["image_id"], row["rad_id"]) for row in train}) == len(train)
    assert len(train) == 3 * len({row["image_id"] for row in train})
    said: dict[str, dict[str, set[str]]] = {}
    for row in tables["annotations_train"]:
        said.setdefault(row["image_id"], {}).setdefault(row["rad_id"], set()).add(row["class_name"])
    assert any(len(set(map(frozenset, readers.values()))) > 1 for readers in said.values())  # readers disagree
