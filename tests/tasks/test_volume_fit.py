"""The volume quickstart through the command line, in a few steps: fit, test, predict."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from medvl.cli.main import main
from medvl.evidence import PERMUTED, read_shares
from tasks.volume.predictions import read_results

CONFIG = Path(__file__).parents[2] / "configs" / "quickstart" / "volume.yaml"


def test_fit_test_predict(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("sys.argv", ["medvl"])
    monkeypatch.setenv("MEDVL_CACHE", str(tmp_path / "cache"))
    twin, runs = tmp_path / "twin", tmp_path / "runs"
    assert main(["data", "twin", "ct-rate", str(twin), "--studies", "12", "--size", "48"]) == 0
    words = ["--config", str(CONFIG), "--data.source.root", str(twin), "--runs", str(runs)]
    words += ["--data.spacing", "[8.0, 8.0, 8.0]"]
    length = ["--trainer.max_steps", "4", "--trainer.val_check_interval", "2", "--trainer.log_every_n_steps", "1"]
    assert main(["fit", *words, *length]) == 0
    (run,) = runs.glob("volume/*/*-*")
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    logged = {name for line in lines for name in line}
    assert {
        "train/depth",
        "train/disease",
        "train/contrastive",
        "val/always/mae",
        "val/auc",
        "val/mean_recall",
    } <= logged
    assert main(["test", "--run", str(run)]) == 0
    told = capsys.readouterr()
    assert "always/mae" in told.out
    assert "no report" not in told.err
    assert "Depths of snippets" in (run / "report.html").read_text()
    permuted = read_shares(run / "predictions" / PERMUTED)
    assert permuted["image"].asked == permuted["text"].asked > 0
    results = read_results(run / "predictions" / "test.jsonl")
    assert {bool(one.gold) for one in results} == {True, False}
    assert all(one.scan[0] - 1e-3 <= one.low <= one.mm <= one.high <= one.scan[1] + 1e-3 for one in results)
    assert "train_" not in "".join(one.patient for one in results)
    assert main(["predict", "--run", str(run)]) == 0
    assert len(read_results(run / "predictions" / "predictions.jsonl")) == len(results)
