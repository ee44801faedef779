"""The moving average of the weights: what it is, that checkpoints hold it, and that a run goes on as it was."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback, ModelCheckpoint
from torch import Tensor, nn
from torch.utils.data import DataLoader

from medvl.averaging import MovingAverage

DECAY = 0.4  # reached after five steps


class Line(LightningModule):
    """A line that is pulled down, with a table of whole numbers as text encoders have."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Linear(1, 1)
        nn.init.ones_(self.net.weight)
        self.register_buffer("places", torch.arange(100))
        self.register_buffer("known", torch.zeros(()), persistent=False)
        self.register_buffer("calibrated", torch.zeros(()))
        self.validated: list[float] = []

    def setup(self, stage: str) -> None:
        self.known = torch.ones(3)  # as a task that learns from its data how many classes there are

    def training_step(self, batch: Tensor, index: int) -> Tensor:
        return (self.net(batch) ** 2).mean()

    def validation_step(self, batch: Tensor, index: int) -> None:
        self.validated.append(self.net.weight.item())

    def on_validation_epoch_end(self) -> None:
        self.calibrated += 1

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1, momentum=0.9)


class Watch(Callback):
    def __init__(self) -> None:
        self.weights: list[float] = []

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *args: Any) -> None:
        self.weights.append(pl_module.net.weight.item())


def fit(folder: Path, epochs: int, resume: Path | None = None) -> tuple[Line, Watch]:
    model, watch = Line(), Watch()
    saver = ModelCheckpoint(folder, filename="{epoch}", save_top_k=-1, auto_insert_metric_name=False)
    trainer = Trainer(
        accelerator="cpu", max_epochs=epochs, callbacks=[watch, MovingAverage(DECAY), saver], logger=False,
        enable_progress_bar=False, enable_model_summary=False, num_sanity_val_steps=0,
    )  # fmt: skip
    loader = DataLoader(torch.ones(3, 1), batch_size=1)
    trainer.fit(model, loader, loader, ckpt_path=resume, weights_only=True)
    return model, watch


def test_the_average_is_validated_kept_and_goes_on(tmp_path: Path) -> None:
    model, watch = fit(tmp_path / "whole", epochs=3)
    assert len(watch.weights) == 9
    average, expected = watch.weights[0], []
    for count, weight in enumerate(watch.weights):  # the first is copied
        decay = min(DECAY, (1 + count) / (10 + count))
        average = decay * average + (1 - decay) * weight
        expected.append(average)
    torch.testing.assert_close(torch.tensor(model.validated[::3]), torch.tensor(expected[2::3]))
    assert abs(expected[-1] - watch.weights[-1]) > 1e-3
    torch.testing.assert_close(model.net.weight.item(), expected[-1])

    held = torch.load(tmp_path / "whole/1.ckpt", weights_only=True)
    torch.testing.assert_close(held["state_dict"]["net.weight"].item(), expected[5])
    torch.testing.assert_close(held["current_model_state"]["net.weight"].item(), watch.weights[5])
    assert held["state_dict"]["calibrated"] == 2
    assert (held["state_dict"]["places"] == torch.arange(100)).all()

    resumed, rest = fit(tmp_path / "rest", epochs=3, resume=tmp_path / "whole/1.ckpt")
    assert rest.weights == watch.weights[6:]
    assert resumed.net.weight.item() == model.net.weight.item()


def test_a_checkpoint_is_used_in_silence(tmp_path: Path, recwarn: Any) -> None:
    model, _ = fit(tmp_path, epochs=1)
    trainer = Trainer(accelerator="cpu", callbacks=[MovingAverage(DECAY)], logger=False, enable_progress_bar=False)
    used, loader = Line(), DataLoader(torch.ones(1, 1))
    recwarn.clear()
    trainer.validate(used, loader, ckpt_path=tmp_path / "0.ckpt", verbose=False, weights_only=True)
    assert used.validated == [model.net.weight.item()]
    assert not [warning for warning in recwarn if "WeightAveraging" in str(warning.message)]
