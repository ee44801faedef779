"""Memory of the sigmoid loss, forward and backward, beside open_clip's `SigLipLoss`, on the CPU.

Both get the same unit embeddings, factor and bias; ours normalises them once more, as it always does. Each side runs in
processes of its own, and what counts is by how much the process's peak of resident memory exceeds what was resident
before the loss was called, after a small warm-up; the allocator gives freed blocks back at once, so that no side pays
for fragments. open_clip's loss is that of the installed package; without one, its unchunked form as written here. That
the gradients agree is measured too.
"""

from __future__ import annotations

import json
import math
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid, normalize

from benchmarks.harness import ROOT, write_result

SIDES = ("ours", "open_clip")
Loss = Callable[[Tensor, Tensor], Tensor]


def run(seed: int = 0, batch: int = 4096, width: int = 512, rounds: int = 3) -> dict[str, Any]:
    """Measure, write `sigmoid-memory.json` and return it; about two minutes.

    Args:
        seed: Of the embeddings.
        batch: Pairs.
        width: Of the embeddings.
        rounds: Processes per side; medians count.
    """
    with TemporaryDirectory(prefix="medvl-") as folder:
        found: dict[str, list[dict[str, Any]]] = {side: [] for side in SIDES}
        for _ in range(rounds):
            for side in SIDES:
                found[side].append(_in_a_process(side, seed, batch, width, folder))
        errors = _errors(Path(folder))
    peak = {side: statistics.median(one["peak_mib"] for one in runs) for side, runs in found.items()}
    seconds = {side: statistics.median(one["seconds"] for one in runs) for side, runs in found.items()}
    peer = found["open_clip"][0]["name"]
    return write_result(
        "sigmoid-memory",
        f"MiB at the peak of forward and backward, batch {batch} x {width}, float32, CPU",
        peak["ours"],
        {peer: peak["open_clip"]},
        n=rounds,
        seed=seed,
        higher_is_better=False,
        gradient_error=max(errors.values()),
        gradient_errors=errors,
        time_ratio=seconds["open_clip"] / seconds["ours"],
        seconds=seconds,
    )


def _in_a_process(side: str, seed: int, batch: int, width: int, folder: str) -> dict[str, Any]:
    words = [sys.executable, "-m", "benchmarks.sigmoid_memory", side, str(seed), str(batch), str(width), folder]
    quiet = {"OMP_NUM_THREADS": "1", "MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"}
    done = subprocess.run(words, cwd=ROOT, env=os.environ | quiet, capture_output=True, text=True, check=True)
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def measure(side: str, seed: int, batch: int, width: int, folder: str) -> dict[str, Any]:
    """Run one side once in this process, save its gradients, and return its peak of memory and its time."""
    name, loss, learnt = _ours() if side == "ours" else _theirs()
    loss(*embeddings(seed, 64, width)).backward()
    image, text = embeddings(seed, batch, width)
    for value in learnt:
        value.grad = None
    before, start = reset_peak(), time.perf_counter()
    loss(image, text).backward()
    seconds, peak = time.perf_counter() - start, peak_kib()
    grads = {"image": tangent(image), "text": tangent(text), "log_scale": learnt[0].grad, "bias": learnt[1].grad}
    torch.save(grads, f"{folder}/{side}.pt")
    return {"name": name, "peak_mib": (peak - before) / 1024, "seconds": seconds}


def _ours() -> tuple[str, Loss, list[Tensor]]:
    from medvl.losses import SigmoidLoss

    loss = SigmoidLoss()
    return "medvl", lambda image, text: loss(image, text)["loss"], [loss.temperature.log_scale, loss.bias]


def _theirs() -> tuple[str, Loss, list[Tensor]]:
    log_scale, bias = torch.tensor(math.log(10), requires_grad=True), torch.tensor(-10.0, requires_grad=True)
    try:
        from open_clip.loss import SigLipLoss
    except ImportError:
        name, loss = "open_clip's unchunked form", unchunked
    else:
        name, loss = "open_clip SigLipLoss", SigLipLoss()
    return name, lambda image, text: loss(image, text, log_scale.exp(), bias), [log_scale, bias]


def unchunked(image: Tensor, text: Tensor, scale: Tensor, bias: Tensor) -> Tensor:
    """Take all logits and all labels at once: -1 everywhere but 1 on the diagonal."""
    logits = scale * image @ text.T + bias
    labels = 2 * torch.eye(len(image)) - 1
    return -logsigmoid(labels * logits).sum() / len(image)


def embeddings(seed: int, batch: int, width: int) -> tuple[Tensor, Tensor]:
    """Return unit embeddings of images and texts with a common part; both want gradients."""
    draw = torch.Generator().manual_seed(seed)
    about = torch.randn(batch, width, generator=draw)
    image, text = (normalize(about + torch.randn(batch, width, generator=draw), dim=1) for _ in range(2))
    return image.requires_grad_(), text.requires_grad_()


def tangent(rows: Tensor) -> Tensor:
    """Return the gradient by unit vectors along the sphere: ours normalises what it is given, and so has no other."""
    if rows.grad is None:
        raise AssertionError("no gradient reached the embeddings")
    return rows.grad - rows.detach() * (rows.detach() * rows.grad).sum(dim=1, keepdim=True)


def _errors(folder: Path) -> dict[str, float]:
    """Compare the gradients: the largest difference over the largest entry."""
    ours, theirs = (torch.load(folder / f"{side}.pt", weights_only=True) for side in SIDES)
    return {name: float((ours[name] - grad).abs().max() / grad.abs().max()) for name, grad in theirs.items()}


def reset_peak() -> int:
    """Forget the peak of resident memory where the kernel can, and return what is resident now, in KiB."""
    Path("/proc/self/clear_refs").write_text("5")
    return peak_kib()


def peak_kib() -> int:
    """Return the peak of resident memory since it was last forgotten, in KiB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))


if __name__ == "__main__":
    print(json.dumps(measure(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]), sys.argv[5])))
