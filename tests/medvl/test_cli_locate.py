"""`medvl predict --volume`: sentences in a CT, as a user runs it, on NIfTI files and DICOM series."""

from __future__ import annotations

import contextlib
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from cli_toy import Run, medvl
from ct_files import write_series

from medvl.cli.locator import Locator
from medvl.cli.main import main
from medvl.cli.recording import CONFIG_KEY
from medvl.cli.restore import restore
from medvl.encoders import Precomputed
from medvl.errors import CheckpointError, ConfigError
from medvl.located import nearest_place
from tasks.volume.predictions import SnippetResult, read_results
from tasks.volume.task import VolumeTask

__all__ = ["medvl"]
QUICKSTART = Path(__file__).resolve().parents[2] / "configs/quickstart/volume.yaml"
KEYS = ["snippet", "series", "image", "mm", "low_mm", "high_mm", "interval_images", "present", "extents_mm"]
PATIENT = "Canary"  # in the name that the series carries


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A run of a few steps, and the twin that it saw."""
    here = tmp_path_factory.mktemp("volume")
    words = f"fit --config {QUICKSTART} --data.source.root twin --data.spacing [8.0,8.0,8.0] --data.eval_batch_size 1"
    short = " --trainer.max_steps 3 --trainer.val_check_interval 3 --trainer.enable_progress_bar false"
    with contextlib.chdir(here), pytest.MonkeyPatch.context() as patch:
        patch.setenv("MEDVL_CACHE", str(here / "cache"))
        assert main(["data", "twin", "ct-rate", "twin", "--studies", "12", "--size", "48"]) == 0
        assert main((words + short + " --trainer.logger false").split()) == 0
        run = (here / "runs/volume/volume/latest").resolve()
        assert main(["predict", "--run", str(run)]) == 0
    return run, here / "twin"


@pytest.fixture
def series(tmp_path: Path) -> Path:
    """A series of 16 slices, 3 mm apart, numbered against the depth."""
    write_series(tmp_path / "ct", [-20 + 3 * i for i in range(16)], [60 - i for i in range(16)])
    return tmp_path / "ct"


def lines(folder: str | Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in Path(folder, "sentences.jsonl").read_text().splitlines()]


def results_of_one_volume(run: Path) -> list[SnippetResult]:
    every = read_results(run / "predictions" / "predictions.jsonl")
    return [one for one in every if one.volume == every[0].volume]


def test_a_volume_alone_is_answered_as_in_its_data_set(medvl: Run, trained: tuple[Path, Path]) -> None:
    run, twin = trained
    known = results_of_one_volume(run)
    assert len(known) > 2
    words = ["--sentence", *(one.snippet for one in known)]
    status, out, error = medvl(f"predict --volume {twin / 'dataset' / known[0].volume} --run {run} --output o", *words)
    assert status == 0, error
    for one, line in zip(known, lines("o"), strict=True):
        assert list(line) == KEYS
        assert line["snippet"] == one.snippet
        assert (line["series"], line["image"], line["interval_images"]) == (None, None, None)
        assert (line["mm"], line["low_mm"], line["high_mm"]) == pytest.approx((one.mm, one.low, one.high), abs=0.02)
        assert line["present"] == pytest.approx(one.present, abs=1e-4)
        assert len(line["extents_mm"]) == len(one.extents)
        assert one.snippet not in out + error


def test_a_series_is_answered_by_image(medvl: Run, trained: tuple[Path, Path], series: Path) -> None:
    run, _ = trained
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    status, out, error = medvl(f"predict --volume ct --run {run} --sentence", "Nodule.", " Gallstones. ")
    assert status == 0, error
    folder = next((run / "located").iterdir())
    assert {path.name for path in folder.iterdir()} == {"page.html", "sentences.jsonl"}
    assert {path: path.read_bytes() for path in before} == before
    assert out.splitlines()[-1] == f"{folder}  next: look at {folder / 'page.html'}"
    assert [line.partition(":")[0] for line in out.splitlines()[-3:-1]] == ["1", "2"]
    html = (folder / "page.html").read_text()
    found = lines(folder)
    assert [line["snippet"] for line in found] == ["Nodule.", "Gallstones."]
    for line in found:
        assert line["series"] == 4
        assert line["image"] == 60 - round((line["mm"] + 20) / 3)
        first, last = line["interval_images"]
        assert 45 <= first <= line["image"] <= last <= 60
        assert -21.5 <= line["low_mm"] <= line["mm"] <= line["high_mm"] <= 26.5
        if line["present"] >= 0.5:
            assert f"Series 4, image {line['image']}" in html
    assert PATIENT not in html + out + error
    assert "1.2.3" not in html


def test_all_sentences_share_one_pass(trained: tuple[Path, Path], series: Path) -> None:
    from medvl.io.volumes import read_volume

    restored = restore(str(trained[0]))
    assert isinstance(restored.model, VolumeTask)
    locator, passes, volume = Locator(restored.model, restored.data, "cpu"), [], read_volume(series)
    locator.task.model.image_encoder.register_forward_hook(lambda module, inputs, output: passes.append(1))
    several = locator.locate(volume, ["Nodule.", "Gallstones.", "Nodule."]).sentences
    assert passes == [1]
    assert several[0] == several[2]
    for one in several:
        assert sum(one.profile.probability) == pytest.approx(1, abs=1e-5)
        assert one.profile.edges[0] == pytest.approx(-21.5, abs=1e-3)
        assert one.profile.edges[-1] == pytest.approx(26.5, abs=1e-3)
        assert one.place == nearest_place(volume.sidecar, one.mm)


@pytest.mark.parametrize(
    "data",
    [{"window": [-1000, 1000]}, {"spacing": [8, 8], "window": [-1000, 1000]}, {"spacing": [8, 8, 8]},
     {"spacing": "fine", "window": [-1000, 1000]}, {"spacing": [8, 0, 8], "window": [-1000, 1000]}],
)  # fmt: skip
def test_a_run_that_does_not_tell_its_spacing_is_refused(trained: tuple[Path, Path], data: dict[str, Any]) -> None:
    restored = restore(str(trained[0]))
    assert isinstance(restored.model, VolumeTask)
    with pytest.raises(CheckpointError, match=r"does not tell the (spacing|window)"):
        Locator(restored.model, data, "cpu")


def test_a_run_that_reads_features_is_refused(medvl: Run, trained: tuple[Path, Path], series: Path) -> None:
    restored = restore(str(trained[0]))
    assert isinstance(restored.model, VolumeTask)
    restored.model.model.image_encoder = Precomputed(4, 8, depth=1, heads=1)
    with pytest.raises(ConfigError, match="features of a frozen encoder"):
        Locator(restored.model, restored.data, "cpu")
    held = torch.load(next((trained[0] / "checkpoints").glob("*.ckpt")), weights_only=True)
    config = yaml.safe_load(held[CONFIG_KEY])
    config["data"]["init_args"]["features"] = "found"
    held[CONFIG_KEY] = yaml.safe_dump(config)
    torch.save(held, "features.ckpt")
    status, _, error = medvl("predict --volume ct --sentence Nodule --ckpt_path features.ckpt --output o")
    assert status == 2
    assert error.splitlines()[:2] == ["error: this run reads features of a frozen encoder", "  where: data.features"]
    assert len(error.splitlines()) <= 4, error
    assert not Path("o").exists()


def test_one_of_several_series_is_named(medvl: Run, trained: tuple[Path, Path], series: Path) -> None:
    write_series(series.parent / "other", [0, 5, 10, 15], [1, 2, 3, 4], SeriesNumber=7, SeriesInstanceUID="1.2.9")
    for path in (series.parent / "other").iterdir():
        shutil.move(path, series / f"b{path.name}")
    words = f"predict --volume ct --run {trained[0]} --output o --sentence Nodule"
    status, _, error = medvl(words)
    assert status == 2
    assert error.splitlines() == [
        "error: mixed series: 2 in this folder",
        "  where: ct",
        "  hint:  name one by its number: 4, 7",
        "  next:  the same with --series NUMBER",
    ]
    assert medvl(f"{words} --series 7")[0] == 0
    assert lines("o")[0]["series"] == 7
    assert "no series 9 in this folder" in medvl(f"{words} --series 9")[2]


def test_a_run_of_another_task_is_refused(medvl: Run, series: Path) -> None:
    assert medvl("fit --config toy.yaml --allow-import cli_toy --trainer.max_epochs 1")[0] == 0
    status, _, error = medvl("predict --volume ct --sentence Nodule --run latest --allow-import cli_toy")
    assert (status, "finds no sentences in volumes" in error) == (2, True), error


def test_help_tells_this_way(medvl: Run) -> None:
    status, out, _ = medvl("predict --volume --help")
    assert (status, "--sentence" in out) == (0, True)
    assert "medvl predict --volume" in medvl("predict --help")[1]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("--volume none.nii.gz --sentence Nodule --run RUN", "no such file or folder\n  where: none.nii.gz"),
        ("--volume empty --sentence Nodule --run RUN", "no DICOM slice in this folder"),
        ("--volume text.nii --sentence Nodule --run RUN", "text.nii"),
        ("--volume ct --run RUN", "nothing to look for"),
        ("--volume ct --run RUN --sentence Nodule .", "sentence 2 of 2 is empty"),
        ("--sentence Nodule --run RUN", "no volume to look into"),
        ("--volume text.nii --series 3 --sentence Nodule --run RUN", "--series is for a folder of DICOM slices"),
        ("--volume ct --sentence Nodule", "which checkpoint?"),
        ("--volume ct --sentence Nodule --run RUN --output ct", "there is something already"),
        ("--volume ct --sentence Nodule --run RUN --sentense Nodule", "did you mean '--sentence'?"),
        ("--volume ct --sentence Nodule --ckpt_path text.nii", "not a whole checkpoint"),
    ],
)
def test_mistakes_are_told_in_four_lines(
    medvl: Run, trained: tuple[Path, Path], series: Path, words: str, told: str
) -> None:
    Path("empty").mkdir()
    Path("text.nii").write_text("no header")
    status, _, error = medvl(f"predict {words.replace('RUN', str(trained[0]))}")
    assert status == 2, error
    assert told in error
    assert len(error.splitlines()) <= 4, error
