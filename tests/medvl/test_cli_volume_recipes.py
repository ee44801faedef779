"""RadFinder's recipe from the command line: the paper's values, a model from every overlay, and a few steps."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from cli_toy import Run, medvl
from test_encoders_pretrained import write_text

from datamodules.twins import ct_rate
from datamodules.volumes import VolumeData
from medvl.cli.lightning import MedvlCLI
from medvl.encoders import Precomputed
from tasks.volume import VolumeTask

__all__ = ["medvl"]
CONFIGS = Path(__file__).resolve().parents[2] / "configs"
RECIPE = CONFIGS / "volume/radfinder_ctrate.yaml"
OVERLAYS = sorted(path for path in (CONFIGS / "volume").rglob("*.yaml") if path != RECIPE)
SMALL = {  # nothing is downloaded, and the large ones are made small
    "resnet": "--model.image_encoder.depth 18",
    "swin_unetr": "--model.image_encoder.feature_size 12",
    "vit": "--model.image_encoder.depth 1",
    "inflated": "--model.image_encoder.pretrained false --model.image_encoder.name resnet10t",
    "slices": "--model.image_encoder.image_encoder.pretrained false",
    "radfinder_features": "--model.image_encoder.depth 1",
}


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("encoders") / "text"
    write_text("modernbert", folder)
    return folder


@pytest.fixture(scope="module")
def twin(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("twins") / "ct-rate"
    ct_rate.write(folder, 12, seed=0, size=32, workers=0)
    return folder


@pytest.fixture
def built(monkeypatch: pytest.MonkeyPatch) -> list[MedvlCLI]:
    """Stop each run where it would begin; return the command lines that came so far."""
    found: list[MedvlCLI] = []
    monkeypatch.setattr(MedvlCLI, "_run_subcommand", lambda cli, subcommand: found.append(cli))
    return found


def test_the_recipe_is_what_is_published(medvl: Run) -> None:
    status, out, error = medvl(f"fit --config {RECIPE} --print_config")
    assert status == 0, error
    config = yaml.safe_load(out)
    model, data = config["model"]["init_args"], config["data"]["init_args"]
    assert (config["trainer"]["max_epochs"], config["trainer"]["precision"]) == (10, "bf16-mixed")
    adam = model["optimizer"]["init_args"]
    assert (adam["lr"], adam["weight_decay"], adam["betas"]) == (2e-4, 1e-4, [0.9, 0.95])
    assert model["schedule"]["final"] * adam["lr"] == pytest.approx(1e-6)
    assert model["schedule"]["warmup"] == 1 / config["trainer"]["max_epochs"]
    assert (model["dim"], model["disease_weight"], model["weight_cap"]) == (512, 0.5, 20)
    assert (model["loss"]["init_args"]["temperature"], model["loss"]["init_args"]["bias"]) == (0.1, -10)
    assert model["localiser"]["init_args"]["temperature"] == 0.1
    assert model["localisation"]["init_args"]["sigma_mm"] == 24
    assert model["large_batch"]["clip"] == 1.0
    assert (data["spacing"][0], data["window"]) == (3.0, [-1000.0, 1000.0])


@pytest.mark.parametrize("overlay", [RECIPE, *OVERLAYS], ids=lambda path: path.stem)
def test_every_overlay_becomes_a_model(
    medvl: Run, built: list[MedvlCLI], text: Path, twin: Path, overlay: Path
) -> None:
    words = f"--trainer.accelerator cpu --model.text_encoder.pretrained {text} --data.source.root {twin}"
    overlaid = f"--config {RECIPE} --config {overlay} " if overlay != RECIPE else f"--config {RECIPE} "
    status, _, error = medvl(f"fit {overlaid}{words} {SMALL.get(overlay.stem, '')} --data.num_workers 0")
    assert status == 0, error
    (cli,) = built
    task, data = cli.model, cli.datamodule
    assert isinstance(task, VolumeTask)
    assert isinstance(data, VolumeData)
    assert task.large_batch is not None
    step = 4 * data.spacing[0] if isinstance(task.model.image_encoder, Precomputed) else 0
    reach = step or task.model.depth_stride * data.spacing[0]
    assert reach == {"finer": 6.0, "slices": 3.0, "swin_unetr": 16.0}.get(overlay.stem, 12.0)


def test_a_frozen_encoder_runs_once_and_the_recipe_trains_on_what_it_found(medvl: Run, text: Path, twin: Path) -> None:
    words = f"--data.source.root {twin} --model.text_encoder.pretrained {text} --data.num_workers 0 "
    words += "--trainer.accelerator cpu --data.spacing [12.0,24.0,24.0] --model.dim 32 "
    encoder = "--model.image_encoder Tiny3D --model.image_encoder.width 32"
    status, out, error = medvl(f"features --config {RECIPE} {words} {encoder} --output found --pool 2")
    assert status == 0, error
    assert "next: medvl fit" in out
    assert len(list(Path("found").rglob("*.safetensors"))) == len(list(twin.rglob("*.nii.gz")))
    assert not Path("runs").exists()
    words = f"--config {RECIPE} --config {CONFIGS}/volume/radfinder_features.yaml {words} --data.features found "
    words += "--data.batch_size 6 --model.image_encoder.channels 32 --model.image_encoder.width 24 "
    words += "--model.image_encoder.depth 1 --model.image_encoder.heads 2 --trainer.precision 32-true "
    words += "--trainer.max_steps 1 --trainer.val_check_interval 1 --trainer.enable_progress_bar false"
    status, _, error = medvl(f"fit {words}")
    assert status == 0, error
    assert medvl(f"features --config {CONFIGS}/quickstart/grounding.yaml --output found")[0] == 2
    assert medvl(f"features --config {RECIPE} --output found --pool 0")[0] == 2


def test_a_few_steps_with_organs(medvl: Run, text: Path, twin: Path) -> None:
    words = (
        f"--config {RECIPE} --config {CONFIGS}/volume/organs.yaml --data.organs.path {twin}/twin_factors.jsonl "
        f"--data.source.root {twin} --model.text_encoder.pretrained {text} --trainer.accelerator cpu "
        "--model.image_encoder Tiny3D --model.image_encoder.width 32 --model.dim 32 "
        "--trainer.precision 32-true --trainer.enable_progress_bar false --data.num_workers 0 "
        "--data.batch_size 6 --model.large_batch.chunk 2 --data.spacing [12.0,24.0,24.0]"
    )
    length = "--trainer.max_steps 2 --trainer.val_check_interval 1 --trainer.check_val_every_n_epoch null"
    status, _, error = medvl(f"fit {words} {length} --trainer.log_every_n_steps 1")
    assert status == 0, error
    run = Path("runs/volume/radfinder_ctrate/latest").resolve()
    lines: list[dict[str, Any]] = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert sum("train/depth" in line for line in lines) == 2
    assert any("val/always/mae" in line for line in lines)
    assert torch.load(run / "checkpoints/last.ckpt", weights_only=True)["global_step"] == 2
    status, _, error = medvl(f"fit {words} {length} --trainer.gradient_clip_val 1.0")
    assert (status, "model.large_batch.clip" in error) == (2, True)
