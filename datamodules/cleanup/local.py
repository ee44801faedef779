"""A language model of transformers, in this process."""

from __future__ import annotations

import hashlib
from functools import cached_property
from pathlib import Path
from typing import Any

from datamodules.cleanup.endpoint import NoAnswerError
from medvl.errors import ConfigError


class LocalModel:
    """Any causal language model that transformers loads; answers are the most probable ones.

    Args:
        source: A local folder or a hub id.
        max_tokens: Longest answer.

    Raises:
        ConfigError: `source` is a folder without a model.
    """

    def __init__(self, source: str, max_tokens: int = 2048) -> None:
        self.source, self.max_tokens = source, max_tokens
        folder = Path(source).expanduser()
        if source.startswith((".", "/", "~")) and not folder.is_dir():
            raise ConfigError("no such folder", where=f"--llm {source}")
        if folder.is_dir():
            self.source = str(folder)
            if not (folder / "config.json").is_file():
                raise ConfigError("the folder holds no model", where=f"--llm {source}", hint="looked for config.json")

    @cached_property
    def name(self) -> str:
        """What verdicts are kept under: the hub id, or the folder's name with a hash of its files' sizes and times."""
        folder = Path(self.source)
        if not folder.is_dir():
            return self.source
        stamps = sorted((file.name, file.stat().st_size, file.stat().st_mtime_ns) for file in folder.iterdir())
        return f"{folder.resolve().name}@{hashlib.sha256(repr(stamps).encode()).hexdigest()[:12]}"

    @cached_property
    def _loaded(self) -> tuple[Any, Any]:
        import torch
        from transformers import AutoModelForCausalLM, AutoTokenizer

        from medvl.encoders.hub import load

        try:
            tokenizer = load(AutoTokenizer.from_pretrained, self.source)
            model = load(AutoModelForCausalLM.from_pretrained, self.source, dtype="auto", use_safetensors=True)
        except (OSError, ValueError, ImportError, RuntimeError, KeyError) as error:
            cause = " ".join(f"{type(error).__name__}: {error}".split())[:160]
            raise ConfigError("cannot load the language model", where=f"--llm {self.source}", hint=cause) from error
        return tokenizer, model.train(False).to("cuda" if torch.cuda.is_available() else "cpu")

    def ask(self, task: str, question: str) -> str:
        """Return the model's answer.

        Raises:
            NoAnswerError: It failed on this question, for example because it is too long for it.
            ConfigError: The model cannot be loaded.
        """
        import torch

        tokenizer, model = self._loaded
        try:
            inputs = tokenizer(_prompt(tokenizer, task, question), return_tensors="pt", add_special_tokens=True)
            known = {name: inputs[name].to(model.device) for name in ("input_ids", "attention_mask") if name in inputs}
            pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id
            with torch.inference_mode():
                found = model.generate(**known, max_new_tokens=self.max_tokens, do_sample=False, pad_token_id=pad)
            return str(tokenizer.decode(found[0, known["input_ids"].shape[1] :], skip_special_tokens=True))
        except (RuntimeError, IndexError, ValueError):  # out of memory, longer than the model reads
            raise NoAnswerError("model-failed") from None


def _prompt(tokenizer: Any, task: str, question: str) -> str:
    if not getattr(tokenizer, "chat_template", None):
        return f"{task}\n\n{question}\n\nJSON:\n"
    messages = [{"role": "system", "content": task}, {"role": "user", "content": question}]
    return str(tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True))
