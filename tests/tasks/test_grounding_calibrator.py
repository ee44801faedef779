"""Calibration in a run: chosen in fit, kept in the checkpoint, used by test, overridden by the user, chosen anew."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Trainer
from lightning.pytorch.trainer.states import TrainerFn

from medvl.cli.main import main
from medvl.encoders import TinyConv, TinyText
from medvl.viz.calibration import calibration_chart
from tasks.grounding import GroundingTask
from tasks.grounding.calibration import calibrate
from tasks.grounding.calibrator import summary
from tasks.grounding.postprocess import Detections, Postprocess

CONFIGS = Path(__file__).parents[2] / "configs"
SHORT = "--trainer.max_steps 4 --trainer.val_check_interval 2 --trainer.enable_progress_bar false"
CALIBRATED = "--model.postprocess.threshold calibrated --model.postprocess.fusion_iou calibrated"


def medvl(words: str, folder: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr("sys.argv", ["medvl"])
        assert main(words.split()) == 0


@pytest.fixture(scope="module")
def run(padchest_twin: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of four steps whose threshold and fusion are calibrated."""
    folder = tmp_path_factory.mktemp("run")
    config = f"--config {CONFIGS}/quickstart/grounding.yaml --data.image_size 64 --data.batch_size 8"
    medvl(f"fit {config} {SHORT} {CALIBRATED} --data.source.root {padchest_twin}", folder)
    return (folder / "runs/grounding/grounding/latest").resolve()


def held(run: Path, name: str = "best") -> dict[str, Any]:
    path = run / f"checkpoints/{name}.ckpt"
    assert path.with_name(f"{name}.ckpt.sha256").read_text().split()[0] == hashlib.sha256(path.read_bytes()).hexdigest()
    return torch.load(path, weights_only=True)["calibration"]


def thresholds(run: Path) -> set[float]:
    return {json.loads(line)["threshold"] for line in (run / "predictions/test.jsonl").read_text().splitlines()}


def test_fit_keeps_it_in_every_checkpoint_and_beside_them(run: Path) -> None:
    for name in ("best", "last"):
        assert len(held(run, name)["points"]) > 50
    assert json.loads((run / "calibration.json").read_text()) == held(run)
    page = (run / "report.html").read_text()
    assert "boxes found against silence kept" in page
    assert f"chosen: {held(run)['threshold']:.2f} (floor 0.9)" in page


def test_test_uses_it_unless_the_user_says_otherwise(run: Path) -> None:
    medvl(f"calibrate --run {run} --n-acc-floor 0", run.parents[3])  # another floor, so that it is not the default's
    found = held(run)
    assert found["n_acc_floor"] == 0
    assert json.loads((run / "calibration.json").read_text()) == found
    medvl(f"test --run {run}", run.parents[3])
    assert thresholds(run) == {found["threshold"]}
    medvl(f"test --run {run} --model.postprocess.threshold 0.77", run.parents[3])
    assert thresholds(run) == {0.77}
    names = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()][-1]
    assert {"test/set_f1@0.5/boxed", "test/froc/mean/zero", "test/rodeo/shape", "test/map_50", "test/ece"} <= set(names)


def test_another_floor_chooses_among_the_same_points(run: Path) -> None:
    before, last = held(run), held(run, "last")
    medvl(f"calibrate --run {run} --n-acc-floor 0.4", run.parents[3])
    stored = held(run)
    assert stored["points"] == before["points"]
    assert held(run, "last") == last  # the other checkpoint keeps its own
    able = [p for p in stored["points"] if p["n_acc"] is None or p["n_acc"] >= 0.4]
    chosen = {"threshold": stored["threshold"], "fusion_iou": stored["fusion_iou"]}
    mine = next(p for p in stored["points"] if chosen.items() <= p.items())
    assert mine["p_at_f1"] == max(p["p_at_f1"] for p in able)


def test_a_floor_that_is_no_share_is_refused(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["calibrate", "--run", str(run), "--n-acc-floor", "90"]) == 2
    said = capsys.readouterr().err
    assert "n_acc_floor is 90" in said
    assert len(said.splitlines()) <= 4


def test_validation_of_one_fit_stays_comparable() -> None:
    task = GroundingTask(TinyConv(width=64), TinyText(width=32), width=32, heads=2, fusion_layers=0)
    assert task.postprocess == Postprocess(0.5, 0.5)
    task.on_load_checkpoint({"calibration": {"threshold": 0.2, "fusion_iou": None}})
    assert task.postprocess == Postprocess(0.2, None)
    resumed = GroundingTask(TinyConv(width=64), TinyText(width=32), width=32, heads=2, fusion_layers=0)
    trainer = Trainer(accelerator="cpu", logger=False)
    trainer.state.fn = TrainerFn.FITTING
    resumed.trainer = trainer
    resumed.on_load_checkpoint({"calibration": {"threshold": 0.2, "fusion_iou": None}})
    assert resumed.postprocess == Postprocess(0.5, 0.5)
    resumed.on_load_checkpoint({})  # a checkpoint from before calibration
    assert resumed.calibration is None


def test_chart_and_summary(tmp_path: Path) -> None:
    assert calibration_chart(tmp_path / "calibration.json") == ""
    box, nothing = torch.tensor([[0.0, 0, 9, 9]]), torch.zeros(0, 4)
    scores = (0.9, 0.6, 0.3, 0.8)
    found = [Detections(box, torch.tensor([score])) for score in scores]
    kept = calibrate(found, [box, box, nothing, nothing], n_acc_floor=1).as_dict()
    (tmp_path / "calibration.json").write_text(json.dumps(kept))
    chart = calibration_chart(tmp_path / "calibration.json")
    assert "thresholds 0.50 to 0.95" in chart
    assert "chosen: 0.80 (floor 1)" in chart
    assert summary(kept) == (
        "threshold 0.8, fusion_iou None: P@(F1=1) of 2 validation sentences with boxes 0.500, N-acc 1.000"
    )
    boxed = calibrate(found[:2], [box, box]).as_dict()
    (tmp_path / "calibration.json").write_text(json.dumps(boxed))
    assert calibration_chart(tmp_path / "calibration.json") == ""  # nothing to trade
    assert "N-acc" not in summary(boxed)
