from __future__ import annotations

import csv
import hashlib
import importlib
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from datamodules.catalog import SOURCES
from datamodules.sources import MSCXR, PadChestGR
from datamodules.twins import TWINS, ms_cxr, padchest_gr
from datamodules.twins.folder import EDITION, EDITIONS
from datamodules.twins.studies import make_study, study_plan
from medvl.errors import ConfigError, DataError


def digest(folder: Path) -> dict[str, str]:
    """Return the hash of every file below a folder."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.mark.parametrize("name", TWINS)
def test_every_format_is_a_function_of_its_arguments(name: str, tmp_path: Path) -> None:
    module, _, function = TWINS[name].rpartition(".")
    write = getattr(importlib.import_module(module), function)
    for folder, seed in (("a", 1), ("b", 1), ("c", 2)):
        write(tmp_path / folder, 4, seed, size=48)
    assert digest(tmp_path / "a") == digest(tmp_path / "b")
    assert digest(tmp_path / "a") != digest(tmp_path / "c")


def test_processes_change_nothing(tmp_path: Path) -> None:
    padchest_gr.write(tmp_path / "one", 50, seed=0, size=32, workers=0)
    padchest_gr.write(tmp_path / "two", 50, seed=0, size=32, workers=2)
    assert digest(tmp_path / "one") == digest(tmp_path / "two")


def test_repeated_call_does_nothing_and_another_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "twin"
    folder.mkdir()
    padchest_gr.write(folder, 3, seed=1, size=48)
    before = digest(folder)
    (folder / "PadChest_GR" / "mine.txt").touch()
    padchest_gr.write(folder, 3, seed=1, size=48)
    (folder / "PadChest_GR" / "mine.txt").unlink()
    assert digest(folder) == before
    with pytest.raises(DataError, match="other arguments"):
        padchest_gr.write(folder, 3, seed=2, size=48)
    (folder / "twin.json").unlink()
    with pytest.raises(DataError, match="not empty"):
        padchest_gr.write(folder, 3, seed=1, size=48)
    with pytest.raises(ConfigError, match="at least one"):
        padchest_gr.write(tmp_path / "none", 0, seed=1)


@pytest.mark.parametrize("edition", [None, EDITIONS["padchest-gr"] - 1, EDITIONS["padchest-gr"] + 1])
def test_a_twin_of_another_edition_is_refused(tmp_path: Path, edition: int | None) -> None:
    folder = tmp_path / "my twin"
    padchest_gr.write(folder, 3, seed=1, size=48)
    marker = json.loads((folder / "twin.json").read_text())
    assert marker.pop("edition") == EDITIONS["padchest-gr"]
    (folder / "twin.json").write_text(json.dumps(marker if edition is None else {**marker, "edition": edition}))
    before = digest(folder)
    with pytest.raises(DataError, match="another edition") as caught:
        padchest_gr.write(folder, 3, seed=1, size=48)
    assert caught.value.command == f"rm -r '{folder}', then the same again"
    assert len(str(caught.value).splitlines()) <= 4
    assert digest(folder) == before


def test_other_pictures_are_another_edition() -> None:
    """Who changes what a twin shows raises `EDITION`, and writes the new digest here."""
    told = hashlib.sha256()
    for index in range(4):
        study = make_study(index, seed=0, difficulty=0.5, size=64)
        grey = np.asarray(Image.fromarray(study.image.astype(np.float32)).resize((8, 8), Image.Resampling.BOX))
        told.update((grey / 64).round().astype(np.int32).tobytes())  # coarse: a last bit may differ between machines
        for finding in study.findings:
            told.update(f"{finding.sentence_en}|{finding.sentence_es}|{np.round(finding.boxes, 2).tolist()}".encode())
    assert (EDITION, told.hexdigest()[:12]) == (1, "d51b95ce2c88")


def test_failed_write_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("disk full")

    monkeypatch.setattr(padchest_gr, "_write_master", fail)
    with pytest.raises(RuntimeError):
        padchest_gr.write(tmp_path / "twin", 3, seed=1, size=48)
    assert list(tmp_path.iterdir()) == []


def test_padchest_layout_and_quirks(padchest_twin: Path) -> None:
    reports = json.loads((padchest_twin / "grounded_reports_20240819.json").read_text())
    findings = [finding for study in reports for finding in study["findings"]]
    normal = [f for f in findings if not f["abnormal"]]
    assert any("boxes" not in f for f in normal)
    second = [(f["boxes"], f["extra_boxes"]) for f in findings if f.get("extra_boxes")]
    assert second
    for first, other in second:
        distance = np.abs(np.array(first) - np.array(other)).max()
        assert 0 < distance < 0.08
    with (padchest_twin / "master_table.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert {row["split"] for row in rows} == {"train", "validation", "test"}
    assert len(rows) > len({row["ImageID"] for row in rows}) == len(reports)
    assert {row["prior_imageID"] for row in rows} > {""}
    for index, study in enumerate(reports[:2]):
        with Image.open(padchest_twin / "PadChest_GR" / study["ImageID"]) as image:
            assert image.mode == "I;16"
            np.testing.assert_array_equal(np.asarray(image), make_study(index, 0, size=160).image)


def test_padchest_splits_are_those_of_the_studies(padchest_twin: Path) -> None:
    splits = {patient: split for _, patient, split in study_plan(24, 0)}
    assert all(r.split == splits[r.patient_id] for r in PadChestGR(padchest_twin).load().records)


def test_zipped_master_table_loads(tmp_path: Path) -> None:
    padchest_gr.write(tmp_path / "twin", 4, seed=1, size=48, zipped=True)
    assert (tmp_path / "twin" / "master_table.csv.zip").is_file()
    assert not (tmp_path / "twin" / "master_table.csv").exists()
    assert PadChestGR(tmp_path / "twin").load().problems == []


def test_ms_cxr_layout(mscxr_twin: Path) -> None:
    records = MSCXR(mscxr_twin).load().records
    assert len({r.image for r in records}) == 24
    assert all(r.boxes for r in records)
    assert {label for r in records for label in r.labels} <= set(ms_cxr._CATEGORIES.values())
    first = records[0]
    folder, subject, study, name = Path(first.path).parts[1:]
    assert (subject[:3], f"p{first.patient_id[1:]}", first.study_id) == (folder, subject, study)
    with Image.open(mscxr_twin / first.path) as image:
        assert (image.format, image.mode, name) == ("JPEG", "L", f"{first.image}.jpg")


@pytest.mark.parametrize("name", SOURCES)
def test_catalogue_names_classes_that_exist(name: str) -> None:
    module, _, class_name = SOURCES[name].class_path.rpartition(".")
    assert getattr(importlib.import_module(module), class_name).name == name
