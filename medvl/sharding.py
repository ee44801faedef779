"""Parameters, gradients and optimiser states in shares: FSDP for models that Lightning's own strategy refuses."""

from __future__ import annotations

from functools import partial
from typing import Any

from lightning.pytorch.strategies import FSDPStrategy
from torch import Tensor, nn
from torch.optim import Optimizer

from medvl.distributed import mean_over_ranks
from medvl.encoders.base import ImageEncoder, TextEncoder


class ShardedStrategy(FSDPStrategy):
    """FSDP with each encoder as a unit of its own and all the rest as another (Zhao et al. 2023, arXiv 2304.11277).

    Lightning's `fsdp` refuses parameters without a dimension, such as temperatures, clipping by norm, batches that hold
    frozen dataclasses, as records are, and processors without an accelerator. Here every rank has all such parameters,
    whose gradients are averaged as they come; the norm is that of all shares; and gloo ranks on a processor do, for
    trying out.

    Args:
        options: As for Lightning's `FSDPStrategy`; `auto_wrap_policy` in place of units of encoders.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**({"auto_wrap_policy": {ImageEncoder, TextEncoder}} | options))

    def _setup_model(self, model: nn.Module) -> nn.Module:
        """Wrap the model."""
        from torch.distributed.fsdp import FullyShardedDataParallel

        scalars = [parameter for parameter in model.parameters() if not parameter.ndim]
        for parameter in scalars:
            parameter.data = parameter.data.to(self.root_device)
            if parameter.requires_grad:
                parameter.register_hook(mean_over_ranks)  # type: ignore[no-untyped-call]
        wrapped = FullyShardedDataParallel(
            model,
            cpu_offload=self.cpu_offload,
            mixed_precision=self.mixed_precision_config,
            sharding_strategy=self.sharding_strategy,
            device_id=self.root_device,
            ignored_states=scalars,
            **self.kwargs,
        )
        self.precision_plugin.clip_grad_by_norm = partial(_clip, wrapped)  # type: ignore[assignment, method-assign]
        self.precision_plugin.convert_input = _as_is  # type: ignore[method-assign, assignment]
        return wrapped


def _as_is(batch: Any) -> Any:
    """Return a batch whose tensors the wrapped model casts: Lightning would have to write into frozen records."""
    return batch


def _clip(model: Any, optimizer: Optimizer, clip_val: float) -> Tensor:
    """Clip the norm of all gradients, those on other ranks included."""
    norm: Tensor = model.clip_grad_norm_(clip_val)
    return norm
