"""Encoders from timm and Hugging Face: one contract, kept offline with small random models written to disk."""

from __future__ import annotations

import inspect
import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
import transformers
import yaml
from safetensors.torch import save_file
from tokenizers import Tokenizer, models, pre_tokenizers, processors, trainers

import medvl.encoders
from medvl.encoders import (
    HFImageEncoder,
    HFTextEncoder,
    ImageEncoder,
    TextEncoder,
    TimmEncoder,
    TinyConv,
    TinyText,
    TinyViT,
    rebuilding,
)
from medvl.errors import MedvlError

CONFIGS = Path(__file__).parents[2] / "configs" / "encoders"
SMALL = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 48}
VISION = {**SMALL, "image_size": 32, "patch_size": 8}
TEXTS = ["no pleural effusion", "small left apical pneumothorax is seen", "ribs"]
TIMM = {  # name: pixels per token
    "resnet18": 32,
    "vit_tiny_patch16_224": 16,
    "convnext_atto": 32,
    "swin_tiny_patch4_window7_224": 32,
    "efficientnet_b0": 32,
}


@pytest.fixture(autouse=True)
def _offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)


def vision_models() -> dict[str, Callable[[], tuple[Any, int]]]:
    """Return makers of small random vision models with their stride."""
    t = transformers
    towers = {"text_config": {**SMALL, "vocab_size": 99}, "vision_config": VISION}
    convnext = {"hidden_sizes": [8, 16, 24, 32], "depths": [1, 1, 1, 1]}
    swin = {"image_size": 64, "patch_size": 4, "embed_dim": 8, "depths": [1, 1, 1, 1], "num_heads": [1, 1, 2, 2]}
    return {
        "vit": lambda: (t.ViTModel(t.ViTConfig(**VISION)), 8),
        "dinov2": lambda: (t.Dinov2Model(t.Dinov2Config(**VISION)), 8),
        "dinov3": lambda: (t.DINOv3ViTModel(t.DINOv3ViTConfig(**VISION, num_register_tokens=4)), 8),
        "siglip": lambda: (t.SiglipModel(t.SiglipConfig(**towers)), 8),
        "clip-vision": lambda: (t.CLIPVisionModel(t.CLIPVisionConfig(**VISION)), 8),
        "convnext": lambda: (t.ConvNextModel(t.ConvNextConfig(**convnext)), 32),
        "swin": lambda: (t.SwinModel(t.SwinConfig(**swin, window_size=2)), 32),
    }


def write_vision(kind: str, folder: Path) -> int:
    """Save one of `vision_models` with a processor that normalises by 0.4 and 0.2; return its stride."""
    torch.manual_seed(0)
    model, stride = vision_models()[kind]()
    model.save_pretrained(folder)
    settings = {"do_normalize": True, "image_mean": [0.4] * 3, "image_std": [0.2] * 3}
    (folder / "preprocessor_config.json").write_text(json.dumps(settings))
    return stride


def write_text(kind: str, folder: Path) -> None:
    """Save a small random text model with a word-level tokenizer trained on `TEXTS`."""
    torch.manual_seed(0)
    t = transformers
    size = {**SMALL, "vocab_size": 40}
    ids = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
    towers = {"text_config": {**size, **ids, "max_position_embeddings": 16}, "vision_config": VISION}
    makers: dict[str, Callable[[], Any]] = {
        "bert": lambda: t.BertModel(t.BertConfig(**size)),
        "roberta": lambda: t.RobertaModel(t.RobertaConfig(**size, max_position_embeddings=20, **ids)),
        "modernbert": lambda: t.ModernBertModel(
            t.ModernBertConfig(**size, **ids, cls_token_id=1, sep_token_id=2, global_attn_every_n_layers=1)
        ),
        "clip": lambda: t.CLIPModel(t.CLIPConfig(**towers)),
        "siglip": lambda: t.SiglipModel(t.SiglipConfig(**towers)),
        "t5": lambda: t.T5Model(t.T5Config(vocab_size=40, d_model=32, d_kv=8, d_ff=48, num_layers=2, num_heads=2)),
    }
    makers[kind]().save_pretrained(folder)
    tokenizer = Tokenizer(models.WordLevel(**{"unk_token": "[UNK]"}))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    special = ["[PAD]", "[CLS]", "[SEP]", "[UNK]"]
    tokenizer.train_from_iterator(TEXTS, trainers.WordLevelTrainer(special_tokens=special))
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 1), ("[SEP]", 2)]
    )
    names = ["input_ids"] if kind == "siglip" else ["input_ids", "attention_mask"]
    marks = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    made = t.PreTrainedTokenizerFast(tokenizer_object=tokenizer, model_input_names=names, **marks)
    made.save_pretrained(folder)


def check_image_contract(encoder: ImageEncoder, stride: int, size: tuple[int, int]) -> None:
    """Shapes, mask, padding, gradients and a grey image in three channels, at one input size."""
    encoder.eval()
    image, valid = torch.rand(2, 1, *size), torch.ones(2, *size, dtype=torch.bool)
    valid[1, :, size[1] // 2 :] = False
    features = encoder(image, valid)
    grid = (math.ceil(size[0] / stride), math.ceil(size[1] / stride))
    assert features.grid == grid
    assert features.tokens.shape == (2, math.prod(grid), encoder.width)
    assert features.mask[0].all()
    assert features.mask[1].view(grid).sum(dim=1).tolist() == [math.ceil(size[1] // 2 / stride)] * grid[0]
    assert features.pooled.shape == (2, encoder.width)
    other = encoder(torch.where(valid[:, None], image, 1.0).expand(-1, 3, -1, -1), valid)
    torch.testing.assert_close(other.tokens, features.tokens, atol=1e-5, rtol=1e-4)
    features.tokens.square().sum().backward()
    wanted = [(name, p) for name, p in encoder.named_parameters() if p.requires_grad]
    assert [name for name, p in wanted if p.grad is None] == []
    assert len(wanted) > 5
    assert {"normalise.mean", "normalise.std"} <= set(encoder.state_dict())
    assert not any(isinstance(m, torch.nn.BatchNorm2d) for m in encoder.modules())


@pytest.mark.parametrize("name", TIMM)
def test_timm(name: str) -> None:
    torch.manual_seed(0)
    encoder = TimmEncoder(name)
    assert encoder.training
    check_image_contract(encoder, TIMM[name], (96, 128))
    assert encoder(torch.rand(1, 1, 75, 50)).grid == (math.ceil(75 / TIMM[name]), math.ceil(50 / TIMM[name]))


@pytest.mark.parametrize("kind", vision_models())
def test_hugging_face_vision(kind: str, tmp_path: Path) -> None:
    stride = write_vision(kind, tmp_path)
    encoder = HFImageEncoder(str(tmp_path))
    assert encoder.training
    check_image_contract(encoder, stride, (48, 80))
    assert encoder(torch.rand(1, 1, 41, 50)).grid == (math.ceil(41 / stride), math.ceil(50 / stride))
    torch.testing.assert_close(encoder.normalise(torch.full((1, 1, 1, 1), 0.5)).flatten(), torch.full((3,), 0.5))


def test_tokens_are_the_map_without_prefix_in_row_order(tmp_path: Path) -> None:
    write_vision("dinov3", tmp_path)
    encoder, image = HFImageEncoder(str(tmp_path)).eval(), torch.rand(1, 3, 32, 48)
    direct = transformers.DINOv3ViTModel.from_pretrained(tmp_path).eval()((image - 0.4) / 0.2).last_hidden_state
    torch.testing.assert_close(encoder(image).tokens, direct[:, 5:])


@pytest.mark.parametrize("name", ["swin_tiny_patch4_window7_224", "resnet18"])
def test_timm_tokens_are_in_row_order(name: str) -> None:
    torch.manual_seed(0)
    encoder, image = TimmEncoder(name, norm="batch").eval(), torch.rand(1, 3, 64, 96)
    direct = encoder.model.forward_features(encoder.normalise(image))
    by_place = direct[0] if name.startswith("swin") else direct[0].permute(1, 2, 0)
    tokens = encoder(image).tokens[0]
    assert all(tokens[3 * y + x].allclose(by_place[y, x], atol=1e-5) for y in range(2) for x in range(3))


def test_timm_norms_stride_and_grey_stem() -> None:
    kinds = {type(m).__name__ for m in TimmEncoder("resnet18", norm="frozen").modules()}
    assert "FrozenBatchNorm2d" in kinds
    grey = TimmEncoder("resnet18", in_chans=1, stride=16, drop_path=0.1)
    features = grey(torch.rand(2, 3, 64, 96))
    assert (features.grid, grey.width) == ((4, 6), 256)
    features.tokens.sum().backward()
    assert all(p.grad is not None for p in grey.parameters() if p.requires_grad)
    with pytest.raises(MedvlError, match="it has"):
        TimmEncoder("resnet18", stride=7)


def test_model_of_one_size_names_it() -> None:
    encoder = TimmEncoder("mixer_s16_224", img_size=64)
    assert encoder(torch.rand(1, 1, 64, 64)).grid == (4, 4)
    with pytest.raises(MedvlError, match="takes 64×64 pixels only, not 96×64"):
        encoder(torch.rand(1, 1, 96, 64))


def test_timm_weights_from_file_folder_and_wrong_ones(tmp_path: Path) -> None:
    torch.manual_seed(0)
    trained = timm.create_model("resnet18").eval()
    torch.save({"state_dict": trained.state_dict()}, tmp_path / "weights.pth")
    folder = tmp_path / "folder"
    folder.mkdir()
    save_file(trained.state_dict(), folder / "model.safetensors")
    config = {"architecture": "resnet18", "pretrained_cfg": {**trained.pretrained_cfg, "mean": [0.1] * 3}}
    (folder / "config.json").write_text(json.dumps(config))
    image = torch.rand(1, 3, 64, 64)
    for place, mean in ((tmp_path / "weights.pth", 0.485), (folder, 0.1)):
        encoder = TimmEncoder("resnet18", str(place)).eval()
        expected = trained.forward_features(encoder.normalise(image)).flatten(2).transpose(1, 2)
        torch.testing.assert_close(encoder(image).tokens, expected, atol=1e-4, rtol=1e-4)
        assert encoder.state_dict()["normalise.mean"][0].item() == pytest.approx(mean)
    torch.save({"other": torch.zeros(1)}, tmp_path / "other.pth")
    with pytest.raises(MedvlError, match="lack 20 tensors"):
        TimmEncoder("resnet18", str(tmp_path / "other.pth"))
    with pytest.raises(MedvlError, match="holds 'resnet18', not 'resnet50'"):
        TimmEncoder("resnet50", str(folder))


@pytest.mark.parametrize("kind", ["bert", "roberta", "modernbert", "clip", "siglip", "t5"])
def test_text(kind: str, tmp_path: Path) -> None:
    write_text(kind, tmp_path)
    encoder = HFTextEncoder(str(tmp_path), max_length=16)
    assert encoder.training
    encoder.eval()
    features = encoder(TEXTS)
    assert features.grid is None
    assert features.tokens.shape == (3, 16 if kind == "siglip" else 8, encoder.width)
    assert features.mask.sum(dim=1).tolist() == [5, 8, 3]
    for i, text in enumerate(TEXTS):
        torch.testing.assert_close(encoder([text]).pooled[0], features.pooled[i], atol=1e-5, rtol=1e-4)
    features.tokens.square().sum().backward()
    assert all(p.grad is not None for p in encoder.parameters() if p.requires_grad)
    assert any(p.requires_grad for p in encoder.parameters())
    assert encoder([""]).mask.any()


@pytest.mark.parametrize("pooling", ["cls", "eos", "model"])
def test_text_pooling(pooling: Any, tmp_path: Path) -> None:
    write_text("bert", tmp_path)
    encoder = HFTextEncoder(str(tmp_path), pooling=pooling).eval()
    features = encoder(TEXTS)
    rows = {"cls": [0, 0, 0], "eos": [4, 7, 2]}
    expected = features.tokens[[0, 1, 2], rows[pooling]] if pooling in rows else encoder.tower.pooler(features.tokens)
    torch.testing.assert_close(features.pooled, expected)


def test_long_text_is_counted(tmp_path: Path) -> None:
    write_text("clip", tmp_path)
    encoder = HFTextEncoder(str(tmp_path))
    assert encoder.max_length == 16
    with pytest.warns(UserWarning, match="max_length=16"):
        assert encoder(["ribs " * 40, "ribs"]).tokens.shape[1] == 16
    assert encoder.truncated == 1


def test_random_weights_differ_but_tokenizer_stays(tmp_path: Path) -> None:
    write_text("bert", tmp_path)
    trained, fresh = HFTextEncoder(str(tmp_path)), HFTextEncoder(str(tmp_path), random=True)
    assert trained.tokenize(TEXTS)["input_ids"].equal(fresh.tokenize(TEXTS)["input_ids"])
    assert not trained(TEXTS).pooled.allclose(fresh(TEXTS).pooled)


def test_checkpoint_rebuilds_without_the_folder(tmp_path: Path) -> None:
    write_text("siglip", tmp_path / "dual")
    write_vision("siglip", tmp_path / "dual-vision")
    save = timm.create_model("resnet18")
    (tmp_path / "net").mkdir()
    save_file(save.state_dict(), tmp_path / "net" / "model.safetensors")
    (tmp_path / "net" / "config.json").write_text(
        json.dumps({"architecture": "resnet18", "pretrained_cfg": {**save.pretrained_cfg, "mean": [0.1] * 3}})
    )

    def build() -> torch.nn.ModuleList:
        return torch.nn.ModuleList(
            [
                HFTextEncoder(str(tmp_path / "dual")),
                HFImageEncoder(str(tmp_path / "dual-vision")),
                TimmEncoder("resnet18", str(tmp_path / "net")),
            ]
        ).eval()

    first, image = build(), torch.rand(1, 1, 64, 64)
    torch.save({"state_dict": first.state_dict()}, tmp_path / "a.ckpt")
    for folder in ("dual", "dual-vision", "net"):
        shutil.rmtree(tmp_path / folder)
    with pytest.raises(MedvlError, match="no such folder"):
        build()
    checkpoint = torch.load(tmp_path / "a.ckpt", weights_only=True)
    with rebuilding(checkpoint):
        second = build()
    second.load_state_dict(checkpoint["state_dict"])
    for one, two, given in zip(first, second, (TEXTS, image, image), strict=True):
        torch.testing.assert_close(one(given).pooled, two(given).pooled)
        assert [p.requires_grad for p in one.parameters()] == [p.requires_grad for p in two.parameters()]
    torch.save({"state_dict": second.state_dict()}, tmp_path / "b.ckpt")  # and once more, from what was rebuilt
    with rebuilding(torch.load(tmp_path / "b.ckpt", weights_only=True)):
        third = build()
    assert third[0].tokenize(TEXTS)["input_ids"].equal(first[0].tokenize(TEXTS)["input_ids"])


def test_missing_downloads_name_the_offline_way(tmp_path: Path) -> None:
    for build in (
        lambda: HFTextEncoder("someone/absent-model"),
        lambda: HFImageEncoder("someone/absent-model"),
        lambda: TimmEncoder("resnet18", "hf-hub:someone/absent-model"),
    ):
        with pytest.raises(MedvlError) as caught:
            build()
        assert str(caught.value).splitlines()[0].endswith("is not on this machine and could not be downloaded")
        assert "pass a local folder" in str(caught.value)
        assert "hf download someone/absent-model --local-dir FOLDER" in str(caught.value)
    with pytest.raises(MedvlError, match=r"'timm/resnet18\.a1_in1k' is not on this machine"):
        TimmEncoder("resnet18", pretrained=True)
    saved = {"image._extra_state": {"kind": "image", "source": "timm/resnet18.a1_in1k", "files": {}}}
    with rebuilding(saved):  # the weights will come from the checkpoint: nothing is fetched
        assert TimmEncoder("resnet18", pretrained=True).get_extra_state() == saved["image._extra_state"]
    with pytest.raises(MedvlError, match="did you mean 'resnet50'"):
        TimmEncoder("resnett50")
    with pytest.raises(MedvlError, match="cannot build an encoder"):
        HFTextEncoder(str(tmp_path))


def test_models_that_do_not_fit_are_refused() -> None:
    naflex = {"model_type": "siglip2", "text_config": {**SMALL, "vocab_size": 40}, "vision_config": {**SMALL}}
    for config, said in (({"model_type": "nope"}, "Unrecognized model"), (naflex, "pixel_attention_mask")):
        with pytest.raises(MedvlError, match=said):
            HFImageEncoder(config=config)
    with pytest.raises(MedvlError, match="either `pretrained` or `config`"):
        HFImageEncoder()
    assert HFImageEncoder(config={"model_type": "vit", **VISION})(torch.rand(1, 1, 20, 32)).grid == (3, 4)


def test_weights_that_lack_tensors_are_refused(tmp_path: Path) -> None:
    write_text("bert", tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, "num_hidden_layers": 3}))
    with pytest.raises(MedvlError, match="lack 16 tensors"):
        HFTextEncoder(str(tmp_path))


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.yaml")), ids=lambda path: path.stem)
def test_configs_name_what_exists(path: Path) -> None:
    block = yaml.safe_load(path.read_text())
    kind = getattr(medvl.encoders, block["class_path"])
    inspect.signature(kind).bind(**block["init_args"])
    assert issubclass(kind, (ImageEncoder, TextEncoder))
    if kind is TimmEncoder:
        assert timm.is_model(block["init_args"]["name"])


def test_bfloat16_autocast(tmp_path: Path) -> None:
    write_text("bert", tmp_path)
    with torch.autocast("cpu", torch.bfloat16):
        for encoder in (TimmEncoder("convnext_atto"), TinyConv(), TinyViT()):
            assert encoder(torch.rand(1, 1, 64, 64), torch.ones(1, 64, 64, dtype=torch.bool)).tokens.isfinite().all()
        for text in (HFTextEncoder(str(tmp_path)), TinyText()):
            assert text(TEXTS).pooled.isfinite().all()
