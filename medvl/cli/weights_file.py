"""Weights as safetensors: tensors, and beside them as JSON all that a checkpoint holds for inference."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from medvl.errors import CheckpointError
from medvl.io.atomic import replacing

SUFFIX = ".safetensors"
LEFT_OUT = ("state_dict", "loops", "callbacks", "optimizer_states", "lr_schedulers", "random_states")
STATES = "extra_states"  # what of a state dict is no tensor: where an encoder is from, its tokenizer's files


def write_weights(path: Path, checkpoint: Mapping[str, Any]) -> None:
    """Write a checkpoint's weights, whole or not at all; of an averaged model, the average.

    Args:
        path: Ends with `.safetensors`.
        checkpoint: What its file holds. Whatever in it is a plain value goes into the metadata: the config, what was
            calibrated, the step; what only training needs is left out.
    """
    states = checkpoint["state_dict"]
    tensors = {name: value.detach().cpu().clone().contiguous() for name, value in states.items() if _is_tensor(value)}
    told = {name: value for name, value in checkpoint.items() if name not in LEFT_OUT and _is_plain(value)}
    told[STATES] = {name: value for name, value in states.items() if not _is_tensor(value)}
    metadata = {"format": "pt", **{name: json.dumps(value) for name, value in told.items()}}
    with replacing(path) as draft:
        save_file(tensors, draft, metadata=metadata)


def read_weights(path: Path, device: Any = "cpu") -> dict[str, Any]:
    """Read what `write_weights` wrote, in the form of a checkpoint.

    Raises:
        CheckpointError: The file is damaged, or no such file.
    """
    try:
        with safe_open(path, "pt", device=str(torch.device(device))) as held:  # type: ignore[no-untyped-call]
            states = {name: held.get_tensor(name) for name in held.keys()}  # noqa: SIM118  # it is no mapping
            told = {name: json.loads(value) for name, value in (held.metadata() or {}).items() if name != "format"}
    except (SafetensorError, OSError, json.JSONDecodeError) as error:
        hint = "expected a file of medvl export"
        raise CheckpointError("these weights cannot be read", where=str(path), hint=hint) from error
    return {"state_dict": states | told.pop(STATES, {}), **told}


def _is_tensor(value: Any) -> bool:
    return isinstance(value, Tensor)


def _is_plain(value: Any) -> bool:
    try:
        json.dumps(value)
    except (TypeError, ValueError):
        return False
    return True
