"""RadGenome-ChestCT, TotalSegmentator, DeepLesion and Merlin: small folders in their layouts, read and converted."""

from __future__ import annotations

import csv
import zipfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from datamodules.check import check_source
from datamodules.leaks import audit
from datamodules.records import Interval
from datamodules.sources import DeepLesion, Merlin, RadGenomeChestCT, TotalSegmentator
from datamodules.sources.structures import STRUCTURES
from datamodules.sources.volumes import VolumeSource
from medvl.errors import ConfigError, DataError
from medvl.io.convert import convert_volumes
from medvl.io.volume_store import VolumeStore

SHAPE, STEP, BOTTOM = (6, 5, 40), 3.0, -500.0
AFFINE = np.array([[-2.0, 0, 0, 9], [0, -2, 0, 7], [0, 0, STEP, BOTTOM], [0, 0, 0, 1]])


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEDVL_CACHE", str(tmp_path / "cache"))


def save(path: Path, values: NDArray[Any]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(values, AFFINE), path)  # type: ignore[no-untyped-call,attr-defined]
    return path


def scan(path: Path) -> Path:
    return save(path, np.random.default_rng(0).integers(-1000, 200, SHAPE).astype(np.int16))


def mask(path: Path, *slices: slice) -> Path:
    values = np.zeros(SHAPE, np.uint8)
    for at in slices:
        values[1:3, 1:3, at] = 1
    return save(path, values)


def covered(first: int, stop: int) -> tuple[float, float]:
    return BOTTOM + STEP * (first - 0.5), BOTTOM + STEP * (stop - 0.5)


def write_rows(path: Path, columns: Sequence[str], *rows: Sequence[object], delimiter: str = ",") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        csv.writer(file, delimiter=delimiter).writerows([columns, *rows])


def codes(source: VolumeSource) -> Counter[tuple[str, bool]]:
    return Counter((problem.code, problem.fatal) for problem in source.read().problems)


def radgenome(folder: Path) -> Path:
    root = folder / "dataset"
    columns = ("Volumename", "Anatomy", "Sentence")
    write_rows(
        root / "radgenome_files/train_region_report.csv",
        columns,
        ("train_1_a_1.nii.gz", "lung", "A nodule in the lung."),
        ("train_1_a_1.nii.gz", "trachea and bronchie", "The trachea is open."),
        ("train_1_a_1.nii.gz", "", "Sections were taken."),
        ("train_1_a_1.nii.gz", "thyroid", "The thyroid is normal."),
        ("train_1_a_1.nii.gz", "heart", "The heart is normal."),
        ("scan 7", "heart", "The heart is large."),
    )
    write_rows(
        root / "radgenome_files/validation_region_report.csv", columns, ("valid_1_a_2.nii.gz", "lung", "No nodule.")
    )
    masks = root / "train_region_mask/seg_train_1_a_1"
    mask(masks / "lung.nii.gz", slice(5, 30))
    mask(masks / "trachea_and_bronchie.nii.gz", slice(20, 40))
    mask(masks / "thyroid.nii.gz")
    broken = mask(masks / "heart.nii.gz", slice(1, 4))
    broken.write_bytes(broken.read_bytes()[:40])
    mask(root / "valid_region_mask/seg_valid_1_a_2/lung.nii.gz", slice(0, 40))
    scan(root / "train_preprocessed/train_1/train_1_a/train_1_a_1.nii.gz")
    scan(root / "valid_preprocessed/valid_1/valid_1_a/valid_1_a_2.nii.gz")
    return folder


def test_radgenome_grounds_sentences_in_regions(tmp_path: Path) -> None:
    source = RadGenomeChestCT(radgenome(tmp_path / "rg"), workers=0)
    train, test = source.load().records
    assert (train.split, test.split, train.patient_id) == ("train", "test", "train_1")
    assert [(one.text, one.organ, one.intervals) for one in train.snippets] == [
        ("A nodule in the lung.", "lung", (Interval(*covered(5, 30)),)),
        ("The trachea is open.", "trachea and bronchie", (Interval(*covered(20, 40)),)),
    ]
    assert train.findings.count(".") == 5
    assert codes(source) == {
        ("volume-unnamed", True): 1, ("region-unknown", False): 1, ("mask-unreadable", False): 1,
    }  # fmt: skip
    assert not [p for p in check_source(source, workers=0).fatal if p.code != "volume-unnamed"]
    assert audit([source])[source.name, source.name] == []
    with pytest.raises(DataError, match="no table of RadGenome"):
        RadGenomeChestCT(tmp_path / "nowhere").load()


def totalsegmentator(folder: Path) -> Path:
    write_rows(
        folder / "meta.csv",
        ("image_id", "age", "gender", "split"),
        ("s0001", 61, "m", "train"),
        ("s0002", 50, "f", "val"),
        ("s0003", 40, "f", "test"),
        ("../s4", 1, "f", "test"),
        delimiter=";",
    )
    for subject in ("s0001", "s0002", "s0003"):
        scan(folder / subject / "ct.nii.gz")
        mask(folder / subject / "segmentations/liver.nii.gz", slice(10, 30), slice(34, 35))
    segmentations = folder / "s0001/segmentations"
    mask(segmentations / "lung_upper_lobe_left.nii.gz", slice(25, 40))
    mask(segmentations / "urinary_bladder.nii.gz")
    mask(segmentations / "tail.nii.gz", slice(1, 3))
    return folder


def test_totalsegmentator_speaks_of_structures_and_their_ends(tmp_path: Path) -> None:
    root = totalsegmentator(tmp_path / "ts")
    source = TotalSegmentator(root, workers=0)
    first, *others = source.load().records
    assert [record.split for record in (first, *others)] == ["train", "val", "test"]
    found: dict[str, set[tuple[Interval, ...]]] = {}
    for one in first.snippets:
        found.setdefault(one.organ, set()).add(one.intervals)
        assert STRUCTURES[one.organ][0] in one.text.lower()
    low, high = covered(10, 30)  # slice 34 is a speck of the segmentation
    assert found["liver"] == {
        (Interval(low, high),), (Interval(low - 10, low + 10),), (Interval(high - 10, high + 10),),
    }  # fmt: skip
    low, high = covered(25, 40)  # cut off by the scan's upper end
    assert found["lung_upper_lobe_left"] == {(Interval(low, high),), (Interval(low - 10, low + 10),)}
    assert found["urinary_bladder"] == {()}
    assert set(found) == {"liver", "lung_upper_lobe_left", "urinary_bladder"}
    assert first.attributes == {"sex": "m", "age": "61"}
    told = {("row-unreadable", True): 1, ("structure-unknown", False): 1, ("patient-unnamed", False): 1}
    assert codes(source) == told
    both = TotalSegmentator(root, language="both", workers=0).load().records[0].snippets
    german = [one.text for one in both if one.organ == "lung_upper_lobe_left" and "links" in one.text]
    assert len(german) == 2
    assert all("Lungenoberlappen links" in text for text in german)
    assert len({one.text for one in both}) == len(both) == 2 * len(first.snippets) - 1
    (folder := tmp_path / "cache").mkdir(exist_ok=True)
    kept = {path: path.stat().st_mtime_ns for path in folder.rglob("*.json")}
    assert len(kept) == 3
    mask(root / "s0002/segmentations/liver.nii.gz", slice(2, 20))
    anew = TotalSegmentator(root, workers=0).load().records[1]
    assert covered(2, 20) in {one.extent for one in anew.snippets}
    with pytest.raises(ConfigError, match="unknown language"):
        TotalSegmentator(root, language="fr")  # type: ignore[arg-type]


def test_a_subject_without_masks_is_told(tmp_path: Path) -> None:
    root = totalsegmentator(tmp_path / "ts")
    broken = root / "s0002/segmentations/liver.nii.gz"
    broken.write_bytes(b"")
    for path in (root / "s0003/segmentations").iterdir():
        path.unlink()
    assert codes(TotalSegmentator(root, workers=0))["mask-unreadable", False] == 2
    assert codes(TotalSegmentator(root, workers=0))["text-empty", False] == 2


def test_there_are_117_structures_with_names_of_their_own() -> None:
    assert len(STRUCTURES) == 117
    for language in (0, 1):
        assert len({names[language] for names in STRUCTURES.values()}) == 117


def deeplesion(folder: Path) -> Path:
    columns = (
        "File_name", "Patient_index", "Coarse_lesion_type", "Possibly_noisy", "Spacing_mm_px_", "Train_Val_Test",
    )  # fmt: skip
    write_rows(
        folder / "DL_info.csv",
        columns,
        ("000001_01_01_012.png", 1, -1, 0, "0.8, 0.7, 5", 1),
        ("000001_01_01_014.png", 1, -1, 0, "0.8, 0.7, 5", 1),
        ("000001_01_01_041.png", 1, -1, 0, "0.8, 0.7, 5", 1),
        ("000002_01_02_003.png", 2, 4, 0, "0.8, 0.7, 2.5", 2),
        ("000003_01_01_003.png", 3, 5, 0, "1, 1, 1", 3),
        ("000003_01_01_004.png", 3, 5, 1, "1, 1, 1", 3),
        ("oops", 4, 5, 0, "1, 1, 1", 3),
        ("000005_01_01_004.png", 5, 5, 0, "wide", 3),
        ("000006_01_01_004.png", 6, 5, 0, "1, 1, 1", 9),
        ("000007_01_01_004.png", 7, 5, 0, "1, 1, 1", 3),
    )
    slabs = {"000001_01_01": [*range(10, 18), *range(40, 44)], "000002_01_02": range(1, 6), "000003_01_01": range(1, 6)}
    rng = np.random.default_rng(1)
    for series, numbers in slabs.items():
        (folder / "Images_png" / series).mkdir(parents=True)
        for number in numbers:
            hu = rng.integers(-900, 200, (7, 6))
            hu[0, 0] = number
            Image.fromarray((hu + 32768).astype(np.uint16)).save(folder / "Images_png" / series / f"{number:03d}.png")
    return folder


def test_deeplesion_slabs_are_volumes_and_key_slices_depths(tmp_path: Path) -> None:
    root = deeplesion(tmp_path / "dl")
    source = DeepLesion(root)
    records = {record.study_id: record for record in source.load().records}
    assert set(records) == {
        "000001_01_01/010", "000001_01_01/040", "000002_01_02/001", "000003_01_01/001",
    }  # fmt: skip
    assert [record.split for record in records.values()] == ["train", "train", "val", "test"]
    assert len({record.patient_id for record in records.values()}) == 3
    untyped, typed = records["000001_01_01/010"].snippets, records["000002_01_02/001"].snippets
    assert [(one.text, one.intervals) for one in untyped] == [
        ("There is a lesion.", (Interval(-72.5, -67.5), Interval(-62.5, -57.5)))
    ]
    assert [(one.text, one.organ) for one in typed] == [("Lesion: liver.", "liver")]
    assert codes(source) == {
        ("lesion-noisy", False): 1, ("slice-unnamed", True): 1, ("spacing-unreadable", True): 1,
        ("split-unknown", True): 1, ("image-missing", True): 1, ("snippet-merged", False): 1,
    }  # fmt: skip
    paths = [path for record in records.values() for path in record.volumes]
    summary = convert_volumes(source.root, source.items(paths), workers=0)
    assert summary.counts == {"written": 4, "volumes": 4}
    stored = VolumeStore(source.root)[records["000001_01_01/010"].volumes[0]]
    assert stored.shape == (8, 7, 6)
    assert stored.spacing == pytest.approx((5, 0.7, 0.8))
    (snippet,) = untyped
    for interval, key in zip(snippet.intervals, (14, 12), strict=True):
        index = stored.depth.nearest(interval.middle)
        assert stored.whole()[index, -1, -1] == key  # the first pixel lies at the front and the patient's right
        assert stored.sidecar.at(interval.middle).image == key
    assert convert_volumes(source.root, source.items(paths), workers=0).counts["kept"] == 4
    Image.fromarray(np.full((7, 6), 32000, np.uint16)).save(root / "Images_png/000001_01_01/015.png")
    assert convert_volumes(source.root, source.items(paths), workers=0).counts["written"] == 1
    (root / "Images_png/000002_01_02/002.png").write_bytes(b"no picture")
    assert {p.code for p in check_source(DeepLesion(root), workers=0).fatal} >= {"image-unreadable"}
    assert DeepLesion(root, language="de").load().records[2].snippets[0].text == "Läsion: Leber."


def workbook(path: Path, *rows: Sequence[str]) -> None:
    """Write the least that a workbook is."""
    head = '<?xml version="1.0" encoding="UTF-8" standalone="yes"?>'
    main = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
    office = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
    package = "http://schemas.openxmlformats.org/package/2006"
    kind = "application/vnd.openxmlformats-officedocument.spreadsheetml"
    cells = "".join(
        f'<row r="{n}">' + "".join(f'<c r="{"ABC"[i]}{n}" t="inlineStr"><is><t>{text}</t></is></c>'
                                  for i, text in enumerate(row)) + "</row>"
        for n, row in enumerate(rows, 1)
    )  # fmt: skip
    parts = {
        "[Content_Types].xml": f'<Types xmlns="{package}/content-types"><Default Extension="rels" ContentType='
        '"application/vnd.openxmlformats-package.relationships+xml"/><Override PartName="/xl/workbook.xml" '
        f'ContentType="{kind}.sheet.main+xml"/><Override PartName="/xl/worksheets/sheet1.xml" '
        f'ContentType="{kind}.worksheet+xml"/></Types>',
        "_rels/.rels": f'<Relationships xmlns="{package}/relationships"><Relationship Id="r1" Type='
        f'"{office}/officeDocument" Target="xl/workbook.xml"/></Relationships>',
        "xl/workbook.xml": f'<workbook xmlns="{main}" xmlns:r="{office}"><sheets><sheet name="a" sheetId="1" '
        'r:id="r1"/></sheets></workbook>',
        "xl/_rels/workbook.xml.rels": f'<Relationships xmlns="{package}/relationships"><Relationship Id="r1" Type='
        f'"{office}/worksheet" Target="worksheets/sheet1.xml"/></Relationships>',
        "xl/worksheets/sheet1.xml": f'<worksheet xmlns="{main}"><sheetData>{cells}</sheetData></worksheet>',
    }
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in parts.items():
            archive.writestr(name, head + content)


def test_merlin_has_reports_in_a_workbook_and_findings(tmp_path: Path) -> None:
    root = tmp_path / "merlin"
    for study in ("AC1", "AC2", "AC3"):
        scan(root / f"merlin_data/{study}.nii.gz")
    rows = (
        ("study id", "Findings", "Split"),
        ("AC1", "Liver: normal.", "train"),
        ("AC2", "A cyst.", "val"),
        ("AC3", "A stone.", "test"),
        ("", "Lost.", "test"),
        ("AC9", "Not there.", "test"),
    )
    workbook(root / "reports_final.xlsx", *rows)
    write_rows(
        root / "zero_shot_findings_disease_cls.csv",
        ("study id", "ascites", "renal_cyst"),
        ("AC2", -1, 1),
        ("AC3", 0, 0),
    )
    source = Merlin(root)
    records = source.load().records
    assert [(r.study_id, r.split, r.text, r.row) for r in records] == [
        ("AC1", "train", "Liver: normal.", "reports_final.xlsx:2"),
        ("AC2", "val", "A cyst.", "reports_final.xlsx:3"),
        ("AC3", "test", "A stone.", "reports_final.xlsx:4"),
    ]
    assert [r.labels for r in records] == [{}, {"renal_cyst": 1}, {"ascites": 0, "renal_cyst": 0}]
    told = {("study-unnamed", True): 1, ("image-missing", True): 1, ("patient-unnamed", False): 1}
    assert codes(source) == told
    (root / "reports_final.xlsx").unlink()
    write_rows(root / "reports_final.csv", *rows)
    assert [r.text for r in Merlin(root).load().records] == [r.text for r in records]
    (root / "reports_final.csv").rename(root / "reports_final.xlsx")
    with pytest.raises(DataError, match="workbook cannot be read"):
        Merlin(root).load()
