"""Start from the weights of another run; what does not fit stays as it was built, and is told."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from lightning.pytorch.utilities import rank_zero_info
from torch import Tensor, nn

from medvl.errors import CheckpointError

EXTRA = "_extra_state"


@dataclass(frozen=True)
class Taken:
    """What became of a checkpoint's weights.

    Attributes:
        taken: Tensors taken over.
        missing: Tensors of the model that the checkpoint lacks.
        unexpected: Tensors of the checkpoint that the model has no place for.
        reshaped: Tensors that have another shape in the model.
        others: Parts that are another encoder than in the checkpoint, each with both sources.
    """

    taken: int
    missing: Sequence[str] = ()
    unexpected: Sequence[str] = ()
    reshaped: Sequence[str] = ()
    others: Sequence[str] = ()

    def lines(self) -> list[str]:
        """Tell it, a line for each kind."""
        kinds = {
            "the checkpoint lacks, so left as built": self.missing,
            "of another shape, so left as built": self.reshaped,
            "another encoder, so left as built": self.others,
            "in the checkpoint only": self.unexpected,
        }
        told = [
            f"{len(names)} {kind}: {', '.join(names[:3])}{', ...' if len(names) > 3 else ''}"
            for kind, names in kinds.items()
            if names
        ]
        return [f"{self.taken} tensors taken over", *told]


def start_from(model: nn.Module, states: Mapping[str, Any], where: str) -> Taken:
    """Take over every weight that fits by name and shape, and say what did not.

    An encoder that names another source than the one in the checkpoint is what the user asks for: it keeps its own
    weights and its tokenizer. One without a source (random weights) takes whatever fits.

    Args:
        model: What is to start.
        states: A checkpoint's `state_dict`.
        where: The checkpoint, for errors.

    Raises:
        CheckpointError: Nothing fits.
    """
    own = model.state_dict()
    others = _other_encoders(own, states)
    given = {name: value for name, value in states.items() if not name.startswith(tuple(others))}
    wanted = [name for name in own if not name.startswith(tuple(others))]
    fitting = {name: value for name, value in given.items() if name in own and _fits(own[name], value)}
    tensors = [name for name in fitting if not name.endswith(EXTRA)]
    if not tensors:
        hint = "was it made by another task?"
        raise CheckpointError("no weight of this checkpoint fits the model", where=where, hint=hint)
    model.load_state_dict(fitting, strict=False)
    taken = Taken(
        taken=len(tensors),
        missing=[name for name in wanted if name not in given],
        unexpected=[name for name in given if name not in own],
        reshaped=[name for name in wanted if name in given and name not in fitting],
        others=[f"{prefix[:-1]} ({there} there, {here} here)" for prefix, (there, here) in others.items()],
    )
    rank_zero_info(f"weights from {where}: " + "\n  ".join(taken.lines()))
    return taken


def _other_encoders(own: Mapping[str, Any], states: Mapping[str, Any]) -> dict[str, tuple[str, str]]:
    """Return the prefixes of encoders whose sources differ, each with the checkpoint's and the model's."""
    found = {}
    for name, state in own.items():
        there, here = _source(states.get(name)), _source(state)
        if name.endswith(EXTRA) and here and there != here:
            found[name.removesuffix(EXTRA)] = there or "none", here
    return found


def _source(state: Any) -> str:
    return str(state.get("source", "")) if isinstance(state, Mapping) else ""


def _fits(own: Any, given: Any) -> bool:
    if isinstance(own, Tensor) and isinstance(given, Tensor):
        return own.shape == given.shape and torch.is_floating_point(own) == torch.is_floating_point(given)
    return isinstance(own, Tensor) == isinstance(given, Tensor)
