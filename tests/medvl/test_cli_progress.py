"""Without a terminal a run tells in plain lines how far it is; with one it shows a bar, never both."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from cli_toy import CONFIG, Run, medvl

from medvl.cli import progress

__all__ = ["medvl"]
TOY = "--allow-import cli_toy --config toy.yaml"


@pytest.fixture(autouse=True)
def _with_progress(medvl: Run) -> None:
    Path("toy.yaml").write_text(CONFIG.replace("  enable_progress_bar: false\n", ""))


def test_a_line_for_each_tenth_and_each_validation(medvl: Run) -> None:
    status, out, error = medvl(f"fit {TOY} --trainer.max_epochs 20 --trainer.check_val_every_n_epoch 10")
    assert status == 0
    steps = re.findall(r"^step (\d+)/40: loss [\d.e-]+, [\d.e+]+ steps/s, \d+:\d\d:\d\d left$", error, re.M)
    assert [int(step) for step in steps] == list(range(4, 41, 4))
    assert re.findall(r"^step (\d+) validated: score -[\d.e-]+$", error, re.M) == ["20", "40"]
    assert not re.search("it/s|%|━", out + error)

    error = medvl(f"fit {TOY} --ckpt_path last --trainer.max_epochs 40")[2]  # goes on at step 40 of 80
    assert [int(step) for step in re.findall(r"^step (\d+)/80", error, re.M)] == list(range(48, 81, 8))

    error = medvl(f"test {TOY} --ckpt_path best")[2]
    assert "weights_only" not in error
    assert re.findall(r"^batch (\d)/2, [\d.e+]+ batches/s, 0:00:00 left$", error, re.M) == ["1", "2"]
    error = medvl(f"predict {TOY} --ckpt_path best")[2]
    assert re.findall(r"^batch (\d)/2, ", error, re.M) == ["1", "2"]


def test_without_an_end_time_decides(medvl: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "QUIET", 0.0)
    words = f"fit {TOY} --trainer.max_epochs -1 --trainer.max_time 00:00:00:02 --trainer.limit_val_batches 0"
    error = medvl(words)[2]
    assert re.search(r"^step 1: loss [\d.e-]+, [\d.e+]+ steps/s$", error, re.M)
    assert " left" not in error


def test_whoever_wants_nothing_gets_nothing(medvl: Run) -> None:
    assert "step" not in medvl(f"fit {TOY} --trainer.enable_progress_bar false")[2]


def test_a_terminal_or_a_bar_of_ones_own_gets_no_lines(medvl: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    bar = "--trainer.callbacks+=TQDMProgressBar"
    assert "step 2/4" not in medvl(f"fit {TOY} {bar}")[2]
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    assert progress.plain_lines(None, []) == []
