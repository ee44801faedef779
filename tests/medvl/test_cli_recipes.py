"""MedGrounder's recipe from the command line: two stages with zero-shot tests between, on small random encoders."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import timm
import torch
import yaml
from cli_toy import Run, medvl
from safetensors.torch import save_file
from test_encoders_pretrained import write_text

from datamodules.twins import imagenome

__all__ = ["medvl"]
CONFIGS = Path(__file__).resolve().parents[2] / "configs"
RECIPE = CONFIGS.parent / "docs" / "grounding-recipe.md"
SHORT = (
    "--trainer.accelerator cpu --trainer.max_steps 2 --trainer.val_check_interval 1 --trainer.limit_val_batches 1 "
    "--trainer.enable_progress_bar false --data.batch_size 6 --data.image_size 64 --data.num_workers 0 "
    "--model.decoder_layers 2 --model.fusion_layers 1"
)


@pytest.fixture(scope="module")
def encoders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A thin ResNet-101 and a small BioClinical ModernBERT with random weights, as their hubs give them."""
    folder = tmp_path_factory.mktemp("encoders")
    (folder / "resnet101").mkdir()
    thin = {"layers": [1, 1, 1, 1], "channels": [4, 8, 8, 16], "stem_width": 4}
    weights = timm.create_model("resnet101", num_classes=0, **thin).state_dict()
    save_file(weights, folder / "resnet101" / "model.safetensors")
    config = {"architecture": "resnet101", "num_classes": 0, "model_args": thin, "pretrained_cfg": {}}
    (folder / "resnet101" / "config.json").write_text(json.dumps(config))
    for kind in ("modernbert", "roberta"):
        write_text(kind, folder / kind)
    return folder


@pytest.fixture(scope="module")
def imagenome_twin(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("twins") / "imagenome"
    imagenome.write(folder, 40, seed=0, size=64, workers=0)
    return folder


def write_sources(imagenome_twin: Path, mscxr: Path, padchest: Path) -> None:
    """Write copies of the sources with these folders."""
    table = str(mscxr / "MS_CXR_Local_Alignment_v1.1.0.csv")
    roots = {
        "imagenome": {"root": str(imagenome_twin), "images": str(imagenome_twin), "exclude": [table]},
        "ms_cxr": {"root": str(mscxr), "images": str(mscxr)},
        "padchest_gr": {"root": str(padchest)},
    }
    for name, more in roots.items():
        source = yaml.safe_load((CONFIGS / f"sources/{name}.yaml").read_text())
        source["init_args"] |= more
        Path(f"{name}.yaml").write_text(yaml.safe_dump(source))
    Path("mscxr_padchest.yaml").write_text((CONFIGS / "sources/mscxr_padchest.yaml").read_text())


def held(run: Path, name: str = "best") -> dict[str, torch.Tensor]:
    states: dict[str, torch.Tensor] = torch.load(run / f"checkpoints/{name}.ckpt", weights_only=True)["state_dict"]
    return states


def test_both_stages(
    medvl: Run,
    encoders: Path,
    imagenome_twin: Path,
    mscxr_twin: Path,
    padchest_twin: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    write_sources(imagenome_twin, mscxr_twin, padchest_twin)
    table = mscxr_twin / "MS_CXR_Local_Alignment_v1.1.0.csv"
    tiny = (
        f"--model.image_encoder.pretrained {encoders}/resnet101 --model.text_encoder.pretrained {encoders}/modernbert"
    )
    stage = f"fit --config {CONFIGS}/grounding/medgrounder"
    first = f"{stage}_imagenome.yaml {tiny} {SHORT} --data.source imagenome.yaml --data.guard {table}"
    status, _, error = medvl(first)
    assert status == 0, error
    one = Path("runs/grounding/medgrounder_imagenome/latest").resolve()

    zero_shot = {"ms_cxr": "ms-cxr", "padchest_gr": "padchest-gr"}
    for source, name in zero_shot.items():
        status, _, error = medvl(f"test --run {one} --data.source {source}.yaml")
        assert status == 0, error
        assert json.loads((one / "predictions/test.data.json").read_text())["source"] == name

    second = f"{stage}_mscxr_padchest.yaml {tiny} {SHORT} --data.source mscxr_padchest.yaml"
    assert medvl(f"{second} --model.optimizer.lr 0")[0] == 0  # so that what it starts from can be seen
    two = Path("runs/grounding/medgrounder_mscxr_padchest/latest").resolve()
    assert "tensors taken over" in caplog.text
    assert "left as built" not in caplog.text
    before, after = held(one), held(two)
    assert before.keys() == after.keys()
    same = [name for name, value in before.items() if not isinstance(value, dict) and not (value == after[name]).all()]
    assert same == [], "stage 2 starts where the best of stage 1 was"
    assert json.loads((two / "data.json").read_text())["source"] == "ms-cxr+padchest-gr"

    other = f"{second} --name other --model.text_encoder {encoders}/roberta.yaml"
    (encoders / "roberta.yaml").write_text(
        f"class_path: HFTextEncoder\ninit_args: {{pretrained: {encoders}/roberta, max_length: 16}}\n"
    )
    caplog.clear()
    status, _, error = medvl(other.replace(f"--model.text_encoder.pretrained {encoders}/modernbert", ""))
    assert status == 0, error
    assert f"1 another encoder, so left as built: model.text_encoder ({encoders}/modernbert there" in caplog.text


def test_the_recipe_is_what_is_published(medvl: Run) -> None:
    for name in ("imagenome", "mscxr_padchest"):
        status, out, error = medvl(f"fit --config {CONFIGS}/grounding/medgrounder_{name}.yaml --print_config")
        assert status == 0, error
        config = yaml.safe_load(out)
        model, data = config["model"]["init_args"], config["data"]["init_args"]
        assert (config["trainer"]["max_epochs"], config["trainer"]["gradient_clip_val"]) == (15, 0.1)
        assert model["optimizer"]["init_args"]["lr"] == 1e-5
        assert model["lr_scale"] == {"text_encoder": 5}
        assert model["schedule"].items() >= {"warmup": 0.01, "shape": "linear", "final": 0.0}.items()
        assert (model["queries"], data["image_size"], data["batch_size"]) == (5, 640, 32)
        assert model["image_encoder"]["init_args"]["name"] == "resnet101"
        assert model["text_encoder"]["init_args"]["pretrained"] == "thomas-sounack/BioClinical-ModernBERT-base"


def test_every_fit_of_the_documentation_parses(medvl: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(CONFIGS.parent)
    fits = [line for line in RECIPE.read_text().splitlines() if line.startswith("medvl fit ")]
    assert len(fits) == 6
    for line in fits:
        status, _, error = medvl(f"{line.removeprefix('medvl ')} --print_config")
        assert status == 0, error


def test_the_options_go_together_train_go_on_and_are_used(medvl: Run, padchest_twin: Path) -> None:
    options = " ".join(f"--config {path}" for path in sorted((CONFIGS / "grounding/options").glob("*.yaml")))
    words = f"--config {CONFIGS}/quickstart/grounding.yaml {options} --data.source.root {padchest_twin}"
    words += " --data.image_size 64 --data.batch_size 8 --trainer.enable_progress_bar false"
    status, _, error = medvl(
        f"fit {words} --trainer.max_steps 2 --trainer.val_check_interval 1 --trainer.log_every_n_steps 1"
    )
    assert status == 0, error
    run = Path("runs/grounding/grounding/latest").resolve()
    kept = yaml.safe_load((run / "fit.yaml").read_text())
    criterion = kept["model"]["init_args"]["criterion"]["init_args"]
    assert (criterion["confidence"], criterion["denoising"]) == ("iou", {"queries": 8, "noise": 0.4})
    assert kept["model"]["init_args"]["learned_queries"]
    assert medvl(f"fit --run {run} --ckpt_path last --trainer.max_steps 3")[0] == 0
    checkpoint = torch.load(run / "checkpoints/last.ckpt", weights_only=True)
    assert (checkpoint["global_step"], "averaging_state" in checkpoint) == (3, True)
    assert "model.learned.content" in checkpoint["state_dict"]
    status, _, error = medvl(f"test --run {run}")
    assert status == 0, error
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert sum("train/denoise_l1" in line for line in lines) == 3
    assert not any("val/denoise_l1" in line for line in lines)
