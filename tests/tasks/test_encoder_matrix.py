"""The encoder × task matrix: every encoder, in every task, overfits eight records, and only by looking and reading.

Four pictures show bright and dark patches, and two phrases ask for one kind, so that neither picture nor phrase alone
tells the answer. A later task joins with an entry in `TASKS`.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import pytest
import torch
import transformers
from tokenizers import Tokenizer, models, pre_tokenizers, processors, trainers
from torch import Tensor

from datamodules.batches import GroundingBatch
from datamodules.records import PhraseRecord
from medvl.encoders import HFImageEncoder, HFTextEncoder, TimmEncoder, TinyConv, TinyText, TinyViT
from medvl.encoders.base import ImageEncoder, TextEncoder
from medvl.geometry import AxisTransform
from medvl.metrics.grounding import GroundingMetrics
from tasks.alignment import AlignmentTask
from tasks.alignment.model import Embeddings
from tasks.grounding import GroundingTask

SIDE, STEPS, CHECK_EVERY = 64, 400, 20
RECORDS = torch.arange(8)
PICTURE = RECORDS // 2  # the picture of each record
PHRASES = ["a bright patch is seen", "there is something dark"] * 4
# Boxes in pixels, per picture: bright ones, dark ones. Some phrase has two boxes, another none.
PATCHES = [
    ([(4, 6, 24, 28)], [(36, 34, 58, 56)]),
    ([(38, 4, 60, 22), (6, 40, 26, 60)], [(34, 38, 52, 62)]),
    ([(20, 36, 44, 60)], []),
    ([(40, 24, 62, 50)], [(2, 4, 30, 20)]),
]


class Cell(Protocol):
    """A task with its encoders, on the eight records; record `r` is shown with picture `r // 2` and phrase `r`."""

    def parameters(self) -> list[torch.nn.Parameter]: ...

    def loss(self, pictures: Tensor, phrases: Tensor) -> Tensor:
        """Return the loss when picture `p` is replaced by `pictures[p]`, and phrase `r` by `phrases[r]`."""

    def score(self, pictures: Tensor, phrases: Tensor) -> float:
        """Return the score in [0, 1] against the true records, of the same."""


class Grounding:
    """The grounding task's own model, criterion and postprocessing; the score is P@(F1=1)."""

    def __init__(self, image_encoder: ImageEncoder, text_encoder: TextEncoder) -> None:
        self.task = GroundingTask(
            image_encoder, text_encoder,
            width=64, heads=4, fusion_layers=1, decoder_layers=1, queries=4, ff_ratio=2, dropout=0.0,
        )  # fmt: skip
        self.images = torch.stack([draw(*patches) for patches in PATCHES])
        self.gold = [torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4) for pair in PATCHES for boxes in pair]

    def parameters(self) -> list[torch.nn.Parameter]:
        return [p for p in self.task.parameters() if p.requires_grad]

    def loss(self, pictures: Tensor, phrases: Tensor) -> Tensor:
        batch = self.batch(pictures, phrases)
        return self.task.criterion(self.task.train()(batch), batch)["loss"]

    @torch.no_grad()
    def score(self, pictures: Tensor, phrases: Tensor) -> float:
        batch, post = self.batch(pictures, phrases), self.task.postprocess
        found = post.raw(self.task.eval()(batch), batch.image_index, batch.transforms)
        kept = [{"boxes": each.boxes, "scores": each.scores} for each in map(post.keep, found)]
        metric = GroundingMetrics(threshold=post.threshold)
        metric.update(kept, [{"boxes": boxes} for boxes in self.gold])
        return metric.compute()["p_at_f1"].item()

    def batch(self, pictures: Tensor, phrases: Tensor) -> GroundingBatch:
        return GroundingBatch(
            images=self.images[pictures],
            valid=torch.ones(4, SIDE, SIDE, dtype=torch.bool),
            phrases=[PHRASES[i] for i in phrases.tolist()],
            image_index=PICTURE,
            boxes=[boxes / SIDE for boxes in self.gold],
            image_boxes=[
                torch.cat([b for b, i in zip(self.gold, PICTURE, strict=True) if i == n]) / SIDE for n in range(4)
            ],
            share=torch.ones(4),
            transforms=[AxisTransform.letterbox((SIDE, SIDE), (SIDE, SIDE))] * 4,
            records=[PhraseRecord("", "", "", (), "", "", "train", "test")] * 8,
        )


class Alignment:
    """The alignment task's own model and loss, on pictures and their negatives; the score is the mean R@1."""

    WHICH, KIND = ("a", "is", "seen", "there"), ("bright patch", "something dark")

    def __init__(self, image_encoder: ImageEncoder, text_encoder: TextEncoder) -> None:
        self.task = AlignmentTask(image_encoder, text_encoder, dim=32)
        drawn = torch.stack([draw(*patches) for patches in PATCHES])
        self.images = torch.stack([drawn, 1 - drawn], dim=1)
        self.texts = [f"{which} {kind}" for which in self.WHICH for kind in self.KIND]

    def parameters(self) -> list[torch.nn.Parameter]:
        return [p for p in self.task.parameters() if p.requires_grad]

    def loss(self, pictures: Tensor, phrases: Tensor) -> Tensor:
        found = self.embed(pictures, phrases)
        return self.task.loss(found.image, found.text)["loss"]

    @torch.no_grad()
    def score(self, pictures: Tensor, phrases: Tensor) -> float:
        found = self.embed(pictures, phrases)
        cosines = found.image @ found.text.T
        return sum((ways.argmax(dim=1) == RECORDS).float().mean().item() for ways in (cosines, cosines.T)) / 2

    def embed(self, pictures: Tensor, phrases: Tensor) -> Embeddings:
        return self.task.model(self.images[pictures].flatten(0, 1), None, [self.texts[i] for i in phrases.tolist()])


TASKS: dict[str, Callable[[ImageEncoder, TextEncoder], Cell]] = {"grounding": Grounding, "alignment": Alignment}


def draw(bright: list[tuple[int, ...]], dark: list[tuple[int, ...]]) -> Tensor:
    """Return a noisy grey picture `(1, SIDE, SIDE)` with patches."""
    picture = 0.5 + 0.03 * torch.randn(SIDE, SIDE, generator=torch.Generator().manual_seed(bright[0][0]))
    for grey, boxes in ((0.95, bright), (0.05, dark)):
        for x1, y1, x2, y2 in boxes:
            picture[y1:y2, x1:x2] = grey
    return picture.clamp(0, 1)[None]


SMALL = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 128}
IMAGE: dict[str, Callable[[], ImageEncoder]] = {
    "tiny-conv": lambda: TinyConv(width=64, context=1),
    "tiny-vit": lambda: TinyViT(width=64, depth=2),
    "timm-cnn": lambda: TimmEncoder("test_resnet", stride=8),
    "timm-vit": lambda: TimmEncoder("test_vit"),
    "hf-dinov2": lambda: HFImageEncoder(config={"model_type": "dinov2", **SMALL, "image_size": SIDE, "patch_size": 8}),
    "hf-siglip": lambda: HFImageEncoder(
        config={"model_type": "siglip_vision_model", **SMALL, "image_size": SIDE, "patch_size": 8}
    ),
}
TEXT = ("tiny-text", "hf-bert", "hf-modernbert", "hf-clip")
CELLS = [*((image, "tiny-text") for image in IMAGE), *(("tiny-conv", text) for text in TEXT[1:])]


def text_encoder(name: str, folder: Path) -> TextEncoder:
    """Build a text encoder; one of Hugging Face from a small random model and a word tokenizer saved to `folder`."""
    if name == "tiny-text":
        return TinyText(width=64, depth=1)
    t = transformers
    size = {**SMALL, "vocab_size": 40, "max_position_embeddings": 32}
    ids = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
    makers: dict[str, Callable[[], Any]] = {
        "hf-bert": lambda: t.BertModel(t.BertConfig(**size)),
        "hf-modernbert": lambda: t.ModernBertModel(t.ModernBertConfig(**size, **ids, cls_token_id=1, sep_token_id=2)),
        "hf-clip": lambda: t.CLIPTextModel(t.CLIPTextConfig(**size, **ids)),
    }
    makers[name]().save_pretrained(folder)
    words = Tokenizer(models.WordLevel(**{"unk_token": "[UNK]"}))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    words.train_from_iterator(PHRASES, trainers.WordLevelTrainer(special_tokens=["[PAD]", "[CLS]", "[SEP]", "[UNK]"]))
    words.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 1), ("[SEP]", 2)]
    )
    marks = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    t.PreTrainedTokenizerFast(tokenizer_object=words, **marks).save_pretrained(folder)
    return HFTextEncoder(str(folder))


def overfit(cell: Cell, shuffle: str = "nothing", steps: int = STEPS) -> float:
    """Train until the score is 1 and return the score; `shuffle` re-permutes `pictures` or `phrases` at each step."""
    optimizer = torch.optim.AdamW(cell.parameters(), lr=2e-3)
    score = 0.0
    for step in range(1, steps + 1):
        pictures = torch.randperm(4) if shuffle == "pictures" else torch.arange(4)
        phrases = torch.randperm(8) if shuffle == "phrases" else RECORDS
        optimizer.zero_grad()
        cell.loss(pictures, phrases).backward()
        torch.nn.utils.clip_grad_norm_(cell.parameters(), 1.0)
        optimizer.step()
        if step % CHECK_EVERY == 0 and (score := cell.score(torch.arange(4), RECORDS)) == 1:
            return score
    return score


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize(("image", "text"), CELLS, ids=lambda name: name)
def test_overfits_eight_records_by_looking_and_reading(task: str, image: str, text: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    cell = TASKS[task](IMAGE[image](), text_encoder(text, tmp_path))
    assert overfit(cell) == 1
    assert all(parameter.grad is not None for parameter in cell.parameters())  # DDP waits for each
    assert cell.score(torch.arange(4).roll(1), RECORDS) <= 0.5  # other pictures
    assert cell.score(torch.arange(4), RECORDS ^ 1) <= 0.5  # the other phrase of each picture


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("shuffle", ["pictures", "phrases"])
def test_shuffled_pairs_cannot_be_learnt(task: str, shuffle: str) -> None:
    """The same cell learns the true pairs within a third of these steps."""
    torch.manual_seed(0)
    cell = TASKS[task](IMAGE["tiny-conv"](), TinyText(width=64, depth=1))
    assert overfit(cell, shuffle, steps=120) <= 0.5
