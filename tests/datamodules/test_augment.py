from __future__ import annotations

import numpy as np
import pytest
import torch

from datamodules.augment import GroundingAugment, kept_share, swap_sides
from medvl.geometry import AxisTransform


@pytest.mark.parametrize(
    ("phrase", "mirrored"),
    [
        ("Opacity in the left lower zone", "Opacity in the right lower zone"),
        ("LEFT pleural effusion, Right side clear", "RIGHT pleural effusion, Left side clear"),
        ("right-sided pneumothorax", "left-sided pneumothorax"),
        ("Rightward shift; leftmost rib", "Leftward shift; rightmost rib"),
        ("Derrame pleural izquierdo", "Derrame pleural derecho"),
        ("Opacidades derechas y base Izquierda", "Opacidades izquierdas y base Derecha"),
        ("campos izquierdos", "campos derechos"),
        ("bright upright density", "bright upright density"),
        ("Bilateral effusions", "Bilateral effusions"),
        ("Cardiomegaly", None),
        ("enlarged heart, left", None),
        ("Elongación aórtica", None),
        ("LLL consolidation", None),
        ("nódulo en LSD", None),
        ("gastric bubble", None),
        ("Corazón de tamaño normal", None),
    ],
)
def test_swap_sides(phrase: str, mirrored: str | None) -> None:
    assert swap_sides(phrase) == mirrored
    if mirrored is not None:
        assert swap_sides(mirrored) == phrase


def test_crops_never_lose_a_box() -> None:
    augment = GroundingAugment(scale=(0.6, 1.0), shift=0.2)
    boxes = torch.tensor([[0.0, 0.0, 0.2, 0.2], [0.7, 0.75, 0.98, 1.0]])
    letterboxed = 0
    for seed in range(200):
        shot = augment.frame(np.random.default_rng(seed), (300, 200), (64, 64), boxes)
        assert (kept_share(shot.transform.boxes(boxes)) >= augment.keep).all()
        letterboxed += shot.transform == AxisTransform.letterbox((300, 200), (64, 64))
    assert 0 < letterboxed < 200


def test_same_generator_same_view() -> None:
    augment = GroundingAugment(mirror=0.5)
    image = torch.rand(1, 16, 16)
    valid = torch.ones(16, 16, dtype=torch.bool)

    def draw(*seed: int) -> tuple[AxisTransform, torch.Tensor]:
        rng = np.random.default_rng(list(seed))
        shot = augment.frame(rng, (20, 30), (16, 16), torch.empty(0, 4))
        return shot.transform, augment.expose(rng, image, valid)

    first, again, other = draw(0, 1, 5), draw(0, 1, 5), draw(0, 2, 5)
    assert first[0] == again[0]
    assert torch.equal(first[1], again[1])
    assert first[0] != other[0]
    assert not torch.equal(first[1], other[1])


def test_exposure_stays_in_range_and_leaves_padding_black() -> None:
    augment = GroundingAugment(brightness=0.5, contrast=1.0, gamma=1.0, noise=0.3)
    valid = torch.zeros(16, 16, dtype=torch.bool)
    valid[:, :9] = True
    for seed in range(20):
        image = augment.expose(np.random.default_rng(seed), torch.rand(1, 16, 16), valid)
        assert image.min() >= 0
        assert image.max() <= 1
        assert not image[:, ~valid].any()


def test_mirror_only_where_every_phrase_can_follow() -> None:
    augment = GroundingAugment(mirror=1.0)
    boxes = torch.tensor([[0.1, 0.4, 0.3, 0.6]])
    shot = augment.frame(np.random.default_rng(0), (40, 40), (40, 40), boxes, ["left effusion", "no fracture"])
    assert shot.mirrored
    assert shot.transform.boxes(boxes)[0, 0] > 0.5
    assert not augment.frame(np.random.default_rng(0), (40, 40), (40, 40), boxes, ["left", "Cardiomegaly"]).mirrored


def test_scale_is_refused_where_zone_words_would_turn_false() -> None:
    with pytest.raises(ValueError, match="zone words"):
        GroundingAugment(scale=(0.2, 1.0))
