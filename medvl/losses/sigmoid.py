"""The sigmoid loss: every pair of an image and a text is a question of its own."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn.functional import logsigmoid
from torch.utils.checkpoint import checkpoint

from medvl.losses.base import AlignmentLoss, Extras, Pairs, Temperature, mean_count


class SigmoidLoss(AlignmentLoss):
    """The loss of SigLIP (arXiv 2303.15343, equation of section 3.2, initial values of its algorithm 1).

    `L = -(1/N) sum_ij log sigmoid(z_ij (s x_i . y_j + b))`, z = 1 for the pair itself and -1 otherwise. Texts are taken
    in chunks, whose logits are computed again in the backward pass: O(n * chunk) memory.

    Args:
        temperature: The first one, of which the factor s is the inverse; both s and b are trained.
        minimum_temperature: The least one.
        bias: The first b: of N^2 questions only N are answered with yes.
        chunk: Texts at once.
    """

    def __init__(
        self, temperature: float = 0.1, minimum_temperature: float = 0.005, bias: float = -10.0, chunk: int = 1024
    ) -> None:
        super().__init__()
        if chunk < 1 or not math.isfinite(bias):
            raise ValueError(f"expected chunk >= 1 and a finite bias, got {chunk} and {bias}")
        self.temperature = Temperature(temperature, minimum_temperature)
        self.bias = nn.Parameter(torch.tensor(float(bias)))
        self.chunk = chunk

    def compare(self, pairs: Pairs, extras: Extras) -> dict[str, Tensor]:
        """Return `loss`, `scale` and `bias`."""
        scale, total = self.temperature(), 0 * pairs.all_text.sum()  # with gradient also where there is no pair
        for first in range(0, len(pairs.all_text), self.chunk):
            texts = pairs.all_text[first : first + self.chunk]
            own = pairs.own - first
            questions = pairs.image, texts, own, scale, self.bias
            if len(pairs.all_text) <= self.chunk:
                total = total + _questions(*questions)
            else:
                total = total + checkpoint(_questions, *questions, use_reentrant=False)
        loss = total / mean_count(len(pairs.image), total)
        return {"loss": loss, "scale": scale.detach(), "bias": self.bias.detach().clone()}


def _questions(image: Tensor, texts: Tensor, own: Tensor, scale: Tensor, bias: Tensor) -> Tensor:
    """Return the summed loss of images `(n, C)` with some texts `(m, C)`; `own` is where among them theirs would be."""
    right = own[:, None] == torch.arange(len(texts), device=texts.device)
    logits = scale * image @ texts.T + bias
    return -logsigmoid(torch.where(right, logits, -logits)).sum()
