"""MedTrim's recipes from the command line, on small random encoders: they train, and what is frozen stays as it was."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import timm
import torch
from cli_toy import Run, medvl
from safetensors.torch import load_file, save_file
from test_encoders_pretrained import write_text

from datamodules.twins import mimic_cxr

__all__ = ["medvl"]
CONFIGS = Path(__file__).resolve().parents[2] / "configs" / "alignment"
SHORT = (
    "--trainer.accelerator cpu --trainer.max_steps 2 --trainer.val_check_interval 1 --trainer.limit_val_batches 1 "
    "--data.source.root twin --data.batch_size 4 --data.image_size 32 --data.num_workers 0 --model.dim 16 "
    "--model.optimizer.lr 0.01"
)


@pytest.fixture
def encoders(tmp_path: Path) -> Path:
    """A small ViT and a small BERT with random weights, as their hubs give them; the ViT has the layers of B/16."""
    folder = tmp_path / "encoders"
    (folder / "vit").mkdir(parents=True)
    thin = {"embed_dim": 16, "depth": 12, "num_heads": 2, "img_size": 32}
    weights = timm.create_model("vit_base_patch16_224", num_classes=0, **thin).state_dict()
    save_file(weights, folder / "vit" / "model.safetensors")
    config = {"architecture": "vit_base_patch16_224", "num_classes": 0, "model_args": thin, "pretrained_cfg": {}}
    (folder / "vit" / "config.json").write_text(json.dumps(config))
    write_text("bert", folder / "bert")
    return folder


def test_both_recipes_train_all_but_two_layers_of_each(medvl: Run, encoders: Path) -> None:
    mimic_cxr.write(Path("twin"), 30, seed=0, size=60, workers=0)
    for words in (
        "data reports mimic-cxr twin --output reports.jsonl",
        "ontology extract --input reports.jsonl --output entities.jsonl",
    ):
        status, _, error = medvl(words)
        assert status == 0, error
    tiny = f"--model.image_encoder.pretrained {encoders}/vit --model.text_encoder.pretrained {encoders}/bert"
    before = load_file(encoders / "vit" / "model.safetensors")
    for name in ("medtrim", "medtrim_mined"):
        status, _, error = medvl(f"fit --config {CONFIGS}/{name}.yaml {tiny} {SHORT}")
        assert status == 0, error
        saved = Path(f"runs/alignment/{name}/latest/checkpoints/last.ckpt").resolve()
        after = torch.load(saved, weights_only=True)["state_dict"]
        moved = {
            key: not torch.equal(value, after[f"model.image_encoder.model.{key}"])
            for key, value in before.items()
            if key.endswith("mlp.fc1.weight")
        }
        assert [key for key, has in moved.items() if not has] == [f"blocks.{i}.mlp.fc1.weight" for i in (0, 1)]
