"""Two ranks make one run, whoever starts them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from cli_toy import CONFIG

# Started by Lightning, and by torchrun.
LAUNCHERS = ("-m medvl", "-m torch.distributed.run --standalone --nproc_per_node 2 -m medvl")


@pytest.mark.parametrize("launcher", LAUNCHERS, ids=["ddp", "torchrun"])
def test_two_ranks_share_the_folder_that_rank_zero_named(tmp_path: Path, launcher: str) -> None:
    (tmp_path / "toy.yaml").write_text(CONFIG)
    words = "fit --allow-import cli_toy --config toy.yaml --trainer.devices 2 --trainer.strategy ddp"
    paths = os.pathsep.join([str(Path(__file__).parents[2]), str(Path(__file__).parent)])
    command = [sys.executable, *launcher.split(), *words.split()]
    environment = {**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    runs = [path for path in (tmp_path / "runs/toy/toy").iterdir() if not path.is_symlink()]
    assert len(runs) == 1
    assert {path.name for path in runs[0].iterdir()} >= {"fit.yaml", "metrics.jsonl", "checkpoints", "tensorboard"}
    lines = (runs[0] / "metrics.jsonl").read_text().splitlines()
    assert sum("val/score" in line for line in lines) == 2
    assert done.stdout.count("next: medvl test") == 1
