"""Several sources read as one: paths, patients by cohort, guards, and batches of both."""

from __future__ import annotations

import csv
import re
from pathlib import Path

import pytest

from datamodules.grounding import GroundingData
from datamodules.leaks import held_out
from datamodules.sources import MSCXR, ChestImaGenome, JoinedSources, PadChestGR, PhraseTable
from datamodules.sources.patients import patient_key
from datamodules.twins import imagenome
from medvl.errors import ConfigError, DataError


@pytest.fixture(scope="module")
def imagenome_twin(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of the same patients as `mscxr_twin`, split otherwise."""
    folder = tmp_path_factory.mktemp("joined") / "imagenome"
    imagenome.write(folder, 40, seed=0, size=64, workers=0)
    return folder


def table_of(folder: Path, name: str, patients: dict[str, str], image: Path) -> PhraseTable:
    """Write a table with a sentence per patient, whose split is given."""
    (folder / name).mkdir()
    (folder / name / "a.png").write_bytes(image.read_bytes())
    with (folder / name / "table.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["image", "phrase", "boxes", "patient_id", "split"])
        rows = [
            ["a.png", f"sentence {patient}", "[[0, 0, 1, 1]]", patient, split] for patient, split in patients.items()
        ]
        writer.writerows(rows)
    return PhraseTable(folder / name / "table.csv", box_format="xyxy_norm")


@pytest.fixture
def png(padchest_twin: Path) -> Path:
    return next((padchest_twin / "PadChest_GR").glob("*.png"))


def test_both_are_read_with_their_own_splits(mscxr_twin: Path, padchest_twin: Path) -> None:
    sources = [MSCXR(mscxr_twin), PadChestGR(padchest_twin)]
    joined = JoinedSources(sources)
    loaded, parts = joined.load(), [source.load() for source in sources]
    assert joined.name == "ms-cxr+padchest-gr"
    assert joined.root == Path(mscxr_twin).parent or joined.root in mscxr_twin.parents
    expected = [(r.phrase, r.boxes, r.split, r.source, r.image) for part in parts for r in part.records]
    assert [(r.phrase, r.boxes, r.split, r.source, r.image) for r in loaded.records] == expected
    assert all(joined.path_of(record).is_file() for record in loaded.records)
    assert loaded.fingerprint not in {part.fingerprint for part in parts}
    assert [str(joined.part_of(record).given) for record in loaded.records[:: len(loaded.records) - 1]] == [
        str(mscxr_twin),
        str(padchest_twin),
    ]


def test_twins_share_ids_but_no_patients(mscxr_twin: Path, padchest_twin: Path) -> None:
    """Both twins number their patients alike, with splits of their own: as one cohort they would leak."""
    sources = MSCXR(mscxr_twin), PadChestGR(padchest_twin)
    splits = [{patient_key(r.patient_id): r.split for r in source.load().records} for source in sources]
    shared = splits[0].keys() & splits[1].keys()
    assert {splits[0][key] == splits[1][key] for key in shared} == {True, False}
    JoinedSources(list(sources)).load()


def test_one_cohort_leaks_across_data_sets(mscxr_twin: Path, imagenome_twin: Path) -> None:
    joined = JoinedSources([MSCXR(mscxr_twin), ChestImaGenome(imagenome_twin)])
    with pytest.raises(DataError, match=r"patients are in two splits") as raised:
        joined.load()
    assert re.search(
        r"next:  medvl data check ms-cxr \S+ && medvl data check imagenome \S+ --output", str(raised.value)
    )
    assert len(str(raised.value).splitlines()) <= 4
    table = mscxr_twin / "MS_CXR_Local_Alignment_v1.1.0.csv"
    everyone = [r.patient_id for r in MSCXR(mscxr_twin).load().records]
    rows = [r for r in ChestImaGenome(imagenome_twin).load().records if f"p{r.patient_id}" not in everyone]
    assert rows, "the twins have other patients too"
    excluded = ChestImaGenome(imagenome_twin, exclude=[str(table)], split="train")
    JoinedSources([excluded, MSCXR(mscxr_twin, split="train")]).load()


def test_the_guard_knows_cohorts(mscxr_twin: Path, padchest_twin: Path, imagenome_twin: Path) -> None:
    mscxr, padchest = MSCXR(mscxr_twin), PadChestGR(padchest_twin)
    joined = JoinedSources([mscxr, padchest])
    everyone = MSCXR(mscxr_twin, split="test")
    guarded = {key for key, cohorts in held_out(everyone).items() if cohorts == {"mimic-cxr"}}
    strangers = {patient_key(r.patient_id) for r in padchest.load().records if r.split == "train"}
    assert guarded & strangers, "else the next lines prove nothing"
    GroundingData(padchest, guard_sources=[everyone], cache="none").setup("fit")
    with pytest.raises(DataError) as raised:
        GroundingData(joined, guard_sources=[everyone], cache="none").setup("fit")
    caught = [r for r in mscxr.load().records if r.split == "train"]
    assert str(raised.value).startswith(
        f"{len(caught)} training pairs are of {len({r.patient_id for r in caught})} patients held out for evaluation\n"
        "  where: ms-cxr, against ms-cxr\n"
    )
    avoided = JoinedSources([ChestImaGenome(imagenome_twin, avoid=False), padchest])
    with pytest.raises(DataError, match=r"imagenome, against (?s:.*)images_to_avoid.csv\n(?s:.*)avoid true"):
        GroundingData(avoided, cache="none").setup("fit")  # what the authors of a part ask for
    with pytest.raises(DataError, match="held out"):
        GroundingData(mscxr, guard_sources=[JoinedSources([padchest, everyone])], cache="none").setup("fit")


def test_patients_of_unknown_cohorts_are_taken_for_the_same(tmp_path: Path, png: Path) -> None:
    first = table_of(tmp_path, "first", {"1": "train", "2": "val"}, png)
    second = table_of(tmp_path, "second", {"1": "test", "3": "train"}, png)
    with pytest.raises(DataError, match="patients are in two splits"):
        JoinedSources([first, second]).load()
    third = table_of(tmp_path, "third", {"A1": "test", "3": "train"}, png)
    assert {r.patient_id for r in JoinedSources([first, third]).load().records} == {"/1", "/2", "/A1", "/3"}
    with pytest.raises(DataError, match="held out"):
        GroundingData(first, guard_sources=[second], cache="none").setup("fit")


def test_faults_and_dealt_splits_are_told_of_each(tmp_path: Path, png: Path) -> None:
    whole = table_of(tmp_path, "whole", {"1": "train", "2": "val", "3": "test"}, png)
    open_ = table_of(tmp_path, "open", {"4": "", "5": "", "6": "", "7": ""}, png)
    broken = table_of(tmp_path, "broken", {"8": "train"}, png)
    (tmp_path / "broken" / "a.png").unlink()
    loaded = JoinedSources([whole, open_, broken]).load()
    missing = next(problem for problem in loaded.problems if problem.code == "image-missing")
    assert missing.path == "broken/a.png"
    data = GroundingData(JoinedSources([whole, open_]), cache="none")
    with pytest.warns(UserWarning, match="table: patients are dealt"):
        data.intake.load()
    with pytest.raises(ConfigError, match="no source is given"):
        JoinedSources([])


def test_batches_hold_images_of_both(mscxr_twin: Path, padchest_twin: Path) -> None:
    data = GroundingData(JoinedSources([MSCXR(mscxr_twin), PadChestGR(padchest_twin)]), image_size=32, batch_size=64)
    data.setup("fit")
    alone = GroundingData(MSCXR(mscxr_twin), image_size=32)
    alone.setup("fit")
    shrunk = [{cache.folder for _, cache in each._pixels._caches} for each in (alone, data)]
    assert shrunk[0] < shrunk[1], "a data set is shrunk once, whether it is read alone or joined"
    batches = list(data.train_dataloader())
    assert {record.source for batch in batches for record in batch.records} == {"ms-cxr", "padchest-gr"}
    assert all(image.std() > 0 for batch in batches for image in batch.images)
