"""Two ranks that keep a share of the parameters each train to the weights of one process, scalars and clipping too."""

from __future__ import annotations

from pathlib import Path

import torch
from lightning.pytorch import LightningModule, Trainer
from ranks import as_launched, on_ranks
from torch import Tensor, nn
from torch.utils.data import DataLoader

from medvl.sharding import ShardedStrategy

STEPS, BATCH = 3, 6


class Scaled(LightningModule):
    """A net and a temperature."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.net = nn.Sequential(nn.Linear(5, 7), nn.Tanh(), nn.Linear(7, 3))
        self.temperature, self.fixed = nn.Parameter(torch.tensor(0.7)), nn.Parameter(torch.tensor(2.0), False)

    def training_step(self, batch: Tensor, batch_idx: int) -> Tensor:
        loss: Tensor = (self.net(batch) * self.temperature.exp() * self.fixed).square().sum(dim=1).mean()
        return loss

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.AdamW(self.parameters(), lr=0.1)


def trained(rows: slice, folder: str, strategy: ShardedStrategy | str, devices: int) -> Path:
    """Train on those rows of each batch; return the checkpoint."""
    torch.manual_seed(3)
    batches = list(torch.randn(STEPS, BATCH, 5)[:, rows])
    trainer = Trainer(
        default_root_dir=folder, accelerator="cpu", devices=devices, strategy=strategy, max_epochs=1, logger=False,
        enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False, gradient_clip_val=0.5,
        use_distributed_sampler=False,
    )  # fmt: skip
    trainer.fit(Scaled(), DataLoader(batches, batch_size=None))  # type: ignore[arg-type]
    trainer.save_checkpoint(path := Path(folder, f"{devices}.ckpt"))
    return path


def one_rank(rank: int, folder: str) -> None:
    as_launched(rank)
    strategy = ShardedStrategy(auto_wrap_policy={nn.Sequential})
    trained(slice(3 * rank, 3 * rank + 3), folder, strategy, 2)
    assert strategy.model is not None
    shares = [p.numel() for name, p in strategy.model.named_parameters() if "net" in name]
    assert sum(shares) < 40  # of the 66 of the whole net


def test_two_ranks_train_as_one_process(tmp_path: Path) -> None:
    on_ranks(one_rank, str(tmp_path))
    expected, found = (
        torch.load(path, weights_only=True)["state_dict"]
        for path in (trained(slice(0, BATCH), str(tmp_path), "auto", 1), tmp_path / "2.ckpt")
    )
    assert list(found) == list(expected)
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=1e-4, atol=1e-5, msg=name)
