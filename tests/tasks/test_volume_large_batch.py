"""Large batches: chunk by chunk gives the loss and gradients of the whole, on two ranks and in bfloat16 too."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from lightning.pytorch import LightningDataModule, Trainer
from lightning.pytorch.strategies import SingleDeviceStrategy
from ranks import on_ranks
from test_volume_distributed import SHARES, rows_of
from test_volume_task import batch, task
from torch import Tensor
from torch.utils.data import DataLoader

from datamodules.batches import VolumeBatch
from medvl.errors import ConfigError
from tasks.volume import VolumeTask
from tasks.volume.large_batch import ChunkedStep, LargeBatch

CHUNKS = (1, 2, 3, 5)
Gradients = dict[str, Tensor]


def data(kind: torch.dtype = torch.float64) -> VolumeBatch:
    """Five studies, of which one lacks its report and one a label."""
    whole = batch(5)
    for name in ("volumes", "first_mm", "step_mm"):
        setattr(whole, name, getattr(whole, name).to(kind))
    whole.texts[1], whole.labels[3, 0] = "", -1.0
    return whole


def gradients(model: VolumeTask) -> Gradients:
    return {name: p.grad for name, p in model.named_parameters() if p.grad is not None}


def whole_batch(given: VolumeBatch) -> tuple[dict[str, Tensor], Gradients]:
    model = task().double()
    losses = model.losses(model(given), given)
    losses["loss"].backward()
    return losses, gradients(model)


def assert_same(ours: Gradients, theirs: Gradients) -> None:
    assert ours.keys() == theirs.keys()
    for name, expected in theirs.items():
        torch.testing.assert_close(ours[name], expected, rtol=1e-6, atol=1e-9, msg=name)


@pytest.mark.parametrize("chunk", CHUNKS)
def test_parts_of_a_batch_are_its_studies(chunk: int) -> None:
    whole, cut = data(), data().chunks(chunk)
    assert [len(part) for part in cut] == [min(chunk, 5 - at) for at in range(0, 5, chunk)]
    for at, part in enumerate(cut):
        expected = rows_of(whole, list(range(chunk * at, min(chunk * at + chunk, 5))), silent=False)
        for field in fields(VolumeBatch):
            torch.testing.assert_close(*_plain(getattr(part, field.name), getattr(expected, field.name)))


def _plain(*values: Any) -> list[Any]:
    """Compare what is no tensor as a count of what differs; None is equal to itself."""
    if None in [value for value in values if not isinstance(value, Tensor)]:
        return [0, int(any(value is not None for value in values))]
    if all(isinstance(value, Tensor) for value in values):
        return list(values)
    if all(isinstance(one, Tensor) for value in values for one in value):
        return [torch.cat([*value, torch.zeros(0, 3)]) for value in values]
    return [0, sum(a != b for a, b in zip(*values, strict=True))]


@pytest.mark.parametrize("chunk", CHUNKS)
def test_chunks_give_the_gradients_of_the_whole(chunk: int) -> None:
    losses, expected = whole_batch(data())
    model = task().double()
    found = ChunkedStep(model)(data(), chunk)
    assert found.keys() == losses.keys() == {"loss", "contrastive", "depth", "disease"}
    for name, value in losses.items():
        torch.testing.assert_close(found[name], value.detach(), rtol=1e-9, atol=0, msg=name)
    assert_same(gradients(model), expected)


def test_a_loss_of_weight_0_stays_out() -> None:
    whole = data()
    for name in ("contrastive", "disease", "depth"):
        one, many = (task(**{f"{kind}_weight": 0.0}).double() for kind in [KEYS[name]] * 2)
        losses = one.losses(one(whole), whole)
        losses["loss"].backward()
        found = ChunkedStep(many)(whole, 2)
        assert name not in found
        torch.testing.assert_close(found["loss"], losses["loss"].detach())
        reached = {key: value for key, value in gradients(many).items() if value.abs().sum()}
        assert_same(reached, {key: value for key, value in gradients(one).items() if value.abs().sum()})


KEYS = {"contrastive": "contrastive", "disease": "disease", "depth": "localisation"}


def test_gradients_under_autocast() -> None:
    """Weights that autocast keeps from the pass without gradients must not hide them from the other."""
    one, many, whole = task(), task(), data(torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        losses = one.losses(one(whole), whole)
    losses["loss"].backward()
    with torch.autocast("cpu", torch.bfloat16):
        ChunkedStep(many)(whole, 2)
    ours, theirs = gradients(many), gradients(one)
    assert ours.keys() == theirs.keys()
    for name, expected in theirs.items():
        assert (ours[name] - expected).norm() <= 0.2 * expected.norm() + 1e-3, name  # rounding; hidden ones would be 0


def one_rank(rank: int, folder: str) -> None:
    for silent in (False, True):
        model = task().double()
        found = ChunkedStep(model)(rows_of(data(), SHARES[rank], silent), 2)
        torch.save({"loss": found["loss"], **gradients(model)}, f"{folder}/{silent}-{rank}")


def test_two_ranks_give_the_gradients_of_one_batch(tmp_path: Path) -> None:
    """One rank has two chunks, the other one, which in the second case has no snippet."""
    on_ranks(one_rank, str(tmp_path))
    for silent in (False, True):
        losses, expected = whole_batch(rows_of(data(), [*SHARES[0], *SHARES[1]], silent))
        ranks = [torch.load(tmp_path / f"{silent}-{rank}", weights_only=True) for rank in range(2)]
        torch.testing.assert_close((ranks[0].pop("loss") + ranks[1].pop("loss")) / 2, losses["loss"].detach())
        for found in ranks:
            assert_same(found, expected)


class Repeated(LightningDataModule):
    """The same batch again and again."""

    label_names = tuple(batch(1).label_names)

    def label_table(self, split: str) -> Tensor:
        return data().labels.float()

    def train_dataloader(self) -> DataLoader[VolumeBatch]:
        same: Any = [data()] * 4
        return DataLoader(same, batch_size=None)


def trained(folder: str, large: LargeBatch | None, **options: Any) -> tuple[VolumeTask, Trainer]:
    model = task(large_batch=large).double()  # type: ignore[arg-type]  # Adam steps on what rounding leaves of 0
    plain: dict[str, Any] = {"accelerator": "cpu", "logger": False, "enable_checkpointing": False, "max_steps": 3}
    plain |= {"enable_progress_bar": False, "enable_model_summary": False, "limit_val_batches": 0}
    trainer = Trainer(default_root_dir=folder, **(plain | options))
    trainer.fit(model, Repeated())
    return model, trainer


def test_the_trainer_steps_clips_and_schedules_as_it_does_otherwise(tmp_path: Path) -> None:
    one, usual = trained(str(tmp_path), None, gradient_clip_val=0.5)
    many, large = trained(str(tmp_path), LargeBatch(chunk=2, clip=0.5))
    assert usual.global_step == large.global_step == 3
    assert usual.optimizers[0].param_groups[0]["lr"] == large.optimizers[0].param_groups[0]["lr"]
    for (name, ours), theirs in zip(many.named_parameters(), one.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-7, atol=1e-8, msg=name)
    assert float(large.callback_metrics["train/depth"]) == pytest.approx(float(usual.callback_metrics["train/depth"]))


@pytest.mark.parametrize(("option", "value"), [("gradient_clip_val", 1.0), ("accumulate_grad_batches", 2)])
def test_what_does_not_go_with_it_is_refused(tmp_path: Path, option: str, value: Any) -> None:
    with pytest.raises(ConfigError, match=f"trainer.{option}"):
        trained(str(tmp_path), LargeBatch(2), **{option: value})


@pytest.mark.parametrize(("option", "value"), [("precision", "16-mixed"), ("strategy", "fsdp")])
def test_what_needs_a_gpu_is_refused(option: str, value: str) -> None:
    plain: Any = {"gradient_clip_val": None, "accumulate_grad_batches": 1, "precision": "32-true"}
    with pytest.raises(ConfigError, match=f"trainer.{option}"):
        LargeBatch(2).check(SimpleNamespace(**(plain | {"strategy": SingleDeviceStrategy()} | {option: value})))


@pytest.mark.parametrize(("chunk", "clip"), [(0, None), (2, 0.0)])
def test_values_that_cannot_be(chunk: int, clip: float | None) -> None:
    with pytest.raises(ConfigError, match="large_batch"):
        LargeBatch(chunk, clip)
