"""The sigmoid loss: every pair of an image and a text is a question of its own."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import logsigmoid

from medvl.losses.base import AlignmentLoss, Extras, Pairs, Temperature, mean_count


class SigmoidLoss(AlignmentLoss):
    """The loss of SigLIP (arXiv 2303.15343, equation of section 3.2, initial values of its algorithm 1).

    `L = -(1/N) sum_ij log sigmoid(z_ij (s x_i . y_j + b))`, z = 1 for the pair itself and -1 otherwise. Texts are taken
    in chunks, and the gradient of each is found along with its loss: O(n * chunk) memory, nothing computed twice.

    Args:
        temperature: The first one, of which the factor s is the inverse; both s and b are trained.
        minimum_temperature: The least one.
        bias: The first b: of N^2 questions only N are answered with yes.
        chunk: Texts at once.
    """

    def __init__(
        self, temperature: float = 0.1, minimum_temperature: float = 0.005, bias: float = -10.0, chunk: int = 256
    ) -> None:
        super().__init__()
        if chunk < 1 or not math.isfinite(bias):
            raise ValueError(f"expected chunk >= 1 and a finite bias, got {chunk} and {bias}")
        self.temperature = Temperature(temperature, minimum_temperature)
        self.bias = nn.Parameter(torch.tensor(float(bias)))
        self.chunk = chunk

    def compare(self, pairs: Pairs, extras: Extras) -> dict[str, Tensor]:
        """Return `loss`, `scale` and `bias`."""
        scale = self.temperature()
        total: Tensor = _Questions.apply(  # type: ignore[no-untyped-call]
            pairs.image, pairs.all_text, scale, self.bias.to(pairs.image), pairs.start, self.chunk
        )
        loss = total / mean_count(len(pairs.image), total)
        return {"loss": loss, "scale": scale.detach(), "bias": self.bias.detach().clone()}


class _Questions(torch.autograd.Function):
    """The summed loss of images `(n, C)` with texts `(N, C)`, of which those from row `start` on are theirs.

    With l = s x . y + b the loss of a question is softplus(-z l), its derivative by l is -z sigmoid(-z l). That gives
    every gradient at once, so that a chunk's logits need not be kept, nor computed again.
    """

    @staticmethod
    def forward(ctx: Any, image: Tensor, texts: Tensor, scale: Tensor, bias: Tensor, start: int, chunk: int) -> Tensor:
        total, slope, offset = (torch.zeros((), dtype=image.dtype, device=image.device) for _ in range(3))
        by_image, by_text = torch.zeros_like(image), torch.empty_like(texts)
        factor = scale.item()
        for first in range(0, len(texts), chunk):
            some = texts[first : first + chunk]
            signed = _sign(torch.addmm(bias.to(image), image, some.T, alpha=factor), start - first)
            total -= logsigmoid(signed).sum()
            if not any(ctx.needs_input_grad):
                continue
            pull = _sign(signed.neg_().sigmoid_().neg_(), start - first)  # the derivative by the logits
            offset += pull.sum()
            torch.mm(pull.T, image, out=by_text[first : first + chunk])
            slope += (by_text[first : first + chunk] * some).sum()
            by_image.addmm_(pull, some)
        ctx.save_for_backward(by_image.mul_(scale), by_text.mul_(scale), slope, offset)
        return total

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        by_image, by_text, slope, offset = ctx.saved_tensors
        return by_image * grads[0], by_text * grads[0], slope * grads[0], offset * grads[0], None, None


def _sign(logits: Tensor, own: int) -> Tensor:
    """Multiply `(n, m)` by -1 in place, except where a pair meets itself: column `own + i` of row i."""
    logits.neg_().diagonal(own).neg_()
    return logits
