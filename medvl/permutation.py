"""The permutation check: what a model answers when the images, or the sentences, of a test batch are dealt out anew.

A model that looks at both must change its mind (Breiman 2001, §10, of the inputs of a forest). Two towers need no such
check of their own: a pair's score is a product of vectors that are kept, and can be dealt out at any time.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from medvl.distributed import gather_objects, rank
from medvl.evidence import PARTS, PERMUTED, Dealt, Part, Shares, write_shares
from medvl.outputs import make_room

Deal = Callable[[Any, Any, Any, Part], Sequence[Dealt]]
"""Called with task, batch, what the test step returned of it, and what to deal out; returns none where it cannot."""


class PermutationCheck(Callback):
    """Asks the first questions of a test once more, dealt out anew, and writes `predictions/permuted.json`.

    Args:
        deal: Asks.
        limit: Questions after which it has asked enough, on each rank.
    """

    def __init__(self, deal: Deal, limit: int = 128) -> None:
        self.deal, self.limit = deal, limit
        self.found: dict[Part, list[Dealt]] = {part: [] for part in PARTS}

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Forget an earlier test."""
        self.found = {part: [] for part in PARTS}

    def on_test_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Ask again."""
        for part, found in self.found.items():
            if len(found) < self.limit:
                with trainer.precision_plugin.forward_context():
                    found += self.deal(pl_module, batch, outputs, part)

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write what became of the answers."""
        every = {part: gather_objects(found) for part, found in self.found.items()}
        if rank() == 0:
            path = Path(trainer.default_root_dir) / "predictions" / PERMUTED
            make_room(path, {**trainer.datamodule.facts, "split": "test"})  # type: ignore[attr-defined]
            write_shares(path, {part: Shares.of(found) for part, found in every.items()})
