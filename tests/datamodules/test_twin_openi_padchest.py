"""Twins of Open-i and PadChest: their sources read back what was painted and said, through what is odd in each."""

from __future__ import annotations

import csv
import json
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from datamodules.reports import ReportData
from datamodules.sources import OpenI, PadChest
from datamodules.twins import openi, padchest
from datamodules.twins.mimic_cxr import FACTORS
from datamodules.twins.wording import TERMS

STUDIES, SIZE = 60, 32


@pytest.fixture(scope="module")
def openi_twin(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("twins") / "openi"
    openi.write(folder, STUDIES, seed=0, size=SIZE, workers=0)
    return folder


@pytest.fixture(scope="module")
def padchest_twin(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("twins") / "padchest"
    padchest.write(folder, STUDIES, seed=0, size=SIZE, workers=0)
    return folder


def factors(folder: Path) -> dict[str, dict[str, Any]]:
    lines = [json.loads(line) for line in (folder / FACTORS).read_text().splitlines()]
    return {line["study_id"]: line for line in lines}


def test_openi_codes_say_what_was_painted(openi_twin: Path) -> None:
    assert {term.disease for term in TERMS.values()} == set(openi.MESH)
    loaded, painted = OpenI(openi_twin, unpaired=True).load(), factors(openi_twin)
    assert {record.study_id for record in loaded.records} == set(painted)
    for record in loaded.records:
        diseases = {one["disease"] for one in painted[record.study_id]["findings"]}
        assert set(record.labels) == {openi.MESH[name].partition("/")[0] for name in diseases} or {"normal"}
        assert record.patient_id == record.study_id
    assert {record.split for record in loaded.records} == {"train", "val", "test"}
    assert any("XXXX" in record.findings for record in loaded.records)
    numbers = sorted(int(path.stem) for path in (openi_twin / openi.REPORTS).glob("*.xml"))
    assert numbers[0] == 1
    assert numbers != list(range(1, STUDIES + 1))  # some are missing, as in the original


def test_openi_codes_have_side_and_severity_as_stated(openi_twin: Path) -> None:
    seen = 0
    for name, one in factors(openi_twin).items():
        text = (openi_twin / openi.REPORTS / f"{name.removeprefix('CXR')}.xml").read_text()
        for stated in one["stated"]:
            words = [openi.MESH[stated["disease"]], *stated["directions"], *stated["adjectives"]]
            assert (f"<major>{'/'.join(words)}</major>" in text) == (stated["status"] != "absent")
            seen += len(words) == 3
    assert seen > 20


def test_openi_has_studies_without_parts_and_without_images(openi_twin: Path) -> None:
    loaded = OpenI(openi_twin).read()
    codes = Counter(problem.code for problem in loaded.problems)
    assert codes["view-left-out"] > 20
    assert codes["image-none"] > 0
    assert 0 < sum(not record.findings for record in loaded.records) < STUDIES / 4
    assert not any(problem.fatal for problem in loaded.problems)
    everything = OpenI(openi_twin, views="all").read().records
    known = {record.study_id: record.images for record in loaded.records}
    assert max(map(len, known.values())) == 2  # a second frontal
    assert any(len(record.images) > len(known[record.study_id]) for record in everything)
    assert any(image.count("-") == 3 for record in everything for image in record.images)


def test_openi_views_are_known_of_the_study_named_twice_too(openi_twin: Path, tmp_path: Path) -> None:
    first = next(record for record in OpenI(openi_twin).load().records if record.study_id == "CXR1")
    assert first.images[0].startswith("CXR1_1_IM-")
    assert first.attributes == {"view": "Frontal"}
    openi.write(tmp_path / "twin", 6, seed=0, size=SIZE, workers=0, projections=False)
    bare = OpenI(tmp_path / "twin", unpaired=True).load()
    assert len(list((tmp_path / "twin" / openi.IMAGES).iterdir())) == sum(len(one.images) for one in bare.records)
    assert not any(record.attributes for record in bare.records)
    with Image.open(tmp_path / "twin" / openi.IMAGES / bare.records[0].images[0]) as image:
        assert image.mode == "L"


def test_padchest_labels_say_what_was_painted(padchest_twin: Path) -> None:
    loaded, told = PadChest(padchest_twin, unpaired=True).load(), factors(padchest_twin)
    assert {record.study_id for record in loaded.records} <= set(told)
    kinds = {padchest.LABELS.get(kind, kind): term.disease for kind, term in TERMS.items()}
    splits = defaultdict(set)
    for record in loaded.records:
        found = {kinds[name] for name in record.labels if name != "normal"}
        assert found == {one["disease"] for one in told[record.study_id]["findings"]}
        assert record.labels == {name: 1 for name in record.labels}
        assert record.patient_id == told[record.study_id]["subject_id"]
        splits[record.patient_id].add(record.split)
    assert all(len(own) == 1 for own in splits.values())
    assert {split for own in splits.values() for split in own} == {"train", "val", "test"}
    assert len(splits) < len(loaded.records)  # some patients came twice


def test_padchest_reports_are_stems_and_deny(padchest_twin: Path) -> None:
    texts = {record.study_id: record.text for record in PadChest(padchest_twin).load().records}
    assert all(text == text.lower() and text.isascii() and text.endswith(" .") for text in texts.values())
    assert not any(word in text.split() for text in texts.values() for word in ("el", "la", "derrame", "pulmonares"))
    effusion = "pleural effusion"
    told = {name: one for name, one in factors(padchest_twin).items() if name in texts}
    ill = [name for name, one in told.items() if effusion in {found["disease"] for found in one["findings"]}]
    assert ill
    assert all("derram" in texts[name] or "liquid" in texts[name] for name in ill)
    assert any(stated["status"] == "absent" for one in told.values() for stated in one["stated"])
    assert sum("sin cambi" in text for text in texts.values()) >= 3


def test_padchest_has_what_is_odd_in_its_table(padchest_twin: Path) -> None:
    with (padchest_twin / padchest.TABLE).open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows[0]) == 36
    assert {"PA", "L"} < {row["Projection"] for row in rows}
    assert any("' " in row["Labels"] for row in rows)
    assert any(row["Report"] == "nan" for row in rows)
    assert {row["MethodLabel"] for row in rows} == {"Physician", "RNN_model"}
    assert max(Counter(row["StudyID"] for row in rows).values()) >= 2
    for row in rows[:20]:
        with Image.open(padchest_twin / row["ImageDir"] / row["ImageID"]) as image:
            assert image.mode.startswith("I")
            assert image.size == (int(row["Columns_DICOM"]), int(row["Rows_DICOM"]))
            assert np.asarray(image).max() > 255
    loaded = PadChest(padchest_twin).read()
    codes = Counter(problem.code for problem in loaded.problems)
    assert codes["view-left-out"] > 20
    assert codes["label-left-out"] > 2
    assert codes["text-empty"] > 0
    assert codes["temporal-wording"] >= 3
    assert not any(problem.fatal for problem in loaded.problems)


def test_both_become_batches(openi_twin: Path, padchest_twin: Path) -> None:
    for source in (OpenI(openi_twin), PadChest(padchest_twin)):
        data = ReportData(source, image_size=SIZE, batch_size=8, cache="none", on_error="quarantine", max_quarantine=1)
        with pytest.warns(UserWarning, match="become|dealt|by a hash"):
            data.setup("fit")
        batch = next(iter(data.train_dataloader()))
        assert batch.images.shape == (8, 1, SIZE, SIZE)
        assert batch.has_image.all()
        assert batch.has_text.all()
        assert (batch.labels == 1).any(dim=1).all()
