"""Parameters that a loss does not reach, because a part of it is left out: DDP would wait for their gradients."""

from __future__ import annotations

from torch import Tensor, nn

from medvl.distributed import is_distributed
from medvl.encoders.maps import reached


def with_idle(loss: Tensor, module: nn.Module) -> Tensor:
    """Return `loss`, which depends, where there are several ranks, on every parameter of `module` that is trained.

    Those that it did not reach get a gradient of 0. Ranks agree on which they are: a rank whose batch lacks snippets or
    triplets passes through the same layers as the others.
    """
    if not is_distributed():
        return loss
    known = reached(loss)
    for parameter in module.parameters():
        if parameter.requires_grad and id(parameter) not in known:
            loss = loss + 0.0 * parameter.sum()
    return loss
