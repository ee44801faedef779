"""Parameters that a loss does not reach, because a part of it is left out: DDP would wait for their gradients."""

from __future__ import annotations

import torch.distributed as dist
from lightning.pytorch.strategies import DDPStrategy
from torch import Tensor, nn

from medvl.encoders.maps import reached


def with_idle(loss: Tensor, module: nn.Module) -> Tensor:
    """Return `loss`, which depends, where ranks have met, on every parameter of `module` that is trained.

    Those that it did not reach get a gradient of 0. Ranks agree on which they are: a rank whose batch lacks snippets or
    triplets passes through the same layers as the others.
    """
    trainer = getattr(module, "_trainer", None)
    met = dist.is_available() and dist.is_initialized()  # DDP waits on a single rank, too
    if not met or (trainer is not None and not isinstance(trainer.strategy, DDPStrategy)):
        return loss
    known = reached(loss)
    for parameter in module.parameters():
        if parameter.requires_grad and id(parameter) not in known:
            loss = loss + 0.0 * parameter.sum()
    return loss
