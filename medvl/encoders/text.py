"""Text encoders from Hugging Face transformers."""

from __future__ import annotations

import os
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

import torch
from torch import Tensor, nn

from medvl.encoders import hub
from medvl.encoders.base import Features, TextEncoder
from medvl.encoders.blocks import masked_mean
from medvl.encoders.image2d import load_tower
from medvl.encoders.maps import park_idle, reached

os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # batches are small, and loader workers fork


class HFTextEncoder(TextEncoder):
    """Any text encoder of transformers: BERT, RoBERTa, ModernBERT, T5's encoder, the text tower of CLIP or SigLIP.

    Code that comes with a model is never run (`trust_remote_code=False`).

    Args:
        pretrained: Hub id or local folder, with a tokenizer.
        max_length: Tokens read of each text, at most what the model takes; what is cut is counted in `truncated`.
        pooling: `mean` over valid tokens, `cls` the first token, `eos` the last valid one, `model` its own pooler.
        random: Take the architecture and the tokenizer but random weights.
    """

    def __init__(
        self,
        pretrained: str,
        max_length: int = 128,
        pooling: Literal["mean", "cls", "eos", "model"] = "mean",
        random: bool = False,
    ) -> None:
        super().__init__()
        self.source, self.pooling = pretrained, pooling
        with hub.opened("text", pretrained) as source:
            self.tokenizer = _tokenizer(source.path)
            tower, self.config, missing = load_tower(hub.Source(source.path, source.weights and not random), "text")
        self.tower: Any = tower.eval()
        self._settle_tokenizer(max_length)
        with torch.enable_grad():
            probe = self.encode(**self.tokenize(["text"]))
            used = reached(probe.pooled) | reached(probe.tokens)
        hub.check_loaded(missing, used, pretrained)
        park_idle(self.tower, used)
        self.tower.train()
        self.width = probe.tokens.shape[-1]

    def _settle_tokenizer(self, max_length: int) -> None:
        tokenizer = self.tokenizer
        tokenizer.padding_side = tokenizer.truncation_side = "right"
        if tokenizer.pad_token is None:
            tokenizer.pad_token = tokenizer.eos_token
        self.max_length = min(max_length, tokenizer.model_max_length, _positions(self.tower))
        self.masks = "attention_mask" in tokenizer.model_input_names
        with TemporaryDirectory(prefix="medvl-") as folder:
            tokenizer.save_pretrained(folder)
            self.files = {**hub.pack(Path(folder)), "config.json": self.config}

    def tokenize(self, texts: list[str]) -> dict[str, Tensor]:
        """Return the tokenizer's padded tensors and an `attention_mask`, True on tokens of the text."""
        # A tokenizer that gives no mask belongs to a model (SigLIP) that was trained on texts padded to full length.
        batch = self.tokenizer(
            texts,
            padding="longest" if self.masks else "max_length",
            truncation=True,
            max_length=self.max_length,
            return_attention_mask=True,
            return_tensors="pt",
        )
        self.note_cut(sum(bool(encoding.overflowing) for encoding in batch.encodings or ()))
        device = next(self.tower.parameters()).device
        return {name: tensor.to(device) for name, tensor in batch.items()}

    def encode(self, **tokens: Tensor) -> Features:
        """Encode what `tokenize` returned."""
        mask = tokens["attention_mask"].bool()
        seen = tokens if self.masks else {name: t for name, t in tokens.items() if name != "attention_mask"}
        output = self.tower(**seen)
        states: Tensor = output.last_hidden_state
        if self.pooling == "model":
            return Features(states, mask, output.pooler_output, None)
        if self.pooling == "mean":
            return Features(states, mask, masked_mean(states, mask), None)
        last = torch.arange(mask.shape[1], device=mask.device).mul(mask).argmax(dim=1)
        picked = last if self.pooling == "eos" else torch.zeros_like(last)
        return Features(states, mask, states[torch.arange(len(states), device=states.device), picked], None)

    def get_extra_state(self) -> dict[str, Any]:
        """Return the tokenizer's files and the model's configuration, as strings."""
        return hub.extra_state("text", self.source, self.files)

    def set_extra_state(self, state: dict[str, Any]) -> None:
        """Take over a checkpoint's tokenizer: its weights were trained with that one."""
        if state["files"] != self.files:
            with TemporaryDirectory(prefix="medvl-") as folder:
                hub.unpack(state["files"], Path(folder))
                self.tokenizer = _tokenizer(folder)
            self._settle_tokenizer(self.max_length)


def _tokenizer(path: str) -> Any:
    return hub.load(import_module("transformers").AutoTokenizer.from_pretrained, path)


def _positions(tower: nn.Module) -> int:
    """Return how many positions a model has; RoBERTa's table starts after its padding index."""
    limit = getattr(getattr(tower, "config", None), "max_position_embeddings", None)
    if not isinstance(limit, int):
        return 1 << 30
    tables = (m for name, m in tower.named_modules() if name.endswith("position_embeddings"))
    return limit - max((m.padding_idx + 1 for m in tables if getattr(m, "padding_idx", None) is not None), default=0)
