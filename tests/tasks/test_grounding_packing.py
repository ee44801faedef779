from __future__ import annotations

from pathlib import Path

import torch

from datamodules.batches import GroundingBatch
from datamodules.grounding import GroundingData
from datamodules.packing import Draw
from datamodules.sources.padchest_gr import PadChestGR
from medvl.encoders.tiny import TinyConv, TinyText
from tasks.grounding.task import GroundingTask


def gradient(task: GroundingTask, batch: GroundingBatch) -> tuple[float, dict[str, torch.Tensor]]:
    task.zero_grad()
    loss = task.criterion(task(batch), batch)["loss"]
    loss.backward()
    return loss.item(), {name: p.grad.clone() for name, p in task.named_parameters() if p.grad is not None}


def test_packed_batches_train_the_same(padchest_twin: Path) -> None:
    """One pass for all sentences of an image gives the loss and the gradient of one pass per sentence."""
    data = GroundingData(PadChestGR(padchest_twin), image_size=64, batch_size=12, cache="memory")
    data.setup("fit")
    dataset = data.dataset("train")
    packed = next(iter(data.train_dataloader().sampler))
    plain = Draw(packed.epoch, [[pair] for chunk in packed.chunks for pair in chunk])
    assert len(packed.chunks) < len(plain.chunks) == 12
    torch.manual_seed(0)
    options = {"width": 64, "heads": 4, "dropout": 0.0}
    task = GroundingTask(TinyConv(width=64), TinyText(width=64), **options).double()
    together, apart = dataset[packed], dataset[plain]
    for batch in (together, apart):
        batch.images, batch.boxes = batch.images.double(), [boxes.double() for boxes in batch.boxes]
        batch.image_boxes = [boxes.double() for boxes in batch.image_boxes]
    assert together.phrases == apart.phrases
    (loss, gradients), (other, others) = gradient(task, together), gradient(task, apart)
    assert abs(loss - other) < 1e-9 * abs(other)
    assert gradients.keys() == others.keys()
    norm = torch.cat([g.flatten() for g in others.values()]).norm()
    assert max((gradients[name] - others[name]).abs().max() for name in others) < 1e-9 * norm
