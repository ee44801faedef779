"""CT-RATE in both editions, own tables, ReXGroundingCT and Rad-ChestCT: what is on disk and what becomes of it."""

from __future__ import annotations

import csv
import gzip
import json
import os
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
from ct_rate_kin import rex

from datamodules.check import check_source
from datamodules.records import Interval
from datamodules.sources import CTRATE, RadChestCT, ReXGroundingCT, VolumeTable
from datamodules.sources.ct_rate_tables import CLASSES, patient_of_volume, volume_name
from datamodules.sources.rad_chestct import CLASSES as RAD_CLASSES
from datamodules.twins import ct_rate
from datamodules.twins.mimic_cxr import FACTORS
from datamodules.volume_records import merged
from medvl.errors import ConfigError, DataError
from medvl.io.convert import convert_volumes
from medvl.io.nifti import read_nifti
from medvl.io.volume_store import VolumeStore

STUDIES, SIZE = 14, 40


@pytest.fixture(scope="module")
def twin(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("ct") / "fixed"
    ct_rate.write(folder, STUDIES, seed=4, size=SIZE, workers=0)
    return folder


@pytest.fixture(scope="module")
def first_edition(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("ct") / "v1"
    ct_rate.write(folder, 4, seed=4, size=SIZE, workers=0, edition="v1")
    return folder


def copied(twin: Path, tmp_path: Path) -> Path:
    shutil.copytree(twin, tmp_path / "copy")
    return tmp_path / "copy"


def edited(path: Path, change: Any) -> None:
    """Change the rows of a CSV."""
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    change(rows)
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def test_ct_rate_reads_back_what_was_planted(twin: Path) -> None:
    lines = [json.loads(line) for line in (twin / FACTORS).read_text().splitlines()]
    planted = {line["study_id"]: line for line in lines}
    source = CTRATE(twin)
    loaded = source.load()
    assert {record.study_id for record in loaded.records} == set(planted)
    assert {problem.code for problem in loaded.problems} == {"split-dealt"}
    for record in loaded.records:
        told = planted[record.study_id]
        assert record.patient_id == told["patient_id"]
        assert [volume_name(path).name for path in record.volumes] == told["volumes"]  # type: ignore[union-attr]
        assert {(one.text, one.intervals) for one in record.snippets} == {  # stretches that overlap are one
            (one["text"], merged(Interval(*ends) for ends in one["intervals"])) for one in told["snippets"]
        }
        assert all(one.text in record.findings for one in record.snippets if one.present)
        assert not any(one.text in record.findings for one in record.snippets if not one.present)
        assert set(record.labels) == set(CLASSES)
        assert set(record.attributes) == {"sex", "age", "scanner", "kernel"}
        assert (record.split == "test") == record.patient_id.startswith("valid")
    assert {record.split for record in loaded.records} == {"train", "val", "test"}
    assert max(len(record.volumes) for record in loaded.records) == 2
    assert all(len(record.volumes) == 1 for record in CTRATE(twin, reconstructions="first").load().records)


def test_the_folder_dataset_will_do_and_a_table_of_snippets_can_be_named(twin: Path) -> None:
    inner = CTRATE(twin / "dataset").load().records
    assert not any(record.snippets for record in inner)
    named = CTRATE(twin / "dataset", snippets=twin / "snippets.jsonl").load().records
    assert [r.snippets for r in named] == [r.snippets for r in CTRATE(twin).load().records]


def test_the_first_edition_gives_the_same_volumes(twin: Path, first_edition: Path) -> None:
    old, new = CTRATE(first_edition), CTRATE(twin)
    assert (old.edition, new.edition) == ("v1", "fixed")
    record = next(r for r in old.load().records if len(r.volumes) == 1)
    path = record.volumes[0]
    # what a study is does not hang on how many there are
    lines = [json.loads(line) for line in (first_edition / FACTORS).read_text().splitlines()]
    index = [line["study_id"] for line in lines].index(record.study_id)
    told = json.loads((twin / FACTORS).read_text().splitlines()[index])
    other = f"{told['volumes'][0]}"
    name = volume_name(other)
    assert name is not None
    fixed = read_nifti(new.root / name.path("_fixed"))
    summary = convert_volumes(old.root, old.items([path]), workers=0)
    assert summary.counts == {"written": 1, "volumes": 1}
    stored = VolumeStore(old.root)[path]
    np.testing.assert_array_equal(stored.whole(), fixed.hu)
    np.testing.assert_allclose(stored.affine, fixed.affine, atol=1e-3)
    assert new.items([path])[0].rescale is None  # the metadata of the second edition declare one all the same


def test_what_is_left_out_is_told(twin: Path, tmp_path: Path) -> None:
    folder = copied(twin, tmp_path)
    tables = folder / "dataset"
    first, second, third, fourth = [r for r in CTRATE(twin).load().records if len(r.volumes) == 1][:4]
    name = f"{fourth.study_id}_1"
    split = first.study_id.partition("_")[0]
    (tables / f"metadata/no_chest_{split}.txt").write_text(f"{first.study_id}_1.nii.gz\n")
    (tables / second.volumes[0]).unlink()
    third_split = third.study_id.partition("_")[0]
    edited(
        tables / f"multi_abnormality_labels/{third_split}_predicted_labels.csv",
        lambda rows: [row.update({"Cardiomegaly": "3"}) for row in rows if third.study_id in row["VolumeName"]],
    )
    edited(
        tables / "radiology_text_reports/train_reports.csv",
        lambda rows: rows.append(dict.fromkeys(rows[0], "x") | {"VolumeName": "train_1267_a_4.nii.gz"}),
    )
    with (folder / "snippets.jsonl").open("a") as file:
        file.write(json.dumps({"volume": "train_99_a_1", "text": "A cyst.", "intervals": [[0, 1]]}) + "\n")
        file.write(json.dumps({"volume": name, "text": "A cyst.", "intervals": [[0]]}) + "\n")
        file.write(json.dumps({"volume": name, "text": "A cyst.", "intervals": [[9, 3]]}) + "\n")
    loaded = CTRATE(folder).read()
    codes = Counter((problem.code, problem.fatal) for problem in loaded.problems)
    for code, fatal in (
        ("no-chest", False), ("image-missing", True), ("label-outside", True), ("volume-damaged", False),
        ("snippet-stranger", False), ("interval-unreadable", True), ("interval-inverted", True),
    ):  # fmt: skip
        assert codes[code, fatal] == 1, code
    assert not {first.study_id, second.study_id, third.study_id} & {record.study_id for record in loaded.records}


def test_a_check_reads_every_volume(twin: Path, tmp_path: Path) -> None:
    assert not check_source(CTRATE(twin, reconstructions="first"), workers=0).fatal
    folder = copied(twin, tmp_path)
    record = next(r for r in CTRATE(folder).load().records if len(r.volumes) == 1)
    path = folder / "dataset" / record.volumes[0]
    path.write_bytes(path.read_bytes()[:2000])
    (problem,) = check_source(CTRATE(folder), workers=0).fatal
    assert (problem.code, problem.path, problem.where) == ("image-unreadable", record.volumes[0], record.row)
    assert "cut off" in problem.message


def test_a_folder_of_something_else_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no table of CT-RATE"):
        CTRATE(tmp_path).load()
    with pytest.raises(ConfigError, match="unknown edition"):
        CTRATE(tmp_path, edition="v3")  # type: ignore[arg-type]


def test_equal_numbers_are_not_equal_people() -> None:
    assert patient_of_volume("dataset/train_7/train_7_b_2.nii.gz") == "train_7"
    assert patient_of_volume("valid_7") == "valid_7"
    assert patient_of_volume("p10000032") == ""
    assert volume_name("train_7_b") is None


def test_mined_snippets_without_depths_are_no_negatives(twin: Path, tmp_path: Path) -> None:
    study = CTRATE(twin).load().records[0].study_id
    rows = [
        {"id": study, "snippet": "A cyst.", "references": [{}], "intervals": [{"low": 1, "high": 3, "weight": 0.5}]},
        {"id": study, "snippet": "A stone.", "references": [{}], "intervals": []},
    ]
    table = tmp_path / "mined.jsonl"
    table.write_text("\n".join(map(json.dumps, rows)))
    loaded = CTRATE(twin, snippets=table).load()
    (snippet,) = next(record for record in loaded.records if record.study_id == study).snippets
    assert (snippet.text, snippet.intervals) == ("A cyst.", (Interval(1, 3, 0.5),))
    assert "snippet-unlinked" in {problem.code for problem in loaded.problems}


def test_a_table_of_ones_own(twin: Path, tmp_path: Path) -> None:
    records = CTRATE(twin).load().records
    rows = [
        {
            "scan": path,
            "text": f"FINDINGS: {record.findings} IMPRESSION: {record.impression}",
            "labels": json.dumps(record.labels),
            "snippets": json.dumps([{"text": one.text, "intervals": one.intervals} for one in record.snippets]),
            "patient_id": record.patient_id,
            "study_id": record.study_id,
            "split": record.split,
        }
        for record in records
        for path in record.volumes
    ]
    with (tmp_path / "mine.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    loaded = VolumeTable(tmp_path / "mine.csv", {"volume": "scan"}, volumes=twin / "dataset").load()
    assert not [problem for problem in loaded.problems if problem.fatal]
    for ours, theirs in zip(loaded.records, records, strict=True):
        assert (ours.volumes, ours.findings, ours.labels, ours.split) == (
            theirs.volumes, theirs.findings, theirs.labels, theirs.split,
        )  # fmt: skip
        assert [(s.text, s.intervals) for s in ours.snippets] == [(s.text, s.intervals) for s in theirs.snippets]


def test_a_table_of_volumes_alone_is_for_predicting(twin: Path, tmp_path: Path) -> None:
    path = CTRATE(twin).load().records[0].volumes[0]
    (tmp_path / "series").mkdir()
    (tmp_path / "series" / "1.dcm").write_bytes(b"x")
    (tmp_path / "scan.nii.gz").symlink_to(twin / "dataset" / path)
    (tmp_path / "t.csv").write_text("volume\nscan.nii.gz\nseries\n")
    source = VolumeTable(tmp_path / "t.csv", follow_links=True)
    assert [(record.split, record.volumes) for record in source.load().records] == [
        ("test", ("scan.nii.gz",)),
        ("test", ("series",)),
    ]
    (tmp_path / "t.csv").write_text('volume,snippets\nseries,"[{""text"": ""x""}]"\nseries2,oops\n')
    found = VolumeTable(tmp_path / "t.csv").read()
    assert [record.snippets[0].present for record in found.records] == [False]
    assert {problem.code for problem in found.problems if problem.fatal} == {"snippets-unreadable", "image-missing"}


def test_masks_become_depths(twin: Path, tmp_path: Path) -> None:
    paths = {record.split: record.volumes[0] for record in CTRATE(twin).load().records}
    folder = rex(twin, tmp_path / "rex", {paths["train"]: "train", paths["test"]: "val"})
    source = ReXGroundingCT(folder, volumes=twin, workers=0)
    loaded = source.load()
    assert Counter(problem.code for problem in loaded.problems) == {"mask-empty": 2}
    for record in loaded.records:
        (snippet,) = record.snippets
        image: Any = nibabel.load(source.path_of(record))  # type: ignore[attr-defined]
        middles = [float((image.affine @ [0, 0, k, 1])[2]) for k in (2, 3, 4, 9)]
        step = float(image.header.get_zooms()[2])
        runs = sorted([sorted((middles[0], middles[2])), [middles[3], middles[3]]])
        expected = [(low - step / 2, high + step / 2) for low, high in runs]
        np.testing.assert_allclose([one[:2] for one in snippet.intervals], expected, atol=0.01)
    damaged = folder / "segmentations" / Path(paths["test"]).name
    damaged.write_bytes(gzip.compress(gzip.decompress(damaged.read_bytes())[:5000]))
    again = ReXGroundingCT(folder, volumes=twin, workers=0).read()
    assert [p.code for p in again.problems].count("mask-unreadable") == 1


def rex_depths(folder: Path, volumes: Path) -> list[float]:
    """Return the lower ends of the one finding's stretches."""
    (record,) = ReXGroundingCT(folder, volumes=volumes, workers=0).load().records
    return [one.low for one in record.snippets[0].intervals]


def test_masks_are_measured_anew_when_the_volume_has_moved_and_in_each_folder(twin: Path, tmp_path: Path) -> None:
    (path, *_) = [record.volumes[0] for record in CTRATE(twin).load().records if record.split == "train"]
    volumes = tmp_path / "moved"
    image: Any = nibabel.load(twin / "dataset" / path)  # type: ignore[attr-defined]
    folder = rex(twin, tmp_path / "rex", {path: "train"})
    (volumes / path).parent.mkdir(parents=True)
    for shift in (0.0, 40.0):
        affine = image.affine.copy()
        affine[2, 3] += shift
        moved = nibabel.Nifti1Image(np.asarray(image.dataobj), affine)  # type: ignore[attr-defined,no-untyped-call]
        nibabel.save(moved, volumes / path)  # type: ignore[attr-defined]
        expected = [low + shift for low in rex_depths(folder, twin)]
        for _ in range(2):  # measured, then kept
            np.testing.assert_allclose(rex_depths(folder, volumes), expected, atol=0.01)
    other = rex(twin, tmp_path / "other", {path: "train"})
    values = np.asarray(nibabel.load(folder / "segmentations" / Path(path).name).dataobj)  # type: ignore[attr-defined]
    for root, shown in ((folder, values), (other, values[..., ::-1])):  # of one name, size and time
        mask = nibabel.Nifti1Image(shown, np.eye(4))  # type: ignore[attr-defined,no-untyped-call]
        file = root / "segmentations" / Path(path).name
        file.write_bytes(gzip.compress(mask.to_bytes(), 0))  # type: ignore[no-untyped-call]
        os.utime(file, (0, 0))
    assert rex_depths(folder, volumes) == pytest.approx(expected)
    assert rex_depths(other, volumes) != pytest.approx(expected)


def test_rad_chestct_has_labels_and_no_words(tmp_path: Path) -> None:
    wanted = [f"{group[-1]}*{place}" for group in RAD_CLASSES.values() for place in ("right_lung", "other")]
    for name, scan in (("imgtrain", "trn00001"), ("imgvalid", "val00001"), ("imgtest", "tst00001")):
        cells = ["1" if column == "nodulegr1cm*other" else "0" for column in wanted]
        table = tmp_path / f"{name}_Abnormality_and_Location_Labels.csv"
        table.write_text(f"NoteAcc_DEID,{','.join(wanted)},fracture*rib\n{scan},{','.join(cells)},1\n")
        (tmp_path / "npz").mkdir(exist_ok=True)
        rng = np.random.default_rng(0)
        values = rng.integers(-1000, 100, (6, 8, 10)).astype(np.int16)
        np.savez_compressed(tmp_path / "npz" / f"{scan}.npz", ct=values)
    source = RadChestCT(tmp_path)
    records = source.load().records
    assert [(r.study_id, r.split) for r in records] == [
        ("trn00001", "train"),
        ("val00001", "val"),
        ("tst00001", "test"),
    ]
    assert len(records[0].labels) == 16
    assert [name for name, value in records[0].labels.items() if value] == ["Lung nodule"]
    assert source.patient_of(records[0]) != source.patient_of(records[1])
    path = records[0].volumes[0]
    assert convert_volumes(source.root, source.items([path]), workers=0).counts["volumes"] == 1
    stored = VolumeStore(source.root)[path]
    np.testing.assert_array_equal(stored.whole(), np.load(tmp_path / path)["ct"][::-1, ::-1, ::-1])
    assert stored.spacing == pytest.approx((0.8, 0.8, 0.8))
    table.write_text("NoteAcc_DEID,nodule*lung\ntst00001,1\n")
    with pytest.raises(DataError, match="no column is of"):
        RadChestCT(tmp_path).load()
