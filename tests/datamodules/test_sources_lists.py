"""CheXpert 5x200 as a list that can be drawn again, and boxed data sets as images with labels."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
from PIL import Image

from datamodules.leaks import held_out
from datamodules.reports import ReportData
from datamodules.sources import CheXpert, CheXpert5x200, ImageLabels, RSNAPneumonia
from datamodules.sources.chexpert_labels import CHEXPERT
from datamodules.twins import rsna
from medvl.errors import DataError
from medvl.metrics.class_lists import FIVE

PATIENTS, EACH = 60, 4


@pytest.fixture(scope="module")
def chexpert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """CheXpert's table: two studies of each patient, the first of one finding alone, the second of two."""
    folder = tmp_path_factory.mktemp("chexpert")
    rows = []
    for number in range(1, PATIENTS + 1):
        for study in (1, 2):
            path = f"train/patient{number:05d}/study{study}/view1_frontal.jpg"
            (folder / path).parent.mkdir(parents=True)
            Image.new("L", (8, 8), number).save(folder / path)
            shown = {FIVE[number % 5]} | ({"Fracture"} if study == 2 else set())
            labels = {name: "1.0" if name in shown else "" for name in CHEXPERT}
            about = {"Sex": "Male", "Age": 50, "Frontal/Lateral": "Frontal", "AP/PA": "AP"}
            rows.append({"Path": f"CheXpert-v1.0/{path}", **about, **labels})
    with (folder / "train.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return folder


def test_five_by_200_is_drawn_again_by_anyone(chexpert: Path) -> None:
    loaded = CheXpert5x200(chexpert, per_class=EACH).load()
    assert len(loaded.records) == 5 * EACH
    assert {record.split for record in loaded.records} == {"test"}
    assert len({record.patient_id for record in loaded.records}) == 5 * EACH
    for name in FIVE:
        own = [record for record in loaded.records if record.labels.get(name) == 1]
        assert len(own) == EACH
        assert all(record.study_id.endswith("study1") for record in own)
    (note,) = [problem for problem in loaded.problems if problem.code == "class-list"]
    assert "20 studies drawn with seed 0 of Atelectasis 12" in note.message
    assert "sha256 " in note.message
    again = CheXpert5x200(chexpert, per_class=EACH).load()
    assert (again.records, again.fingerprint) == (loaded.records, loaded.fingerprint)
    assert CheXpert5x200(chexpert, per_class=EACH, seed=1).load().fingerprint != loaded.fingerprint
    with pytest.raises(DataError, match="200 are wanted"):
        CheXpert5x200(chexpert).load()


def test_five_by_200_and_training_share_no_patient(chexpert: Path) -> None:
    listed = CheXpert5x200(chexpert, per_class=EACH)
    patients = {record.patient_id.removeprefix("patient") for record in listed.load().records}
    assert set(held_out(listed)) == patients
    data = ReportData(CheXpert(chexpert, unpaired=True), cache="none", guard_sources=[listed])
    with pytest.raises(DataError, match=r"training pairs are of \d+ patients held out"):
        data.setup("fit")
    trained = CheXpert(chexpert, unpaired=True, split="deal")
    kept = CheXpert5x200(chexpert, per_class=1, trained_on=trained)
    seen = {record.patient_id for record in trained.load().records if record.split == "train"}
    assert seen
    assert not seen & {record.patient_id for record in kept.load().records}


def test_boxes_become_labels_of_images(tmp_path: Path) -> None:
    rsna.write(tmp_path, 16, seed=0, size=64, workers=0)
    inner = RSNAPneumonia(tmp_path)
    source = ImageLabels(inner)
    loaded = source.load()
    phrases = inner.load().records
    boxed = {record.image for record in phrases if record.boxes}
    normal = {record.image for record in phrases if record.labels != ("Lung Opacity",)}
    assert boxed
    assert normal
    assert {one.study_id for one in loaded.records} == {record.image for record in phrases}
    for one in loaded.records:
        assert one.labels["Lung Opacity"] == (one.study_id in boxed)
        assert (1 in [value for name, value in one.labels.items() if name != "Lung Opacity"]) == (
            one.study_id in normal
        )
    splits = {record.image: record.split for record in phrases}
    assert {one.study_id: one.split for one in loaded.records} == splits
    data = ReportData(source, image_size=32, batch_size=4, cache="none")
    data.intake.load()
    batch = next(iter(data.eval_dataloader(splits[next(iter(boxed))])))
    assert batch.has_image.all()
    assert not batch.has_text.any()
