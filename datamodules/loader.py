"""A data loader that knows how far it came, so that a killed run goes on at the next batch."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from typing import Any, Generic, TypeVar
from weakref import finalize

import torch
from torch.utils.data import DataLoader, Dataset

from datamodules.packing import Chunk, Draws, PackedBatchSampler
from datamodules.records import Problem
from medvl.errors import DataError

Batch = TypeVar("Batch")
_sharing: set[int] = set()  # loaders, by `id`, whose workers share our memory


class BatchSet(Dataset[Batch]):
    """A dataset that builds the batch of a `Draw`.

    Attributes:
        pairs_of_image: What travels together: for each image pass the indices of its pairs.
    """

    pairs_of_image: list[Chunk]

    def work(self) -> list[float] | None:
        """Return what each pair costs a rank (> 0), where that differs and is known."""
        return None


class BatchLoader(Generic[Batch]):
    """Loads whole batches: the sampler draws one, the dataset (in a worker) builds it.

    Lightning finds `state_dict` and `load_state_dict` and keeps the position in its checkpoints. This has a torch
    `DataLoader` and is none, because Lightning rebuilds those with samplers of its own. Workers get their base seed
    from a private generator, so iterating leaves the global random state alone.

    Args:
        dataset: Maps what `sampler` yields to a batch; with `tell` to a batch, or None, and what it lacks (`Sparing`).
        sampler: Draws the batches.
        num_workers: Worker processes; 0 loads in the main one.
        tell: Is told what batches lack, in the main process, before they are handed out. There are then fewer batches
            than `len` says where nothing of one was left.
    """

    def __init__(
        self,
        dataset: Dataset[Any],
        sampler: Draws,
        num_workers: int = 0,
        tell: Callable[[list[Problem]], None] | None = None,
    ) -> None:
        # Lightning looks at both, as at any loader: it tells the sampler the epoch.
        self.sampler, self.batch_sampler = sampler, None
        self._loader = DataLoader(
            dataset,
            sampler=sampler,
            batch_size=None,
            collate_fn=_as_is,
            num_workers=num_workers,
            persistent_workers=num_workers > 0,
            generator=torch.Generator().manual_seed(0),
        )
        self._epoch = self._yielded = self._resume = 0
        self._tell = tell

    def __iter__(self) -> Iterator[Batch]:
        if self._loader.num_workers and self._loader._iterator is None:
            # Forked workers share our memory until somebody writes to it. A full collection does, in every object that
            # is not frozen: records by the million would be copied, in us or in a worker, in the middle of a run.
            gc.freeze()
            _sharing.add(id(self))
            finalize(self, _thaw, id(self))
        epoch = self.sampler.epoch
        self._yielded = self._resume if epoch == self._epoch else 0
        self._epoch, self._resume = epoch, 0
        there: set[bool] = set()
        for given in self._loader:
            self._yielded += 1  # before the yield: a state saved while this batch trains counts it as seen
            batch, lost = (given, ()) if self._tell is None else given
            if lost and self._tell is not None:
                self._tell(lost)
            if batch is None and self.sampler.even:
                raise _nothing_left()
            there.add(batch is not None)
            if batch is not None:
                yield batch
        if there == {False}:  # Lightning would have this rank log nothing, and the others wait for it
            raise _nothing_left()

    def __len__(self) -> int:
        return len(self.sampler)

    @property
    def _iterator(self) -> object:
        """What holds the workers: Lightning ends them by this name when a run is over.

        If they were left to the garbage collector, it would close the queue that tells a worker to end before torch
        wrote to it: five seconds' wait for each, then a kill that leaves its temporary folder behind.
        """
        return self._loader._iterator

    @_iterator.setter
    def _iterator(self, none: None) -> None:
        self._loader._iterator = none
        _thaw(id(self))

    def state_dict(self) -> dict[str, int]:
        """Return the epoch and how many of its batches have been handed out."""
        return {"epoch": self._epoch, "yielded": self._yielded}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Make the next iteration, if it is of the saved epoch, start after the batches already seen."""
        self._epoch, self._resume = state["epoch"], state["yielded"]
        if isinstance(self.sampler, PackedBatchSampler):
            self.sampler.skip(self._epoch, self._resume)


def _thaw(loader: int) -> None:
    """Let go of what was frozen, which may be garbage now, once the last loader that shares it is done."""
    if loader in _sharing:
        _sharing.remove(loader)
        if not _sharing:
            gc.unfreeze()


def _nothing_left() -> DataError:
    return DataError("nothing of what this process is to look at can be read any more", hint="is the disk still there?")


def _as_is(batch: Batch) -> Batch:
    """Return a batch that the dataset has already put together."""
    return batch
