"""The quickstart as a newcomer runs it, in two steps."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
import yaml
from cli_toy import Run, medvl

__all__ = ["medvl"]
CONFIGS = Path(__file__).resolve().parent.parent.parent / "configs"
QUICKSTART = f"--config {CONFIGS}/quickstart/grounding.yaml --data.batch_size 16"
SHORT = "--trainer.max_steps 2 --trainer.val_check_interval 2 --trainer.enable_progress_bar false"


def test_fit_test_predict(medvl: Run, padchest_twin: Path) -> None:
    words = f"{QUICKSTART} --data.source.root {padchest_twin}"
    status, out, error = medvl(f"fit {words} {SHORT}")
    assert status == 0, error
    run = Path("runs/grounding/grounding/latest").resolve()
    assert out.splitlines()[-1].endswith("--ckpt_path best")
    assert medvl(f"test {words} --ckpt_path best")[0] == 0
    status, out, error = medvl(f"predict {words} --ckpt_path best")
    assert status == 0, error
    assert out.splitlines()[-1].endswith("report.html")
    assert (run / "report.html").stat().st_size > 1000
    lines = (run / "predictions/predictions.jsonl").read_text().splitlines()
    assert lines
    assert {"image", "phrase", "boxes_xyxy_px", "scores", "threshold"} <= json.loads(lines[0]).keys()
    assert "warning: no report" not in error

    for path in run.glob("checkpoints/*.ckpt"):
        held = torch.load(path, weights_only=True)
        assert str(padchest_twin) in held["medvl_config"]

    status, _, error = medvl(f"test --run {run} --data.source.root nowhere")
    assert (status, len(error.splitlines()) <= 4) == (2, True), error


@pytest.mark.parametrize("where", ["command line", "overlay"])
def test_an_encoder_is_swapped_in_one_line(medvl: Run, padchest_twin: Path, where: str) -> None:
    Path("mine").mkdir()
    Path("mine/vit.yaml").write_text("class_path: TinyViT\ninit_args: {width: 64}\n")
    Path("mine/overlay.yaml").write_text("model:\n  init_args:\n    image_encoder: vit.yaml\n")
    swap = "--model.image_encoder mine/vit.yaml" if where == "command line" else "--config mine/overlay.yaml"
    words = f"{QUICKSTART} --data.source.root {padchest_twin} {swap}"
    status, _, error = medvl(f"fit {words} {SHORT}")
    assert status == 0, error
    kept = yaml.safe_load(Path("runs/grounding/grounding/latest/fit.yaml").read_text())
    assert kept["model"]["init_args"]["image_encoder"]["class_path"].endswith("TinyViT")
    assert kept["model"]["init_args"]["image_encoder"]["init_args"]["width"] == 64


def test_a_trained_run_predicts_on_a_table_of_ones_own(medvl: Run, padchest_twin: Path, table_twin: Path) -> None:
    assert medvl(f"fit {QUICKSTART} --data.source.root {padchest_twin} {SHORT}")[0] == 0
    run = Path("runs/grounding/grounding/latest").resolve()
    assert medvl(f"test --run {run}")[0] == 0
    assert medvl(f"predict --run {run}")[0] == 0
    facts = (run / "data.json").read_bytes()
    before = {path.name: path.read_bytes() for path in (run / "predictions").glob("*.json*")}
    columns = {"image": "filename", "phrase": "notes"}
    source = {"class_path": "PhraseTable", "init_args": {"root": f"{table_twin}/table.csv", "columns": columns}}
    Path("mine.yaml").write_text(yaml.safe_dump({"data": {"init_args": {"source": source}}}))
    root = f"--data.source PhraseTable --data.source.root {table_twin}/table.csv"
    flags = f"{root} --data.source.columns.image filename --data.source.columns.phrase notes"
    for words in (f"--run {run} --config mine.yaml", f"--run {run} {flags}"):
        status, _, error = medvl(f"predict {words}")
        assert status == 0, error
        lines = (run / "predictions/predictions.jsonl").read_text().splitlines()
        images = {json.loads(line)["image"] for line in lines}
        assert all((table_twin / image).is_file() for image in images)
    assert json.loads((run / "predictions/predictions.data.json").read_text())["source"] == "table"
    (aside,) = (path for path in (run / "predictions").glob("padchest-gr-*") if path.is_dir())
    names = {"predictions.jsonl", "predictions.data.json", "coco_results.json", "coco_images.json"}
    assert {path.name: path.read_bytes() for path in aside.glob("*.json*")} == {name: before[name] for name in names}
    assert len(list((aside / "overlays").iterdir())) > 1

    assert (run / "data.json").read_bytes() == facts
    assert (run / "predictions/test.jsonl").read_bytes() == before["test.jsonl"]
    page = (run / "report.html").read_text()
    assert "Data tested on" in page
    assert ">table<" not in page
    assert medvl(f"test --run {run} --config mine.yaml")[0] == 0
    assert (aside / "test.jsonl").read_bytes() == before["test.jsonl"]
    trained, tested = (run / "report.html").read_text().split("Data tested on")
    assert (">table<" in trained, ">table<" in tested) == (False, True)


def test_help_of_a_class(medvl: Run) -> None:
    status, out, _ = medvl("fit --model.help GroundingTask")
    assert status == 0
    assert "--model.image_encoder" in out or "--model.init_args.image_encoder" in out
