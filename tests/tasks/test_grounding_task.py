"""The grounding task from the command line, in two steps of training: what it writes and what it may be told."""

from __future__ import annotations

import json
import os
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from lightning.pytorch import Trainer

from datamodules.grounding import GroundingData
from datamodules.sources import PadChestGR
from datamodules.twins.table import COLUMNS
from medvl.cli.main import main
from medvl.encoders import TinyConv, TinyText
from medvl.evidence import PERMUTED, read_shares
from medvl.io.image import image_size
from tasks.grounding import GroundingTask

CONFIGS = Path(__file__).parents[2] / "configs"
QUICKSTART = f"--config {CONFIGS}/quickstart/grounding.yaml --data.image_size 64 --data.batch_size 8"
SHORT = "--trainer.max_steps 2 --trainer.val_check_interval 2 --trainer.enable_progress_bar false"
EVERY_BOX = "model: {init_args: {postprocess: {threshold: 0.0, fusion_iou: null}}}\n"

Line = dict[str, Any]


def medvl(words: str, folder: Path) -> None:
    """Run a command in `folder`."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr("sys.argv", ["medvl"])
        assert main(words.split()) == 0


def newest(folder: Path) -> Path:
    return (folder / "runs/grounding/grounding/latest").resolve()


def predictions(run: Path, name: str = "predictions") -> list[Line]:
    return [json.loads(line) for line in (run / f"predictions/{name}.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def run(padchest_twin: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two steps that shows every box of every query, tested and predicted."""
    folder = tmp_path_factory.mktemp("run")
    (folder / "every_box.yaml").write_text(EVERY_BOX)
    words = f"{QUICKSTART} --config every_box.yaml {SHORT} --data.source.root {padchest_twin}"
    medvl(f"fit {words}", folder)
    medvl(f"test {words} --ckpt_path best", folder)
    medvl(f"predict --run {newest(folder)}", folder)
    return newest(folder)


def test_a_line_per_sentence_of_the_test_split(run: Path, padchest_twin: Path) -> None:
    lines = predictions(run)
    source = PadChestGR(padchest_twin)
    records = [record for record in source.load().records if record.split == "test"]
    assert [(line["image"], line["phrase"]) for line in lines] == [(r.image, r.phrase) for r in records]
    keys = ["image", "phrase", "boxes_xyxy_px", "scores", "threshold"]
    for line, record in zip(lines, records, strict=True):
        assert list(line)[:5] == keys
        height, width = image_size(source.root / record.path)
        assert (line["width"], line["height"], line["threshold"]) == (width, height, 0.0)
        assert len(line["boxes_xyxy_px"]) == len(line["scores"]) == 8
        assert line["scores"] == sorted(line["scores"], reverse=True)
        assert all(0 < score < 1 for score in line["scores"])
        for x1, y1, x2, y2 in line["boxes_xyxy_px"]:
            assert 0 <= x1 <= x2 <= width
            assert 0 <= y1 <= y2 <= height
        gold = [[x1 * width, y1 * height, x2 * width, y2 * height] for x1, y1, x2, y2 in record.boxes]
        torch.testing.assert_close(torch.tensor(line["gold_xyxy_px"]), torch.tensor(gold), atol=2e-3, rtol=0)


def test_a_test_deals_its_questions_out_anew(run: Path) -> None:
    found = read_shares(run / "predictions" / PERMUTED)
    boxed = sum(bool(line["gold_xyxy_px"]) for line in predictions(run, "test"))
    assert 0 < found["text"].asked <= found["image"].asked <= boxed
    assert found["image"].answers > 0


def test_nothing_tells_who_the_patient_is(run: Path, padchest_twin: Path) -> None:
    patients = {record.patient_id for record in PadChestGR(padchest_twin).load().records}
    written = [path.read_text() for path in run.rglob("*.jsonl")]
    assert not any(f'"{patient}"' in text for patient in patients for text in written)
    assert len({line["patient"] for line in predictions(run)}) > 1


def test_predictions_do_not_depend_on_the_batch(run: Path) -> None:
    together = predictions(run)
    for size in (1, 64):
        medvl(f"predict --run {run} --data.eval_batch_size {size}", run.parents[3])
        for line, other in zip(predictions(run), together, strict=True):
            assert line["phrase"] == other["phrase"]
            boxes, expected = torch.tensor(line["boxes_xyxy_px"]), torch.tensor(other["boxes_xyxy_px"])
            torch.testing.assert_close(boxes, expected, atol=2e-3, rtol=0)  # written to 1/1000 pixel
            torch.testing.assert_close(torch.tensor(line["scores"]), torch.tensor(other["scores"]))


def test_a_checkpoint_holds_plain_values_and_tensors(run: Path) -> None:
    for path in sorted(run.glob("checkpoints/*.ckpt")):
        held = torch.load(path, weights_only=True)
        model = yaml.safe_load(held["medvl_config"])["model"]["init_args"]
        assert model["postprocess"] == {"threshold": 0.0, "fusion_iou": None, "n_acc_floor": 0.9}
        assert held["global_step"] == 2


@pytest.mark.parametrize("name", ["tiny_vit", "resnet18"])
def test_an_image_encoder_is_swapped_by_one_line(name: str, padchest_twin: Path, tmp_path: Path) -> None:
    encoder = os.path.relpath(CONFIGS / f"encoders/{name}.yaml", tmp_path)  # relative to where the user stands
    medvl(f"fit {QUICKSTART} {SHORT} --data.source.root {padchest_twin} --model.image_encoder {encoder}", tmp_path)
    medvl("predict --run runs/grounding/grounding/latest", tmp_path)
    boxes = [len(line["boxes_xyxy_px"]) for line in predictions(newest(tmp_path))]
    assert max(boxes) <= 8
    kept = yaml.safe_load((newest(tmp_path) / "fit.yaml").read_text())["model"]["init_args"]["image_encoder"]
    assert kept["init_args"] == kept["init_args"] | yaml.safe_load((tmp_path / encoder).read_text())["init_args"]


def test_a_table_of_ones_own_trains(table_twin: Path, tmp_path: Path) -> None:
    source = {"root": str(table_twin / "table.csv"), "columns": COLUMNS, "box_format": "xyxy_px"}
    overlay = {"data": {"init_args": {"source": {"class_path": "PhraseTable", "init_args": source}}}}
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(overlay))
    medvl(f"fit {QUICKSTART} --config mine.yaml {SHORT}", tmp_path)
    medvl("predict --run runs/grounding/grounding/latest", tmp_path)
    rows = [json.loads(line) for line in (table_twin / "table.jsonl").read_text().splitlines()]
    wanted = [(row["filename"], row["notes"]) for row in rows if row["fold"] == "test"]
    assert [(line["image"], line["phrase"]) for line in predictions(newest(tmp_path))] == wanted


def test_more_boxes_than_queries_are_told(padchest_twin: Path, tmp_path: Path) -> None:
    data = GroundingData(PadChestGR(padchest_twin), image_size=64)
    trainer = Trainer(accelerator="cpu", logger=False, enable_progress_bar=False, default_root_dir=tmp_path)

    def warnings_with(queries: int) -> list[str]:
        task = GroundingTask(
            TinyConv(width=64), TinyText(width=32), width=32, heads=2, fusion_layers=0, queries=queries
        )
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            trainer.test(task, data, verbose=False)
        return [str(warning.message) for warning in caught if "gold boxes" in str(warning.message)]

    (told,) = warnings_with(1)
    several = sum(len(record.boxes) > 1 for record in data.records("all"))
    assert told.startswith(f"{several} sentences have more gold boxes than the 1 queries")
    assert several > 0
    assert warnings_with(6) == []
