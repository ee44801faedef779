from __future__ import annotations

import csv
import shutil
from pathlib import Path

import pytest

from datamodules.check import check_source, write_quarantine
from datamodules.grounding import GroundingData
from datamodules.leaks import held_out
from datamodules.sources import MSCXR, ChestImaGenome, JoinedSources
from datamodules.sources.base import PhraseSource
from datamodules.sources.patients import patient_key, patients_held_out
from datamodules.twins import imagenome
from medvl.errors import DataError

STUDIES, SIZE = 40, 64


@pytest.fixture(scope="module")
def twin(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of the same patients as `mscxr_twin`, split otherwise."""
    folder = tmp_path_factory.mktemp("leaks") / "imagenome"
    imagenome.write(folder, STUDIES, seed=0, size=SIZE, workers=0)
    return folder


@pytest.fixture
def table(mscxr_twin: Path) -> Path:
    return mscxr_twin / "MS_CXR_Local_Alignment_v1.1.0.csv"


def data(source: PhraseSource, **options: object) -> GroundingData:
    return GroundingData(source, image_size=32, cache="none", **options)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("p10000032", "10000032", True),
        ("P10000032", 10000032, True),
        ("10000032.0", "patient_10000032", True),
        ("p10000032", "p10000033", False),
        ("007", "7", False),
        ("anna", "ANNA", True),
        ("p1a", "1a", False),
    ],
)
def test_a_patient_is_the_same_whatever_the_prefix(one: object, other: object, same: bool) -> None:
    assert (patient_key(one) == patient_key(other)) is same


def test_who_is_held_out(tmp_path: Path, table: Path, mscxr_twin: Path) -> None:
    with table.open() as file:
        rows = list(csv.DictReader(file))
    expected = {row["path"].split("/")[2][1:] for row in rows if row["split"] != "train"}
    assert patients_held_out(table) == expected
    assert held_out(MSCXR(mscxr_twin)) == {patient: {"mimic-cxr"} for patient in expected}
    assert held_out(table) == {patient: {""} for patient in expected}
    assert 0 < len(expected) < len({row["path"].split("/")[2] for row in rows})

    (tmp_path / "avoid.csv").write_text("subject_id,dicom_id\n10000032,a\n10000033,b\n10000032,c\n")
    assert patients_held_out(tmp_path / "avoid.csv") == {"10000032", "10000033"}
    (tmp_path / "words.csv").write_text("PatientID,Split\n1,training\n2,validation\n3,test\n4,holdout\n")
    assert patients_held_out(tmp_path / "words.csv") == {"2", "3", "4"}


@pytest.mark.parametrize(
    ("content", "where"),
    [("subject_id\n1\n\n,\n", "t.csv:4"), ("path\nfiles/x.jpg\n", "t.csv:2"), ("a\nb\n", "t.csv:2")],
)
def test_a_guard_that_cannot_be_read_is_refused(tmp_path: Path, content: str, where: str) -> None:
    (tmp_path / "t.csv").write_text(content)
    with pytest.raises(DataError, match=f"names no patient(?s:.*){where}"):
        patients_held_out(tmp_path / "t.csv")
    with pytest.raises(DataError, match="expected a table"):
        patients_held_out(tmp_path)
    with pytest.raises(DataError, match="does not exist"):
        patients_held_out(tmp_path / "none.csv")


def test_training_on_held_out_patients_is_refused(twin: Path, table: Path) -> None:
    kept = patients_held_out(table)
    caught = [r for r in ChestImaGenome(twin).load().records if r.split == "train" and r.patient_id in kept]
    patients = {r.patient_id for r in caught}
    assert patients
    with pytest.raises(DataError) as raised:
        data(ChestImaGenome(twin), guard=str(table)).setup("fit")
    assert str(raised.value) == (
        f"{len(caught)} training pairs are of {len(patients)} patients held out for evaluation\n"
        f"  where: imagenome, against {table}\n"
        f"  hint:  add --data.source.exclude [{table}]\n"
        f"  next:  medvl data check imagenome FOLDER --guard {table} --output FILE, which lists the rows"
    )
    assert not any(patient in str(raised.value) for patient in patients)
    data(ChestImaGenome(twin), guard=str(table)).setup("test")  # nothing is trained


def test_excluded_patients_are_in_no_split_and_the_guard_is_content(twin: Path, table: Path, mscxr_twin: Path) -> None:
    source = ChestImaGenome(twin, exclude=[str(table)])
    before, after = ChestImaGenome(twin).load(), source.load()
    kept = patients_held_out(table)
    assert [r for r in before.records if r.patient_id not in kept] == after.records
    assert [p.where for p in after.problems if p.code == "patients-excluded"] == ["images_to_avoid.csv", table.name]
    assert before.fingerprint != after.fingerprint
    data(source, guard=str(table), guard_sources=[MSCXR(mscxr_twin)]).setup("fit")


def test_gold_patients_are_left_out_and_never_trained_on(twin: Path) -> None:
    gold = patients_held_out(twin / "silver_dataset" / "splits" / "images_to_avoid.csv")
    assert gold
    assert not gold & {r.patient_id for r in ChestImaGenome(twin).load().records}
    data(ChestImaGenome(twin)).setup("fit")
    kept = ChestImaGenome(twin, avoid=False)
    everyone = {r.patient_id for r in kept.load().records if r.split == "train"}
    assert gold & everyone  # else the next lines prove nothing
    with pytest.raises(DataError, match=r"held out(?s:.*)images_to_avoid.csv\n(?s:.*)--data.source.avoid true"):
        data(kept).setup("fit")


def test_without_the_list_of_gold_patients_training_warns(twin: Path, tmp_path: Path) -> None:
    folder = tmp_path / "twin"
    shutil.copytree(twin, folder)
    listed = (folder / "silver_dataset/splits/images_to_avoid.csv").rename(tmp_path / "images_to_avoid.csv")
    with pytest.raises(DataError, match=r"gold patients(?s:.*)images_to_avoid.csv\n(?s:.*)avoid false"):
        data(ChestImaGenome(folder)).setup("fit")
    unaware = ChestImaGenome(folder, avoid=False)
    with pytest.warns(UserWarning, match=r"gold set are among those trained on(?s:.*)data.source.exclude"):
        data(unaware).setup("fit")
    with pytest.warns(UserWarning, match="gold set"):
        data(JoinedSources([unaware])).setup("fit")
    assert [p.code for p in check_source(unaware, decode=False).problems if p.where == listed.name] == [
        "patients-unguarded"
    ]
    data(unaware).setup("test")  # nothing is trained
    data(ChestImaGenome(folder, avoid=False, exclude=[str(listed)])).setup("fit")
    with pytest.raises(DataError, match="held out"):  # a guard of that name is asked in its place
        data(unaware, guard=str(listed)).setup("fit")


def test_check_lists_the_rows_and_the_quarantine_list_mends_it(twin: Path, table: Path, tmp_path: Path) -> None:
    report = check_source(ChestImaGenome(twin), decode=False, guards=[table])
    rows = [p for p in report.fatal if p.code == "patient-held-out"]
    assert report.counts["problem/patient-held-out"] == len(rows) > 0
    assert check_source(ChestImaGenome(twin), decode=False).fatal == []
    write_quarantine(tmp_path / "rows.jsonl", report.problems)
    data(ChestImaGenome(twin, quarantine=tmp_path / "rows.jsonl"), guard=str(table)).setup("fit")
