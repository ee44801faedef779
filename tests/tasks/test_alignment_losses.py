"""What the alignment task tells its loss, and what it makes of it on validation; pooling against NumPy."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from test_alignment_task import make_batch, make_task
from torch import Tensor

from medvl.encoders.base import Features
from medvl.entities import EntityCodes
from medvl.errors import ConfigError
from medvl.losses import BatchMiner, InfoNCE, MedTrimLoss
from tasks.alignment.model import LSEPool
from tasks.alignment.studies import Known, kept_triplets, label_scores

SPANS = ((3, 4, 5), (5, 6, 7))  # two diseases, with an adjective and a direction each


def test_a_finding_on_a_few_tokens_is_pooled_as_a_smooth_maximum() -> None:
    torch.manual_seed(0)
    pool, tokens = LSEPool(8, sharpness=4.0).double(), torch.randn(3, 5, 8, dtype=torch.float64)
    mask = torch.tensor([[True] * 5, [True] * 2 + [False] * 3, [False, True] + [False] * 3])
    found = pool(Features(tokens, mask, tokens[:, 0]))
    weight, bias = (p.detach().numpy() for p in (pool.values.weight, pool.values.bias))
    for row, kept in enumerate(mask.numpy()):
        values = tokens[row].numpy()[kept] @ weight.T + bias
        np.testing.assert_allclose(found[row].detach(), np.log(np.exp(4 * values).mean(axis=0)) / 4)
        assert (found[row].detach().numpy() <= values.max(axis=0) + 1e-12).all()
        assert (found[row].detach().numpy() >= values.mean(axis=0) - 1e-12).all()


@pytest.mark.parametrize("pooling", ["encoder", "lse"])
def test_padding_is_not_pooled(pooling: str) -> None:
    batch = make_batch()
    batch.valid[:, 16:] = False
    task = make_task(image_pooling=pooling, text_pooling=pooling).eval()
    alone = task.model.embed_texts(batch.texts[:1])
    torch.testing.assert_close(task(batch).text[:1], alone)
    changed = replace(batch, images=torch.where(batch.valid[:, None], batch.images, 0.7))
    torch.testing.assert_close(task(changed).image, task(batch).image)


def test_triplets_lose_those_who_cannot_take_part() -> None:
    triplets = torch.tensor([[0, 1, 2], [3, 4, 5], [5, 3, 2], [1, 0, 5]])
    kept = torch.tensor([True, False, True, True, True, True])
    assert kept_triplets(triplets, kept).tolist() == [[2, 3, 4], [4, 2, 1]]
    assert kept_triplets(triplets, ~kept).shape == (0, 3)


def test_mined_triplets_reach_the_loss() -> None:
    batch, task = make_batch(), make_task(MedTrimLoss())
    batch.valid[2] = False
    batch = replace(batch, triplets=torch.tensor([[0, 1, 2], [0, 3, 4], [3, 4, 5]]))
    found = task.losses(task(batch), batch)
    assert found["triplets"] == 3
    image, text, _ = task(batch)
    by_hand: list[Tensor] = []
    for first, others in ((image, image), (text, text), (image, text), (text, image)):
        whole = [(0, 1, 2)] if others is text else []  # study 2 has no image
        hinges = [(first[a] @ (others[n] - others[p]) + 0.3).clamp_min(0) for a, p, n in [*whole, (0, 3, 4), (3, 4, 5)]]
        by_hand.append(torch.stack(hinges).mean())
    torch.testing.assert_close(found["loss"], torch.stack(by_hand).sum() / 2)
    with pytest.raises(ConfigError, match="needs triplets"):
        task.losses(task(batch), replace(batch, triplets=None))


def test_patches_of_one_token_are_the_image_itself() -> None:
    batch = make_batch()
    batch = replace(batch, images=batch.images[..., :8, :8], valid=batch.valid[:, :8, :8])
    for pooling in ("encoder", "lse"):
        tasks = [make_task(MedTrimLoss(miner=BatchMiner(fallback="below"), patches=v), image_pooling=pooling)
                 for v in (0.0, 0.6)]  # fmt: skip
        plain, local = (task.losses(task(batch), batch) for task in tasks)
        assert tasks[1](batch).patches.tokens.shape == (6, 1, 32)
        assert plain["it"] > 0
        torch.testing.assert_close(local, plain)
    assert tasks[1].eval()(batch).patches is None


def test_entities_stand_before_labels_where_studies_are_compared() -> None:
    batch = make_batch()
    rows = torch.zeros(6, 7, dtype=torch.uint8)
    rows[:, 0] = 1
    rows[0, [1, 3]] = rows[1, [1, 3, 4]] = 1
    every = torch.ones(6, dtype=torch.bool)
    scores = Known.of(replace(batch, entities=EntityCodes(rows, SPANS)), every).extras()["scores"]
    # the same disease and adjective, another direction
    assert scores[0, 1].item() == pytest.approx(0.85 + 0.10 + 0.05 * 0)
    assert scores[2, 3].item() == pytest.approx(0.85)  # nothing found in either
    plain = Known.of(batch, every).extras()
    torch.testing.assert_close(plain["scores"], label_scores(plain["labels"]))
    assert plain["labels"].shape == (6, 2)


def test_the_validation_loss_is_the_mean_over_studies() -> None:
    task, batches = make_task(InfoNCE()).eval(), [make_batch([0, 1, 2, 3]), make_batch([4, 5])]
    batches[0].texts[3] = ""
    with torch.no_grad():
        for batch in batches:
            task.validation_step(batch, 0)
        expected = [task.losses(task(batch), batch)["loss"] for batch in batches]
        found = task._validation_loss()
    assert found is not None
    torch.testing.assert_close(found, (3 * expected[0] + 2 * expected[1]) / 5)
    task.on_validation_epoch_start()
    task.validation_step(batches[1], 0)
    torch.testing.assert_close(task._validation_loss(), expected[1])


def test_a_loss_that_validation_cannot_feed_has_none() -> None:
    for loss, told in ((MedTrimLoss(), False), (MedTrimLoss(miner=BatchMiner(fallback="below")), True)):
        task = make_task(loss).eval()
        task.validation_step(make_batch(), 0)
        assert (task._validation_loss() is not None) == told
