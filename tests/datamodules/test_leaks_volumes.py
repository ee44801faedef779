"""Patients of CT-RATE in the data sets made of it: who trains on those whom another one tests."""

from __future__ import annotations

from pathlib import Path

import pytest
from ct_rate_kin import radgenome, rex

from datamodules.leaks import audit, held_out, refuse_held_out
from datamodules.records import VolumeRecord
from datamodules.sources import CTRATE, RadGenomeChestCT, ReXGroundingCT
from datamodules.sources.patients import patients_held_out
from datamodules.twins import ct_rate
from datamodules.volumes import VolumeData
from medvl.errors import DataError

Three = tuple[CTRATE, ReXGroundingCT, RadGenomeChestCT]


@pytest.fixture(scope="module")
def twin(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("ct") / "twin"
    ct_rate.write(folder, 14, seed=4, size=40, workers=0)
    return folder


@pytest.fixture(scope="module")
def trained(twin: Path) -> VolumeRecord:
    """The first study that CT-RATE trains on."""
    return next(record for record in CTRATE(twin).load().records if record.split == "train")


@pytest.fixture(scope="module")
def three(twin: Path, trained: VolumeRecord, tmp_path_factory: pytest.TempPathFactory) -> Three:
    """CT-RATE; ReXGroundingCT, which tests one patient of its train and trains on one of its test; RadGenome."""
    folder = tmp_path_factory.mktemp("kin")
    tested = next(record for record in CTRATE(twin).load().records if record.split == "test")
    rexes = rex(twin, folder / "rex", {trained.volumes[0]: "test", tested.volumes[0]: "train"})
    genomes = radgenome(twin, folder / "genome", [trained.volumes[0]])
    return CTRATE(twin), ReXGroundingCT(rexes, volumes=twin, workers=0), RadGenomeChestCT(genomes, workers=0)


def test_patients_are_audited_across_what_is_made_of_ct_rate(three: Three, trained: VolumeRecord) -> None:
    rates, rexes, genomes = three
    assert held_out(rexes) == {trained.patient_id: {"ct-rate"}}
    found = audit(three)
    own = [record.row for record in rates.load().records if record.patient_id == trained.patient_id]
    expected = {("ct-rate", rexes.name): len(own), (rexes.name, "ct-rate"): 1, (genomes.name, rexes.name): 1}
    assert {pair: len(problems) for pair, problems in found.items() if problems} == expected
    assert [problem.where for problem in found["ct-rate", rexes.name]] == own
    assert len(found) == 9


def test_training_refuses_patients_whom_a_kindred_set_tests(three: Three) -> None:
    rates, rexes, genomes = three
    for source, guard in ((rates, rexes), (rexes, rates), (genomes, rexes)):
        with pytest.raises(DataError, match=f"of 1 patients held out(?s:.*){source.name}, against {guard.name}"):
            VolumeData(source, guard_sources=[guard]).setup("fit")
    VolumeData(rates, guard_sources=[genomes]).setup("fit")  # which tests nobody
    VolumeData(rates, guard_sources=[rexes]).setup("test")  # nothing is trained


def test_a_table_of_volumes_is_a_guard(three: Three, trained: VolumeRecord, tmp_path: Path) -> None:
    rates, rexes, _ = three
    table = tmp_path / "validation_region_report.csv"
    table.write_text(f"Volumename,Anatomy,Sentence\n{Path(trained.volumes[0]).name},lung,x\n")
    assert patients_held_out(table) == {trained.patient_id}
    with pytest.raises(DataError, match="held out"):
        refuse_held_out(rates, rates.load().records, [table])
    with pytest.raises(DataError, match="guard_sources"):
        patients_held_out(rexes.root / "dataset.json")
