"""Reports as data: the MIMIC-CXR layout and its traps, own tables, batches."""

from __future__ import annotations

import csv
import gzip
import json
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from datamodules.leaks import held_out
from datamodules.packing import Draw
from datamodules.records import ReportRecord, sift_reports
from datamodules.reports import ReportData
from datamodules.sources.mimic_cxr import MIMICCXR
from datamodules.sources.report_table import ReportTable
from datamodules.sources.temporal import is_temporal, timeless
from datamodules.twins import mimic_cxr
from medvl.errors import ConfigError, DataError

STUDIES = 24


@pytest.fixture(scope="session")
def mimic_twin(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small twin of MIMIC-CXR-JPG; tests read it and never change it."""
    folder = tmp_path_factory.mktemp("twins") / "mimic-cxr"
    mimic_cxr.write(folder, STUDIES, seed=0, size=120, workers=0)
    return folder


def factors(folder: Path) -> dict[str, dict[str, Any]]:
    lines = (folder / mimic_cxr.FACTORS).read_text().splitlines()
    return {f"s{line['study_id']}": line for line in map(json.loads, lines)}


def rewrite(path: Path, change: Callable[[list[dict[str, str]]], list[dict[str, str]]]) -> None:
    """Change the rows of a gzipped table."""
    with gzip.open(path, "rt", newline="") as file:
        reader = csv.DictReader(file)
        columns, rows = list(reader.fieldnames or []), list(reader)
    with gzip.open(path, "wt", newline="") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        writer.writerows(change(rows))


@pytest.fixture
def spoilt(mimic_twin: Path, tmp_path: Path) -> Path:
    """A copy of the twin that a test may change."""
    return shutil.copytree(mimic_twin, tmp_path / "mimic")


def test_what_was_planted_is_read_back(mimic_twin: Path) -> None:
    loaded, planted = MIMICCXR(mimic_twin).load(), factors(mimic_twin)
    assert {record.study_id for record in loaded.records} == set(planted)
    for record in loaded.records:
        told = planted[record.study_id]
        assert (record.patient_id, record.split) == (f"p{told['subject_id']}", told["split"])
        present = {str(one["disease"]) for one in told["findings"]}
        stated = [one for one in told["stated"] if one["status"] != "absent"]
        assert {one["disease"] for one in stated} == present  # nothing is affirmed that was not painted
        text = record.text.lower()
        for one in stated:
            assert all(word in text for word in [*one["adjectives"], *one["directions"]])
        assert "___" not in text
        assert (record.labels.get("No Finding") == 1) == (not present)
        for name, disease in (("Pleural Effusion", "pleural effusion"), ("Cardiomegaly", "cardiomegaly")):
            assert (record.labels.get(name, 0) != 0) == (disease in present)
    severities = {one["severity"] for told in planted.values() for one in told["findings"]}
    assert {"small", "large", "mild", "severe"} <= severities


def test_views_are_chosen_and_counted(mimic_twin: Path) -> None:
    with gzip.open(mimic_twin / "mimic-cxr-2.0.0-metadata.csv.gz", "rt") as file:
        views = {row["dicom_id"]: row["ViewPosition"] for row in csv.DictReader(file)}
    laterals = {name for name, view in views.items() if view in ("LATERAL", "LL")}
    frontal = MIMICCXR(mimic_twin).load()
    assert {Path(path).stem for record in frontal.records for path in record.images} == {
        name for name, view in views.items() if view in ("AP", "PA")
    }
    assert Counter(p.code for p in frontal.problems)["view-left-out"] == len(laterals) > 0
    every = MIMICCXR(mimic_twin, views="all").load()
    assert sum(len(record.images) for record in every.records) == len(views)
    assert all(Path(record.images[0]).stem not in laterals for record in every.records)  # frontal ones first


def test_tables_that_contradict_themselves(spoilt: Path) -> None:
    split = spoilt / "mimic-cxr-2.0.0-split.csv.gz"
    first = MIMICCXR(spoilt).load().records[0].study_id[1:]

    def leak(rows: list[dict[str, str]]) -> list[dict[str, str]]:
        other = {"train": "test", "validate": "test", "test": "train"}
        return [row | ({"split": other[row["split"]]} if row["study_id"] == first else {}) for row in rows]

    rewrite(split, leak)
    with pytest.raises(DataError, match="two splits") as caught:
        MIMICCXR(spoilt).load()
    assert first not in str(caught.value)
    assert caught.value.command is not None

    rewrite(split, lambda rows: [*rows, rows[0] | {"dicom_id": "x", "subject_id": "99"}])
    assert [p.code for p in MIMICCXR(spoilt).read().problems if p.fatal] == ["row-conflict"]


def test_reports_from_elsewhere(mimic_twin: Path, tmp_path: Path) -> None:
    plain = MIMICCXR(mimic_twin).load()
    archive = shutil.make_archive(str(tmp_path / "mimic-cxr-reports"), "zip", mimic_twin, "files")
    assert MIMICCXR(mimic_twin, reports=archive).load().records == plain.records
    lines = ["study,impression,findings,last_paragraph,comparison"]
    lines += [f'{r.study_id},"{r.impression}","{r.findings}","{r.other}",' for r in plain.records]
    (tmp_path / "mimic_cxr_sectioned.csv").write_text("\n".join(lines))
    assert MIMICCXR(mimic_twin, reports=tmp_path / "mimic_cxr_sectioned.csv").load() == plain


def test_missing_reports_images_and_labels(spoilt: Path) -> None:
    records = MIMICCXR(spoilt).load().records
    gone, blank, blind = records[:3]
    (spoilt / f"files/{gone.patient_id[:3]}/{gone.patient_id}/{gone.study_id}.txt").unlink()
    (spoilt / f"files/{blank.patient_id[:3]}/{blank.patient_id}/{blank.study_id}.txt").write_text("  \n FINDINGS: \n")
    for path in blind.images:
        (spoilt / path).unlink()
    read = MIMICCXR(spoilt).read()
    codes = Counter(problem.code for problem in read.problems)
    assert (codes["report-missing"], codes["text-empty"], codes["image-missing"]) == (1, 2, len(blind.images))
    assert [record.study_id for record in read.records] == [record.study_id for record in records[3:]]
    kept = MIMICCXR(spoilt, unpaired=True, labels="none").read().records
    assert [record.text for record in kept[:2]] == ["", ""]
    assert not any(record.labels for record in kept)


def test_labels_of_radiologists_name_one_otherwise(spoilt: Path) -> None:
    study = MIMICCXR(spoilt).load().records[0].study_id
    from datamodules.sources.chexpert_labels import CHEXPERT

    header = ["study_id", *(name.replace("Lung Opacity", "Airspace Opacity") for name in CHEXPERT)]
    values = ["1.0" if name == "Airspace Opacity" else "-1" if name == "Edema" else "" for name in header[1:]]
    (spoilt / "mimic-cxr-2.1.0-test-set-labeled.csv").write_text(
        f"{','.join(header)}\n{study[1:]},{','.join(values)}\n"
    )
    found = {r.study_id: r.labels for r in MIMICCXR(spoilt, labels="radiologist").load().records}
    assert found[study] == {"Lung Opacity": 1, "Edema": -1}
    assert sum(map(len, found.values())) == 2


def test_a_damaged_table_names_its_place(spoilt: Path) -> None:
    table = spoilt / "mimic-cxr-2.0.0-split.csv.gz"
    table.write_bytes(table.read_bytes()[:-40])
    with pytest.raises(DataError, match="cannot be read") as caught:
        MIMICCXR(spoilt).load()
    assert table.name in str(caught.value.where)
    table.unlink()
    with pytest.raises(DataError, match="is not here"):
        MIMICCXR(spoilt).load()
    with pytest.raises(ConfigError, match="unknown labels 'chexbert'"):
        MIMICCXR(spoilt, labels="chexbert")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="unknown temporal"):
        MIMICCXR(spoilt, temporal="strip")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "cut", "drop"),
    [
        ("Unchanged small effusion. Clear lungs.", "Small effusion. Clear lungs.", "Clear lungs."),
        ("No interval change. Large heart.", "Large heart.", "Large heart."),
        ("As compared to the previous radiograph, the heart is large.", "The heart is large.", ""),
        ("Effusion has increased since prior.", "Effusion has increased.", ""),
        ("The newborn is renewed.", "The newborn is renewed.", "The newborn is renewed."),
    ],
)
def test_wording_in_time(text: str, cut: str, drop: str) -> None:
    assert (timeless(text, "keep"), timeless(text, "cut"), timeless(text, "drop")) == (text, cut, drop)
    assert is_temporal(text) == (text != drop)


def test_wording_in_time_is_counted(mimic_twin: Path) -> None:
    kept, cut = MIMICCXR(mimic_twin).load(), MIMICCXR(mimic_twin, temporal="cut").load()
    told = [Counter(p.code for p in loaded.problems)["temporal-wording"] for loaded in (kept, cut)]
    assert told[0] == told[1] == sum(is_temporal(record.text) for record in kept.records) > 0
    assert not any("nchanged" in record.text for record in cut.records)
    assert kept.fingerprint != cut.fingerprint


def study(**given: object) -> ReportRecord:
    return ReportRecord(**{"images": ("a.png",), "patient_id": "p", "study_id": "s", "split": "train", "source": "t",
                           "findings": "F.", "row": "t.csv:2", **given})  # type: ignore[arg-type]  # fmt: skip


def test_sifting() -> None:
    records = [study(), study(row="t.csv:3"), study(study_id="b", split="x"), study(study_id="", row="t.csv:5")]
    usable, problems = sift_reports([*records, study(study_id="c", findings=" "), study(study_id="d", images=())])
    assert usable == records[:1]
    assert [p.code for p in problems] == ["duplicate", "split-unknown", "study-unnamed", "text-empty", "image-none"]
    assert [p.fatal for p in problems] == [True, True, True, False, False]


def test_the_text_of_a_record() -> None:
    record = study(impression="I.", other="")
    assert [record.text_of(which) for which in ("both", "findings", "impression")] == ["F.\nI.", "F.", "I."]
    assert study().text_of("impression") == "F."
    assert study(findings="", other="O.").text == "O."


def write_table(folder: Path, *lines: str) -> Path:
    for name in ("a", "b", "c", "d"):
        grey = np.full((40, 30), 9 + ord(name), np.uint8)
        grey[:, :2] = 0  # an image of one grey throughout is refused
        Image.fromarray(grey).save(folder / f"{name}.png")
    (folder / "t.csv").write_text("\n".join(lines))
    return folder / "t.csv"


def test_an_own_table(tmp_path: Path) -> None:
    table = write_table(
        tmp_path,
        "file;text;patient_id;study_id;labels;split;sex",
        'a.png;"FINDINGS: Clear. IMPRESSION: x";1;7;Edema|Mass;train;F',
        "b.png;;1;7;;train;F",
        'c.png;No mass.;2;;"{""Mass"": 0, ""Edema"": -1}";valid;',
        "d.png;nan;3;;;test;",
        "a.png;Twice.;4;8;[1;test;",
    )
    with pytest.raises(DataError, match="no column 'image'"):
        ReportTable(table).load()
    loaded = ReportTable(table, columns={"image": "file"}).read()
    first, second = loaded.records
    assert (first.images, first.study_id, first.labels) == (("a.png", "b.png"), "7", {"Edema": 1, "Mass": 1})
    assert (second.study_id, second.patient_id, second.split, second.text) == ("c.png", "2", "val", "No mass.")
    assert second.labels == {"Mass": 0, "Edema": -1}
    assert sorted(p.code for p in loaded.problems) == ["labels-unreadable", "text-empty"]
    unpaired = ReportTable(table, columns={"image": "file"}, unpaired=True).read().records
    assert [record.study_id for record in unpaired] == ["7", "c.png", "d.png"]


def test_patients_are_dealt_where_no_split_is_given(tmp_path: Path) -> None:
    rows = [f"{name}.png,Text {name}.,{name}" for name in "abcd"]
    loaded = ReportTable(write_table(tmp_path, "image,text,patient_id", *rows)).load()
    assert len(loaded.records) == 4
    assert {record.split for record in loaded.records} == {"train", "val", "test"}
    assert any(problem.code == "split-dealt" for problem in loaded.problems)


@pytest.mark.parametrize("several", ["draw", "first", "each"])
def test_batches(mimic_twin: Path, several: str) -> None:
    data = ReportData(MIMICCXR(mimic_twin, views="all"), image_size=32, batch_size=4, several=several)  # type: ignore[arg-type]
    data.setup("fit")
    records = data.records("train")
    loader = data.train_dataloader()
    loader.sampler.set_epoch(3)  # type: ignore[attr-defined]
    batches = list(loader)
    assert [len(batch) for batch in batches] == [4] * len(batches)
    assert len(batches) == sum(len(r.images) if several == "each" else 1 for r in records) // 4
    for batch in batches:
        assert batch.images.shape == (4, 1, 32, 32)
        assert 0 <= float(batch.images.min()) < float(batch.images.max()) <= 1
        assert batch.texts == [record.text for record in batch.records]
        assert all(path in record.images for path, record in zip(batch.paths, batch.records, strict=True))
        assert batch.label_names == data.label_names
        for row, record in zip(batch.labels.tolist(), batch.records, strict=True):
            assert {n: v for n, v in zip(batch.label_names, row, strict=True) if v == v} == record.labels
        assert batch.has_image.all()
        assert batch.to(torch.device("cpu")).study_ids == batch.study_ids
    evaluated = [path for batch in data.val_dataloader() for path in batch.paths]
    expected = [r.images if several == "each" else r.images[:1] for r in data.records("val")]
    assert evaluated == [path for images in expected for path in images]


def test_a_drawn_image_depends_on_the_epoch_alone(mimic_twin: Path) -> None:
    data = ReportData(MIMICCXR(mimic_twin, views="all"), image_size=16, batch_size=4)
    data.setup("fit")
    dataset = data.dataset("train")
    draws = [Draw(epoch, dataset.pairs_of_image) for epoch in range(6)]
    shown = [dataset[draw].paths for draw in draws]
    assert shown == [dataset[draw].paths for draw in draws]
    assert len({tuple(paths) for paths in shown}) > 1


def test_blind_controls(mimic_twin: Path) -> None:
    data = ReportData(MIMICCXR(mimic_twin), image_size=16, batch_size=64, blind="text")
    data.setup("fit")
    (batch,) = data.train_dataloader()
    own = [record.text for record in batch.records]
    assert batch.texts != own
    assert sorted(batch.texts) == sorted(own)
    data.blind = "image"
    assert not next(iter(data.train_dataloader())).images.any()


def test_halves_go_into_batches(tmp_path: Path) -> None:
    table = write_table(tmp_path, "image,text,split", "a.png,,test", ",Only words.,test", "b.png,Both.,test")
    data = ReportData(ReportTable(table, unpaired=True), image_size=16)
    data.setup("test")
    (batch,) = data.test_dataloader()
    assert batch.has_image.tolist() == [True, False, True]
    assert batch.has_text.tolist() == [False, True, True]
    assert batch.labels.shape == (3, 0)


def test_a_damaged_image_leaves_its_study_the_others(tmp_path: Path) -> None:
    rows = ["a.png,One.,1,test", "b.png,,1,test", "c.png,Two.,2,test"]
    table = write_table(tmp_path, "image,text,study_id,split", *rows)
    (tmp_path / "b.png").write_bytes(b"no image")
    data = ReportData(ReportTable(table), image_size=16)
    with pytest.warns(UserWarning, match="their studies have others"):
        data.setup("test")
    assert [record.images for record in data.records("test")] == [("a.png",), ("c.png",)]
    (tmp_path / "c.png").write_bytes(b"no image")
    with pytest.raises(DataError, match="cannot be used"):
        ReportData(ReportTable(table), image_size=16).setup("test")


def test_patients_held_out_elsewhere_are_refused(mimic_twin: Path, tmp_path: Path) -> None:
    source = MIMICCXR(mimic_twin)
    patient = next(record.patient_id for record in source.load().records if record.split == "train")
    (tmp_path / "avoid.csv").write_text(f"subject_id\n{patient[1:]}\n")
    with pytest.raises(DataError, match="held out"):
        ReportData(source, guard=str(tmp_path / "avoid.csv")).setup("fit")
    everyone = MIMICCXR(mimic_twin, split="test")
    with pytest.raises(DataError, match="held out"):
        ReportData(source, guard_sources=[everyone]).setup("fit")
    assert patient[1:] not in held_out(source)  # of a source those of val and test are kept apart
