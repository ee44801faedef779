"""PadChest in its own layout, with what is odd in it; and CheXpert Plus without CheXpert beside it."""

from __future__ import annotations

import csv
import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from datamodules.reports import ReportData
from datamodules.sources.chexpert import CheXpert
from datamodules.sources.chexpert_labels import CHEXPERT
from datamodules.sources.padchest import PadChest
from datamodules.sources.temporal import is_temporal, timeless
from medvl.errors import DataError

TABLE = "PADCHEST_chest_x_ray_images_labels_160K_01.02.19.csv"
COLUMNS = (
    "", "ImageID", "ImageDir", "StudyID", "PatientID", "PatientSex_DICOM", "Projection", "MethodLabel", "Report",
    "Labels",
)  # fmt: skip
EFFUSION, SAME = "derram pleural izquierd .", "sin cambi respect rx previ . sin hallazg ."
ROWS = (
    (1, "a.png", 0, "s1", "p1", "F", "PA", "Physician", EFFUSION, "[' pleural  effusion', 'COPD signs']"),
    (2, "b.png", 0, "s1", "p1", "F", "L", "Physician", EFFUSION, "['pleural effusion', '']"),
    (3, "c.png", 54, "s2", "p2", "M", "AP_horizontal", "RNN_model", SAME, "['normal', 'unchanged']"),
    (4, "d.png", 54, "s3", "p3", "M", "EXCLUDE", "Physician", "x .", "['exclude']"),
    (5, "e.png", 54, "s4", "p4", "M", "PA", "Physician", "nan", "['pneumonia']"),
    (6, "f.png", 54, "s5", "p5", "M", "PA", "Physician", "t .", "['pneumonia'"),
    (7, "g.png", 54, "s6", "p6", "M", "PA", "Physician", "t .", "nan"),
    (8, "g.png", 54, "s6", "p7", "M", "PA", "Physician", "t .", "nan"),
)  # fmt: skip


def image(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    grey = np.arange(64).reshape(8, 8)
    Image.fromarray(grey.astype(np.uint8) if path.suffix == ".jpg" else (grey * 900).astype(np.uint16)).save(path)


@pytest.fixture(params=["folders", "flat"])
def padchest(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """Six studies of PadChest, its images as unzipped or all in one folder."""
    with (tmp_path / TABLE).open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerows([COLUMNS, *ROWS])
    for _, name, folder, *_ in ROWS:
        image(tmp_path / (str(folder) if request.param == "folders" else "") / str(name))
    return tmp_path


def test_padchest_as_it_is(padchest: Path) -> None:
    loaded = PadChest(padchest, split="test").read()
    first, second = loaded.records
    folder = "0/" if (padchest / "0").is_dir() else ""
    assert (first.images, first.text) == ((f"{folder}a.png",), "derram pleural izquierd .")
    assert first.labels == {"pleural effusion": 1, "copd signs": 1}
    assert first.attributes == {"sex": "F", "labelled": "Physician", "view": "PA"}
    assert (second.patient_id, second.labels) == ("p2", {"normal": 1})
    assert Counter(problem.code for problem in loaded.problems) == {
        "view-left-out": 2, "label-left-out": 2, "image-none": 1, "text-empty": 1, "row-conflict": 2,
        "temporal-wording": 1,
    }  # fmt: skip
    assert {p.code for p in loaded.problems if p.fatal} == {"row-conflict"}


def test_padchest_without_its_texts(padchest: Path) -> None:
    loaded = PadChest(padchest, split="test", texts=False, physician=True).read()
    assert [record.study_id for record in loaded.records] == ["s1", "s4"]
    assert not any(record.text for record in loaded.records)
    assert Counter(problem.code for problem in loaded.problems)["labelled-by-network"] == 1
    data = ReportData(
        PadChest(padchest, split="test", texts=False), image_size=8, on_error="quarantine", max_quarantine=1
    )
    with pytest.warns(UserWarning, match="rows are left out"):
        data.setup("test")
    (batch,) = data.test_dataloader()
    assert batch.has_image.tolist() == [True] * 3
    assert not batch.has_text.any()
    with pytest.raises(DataError, match="the table of PadChest is not here"):
        PadChest(padchest / "none").load()


@pytest.mark.parametrize(
    ("text", "dropped"),
    [
        ("sin cambi respect rx previ . sin hallazg .", "sin hallazg ."),
        ("sin cambios significativos. Derrame izquierdo.", "Derrame izquierdo."),
        ("derram pleural . estabilidad .", "derram pleural . estabilidad ."),
        ("Anterior rib fracture.", "Anterior rib fracture."),
    ],
)
def test_spanish_wording_in_time(text: str, dropped: str) -> None:
    assert is_temporal(text) == (text != dropped)
    assert timeless(text, "drop") == dropped


@pytest.mark.parametrize("png", [True, False])
def test_chexpert_plus_alone(tmp_path: Path, png: bool) -> None:
    columns: tuple[str, ...] = ("path_to_image", "sex", "age", "frontal_lateral", "ap_pa", "report")
    columns += ("section_findings", "section_impression")
    place = "train/patient00007/study2"
    rows = [
        (f"{place}/view1_frontal.jpg", "Female", 61, "Frontal", "AP", "x", "", "Edema."),
        (f"{place}/view2_lateral.jpg", "Female", 61, "Lateral", "", "x", "", "Edema."),
        ("valid/patient00008/study1/view1_frontal.jpg", "Male", 20, "Frontal", "PA", "FINDINGS: Clear.", "", ""),
    ]
    with (tmp_path / "df_chexpert_plus_240401.csv").open("w", newline="") as file:
        csv.writer(file).writerows([columns, *rows])
    for path, *_ in rows:
        image(tmp_path / "PNG" / path.replace(".jpg", ".png") if png else tmp_path / path)
    bare = CheXpert(tmp_path).load().records
    assert [record.labels for record in bare] == [{}, {}]
    (tmp_path / "chexbert_labels").mkdir()
    labels = {name: None for name in CHEXPERT} | {"Edema": 1.0, "Fracture": 0.0, "Pneumonia": -1.0}
    lines = [{"path_to_image": path} | labels for path, *_ in rows[:2]]
    (tmp_path / "chexbert_labels/report_fixed.json").write_text("\n".join(map(json.dumps, lines)))
    loaded = CheXpert(tmp_path).load()
    first, second = loaded.records
    start, suffix = ("PNG/", "png") if png else ("", "jpg")
    assert first.images == (f"{start}{place}/view1_frontal.{suffix}",)
    assert (first.study_id, first.split, first.text) == ("patient00007/study2", "train", "Edema.")
    assert first.labels == {"Edema": 1, "Fracture": 0, "Pneumonia": -1}
    assert (second.split, second.findings, second.labels) == ("val", "Clear.", {})
    assert Counter(problem.code for problem in loaded.problems) == {"view-left-out": 1}
    (tmp_path / "chexbert_labels/report_fixed.json").write_text('{"path_to_image":\n')
    with pytest.raises(DataError, match="not valid JSON"):
        CheXpert(tmp_path).load()
