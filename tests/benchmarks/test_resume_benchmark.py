"""The benchmark that kills: a run really killed and gone on with, and that what differs is seen."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks import resume


def a_run(folder: Path, losses: list[float], **changed: Any) -> Path:
    (folder / "checkpoints").mkdir(parents=True)
    lines = [{"step": i, "epoch": i // 2, "stage": "fit", "train/loss": loss} for i, loss in enumerate(losses)]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    states = {"state_dict": {"w": torch.ones(2)}, "optimizer_states": [{"m": (torch.zeros(1), 1)}], "loops": {}}
    torch.save(states | changed, folder / "checkpoints/last.ckpt")
    return folder


def test_what_differs_is_told(tmp_path: Path) -> None:
    one = a_run(tmp_path / "one", [3.0, 2.0, 1.0])
    assert resume.difference(one, a_run(tmp_path / "same", [3.0, 2.0, 1.0])) == ""
    nearly = a_run(tmp_path / "nearly", [3.0, 2.0, 1.0], state_dict={"w": torch.ones(2).nextafter(torch.zeros(2))})
    assert resume.difference(one, nearly) == "state_dict"
    moved = a_run(tmp_path / "moved", [3.0, 2.5, 1.0], optimizer_states=[{"m": (torch.ones(1), 1)}])
    assert resume.difference(one, moved) == "optimizer_states, metrics from step 1"
    assert resume.difference(one, a_run(tmp_path / "short", [3.0, 2.0])) == "metrics from step 2"
    assert resume._ends(one) == [2]
    assert resume._logged(one) == 3


def test_a_killed_run_ends_as_if_it_had_not_been(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(resume, "SETTINGS", ((1, 2),))
    monkeypatch.setenv("MEDVL_CACHE", "")  # set back afterwards
    assert resume.one_task("alignment", tmp_path, times=1, seed=0, studies=24) == [""]
    assert "alignment 1 ranks, 2 workers, killed at step " in capsys.readouterr().out
    logs = (tmp_path / "cut-0.log").read_text()
    assert "cut-0 goes on from last.ckpt: epoch " in logs
