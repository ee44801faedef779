from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from datamodules.augment import GroundingAugment, kept_share
from datamodules.borrow import Lender
from datamodules.packing import Draw
from datamodules.phrases import PhraseDataset
from datamodules.records import PhraseRecord
from medvl.geometry import AxisTransform
from medvl.sides import swap_sides


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
    valid = torch.ones(16, 16, dtype=torch.bool)

    def draw(*seed: int) -> tuple[AxisTransform, bytes, bytes]:
        rng = np.random.default_rng(list(seed))
        shot = augment.frame(rng, (20, 30), (16, 16), torch.empty(0, 4))
        tone = augment.tone(rng)
        return shot.transform, tone.tobytes(), augment.grain(rng, torch.zeros(1, 16, 16), valid).numpy().tobytes()

    first, again, other = draw(0, 1, 5), draw(0, 1, 5), draw(0, 2, 5)
    assert first == again
    assert all(a != b for a, b in zip(first, other, strict=True))


def test_tones_rise_and_grain_leaves_padding_black() -> None:
    augment = GroundingAugment(brightness=0.5, contrast=1.0, gamma=1.0, noise=0.3)
    valid = torch.zeros(16, 16, dtype=torch.bool)
    valid[:, :9] = True
    for seed in range(20):
        rng = np.random.default_rng(seed)
        tone = augment.tone(rng)
        assert tone.dtype == np.float32
        assert (np.diff(tone) >= 0).all()
        assert 0 <= tone[0] <= tone[-1] <= 1
        image = augment.grain(rng, torch.rand(1, 16, 16), valid)
        assert 0 <= image.min() <= image.max() <= 1
        assert not image[:, ~valid].any()
    plain = GroundingAugment(brightness=0, contrast=0, gamma=0).tone(np.random.default_rng(0))
    np.testing.assert_allclose(plain, np.arange(256) / 255, atol=1e-6)


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


def test_lent_sentences_name_what_the_image_does_not_show() -> None:
    def record(path: str, phrase: str, label: str, boxes: int) -> PhraseRecord:
        box = ((0.1, 0.1, 0.4, 0.4),) * boxes
        return PhraseRecord(path, path, phrase, box, path, path, "train", "x", abnormal=bool(boxes), labels=(label,))

    records = [
        record("a", "a nodule", "nodule", 1),
        record("a", "no effusion", "effusion", 0),
        record("b", "an effusion", "effusion", 1),
        record("c", "a mass", "mass", 1),
        record("d", "another nodule", "nodule", 2),
    ]
    lender = Lender(records)
    rng = np.random.default_rng(0)
    assert set(lender.lend(rng, records[:2], 3)) == {"a mass"}
    assert sorted(lender.lend(rng, [records[3]], 3)) == ["a nodule", "an effusion", "another nodule"]
    assert lender.lend(rng, [records[0], records[2], records[3]], 3) == []
    assert lender.lend(rng, [records[3], replace(records[3], labels=())], 3) == []  # it might be any finding
    dataset = PhraseDataset(
        records, lambda path: (np.zeros((8, 8), np.uint8), (8, 8)), 16, augment=GroundingAugment(lent=1.0)
    )
    batch = dataset[Draw(0, [[0, 1], [3]])]
    assert batch.image_index.tolist() == [0, 0, 0, 1, 1]
    assert [len(boxes) for boxes in batch.boxes] == [1, 0, 0, 1, 0]
    assert batch.phrases[2] == "a mass"
    assert batch.phrases[4] in {"a nodule", "an effusion", "another nodule"}
    assert [r.phrase for r in batch.records] == batch.phrases
    again = dataset[Draw(0, [[0, 1], [3]])]
    assert again.phrases == batch.phrases


def test_the_batch_holds_the_words_read_and_the_records_those_loaded() -> None:
    record = PhraseRecord(
        "a", "a", "a nodule on the left", (), "a", "a", "train", "x", abnormal=True, labels=("nodule",)
    )
    lent = replace(record, image="b", path="b", phrase="a mass", labels=("mass",))
    dataset = PhraseDataset(
        [record, lent], lambda path: (np.zeros((8, 8), np.uint8), (8, 8)), 16,
        augment=GroundingAugment(mirror=1.0, lent=1.0),
    )  # fmt: skip
    batch = dataset[Draw(0, [[0]])]
    assert batch.phrases == ["a nodule on the right", "a mass"]
    assert batch.records[0] == record
    assert batch.records[1] == replace(record, phrase="a mass", labels=(), extra_boxes=None)
