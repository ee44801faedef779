"""The quickstart with each trainer overlay becomes a trainer, a model and data: everything but the training."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from cli_toy import Run, medvl
from lightning.pytorch import Trainer

from medvl.cli.lightning import MedvlCLI

__all__ = ["medvl"]
CONFIGS = Path(__file__).resolve().parent.parent.parent / "configs"
OVERLAYS = sorted((CONFIGS / "trainer").glob("*.yaml"))
LACKING = re.compile(  # what Lightning says of accelerators and devices that are not there
    r"^error: (`CUDAAccelerator` can not run|No supported gpu backend found|You requested gpu: )"
)


@pytest.fixture
def built(monkeypatch: pytest.MonkeyPatch) -> list[MedvlCLI]:
    """Stop each run where it would begin; return the command lines that came so far."""
    found: list[MedvlCLI] = []
    monkeypatch.setattr(MedvlCLI, "_run_subcommand", lambda cli, subcommand: found.append(cli))
    return found


@pytest.mark.parametrize("overlay", OVERLAYS, ids=lambda path: path.stem)
def test_it_is_built_or_the_machine_lacks_devices(
    medvl: Run, built: list[MedvlCLI], padchest_twin: Path, overlay: Path
) -> None:
    status, _, error = medvl(f"fit {words(padchest_twin, overlay)}")
    if status:
        assert yaml.safe_load(overlay.read_text())["trainer"]["accelerator"] == "gpu"
        assert LACKING.match(error), error
        assert not Path("runs").exists()
    else:
        check(built[0].trainer, overlay)


@pytest.mark.parametrize("overlay", OVERLAYS, ids=lambda path: path.stem)
def test_it_is_built_where_four_devices_are(
    medvl: Run, built: list[MedvlCLI], padchest_twin: Path, overlay: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lightning.fabric.accelerators.cuda.num_cuda_devices", lambda: 4)
    monkeypatch.setattr("lightning.pytorch.accelerators.cuda.num_cuda_devices", lambda: 4)
    status, _, error = medvl(f"fit {words(padchest_twin, overlay)}")
    assert status == 0, error
    check(built[0].trainer, overlay)
    assert type(built[0].model).__name__ == "GroundingTask"
    assert built[0].datamodule.root.is_relative_to(padchest_twin)


def words(twin: Path, overlay: Path) -> str:
    return f"--config {CONFIGS}/quickstart/grounding.yaml --config {overlay} --data.source.root {twin}"


def check(trainer: Trainer, overlay: Path) -> None:
    """Compare a trainer with its overlay, and with what the quickstart says where that is silent."""
    wanted: dict[str, Any] = yaml.safe_load(overlay.read_text())["trainer"]
    devices = {"auto": 4 if wanted["accelerator"] == "gpu" else 1}.get(wanted["devices"], wanted["devices"])
    if torch.cuda.is_available() and wanted["devices"] == "auto":  # as many as this machine has
        devices = trainer.num_devices
    assert trainer.world_size == devices * wanted.get("num_nodes", 1)
    assert trainer.accelerator.name() == {"gpu": "cuda"}.get(wanted["accelerator"], wanted["accelerator"])
    assert str(trainer.precision) == wanted["precision"]
    assert ("DDP" in type(trainer.strategy).__name__) == (wanted.get("strategy") == "ddp")
    quickstart = yaml.safe_load((CONFIGS / "quickstart" / "grounding.yaml").read_text())["trainer"]
    assert trainer.max_steps == quickstart["max_steps"]
    assert trainer.gradient_clip_val == quickstart["gradient_clip_val"]
