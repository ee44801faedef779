"""CheXpert (Plus) and Open-i in their own layouts."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from datamodules.sources.chexpert import CheXpert
from datamodules.sources.openi import OpenI
from datamodules.twins import chexpert
from datamodules.twins.mimic_cxr import FACTORS
from datamodules.twins.wording import TERMS
from medvl.errors import DataError

XML = """<?xml version="1.0" encoding="utf-8"?>
<eCitation><uId id="CXR7" /><MedlineCitation><Article><Abstract>
<AbstractText Label="COMPARISON">None.</AbstractText><AbstractText Label="INDICATION">XXXX-year-old</AbstractText>
<AbstractText Label="FINDINGS">{findings}</AbstractText>
<AbstractText Label="IMPRESSION">No acute disease.</AbstractText>
</Abstract></Article></MedlineCitation>
<MeSH><major>Opacity/lung/base/left/mild</major><major>normal</major></MeSH>
<parentImage id="CXR7_IM-1-1001" /><parentImage id="CXR7_IM-1-2001" /></eCitation>
"""


@pytest.fixture(scope="session")
def chexpert_twin(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small twin of CheXpert with the reports of CheXpert Plus; tests read it and never change it."""
    folder = tmp_path_factory.mktemp("twins") / "chexpert"
    chexpert.write(folder, 16, seed=1, size=100, workers=0)
    return folder


def test_chexpert_reads_back_what_was_planted(chexpert_twin: Path) -> None:
    lines = [json.loads(line) for line in (chexpert_twin / FACTORS).read_text().splitlines()]
    planted = {line["study_id"]: line for line in lines}
    loaded = CheXpert(chexpert_twin).load()
    assert {record.study_id for record in loaded.records} == set(planted)
    names = {term.disease: term.chexpert for term in TERMS.values()}
    for record in loaded.records:
        told = planted[record.study_id]
        assert (record.patient_id, record.split) == (told["subject_id"], told["split"])
        assert all("frontal" in path for path in record.images)
        assert record.attributes["view"] in ("AP", "PA")
        for finding in told["findings"]:
            assert any(name in record.findings.lower() for name in names[finding["disease"]])
        assert (record.labels.get("No Finding") == 1) == (not told["findings"])
    assert Counter(problem.code for problem in loaded.problems)["view-left-out"] > 0


def test_chexpert_without_plus_has_labels_only(chexpert_twin: Path, tmp_path: Path) -> None:
    for name in ("train.csv", "valid.csv", "train", "valid"):
        (tmp_path / name).symlink_to(chexpert_twin / name)
    with pytest.raises(DataError, match="no usable row") as caught:
        CheXpert(tmp_path, follow_links=True).load()
    assert "unpaired" in str(caught.value.hint)
    plus = CheXpert(tmp_path, follow_links=True, reports=chexpert_twin / chexpert.PLUS).load().records
    bare = CheXpert(tmp_path, follow_links=True, unpaired=True).load().records
    assert [(r.study_id, r.labels) for r in plus] == [(r.study_id, r.labels) for r in bare]
    assert all(record.text for record in plus)
    assert not any(record.text for record in bare)
    with pytest.raises(DataError, match="no table of CheXpert"):
        CheXpert(tmp_path / "train").load()


@pytest.fixture
def openi(tmp_path: Path) -> Path:
    """Open-i with one study of two views."""
    (tmp_path / "ecgen-radiology").mkdir()
    (tmp_path / "ecgen-radiology/7.xml").write_text(XML.format(findings="Mild\n left base opacity."))
    for view in ("1001", "2001"):
        Image.fromarray(np.full((20, 20), 90, np.uint8)).save(tmp_path / f"CXR7_IM-1-{view}.png")
    return tmp_path


def test_openi_takes_every_image_where_views_are_unknown(openi: Path) -> None:
    (record,) = OpenI(openi, split="test").load().records
    assert (record.findings, record.impression) == ("Mild left base opacity.", "No acute disease.")
    assert (record.study_id, record.labels) == ("CXR7", {"Opacity": 1, "normal": 1})
    assert record.images == ("CXR7_IM-1-1001.png", "CXR7_IM-1-2001.png")


def test_openi_leaves_out_laterals_where_views_are_known(openi: Path) -> None:
    table = "uid,filename,projection\n7,7_IM-1-1001.dcm.png,Lateral\n7,7_IM-1-2001.dcm.png,Frontal\n"
    (openi / "indiana_projections.csv").write_text(table)
    loaded = OpenI(openi, split="test").load()
    assert loaded.records[0].images == ("CXR7_IM-1-2001.png",)
    assert [problem.code for problem in loaded.problems] == ["view-left-out", "patient-unnamed"]


def test_openi_tells_what_cannot_be_read(openi: Path) -> None:
    (openi / "ecgen-radiology/8.xml").write_text("<eCitation>")
    (openi / "ecgen-radiology/9.xml").write_text('<!DOCTYPE a [<!ENTITY b "c">]><a>&b;</a>')
    (openi / "CXR7_IM-1-1001.png").unlink()
    read = OpenI(openi, split="test").read()
    told = {"report-unreadable": 2, "image-missing": 1, "patient-unnamed": 1}
    assert Counter(p.code for p in read.problems) == told
    assert read.records[0].images == ("CXR7_IM-1-2001.png",)
    (openi / "CXR7_IM-1-2001.png").unlink()
    assert [problem.fatal for problem in OpenI(openi, split="test").read().problems][:2] == [True, True]
    (record,) = OpenI(openi, split="test", unpaired=True).read().records
    assert (record.images, record.impression) == ((), "No acute disease.")
    with pytest.raises(DataError, match="no report of Open-i"):
        OpenI(openi / "none").load()
