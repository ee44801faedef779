"""Volume encoders: one contract, whatever the grid, the padding and the company in the batch."""

from __future__ import annotations

import math
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from medvl.encoders import (
    ImageEncoder,
    InflatedTimm,
    MonaiResNet,
    Precomputed,
    SliceEncoder,
    SwinUNETREncoder,
    TimmEncoder,
    Tiny3D,
    TinyViT,
    ViT3D,
    rebuilding,
)
from medvl.encoders.volumes import boxes, volume_mask
from medvl.errors import MedvlError

MAKERS: dict[str, tuple[Callable[[], ImageEncoder], tuple[int, int, int]]] = {
    "tiny-3d": (Tiny3D, (4, 8, 8)),
    "resnet": (lambda: MonaiResNet(10, stride=8), (8, 8, 8)),
    "resnet-fine-depth": (lambda: MonaiResNet(10, stride=16, depth_stride=2), (2, 16, 16)),
    "swin-unetr": (lambda: SwinUNETREncoder(12, stride=8, window=3), (8, 8, 8)),
    "vit-3d": (lambda: ViT3D(48, depth=2, heads=2, patch=(4, 8, 8)), (4, 8, 8)),
    "inflated-resnet": (lambda: InflatedTimm("test_resnet", stride=8, depth_stride=2), (2, 8, 8)),
    "inflated-vit": (lambda: InflatedTimm("test_vit"), (4, 16, 16)),
    "slices": (lambda: SliceEncoder(TinyViT(32, 1, 2), depth=2, heads=2), (1, 48, 40)),
    "slice-maps": (lambda: SliceEncoder(TinyViT(32, 1, 2), 1, 2, maps=True, chunk=7), (1, 8, 8)),
    "precomputed": (lambda: Precomputed(6, 32, depth=1, heads=2), (1, 1, 1)),
}
SIZE, LEFT = (20, 48, 40), 11  # of the second volume only the first slices are content


@pytest.fixture(params=MAKERS)
def named(request: pytest.FixtureRequest) -> tuple[ImageEncoder, tuple[int, int, int], Tensor]:
    """An encoder, its stride, and two volumes."""
    torch.manual_seed(0)
    maker, stride = MAKERS[request.param]
    encoder = maker()
    return encoder, stride, torch.rand(2, 1, *SIZE) if request.param != "precomputed" else torch.rand(2, 6, 20, 6, 5)


def test_contract(named: tuple[ImageEncoder, tuple[int, int, int], Tensor]) -> None:
    """Shapes, masks, padding of any value and any amount, gradients."""
    encoder, stride, image = named
    assert encoder.training
    assert encoder.ndim == 3
    encoder.eval()
    valid = torch.ones(2, len(image[0, 0]), dtype=torch.bool)
    valid[1, LEFT:] = False
    features = encoder(image, valid)
    grid = tuple(math.ceil(n / step) for n, step in zip(image.shape[2:], stride, strict=True))
    filled = math.ceil(LEFT / stride[0])
    assert features.grid == grid
    assert features.tokens.shape == (2, math.prod(grid), encoder.width)
    assert features.pooled.shape == (2, encoder.width)
    assert features.mask.view(2, *grid).flatten(2).any(dim=2).sum(dim=1).tolist() == [grid[0], filled]
    other = encoder(torch.where(valid[:, None, :, None, None], image, torch.rand_like(image)), valid)
    torch.testing.assert_close(other.tokens, features.tokens)
    for row, depth in ((0, len(image[0, 0])), (1, LEFT)):  # alone, without any padding
        alone = encoder(image[row : row + 1, :, :depth])
        torch.testing.assert_close(alone.pooled[0], features.pooled[row], atol=1e-5, rtol=1e-4)
        cells = features.tokens[row].view(*grid, -1)[: alone.grid[0]].flatten(0, 2)
        torch.testing.assert_close(alone.tokens[0], cells, atol=1e-5, rtol=1e-4)
    (features.tokens * torch.randn_like(features.tokens)).sum().backward()
    wanted = [(name, p) for name, p in encoder.named_parameters() if p.requires_grad]
    assert [name for name, p in wanted if p.grad is None] == []
    assert len(wanted) > 5
    assert not any(isinstance(m, nn.BatchNorm2d | nn.BatchNorm3d) for m in encoder.modules())


def test_mask_of_voxels_checkpoint_and_autocast(
    named: tuple[ImageEncoder, tuple[int, int, int], Tensor], tmp_path: Path
) -> None:
    encoder, _, image = named
    encoder.eval()
    valid = torch.zeros(2, *image.shape[2:], dtype=torch.bool)
    valid[:, 3:-4, 2:-1, 1:-2] = True
    valid[1, 8:] = False
    with torch.no_grad():
        features = encoder(image, valid)
        other = encoder(torch.where(valid[:, None], image, 1.0), valid)
        torch.testing.assert_close(other.tokens, features.tokens)
        nothing = encoder(image, torch.zeros_like(valid))
        assert nothing.pooled.isfinite().all()
        assert nothing.mask.any(dim=1).all()
        with torch.autocast("cpu", torch.bfloat16):
            assert encoder(image, valid).tokens.isfinite().all()
        torch.save(encoder.state_dict(), tmp_path / "a.ckpt")
        for parameter in encoder.parameters():
            parameter.zero_()
        encoder.load_state_dict(torch.load(tmp_path / "a.ckpt", weights_only=True))
        torch.testing.assert_close(encoder(image, valid).tokens, features.tokens)


def learns(encoder: ImageEncoder, image: Tensor, target: Tensor, steps: int) -> float:
    """Train to tell at which depth of the token grid something lies; return the accuracy."""
    head = nn.Linear(encoder.width, 1)
    optimizer = torch.optim.AdamW([*encoder.parameters(), *head.parameters()], lr=3e-3)
    for step in range(steps):
        features = encoder(image)
        scores = head(features.tokens)[..., 0].view(len(image), features.grid[0], -1).logsumexp(dim=2)
        if (accuracy := (scores.argmax(dim=1) == target).float().mean().item()) == 1 and step > 3:
            break
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(scores, target).backward()
        optimizer.step()
    return accuracy


@pytest.mark.parametrize("name", [name for name in MAKERS if not name.startswith("resnet")])
def test_learns_at_which_depth(name: str) -> None:
    """Each finds the slab that holds a bright block, by its tokens alone."""
    torch.manual_seed(0)
    encoder, (thick, _, _) = MAKERS[name][0](), MAKERS[name][1]
    target = torch.tensor([0, 3, 1, 2])
    image = 0.2 * torch.rand(4, *((6, 4, 4, 4) if name == "precomputed" else (1, 4 * thick, 32, 32)))
    for volume, place in zip(image[:, 0], target.tolist(), strict=True):
        volume[thick * place : thick * (place + 1), 1:-1, 1:-1] += 0.7
    assert learns(encoder, image, target, steps=60) == 1


INFLATED = ["test_resnet", "test_vit", "test_convnext", "test_efficientnet"]
INFLATED += ["resnet18", "vit_tiny_patch16_224", "vit_small_patch14_dinov2", "swin_tiny_patch4_window7_224"]


@pytest.mark.parametrize("name", INFLATED)
def test_inflated_says_of_equal_slices_what_the_2d_network_says(name: str) -> None:
    torch.manual_seed(0)
    encoder = InflatedTimm(name, depth_stride=4).eval()
    torch.manual_seed(0)
    flat, image = TimmEncoder(name, in_chans=1).eval(), torch.rand(2, 1, 64, 96)
    with torch.no_grad():
        volume, plane = encoder(image[:, :, None].expand(-1, -1, 8, -1, -1)), flat(image)
    assert volume.grid == (8 // encoder.stride[0], *plane.grid)
    assert encoder.stride[0] == 4 or name.startswith("test_")
    for tokens in volume.tokens.view(2, volume.grid[0], -1, encoder.width).unbind(1):
        torch.testing.assert_close(tokens, plane.tokens, atol=1e-4, rtol=1e-4)


def test_inflated_keeps_weights_and_looks_along_depth() -> None:
    torch.manual_seed(0)
    encoder = InflatedTimm("test_resnet", depth_stride=2).eval()
    torch.manual_seed(0)
    flat = TimmEncoder("test_resnet", in_chans=1)
    ours, theirs = dict(encoder.flat.named_parameters()), dict(flat.named_parameters())
    assert ours.keys() == theirs.keys()
    deep = [name for name, value in ours.items() if value.ndim == 5 and value.shape[2] > 1]
    assert len(deep) > 3
    for name, value in ours.items():
        torch.testing.assert_close(value.sum(dim=2) if value.ndim == 5 else value, theirs[name])
    image = torch.rand(1, 1, 12, 32, 32)
    changed = image.clone()
    changed[:, :, 6] = 0
    differences = (encoder(image).tokens - encoder(changed).tokens).abs().amax(dim=-1).view(encoder(image).grid)
    assert (differences.flatten(1).amax(dim=1) > 1e-4).sum() > 1  # neighbours of the changed slab see it, too


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("mixer_s16_224", "made for one image size.*\n.*put it into a SliceEncoder"),
        ("levit_128s", "made for one image size"),
        ("mobilevitv2_050", "made for one image size"),  # it rounds the sizes of its maps
        ("xcit_nano_12_p16_224", "cannot be inflated\n.*\n.*put it into a SliceEncoder"),
        ("eva02_tiny_patch14_224", "cannot be inflated\n.*\n.*put it into a SliceEncoder"),
        ("test_nfnet", "cannot be inflated\n.*\n.*convolutions are of a kind of their own"),
    ],
)
def test_what_cannot_be_inflated_is_refused(name: str, message: str) -> None:
    with pytest.raises(MedvlError, match=message) as caught:
        InflatedTimm(name)
    assert len(str(caught.value).splitlines()) <= 4


def test_a_network_of_one_size_reads_slices_of_that_size() -> None:
    """What the hint of a refusal says."""
    encoder = SliceEncoder(TimmEncoder("levit_128s", in_chans=1), 1, 2).eval()
    with torch.no_grad():
        assert encoder(torch.rand(1, 1, 2, 224, 224)).grid[0] == 2
    with pytest.raises(MedvlError, match="takes 224×224 pixels only, not 64×96"):
        encoder(torch.rand(1, 1, 2, 64, 96))


def write_medicalnet(depth: int, path: Path) -> dict[str, Tensor]:
    """Save random weights in the form of MedicalNet's files: wrapped, and with names of a data-parallel module."""
    from monai.networks.nets import resnet10, resnet18

    shortcut: dict[str, Any] = {"shortcut_type": "B"} if depth == 10 else {"shortcut_type": "A"}
    make = resnet10 if depth == 10 else resnet18
    net = make(n_input_channels=1, feed_forward=False, bias_downsample=False, conv1_t_stride=2, **shortcut)
    for name, value in net.named_buffers():
        if name.endswith("running_mean"):
            value.uniform_(-0.1, 0.1)
    states = net.state_dict()
    torch.save({"state_dict": {f"module.{name}": value for name, value in states.items()}}, path)
    return states


def test_pretrained_files_rebuild_and_wrong_ones(tmp_path: Path) -> None:
    states = write_medicalnet(10, tmp_path / "net.pth")
    first, image = MonaiResNet(10, str(tmp_path / "net.pth")).eval(), torch.rand(1, 1, 20, 32, 32)
    assert first.levels[0].weight.equal(states["conv1.weight"])
    norm = first.levels[1]
    assert not list(norm.parameters())
    reference = nn.BatchNorm3d(64).eval()
    reference.load_state_dict({k.removeprefix("bn1."): v for k, v in states.items() if k.startswith("bn1.")})
    maps = torch.randn(2, 64, 2, 3, 4)
    torch.testing.assert_close(norm(maps), reference(maps))
    torch.save({"state_dict": first.state_dict()}, tmp_path / "a.ckpt")
    (tmp_path / "net.pth").unlink()
    with pytest.raises(MedvlError, match="no such folder"):
        MonaiResNet(10, str(tmp_path / "net.pth"))
    checkpoint = torch.load(tmp_path / "a.ckpt", weights_only=True)
    with rebuilding(checkpoint):
        second = MonaiResNet(10, str(tmp_path / "net.pth")).eval()
    second.load_state_dict(checkpoint["state_dict"])
    torch.testing.assert_close(second(image).tokens, first(image).tokens)
    torch.save({"other": torch.zeros(1)}, tmp_path / "other.pth")
    with pytest.raises(MedvlError, match="lack"):
        MonaiResNet(10, str(tmp_path / "other.pth"))
    with pytest.raises(MedvlError, match="lack"):
        SwinUNETREncoder(12, pretrained=str(tmp_path / "other.pth"))
    with pytest.raises(MedvlError, match="no such 3D ResNet"):
        MonaiResNet(19)


def test_swin_reads_the_names_of_published_files(tmp_path: Path) -> None:
    source = SwinUNETREncoder(12, stride=8)
    old = {
        name.replace(".linear1.", ".fc1.").replace(".linear2.", ".fc2."): v
        for name, v in source.net.state_dict().items()
    }
    torch.save({"state_dict": {f"module.{name}": value for name, value in old.items()}}, tmp_path / "swin.pt")
    loaded = SwinUNETREncoder(12, stride=8, pretrained=str(tmp_path / "swin.pt"))
    image = torch.rand(1, 1, 16, 16, 16)
    torch.testing.assert_close(loaded.eval()(image).tokens, source.eval()(image).tokens)


def test_slices_are_encoded_once_and_padding_never() -> None:
    torch.manual_seed(0)
    plain = SliceEncoder(TinyViT(32, 1, 2), 1, 2, maps=True).eval()
    chunked = SliceEncoder(TinyViT(32, 1, 2), 1, 2, maps=True, chunk=3)
    chunked.load_state_dict(plain.state_dict())
    rows: list[int] = []
    plain.flat.register_forward_pre_hook(lambda _, inputs: rows.append(len(inputs[0])))
    image, valid = torch.rand(2, 1, 7, 16, 24), torch.ones(2, 7, dtype=torch.bool)
    valid[0, 4:] = False
    first, second = plain(image, valid), chunked(image, valid)
    assert rows == [11]
    torch.testing.assert_close(first.tokens, second.tokens)
    for features, encoder in ((first, plain), (second, chunked)):
        features.tokens.square().sum().backward()
        assert all(parameter.grad is not None for parameter in encoder.parameters())
    for one, two in zip(plain.parameters(), chunked.parameters(), strict=True):
        torch.testing.assert_close(one.grad, two.grad, atol=1e-3, rtol=1e-3)
    with pytest.raises(MedvlError, match="2D image encoder"):
        SliceEncoder(Tiny3D())


def test_precomputed_names_the_channels_it_expects() -> None:
    with pytest.raises(ValueError, match=r"expected features \(B, 8, D, H, W\), got \(1, 4, 2, 2, 2\)"):
        Precomputed(8, 16, 0, 2)(torch.rand(1, 4, 2, 2, 2))


def test_volume_mask_against_loops() -> None:
    valid = torch.rand(3, 9, 13, 17) > 0.99
    valid[0] = False
    mask = volume_mask(valid, 3, (3, 2, 3), (4, 8, 8), valid.device).view(3, 3, 2, 3)
    for row in (1, 2):
        for d in range(3):
            for h in range(2):
                for w in range(3):
                    block = valid[row, 4 * d : 4 * d + 4, 8 * h : 8 * h + 8, 8 * w : 8 * w + 8]
                    assert mask[row, d, h, w] == block.any()
    assert mask[0].sum() == 1
    slices = torch.tensor([[True] * 5 + [False] * 4, [False] * 9])
    assert volume_mask(slices, 2, (3, 2, 1), (4, 8, 8), valid.device).tolist() == [
        [True, True, True, True, False, False],
        [True, False, False, False, False, False],
    ]
    assert volume_mask(None, 2, (3, 2, 3), (4, 8, 8), valid.device).all()


def test_boxes_hold_all_that_is_valid() -> None:
    mask = torch.zeros(3, 4, 3, 5, dtype=torch.bool)
    mask[0, 1, 2, 3] = mask[0, 2, 2, 1] = True
    mask[1] = True
    mask[2, 1:3, 2, 1:4] = True
    assert boxes(mask) == [
        ([0, 2], (slice(1, 3), slice(2, 3), slice(1, 4))),
        ([1], (slice(0, 4), slice(0, 3), slice(0, 5))),
    ]


def test_cells_show_the_extremes_of_their_voxels() -> None:
    levels = Tiny3D(knots=(0.0, 1.0)).get_submodule("cells.0")
    x = torch.rand(2, 1, 6, 12, 20, generator=torch.Generator().manual_seed(0))
    seen: list[Tensor] = []
    levels.get_submodule("vectors").register_forward_hook(lambda _, given, __: seen.append(given[0]))
    levels(x)
    pooled = (-F.max_pool3d(-x, (2, 4, 4)), F.avg_pool3d(x, (2, 4, 4)), F.max_pool3d(x, (2, 4, 4)))
    assert torch.allclose(seen[0][:, 1::2], torch.cat(pooled, dim=1))  # of two knots, the second has the value itself


def test_monai_is_imported_only_where_it_is_used() -> None:
    words = "import sys, medvl.encoders; medvl.encoders.Tiny3D(); sys.exit('monai' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", words], check=False).returncode == 0
