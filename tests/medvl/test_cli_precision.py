"""Every quickstart in the precision of `configs/trainer/gpu.yaml`: its fused optimiser clips, losses stay finite."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch
import yaml
from cli_toy import Run, medvl
from smoke import CONFIGS, STEPS, TWINS

__all__ = ["medvl"]
PRECISION = yaml.safe_load((CONFIGS.parent / "trainer" / "gpu.yaml").read_text())["trainer"]["precision"]


@pytest.mark.parametrize("task", TWINS)
def test_a_quickstart_trains_and_is_tested_in_half_precision(medvl: Run, task: str) -> None:
    kind, studies, *small = TWINS[task]
    assert medvl(f"data twin {kind} twin --studies {studies}")[0] == 0
    words = f"--config {CONFIGS}/{task}.yaml --data.source.root twin --trainer.precision {PRECISION} {' '.join(small)}"
    status, _, error = medvl(f"fit {words} {' '.join(STEPS)} --trainer.log_every_n_steps 1")
    assert status == 0, error
    status, _, error = medvl(f"test {words} --ckpt_path best")
    assert status == 0, error
    (run,) = Path("runs").glob("*/*/*-*")
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    losses = [value for line in lines for name, value in line.items() if name.startswith("train/loss")]
    assert len(losses) == 3
    assert all(map(math.isfinite, losses))


def test_clipping_a_fused_optimiser_is_that_of_any_other(medvl: Run) -> None:
    weights = {}
    for fused, most in (("true", "0.01"), ("false", "0.01"), ("true", "100")):
        runs = f"{fused}-{most}"
        words = f"--allow-import cli_toy --config toy.yaml --trainer.precision {PRECISION} --runs {runs}"
        clip = f"--trainer.gradient_clip_val {most} --model.optimizer SGD --model.optimizer.lr 0.1"
        status, _, error = medvl(f"fit {words} {clip} --model.optimizer.fused {fused}")
        assert status == 0, error
        (run,) = Path(runs).glob("*/*/*-*")
        held = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)
        weights[runs] = held["state_dict"]["net.weight"]
    torch.testing.assert_close(weights["true-0.01"], weights["false-0.01"])
    assert not torch.allclose(weights["true-0.01"], weights["true-100"], atol=1e-3)
