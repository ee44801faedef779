"""The encoders that need no file: shapes, masks, positions, hashing."""

from __future__ import annotations

import math
import time
import warnings

import pytest
import torch

from medvl.encoders import ImageEncoder, TinyConv, TinyText, TinyViT
from medvl.encoders.blocks import Normalise, grid_mask, masked_mean
from medvl.encoders.hashing import pieces, split_words

IMAGES = [TinyConv, TinyViT]


@pytest.mark.parametrize("kind", IMAGES)
@pytest.mark.parametrize(("height", "width"), [(64, 64), (97, 130), (40, 200), (8, 8)])
def test_any_image_size(kind: type[ImageEncoder], height: int, width: int) -> None:
    encoder = kind()
    features = encoder(torch.rand(2, 1, height, width))
    assert features.grid == (math.ceil(height / 8), math.ceil(width / 8))
    assert features.tokens.shape == (2, math.prod(features.grid), encoder.width)
    assert features.mask.all()
    assert features.pooled.shape == (2, encoder.width)


@pytest.mark.parametrize("kind", IMAGES)
def test_padding_is_not_seen(kind: type[ImageEncoder]) -> None:
    torch.manual_seed(0)
    encoder, image = kind().eval(), torch.rand(2, 1, 64, 96)
    valid = torch.zeros(2, 64, 96, dtype=torch.bool)
    valid[:, 16:48] = True
    other = torch.where(valid[:, None], image, torch.rand_like(image))
    first, second = encoder(image, valid), encoder(other, valid)
    torch.testing.assert_close(first.tokens, second.tokens)
    torch.testing.assert_close(first.pooled, second.pooled)
    assert first.mask.view(2, 8, 12).any(dim=2)[0].tolist() == [False, False, True, True, True, True, False, False]


@pytest.mark.parametrize("kind", IMAGES)
def test_gradients_reach_everything_and_grey_equals_repeated(kind: type[ImageEncoder]) -> None:
    torch.manual_seed(0)
    encoder, image = kind(), torch.rand(2, 1, 48, 64)
    features = encoder(image)
    (features.tokens * torch.randn_like(features.tokens)).sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in encoder.parameters())
    torch.testing.assert_close(encoder(image.expand(-1, 3, -1, -1)).tokens, features.tokens)


@pytest.mark.parametrize("kind", IMAGES)
def test_positions_tell_places_apart(kind: type[ImageEncoder]) -> None:
    torch.manual_seed(0)
    tokens = kind().eval()(torch.full((1, 1, 64, 64), 0.5)).tokens[0]
    distances = torch.cdist(tokens, tokens) + 9 * torch.eye(len(tokens))
    assert distances.min() > 0.1


def test_words_are_folded_and_hashed_the_same_everywhere() -> None:
    assert split_words("Atelectasia BÁSICA, 3 mm (izq.)") == ["atelectasia", "basica", "3", "mm", "izq"]
    assert pieces("rib", 8192) == (3069, 614, 5028, 5289, 3928, 554, 547)
    assert min(pieces("pneumothorax", 8192)) >= 1
    shared = set(pieces("efusion", 8192)) & set(pieces("effusion", 8192))
    assert len(shared) > 8 > len(set(pieces("efusion", 8192)) & set(pieces("cardiomegaly", 8192)))


def test_text_alone_or_in_company() -> None:
    torch.manual_seed(0)
    encoder = TinyText().eval()
    torch.nn.init.normal_(encoder.words.weight)
    texts = ["Derrame pleural básico", "", "A small left apical pneumothorax without mediastinal shift is seen.", "..."]
    together = encoder(texts)
    for i, text in enumerate(texts):
        torch.testing.assert_close(encoder([text]).pooled[0], together.pooled[i], atol=1e-5, rtol=1e-5)
    assert together.mask.sum(dim=1).tolist() == [4, 1, 11, 1]
    assert together.grid is None


def test_text_gradients_and_order() -> None:
    torch.manual_seed(0)
    encoder = TinyText()
    first, second = encoder(["left above right", "right above left"]).pooled
    assert (first - second).abs().max() > 1e-3
    (first * torch.randn(encoder.width)).sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in encoder.parameters())


def test_long_text_is_cut_counted_and_warned_of_once() -> None:
    encoder, long = TinyText(max_length=4), "secret " * 9
    with pytest.warns(UserWarning, match="max_length=4") as caught:
        features = encoder([long, "short", long])
    assert features.tokens.shape[1] == 5
    assert "secret" not in str(caught[0].message)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        encoder([long])
    assert encoder.truncated == 3


def test_tokenizing_is_quick() -> None:
    encoder = TinyText()
    texts = [f"There is a moderate pleural effusion in the left lower lobe, number {i}." for i in range(64)]
    encoder.tokenize(texts)
    times = []
    for _ in range(5):
        start = time.perf_counter()
        encoder.tokenize(texts)
        times.append(time.perf_counter() - start)
    assert min(times) < 0.01


@pytest.mark.parametrize("encoder", [TinyText(), TinyConv()])
def test_primitives_only_in_checkpoints(encoder: torch.nn.Module, tmp_path: object) -> None:
    torch.save(encoder.state_dict(), f"{tmp_path}/a.ckpt")
    encoder.load_state_dict(torch.load(f"{tmp_path}/a.ckpt", weights_only=True))


def test_grid_mask_against_loops() -> None:
    valid = torch.rand(3, 21, 34) > 0.97
    valid[0] = False
    mask = grid_mask(valid, 3, (3, 5), 8, valid.device).view(3, 3, 5)
    for b in range(1, 3):
        for y in range(3):
            for x in range(5):
                assert mask[b, y, x] == valid[b, 8 * y : 8 * y + 8, 8 * x : 8 * x + 8].any()
    assert mask[0].sum() == 1
    assert grid_mask(None, 2, (3, 5), 8, valid.device).all()


def test_masked_mean_and_normalise() -> None:
    tokens, mask = torch.randn(2, 5, 3), torch.tensor([[1, 1, 0, 0, 0], [1, 1, 1, 1, 1]]).bool()
    expected = torch.stack([tokens[0, :2].mean(dim=0), tokens[1].mean(dim=0)])
    torch.testing.assert_close(masked_mean(tokens, mask), expected)
    normalise = Normalise((0.2, 0.4, 0.6), (0.1, 0.2, 0.3), 3)
    assert {name for name, _ in normalise.named_buffers()} == {"mean", "std"}
    out = normalise(torch.full((1, 1, 2, 2), 0.5))
    torch.testing.assert_close(out[0, :, 0, 0], torch.tensor([3.0, 0.5, -1 / 3]))
    torch.testing.assert_close(
        Normalise((0.2, 0.4, 0.6), (0.1, 0.2, 0.3), 1).get_buffer("mean").flatten()[0], torch.tensor(0.4)
    )


def test_tiny_conv_learns_where() -> None:
    """A bright square in noise: the strongest of its tokens' projections must lie on it after a few steps."""
    torch.manual_seed(0)
    encoder, head = TinyConv(width=64), torch.nn.Linear(64, 1)
    optimizer = torch.optim.AdamW([*encoder.parameters(), *head.parameters()], lr=2e-3)
    for _ in range(25):
        image, place = 0.3 * torch.rand(16, 1, 64, 64), torch.randint(0, 8, (16, 2))
        for picture, (y, x) in zip(image, place.tolist(), strict=True):
            picture[0, 8 * y : 8 * y + 8, 8 * x : 8 * x + 8] += 0.5
        scores = head(encoder(image).tokens)[..., 0]
        target = place[:, 0] * 8 + place[:, 1]
        loss = torch.nn.functional.cross_entropy(scores, target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert (scores.argmax(dim=1) == target).float().mean() > 0.9
