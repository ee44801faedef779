"""Local evidence: a text against the tokens of an image, the best of which counts."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import pad

from medvl.distributed import gather_sizes, gather_with_grad, is_distributed


class Patches(NamedTuple):
    """Tokens of images, projected to the space of the texts.

    Attributes:
        tokens: `(n, P, C)`.
        mask: Bool `(n, P)`, False on padding; at least one per row is True.
    """

    tokens: Tensor
    mask: Tensor

    def where(self, kept: Tensor) -> Patches:
        """Return those of the images that rows, or bool `(n,)`, name."""
        return Patches(self.tokens[kept], self.mask[kept])

    def gathered(self) -> Patches:
        """Return those of all ranks, in rank order; where P differs, as of volumes, all are padded to the largest."""
        room = 0
        if is_distributed():
            room = max(gather_sizes(self.tokens.shape[1], self.tokens.device)) - self.tokens.shape[1]
        tokens, mask = pad(self.tokens, [0, 0, 0, room]), pad(self.mask.to(torch.uint8), [0, room])
        return Patches(gather_with_grad(tokens).rows, gather_with_grad(mask).rows > 0)


def best_patch(patches: Patches, texts: Tensor, sharpness: float) -> Tensor:
    """Return how well the best patch of each image fits its text: a smooth maximum of cosines, `(n,)`.

    `1/r log mean_p exp(r cos_p)`, as `LSEPool` has it (arXiv 1411.6228, equation 6); of one patch it is the cosine.

    Args:
        patches: Of unit length.
        texts: `(n, C)`, of unit length.
        sharpness: r.
    """
    cosines = torch.einsum("npc,nc->np", patches.tokens, texts)
    summed = torch.logsumexp((sharpness * cosines).masked_fill(~patches.mask, -torch.inf), dim=1)
    return (summed - patches.mask.sum(dim=1).to(summed).log()) / sharpness
