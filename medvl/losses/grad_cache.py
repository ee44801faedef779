"""Large batches of pairs through a small memory: embeddings first, without a graph, then gradients chunk by chunk."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Generic, NamedTuple, TypeVar

import torch
from torch import Tensor, nn

from medvl.distributed import average_gradients

Chunk = TypeVar("Chunk")


class GradCache(Generic[Chunk]):
    """The gradient of a loss over many pairs, with the activations of one chunk in memory at a time.

    Gao et al. 2021, "Scaling deep contrastive learning batch size under memory limited setup", arXiv 2101.06983: (1)
    both towers embed every chunk without a graph; (2) the loss of all embeddings gives its gradient by each; (3) every
    chunk is embedded again, with the same random numbers, so that dropout drops the same, and those gradients go on
    from its embeddings into the towers. The result is that of one big batch, except for layers that mix rows (BatchNorm
    that is not frozen). The towers run forward twice, so that what counts passes (`TextEncoder.truncated`) counts two.

    A LightningModule that uses it optimises by hand, and takes the chunks from its batch:

        self.automatic_optimization = False  # in __init__
        self.cache = GradCache(lambda part: self.model(part.images, part.valid, part.texts), self.parameters)

        def training_step(self, batch, batch_idx):
            self.optimizers().zero_grad()
            losses = self.cache(batch.chunks(16), self.loss)  # chunks: whatever `embed` takes
            self.clip_gradients(self.optimizers(), gradient_clip_val=1.0)
            self.optimizers().step()

    Several ranks: the loss may gather (all of `medvl.losses` do), for step (2) runs once on each. Gradients are
    averaged here, after the last chunk, as DDP does it: `embed` calls the model itself, not a DDP wrapper of it (the
    `self.model` of a LightningModule is none), and ranks may have different numbers of chunks. Precision: float32 or
    bfloat16; a scaler of float16 would scale twice.

    Args:
        embed: Maps a chunk to embeddings of images and texts, `(n, C)` each, and perhaps more tensors, which only the
            losses of single chunks see.
        parameters: Returns what is trained, that of the loss included: `module.parameters`.
    """

    def __init__(
        self,
        embed: Callable[[Chunk], Sequence[Tensor]],
        parameters: Callable[[], Iterable[nn.Parameter]],
    ) -> None:
        self.embed, self.parameters = embed, parameters

    def __call__(
        self,
        chunks: Sequence[Chunk],
        loss: Callable[[Tensor, Tensor], Mapping[str, Tensor]],
        own: Callable[[Chunk, Sequence[Tensor]], Tensor] | None = None,
    ) -> dict[str, Tensor]:
        """Add the gradients of one big batch to those of the parameters.

        Args:
            chunks: At least one.
            loss: Of all embeddings together; returns `loss` and its parts.
            own: A further loss of each chunk by itself, from the chunk and all that `embed` returned; their sum is
                added, so that each is weighted by its chunk's share of the batch.

        Returns:
            `loss` and its parts, without gradient, of this rank, and `own`, which `loss` includes, if given.
        """
        if not chunks:
            raise ValueError("expected at least one chunk")
        draws, sizes, losses, pulls = self._loss_of_all(chunks, loss)
        alone = None
        for chunk, drawn, *parts in zip(chunks, draws, *(torch.split(pull, sizes) for pull in pulls), strict=True):
            with drawn.again():
                outputs = self.embed(chunk)
            ends = [end for end in zip(outputs, parts, strict=False) if end[0].requires_grad]
            if own is not None:
                extra = own(chunk, outputs)
                alone = extra.detach() if alone is None else alone + extra.detach()
                ends += [(extra, torch.ones_like(extra))] if extra.requires_grad else []
            if ends:
                torch.autograd.backward([end for end, _ in ends], [pull for _, pull in ends])
        average_gradients(self.parameters())
        return losses if alone is None else losses | {"loss": losses["loss"] + alone, "own": alone}

    def _loss_of_all(
        self, chunks: Sequence[Chunk], loss: Callable[[Tensor, Tensor], Mapping[str, Tensor]]
    ) -> tuple[list[Draws], list[int], dict[str, Tensor], list[Tensor]]:
        """Run steps (1) and (2); returns each chunk's draws and rows, the loss, and its gradient by both embeddings."""
        draws, found = [], []
        with torch.no_grad():
            for chunk in chunks:
                draws.append(Draws.now())
                found.append(self.embed(chunk)[:2])
        both = [torch.cat(parts).requires_grad_() for parts in zip(*found, strict=True)]
        losses = loss(*both)
        torch.autograd.backward(losses["loss"])
        pulls = [torch.zeros_like(rows) if rows.grad is None else rows.grad for rows in both]
        return draws, [len(rows) for rows, _ in found], {name: part.detach() for name, part in losses.items()}, pulls


class Draws(NamedTuple):
    """The state of the random generators."""

    cpu: Tensor
    devices: list[Tensor]

    @classmethod
    def now(cls) -> Draws:
        """Take it down."""
        used = torch.cuda.is_initialized()  # type: ignore[no-untyped-call]
        return cls(torch.get_rng_state(), torch.cuda.get_rng_state_all() if used else [])

    @contextmanager
    def again(self) -> Iterator[None]:
        """Draw the same numbers inside; those after it are drawn as if it had not been."""
        after = Draws.now()
        self._restore()
        try:
            yield
        finally:
            after._restore()

    def _restore(self) -> None:
        torch.set_rng_state(self.cpu)
        if self.devices:
            torch.cuda.set_rng_state_all(self.devices)
