"""Batches of image-phrase pairs in which an image comes once, however many of its sentences are there.

A batch holds a fixed number of *pairs*. The global batch is drawn first and then dealt to the ranks by image, so every
rank passes few images through the backbone, all ranks take the same number of steps, and the order of the data is a
pure function of (seed, epoch, rank, world).
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from itertools import accumulate
from typing import NamedTuple

import numpy as np
from torch.utils.data import Sampler

Chunk = list[int]
"""Pairs of one image that travel together."""


class Draw(NamedTuple):
    """What the loader asks the dataset for: the pairs of one batch, image after image.

    Attributes:
        epoch: The epoch that the batch belongs to, for randomness that depends on it.
        chunks: Pair indices, one list per image pass.
        triplets: Where batches are of triplets: places of anchor, positive and negative among the pairs of the batch.
    """

    epoch: int
    chunks: list[Chunk]
    triplets: list[list[int]] | None = None

    def where(self, kept: Sequence[bool]) -> Draw:
        """Return the chunks that are kept, and the triplets of which every pair is."""
        chunks = [chunk for chunk, stays in zip(self.chunks, kept, strict=True) if stays]
        if self.triplets is None:
            return Draw(self.epoch, chunks)
        stay = [stays for chunk, stays in zip(self.chunks, kept, strict=True) for _ in chunk]
        place = [number - 1 for number in accumulate(stay)]
        whole = [triplet for triplet in self.triplets if all(stay[pair] for pair in triplet)]
        return Draw(self.epoch, chunks, [[place[pair] for pair in triplet] for triplet in whole])


def cut(lists: Sequence[Chunk], size: int, limit: int | None = None) -> list[list[Chunk]]:
    """Cut the stream of `lists` into batches of exactly `size` pairs; the last may be smaller.

    A list that does not fit goes on in the next batch. No list has more than `limit` pairs.
    """
    batches: list[list[Chunk]] = [[]]
    room = size
    for pairs in lists:
        start = 0
        while start < len(pairs):
            if room == 0:
                batches.append([])
                room = size
            stop = min(start + room, len(pairs), start + (limit or room))
            batches[-1].append(list(pairs[start:stop]))
            room -= stop - start
            start = stop
    return batches if batches[-1] else batches[:-1]


def deal(chunks: Sequence[Chunk], world: int, work: Sequence[float] | None = None) -> list[list[Chunk]]:
    """Share out `chunks` among `world` ranks with balanced numbers of pairs, and none empty.

    Longest processing time first (Graham, 1969): each chunk, largest first, goes to the rank with the least work so
    far, among those that still have room for its pairs. An image is split only where it alone exceeds a rank's share,
    or where there are fewer images than ranks.

    Args:
        chunks: Of the global batch.
        world: How many ranks.
        work: What each pair of the data set costs (> 0), where that differs.

    Raises:
        ValueError: Fewer pairs than ranks.
    """
    total = sum(map(len, chunks))
    if total < world:
        raise ValueError(f"{total} pairs cannot feed {world} ranks")
    share = -(-total // world)
    pieces = [chunk[start : start + share] for chunk in chunks for start in range(0, len(chunk), share)]
    while len(pieces) < world:
        largest = max(range(len(pieces)), key=lambda i: len(pieces[i]))
        half = len(pieces[largest]) // 2
        pieces[largest : largest + 1] = [pieces[largest][:half], pieces[largest][half:]]
    costs = [sum(work[pair] for pair in piece) if work is not None else len(piece) for piece in pieces]
    ranks: list[list[int]] = [[] for _ in range(world)]
    counts, loads = [0] * world, [0.0] * world
    for index in sorted(range(len(pieces)), key=lambda i: -costs[i]):
        size = len(pieces[index])
        rank = min(range(world), key=lambda one: (counts[one] + size > share, loads[one]))
        ranks[rank].append(index)
        counts[rank] += size
        loads[rank] += costs[index]
    return [[pieces[i] for i in sorted(own)] for own in ranks]


def halved(chunks: Sequence[Chunk]) -> list[list[Chunk]]:
    """Part a batch in two: between its images, or within the one that it has.

    Raises:
        ValueError: It is a single pair.
    """
    if len(chunks) > 1:
        half = len(chunks) // 2
        return [list(chunks[:half]), list(chunks[half:])]
    (pairs,) = chunks
    if len(pairs) < 2:
        raise ValueError("a single pair cannot be parted")
    return [[pairs[: len(pairs) // 2]], [pairs[len(pairs) // 2 :]]]


class Draws(Sampler[Draw]):
    """Draws batches; how many is known beforehand.

    Attributes:
        epoch: The epoch that the next iteration belongs to.
        even: Whether all ranks take the same number of batches, and wait for each other.
    """

    epoch = 0
    even = False

    @abstractmethod
    def __len__(self) -> int: ...


class PackedBatchSampler(Draws):
    """Training batches: every image's sentences together, shuffled anew each epoch.

    The last batch of an epoch is dropped when incomplete (other pairs are left over each epoch); a set smaller than
    one global batch makes a single batch of all its pairs.

    Args:
        pairs_of_image: For each image the indices of its pairs.
        batch_size: Pairs per rank and step; the global batch has `batch_size * world`.
        world: Number of ranks.
        rank: This rank.
        seed: Seed of the order.
        limit: At most this many sentences of an image in one pass; the others come as another pass of that epoch.
        pack: False gives every pair an image pass of its own: the plain way, for comparison.
        fixed: Whether every epoch is like the first, as for a model that is to overfit a few batches.
        work: What each pair costs (> 0), where that differs: ranks get about as much, for all wait for the slowest.
    """

    even = True

    def __init__(
        self,
        pairs_of_image: Sequence[Sequence[int]],
        batch_size: int,
        *,
        world: int = 1,
        rank: int = 0,
        seed: int = 0,
        limit: int | None = None,
        pack: bool = True,
        fixed: bool = False,
        work: Sequence[float] | None = None,
    ) -> None:
        if batch_size < 1 or not 0 <= rank < world or (limit is not None and limit < 1):
            raise ValueError(f"batch_size {batch_size}, rank {rank} of {world}, limit {limit}: all must be positive")
        self.pairs_of_image = [list(pairs) for pairs in pairs_of_image]
        total = sum(map(len, self.pairs_of_image))
        if total < world:
            raise ValueError(f"{total} pairs cannot feed {world} ranks")
        self.global_size = min(batch_size * world, total)
        self.steps = total // self.global_size
        self.world, self.rank, self.seed, self.limit, self.pack = world, rank, seed, limit, pack
        self.fixed, self.work = fixed, work
        self._skip: tuple[int, int] = (0, 0)

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch whose order the next iteration follows; Lightning calls it."""
        self.epoch = 0 if self.fixed else epoch

    def skip(self, epoch: int, batches: int) -> None:
        """Leave out the first `batches` of `epoch`, once: they were seen before an interruption."""
        self._skip = (epoch, batches)

    def order(self, epoch: int) -> list[list[Chunk]]:
        """Return the global batches of `epoch`, the same on every rank."""
        rng = np.random.default_rng([self.seed, epoch])
        lists = [rng.permutation(self.pairs_of_image[i]).tolist() for i in rng.permutation(len(self.pairs_of_image))]
        if not self.pack:
            pairs = [pair for chunk in lists for pair in chunk]
            lists = [[pairs[i]] for i in rng.permutation(len(pairs))]
        return cut(lists, self.global_size, self.limit)[: self.steps]

    def __iter__(self) -> Iterator[Draw]:
        epoch = self.epoch
        skip_epoch, skipped = self._skip
        self._skip = (0, 0)
        order = self.order(epoch)
        for step in range(skipped if skip_epoch == epoch else 0, self.steps):
            yield self.draw(epoch, deal(order[step], self.world, self.work)[self.rank])

    def draw(self, epoch: int, chunks: list[Chunk]) -> Draw:
        """Return what the dataset is asked for, given this rank's part of a batch."""
        return Draw(epoch, chunks)

    def __len__(self) -> int:
        return self.steps


class StridedBatchSampler(Draws):
    """Evaluation batches: image `i` goes to rank `i % world`; nothing is repeated, nothing is left out.

    A rank may have fewer batches than another, or none.

    Args:
        pairs_of_image: For each image the indices of its pairs.
        batch_size: Pairs per rank and step.
        world: Number of ranks.
        rank: This rank.
        even: Part batches, until every rank has as many as the one with most.

    Raises:
        ValueError: A rank has too few pairs for so many batches.
    """

    def __init__(
        self,
        pairs_of_image: Sequence[Sequence[int]],
        batch_size: int,
        *,
        world: int = 1,
        rank: int = 0,
        even: bool = False,
    ) -> None:
        lists = [list(pairs) for pairs in pairs_of_image]
        self.even, self.batches = even, cut(lists[rank::world], batch_size)
        if even:
            most = max(len(cut(lists[other::world], batch_size)) for other in range(world))
            while len(self.batches) < most:
                place = max(range(len(self.batches)), key=lambda i: sum(map(len, self.batches[i])))
                self.batches[place : place + 1] = halved(self.batches[place])

    def __iter__(self) -> Iterator[Draw]:
        return (Draw(0, chunks) for chunks in self.batches)

    def __len__(self) -> int:
        return len(self.batches)
