"""Depths read off the heads of the global embeddings: each depth as if it were a volume, padding included."""

from __future__ import annotations

import pytest
import torch
from torch.nn.functional import normalize

from medvl.encoders import Tiny3D, TinyText
from medvl.encoders.base import Features
from medvl.errors import ConfigError
from tasks.volume.depth import DepthGrid
from tasks.volume.localisation import Localiser
from tasks.volume.model import MapHead, VolumeModel

DEPTH, SIDE, WIDTH = 5, 2, 32


def model() -> VolumeModel:
    torch.manual_seed(0)
    image, text = Tiny3D(width=WIDTH, depth=1, context=1), TinyText(width=WIDTH, depth=1, buckets=256)
    return VolumeModel(image, text, dim=16, depth_heads="global").eval()


@torch.no_grad()
def test_each_depth_is_embedded_as_a_volume_of_its_tokens() -> None:
    tokens = torch.randn(2, DEPTH * SIDE * SIDE, WIDTH)
    mask = torch.ones(2, DEPTH, SIDE * SIDE, dtype=torch.bool)
    mask[1, 3:] = False  # a shorter volume
    mask[0, 1, 2] = False
    features = Features(tokens, mask.flatten(1), tokens[:, 0], (DEPTH, SIDE, SIDE))
    grid = DepthGrid.of(torch.zeros(2), torch.full((2,), 3.0), torch.tensor([20, 12]), DEPTH, 4)
    found, words = model(), ["a nodule", "an effusion", "a cyst"]
    snippets = found.embed_snippets(words)
    torch.testing.assert_close(normalize(snippets, dim=1), found.embed_texts(words))
    index = torch.tensor([0, 1, 1])
    depths = found.locate(features, grid, snippets, index)
    for row, volume in enumerate(index.tolist()):
        for depth in range(DEPTH):
            logit = float(depths.logits[row, depth])
            if not mask[volume, depth].any():
                assert logit == -torch.inf
                continue
            own = slice(depth * SIDE * SIDE, (depth + 1) * SIDE * SIDE)
            part = Features(tokens[volume, own][None], mask[volume, depth][None], tokens[:1, 0], (1, SIDE, SIDE))
            cosine = float((found.embed_volumes(part) @ found.embed_texts(words)[row]).squeeze())
            assert logit == pytest.approx(cosine / found.localiser.temperature, abs=1e-4)
    assert depths.where.isfinite().all()


def test_a_volume_is_pooled_as_by_attention() -> None:
    head = MapHead(WIDTH, heads=4).double()
    torch.nn.init.normal_(head.attention.in_proj_bias)
    tokens = torch.randn(3, 7, WIDTH, dtype=torch.float64, requires_grad=True)
    mask = torch.arange(7) < torch.tensor([[7], [4], [1]])
    query = head.query.expand(3, -1, -1)
    seen = head.attention(query, tokens, tokens, key_padding_mask=~mask, need_weights=False)[0][:, 0]
    seen = seen + head.most(torch.stack([one[own].amax(dim=0) for one, own in zip(tokens, mask, strict=True)]))
    found, expected = head(tokens, mask), seen + head.mlp(head.norm(seen))
    torch.testing.assert_close(found, expected)
    learnt = [tokens, *head.parameters()]
    for ours, theirs in zip(_gradients(found, learnt), _gradients(expected, learnt), strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-10, rtol=1e-6)


def _gradients(value: torch.Tensor, of: list[torch.Tensor]) -> tuple[torch.Tensor, ...]:
    return torch.autograd.grad(value.square().sum(), of, retain_graph=True)


def test_global_heads_compare_by_cosine_alone() -> None:
    encoders = Tiny3D(width=WIDTH, depth=1, context=1), TinyText(width=WIDTH, depth=1, buckets=256)
    dot = Localiser(similarity="dot")
    with pytest.raises(ConfigError, match="cosine"):
        VolumeModel(*encoders, dim=16, localiser=dot, depth_heads="global")
    assert dot.similarity == "dot"
    assert VolumeModel(*encoders, dim=16, localiser=dot).localiser is dot
