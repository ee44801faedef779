"""Weak targets: where the organ lies, in training and validation alone, for those whose references nobody knows."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from datamodules.organs import OrganExtents, read_extents
from datamodules.records import Interval, Snippet, VolumeRecord
from datamodules.sources import CTRATE
from datamodules.twins import ct_rate
from datamodules.volumes import VolumeData
from medvl.errors import ConfigError, DataError


def record(number: int) -> VolumeRecord:
    snippets = (
        Snippet("Nodule.", (Interval(10, 14),), organ="lung"),
        Snippet("Stone.", (Interval(2, 3),), organ="kidney"),
        Snippet("No cyst.", (), organ="lung"),
    )
    return VolumeRecord(("a.nii.gz",), f"p{number}", f"s{number}", "train", "test", snippets=snippets)


def table(folder: Path, **organs: object) -> str:
    path = folder / "organs.jsonl"
    path.write_text(json.dumps({"study_id": "s0", "organs": organs}) + "\n")
    return str(path)


def test_a_sentence_lies_where_its_organ_does(tmp_path: Path) -> None:
    path = table(tmp_path, lung=[0, 90], liver=[-200, -50])
    first, second = OrganExtents(path).applied([record(0), record(1)])
    assert first.snippets == (Snippet("Nodule.", (Interval(0, 90),), organ="lung"),)
    assert second.snippets == ()  # of which nothing is known
    weighted = table(tmp_path, lung=[[0, 40, 3], [60, 90, 1]])
    (first,) = OrganExtents(weighted).applied([record(0)])
    assert first.snippets[0].intervals == (Interval(0, 40, 3), Interval(60, 90, 1))


def test_a_share_of_the_patients_is_known(tmp_path: Path) -> None:
    records = [record(number) for number in range(400)]
    made = OrganExtents(None, known=0.25).applied(records)
    kept = [a == b for a, b in zip(made, records, strict=True)]
    assert 0.18 < sum(kept) / 400 < 0.32
    assert made == OrganExtents(None, known=0.25).applied(records)
    assert made != OrganExtents(None, known=0.25, seed=1).applied(records)
    assert OrganExtents(None, known=1.0).applied(records) == records
    assert all(not one.snippets for one, known in zip(made, kept, strict=True) if not known)


def test_what_cannot_be_is_said(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="known"):
        OrganExtents(None, known=1.5)
    with pytest.raises(DataError, match="no sentence's organ"):
        OrganExtents(table(tmp_path, spleen=[0, 9])).applied([record(0)])
    for wrong in (["lung"], {"lung": [[1]]}):
        path = tmp_path / "wrong.jsonl"
        path.write_text(json.dumps({"study_id": "s0", "organs": wrong}) + "\n")
        with pytest.raises(DataError, match=r"wrong.jsonl:1"):
            read_extents(path)


def test_a_twin_says_where_organs_lie(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEDVL_CACHE", str(tmp_path / "cache"))
    ct_rate.write(tmp_path / "twin", 10, 3, size=32, workers=0)
    weak = OrganExtents(str(tmp_path / "twin/twin_factors.jsonl"))
    data = VolumeData(CTRATE(tmp_path / "twin"), spacing=(12.0, 24.0, 24.0), organs=weak)
    data.setup("fit")
    data.setup("test")
    own = {one.study_id: one for one in data.records("all")}
    for split in ("train", "val"):
        for made in data.make_dataset(split, train=split == "train").records:
            known = [one for one in own[made.study_id].snippets if one.present]
            assert [one.text for one in made.snippets] == [one.text for one in known]
            for weakly, exactly in zip(made.snippets, known, strict=True):
                ((low, high, weight),), (first, *_) = weakly.intervals, exactly.intervals
                assert low <= first.low < first.high <= high
                assert weight == 1
    assert data.make_dataset("test", train=False).records == data.records("test")


def test_sites_of_a_twin_differ_and_all_is_the_default(tmp_path: Path) -> None:
    for name, sites in (("all", None), ("named", ["0", "1", "2"]), ("one", ["1"]), ("two", ["2", "0"])):
        ct_rate.write(tmp_path / name, 6, 3, size=32, workers=0, sites=sites)
    lines = {name: (tmp_path / name / "twin_factors.jsonl").read_text() for name in ("all", "named", "one", "two")}
    assert lines["all"] == lines["named"]
    assert "sites" not in json.loads((tmp_path / "all/twin.json").read_text())
    found = {name: {json.loads(line)["site"] for line in text.splitlines()} for name, text in lines.items()}
    assert found["one"] == {1}
    assert found["two"] <= {0, 2}
    scanners = (tmp_path / "one/dataset/metadata/train_metadata.csv").read_text()
    assert "SIEMENS" in scanners
    assert "Philips" not in scanners
    with pytest.raises(ConfigError, match="no site '3'"):
        ct_rate.write(tmp_path / "none", 6, 3, size=32, workers=0, sites=["3"])
