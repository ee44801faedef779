"""Trainings killed at random moments and gone on with, against the same ones never killed: bit for bit, or not.

Every training is of processes of its own, one for each rank, that `kill -9` ends together with their loader workers.
They are forked from a server that has the libraries loaded, as a launcher like torchrun would start them, and run
`medvl fit` with augmentation, dropout, gradient accumulation, an average of the weights, a schedule and validations;
then `medvl fit` once more, with `--ckpt_path last`. Compared are all lines of `metrics.jsonl`, so every loss and metric
of every step, and the last checkpoint: weights, average, optimiser and schedule.
"""

from __future__ import annotations

import itertools
import json
import multiprocessing
import os
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing.context import ForkServerContext, ForkServerProcess
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.harness import write_result
from benchmarks.training import CONFIGS, call

STEPS, LIMIT = 12, 600.0
COMMON = (
    *("--trainer.max_steps", str(STEPS), "--trainer.accumulate_grad_batches", "2", "--trainer.val_check_interval", "7"),
    *(
        "--trainer.log_every_n_steps",
        "1",
        "--trainer.limit_val_batches",
        "2",
        "--trainer.enable_model_summary",
        "false",
    ),
    *("--trainer.enable_progress_bar", "false"),
    '--trainer.callbacks={"class_path": "MovingAverage", "init_args": {"decay": 0.9}}',
)
TASKS = {
    "grounding": (
        ("padchest-gr", "--size", "96"),
        (
            *("--data.image_size", "64", "--data.batch_size", "8", "--model.width", "32", "--model.dropout", "0.2"),
            *("--model.fusion_layers", "1", "--model.text_encoder.buckets", "512"),
        ),
    ),
    "alignment": (
        ("mimic-cxr", "--size", "64"),
        (
            *("--data.image_size", "64", "--data.batch_size", "4"),
            '--model.image_encoder={"class_path": "TimmEncoder", "init_args": {"name": "test_vit", "drop_path": 0.2}}',
            '--model.loss={"class_path": "MedTrimLoss", "init_args": {"paired": 1.0, "miner": '
            '{"class_path": "BatchMiner", "init_args": {"negatives": "random", "fallback": "below"}}}}',
        ),
    ),
    "volume": (
        ("ct-rate",),
        (
            *("--data.spacing", "[16.0, 12.0, 12.0]", "--data.batch_size", "2"),
            '--model.image_encoder={"class_path": "ViT3D", "init_args": '
            '{"width": 32, "depth": 2, "heads": 2, "patch": 4, "dropout": 0.2}}',
        ),
    ),
}
SETTINGS = tuple(itertools.product((1, 2), (0, 2)))  # ranks and loader workers
STATES = ("state_dict", "current_model_state", "averaging_state", "optimizer_states", "lr_schedulers", "loops")
PRELOAD = (
    "medvl.cli.lightning",
    "medvl.viz.report",
    "torch.utils.tensorboard",
    "tasks.grounding.task",
    "tasks.alignment.task",
    "tasks.volume.task",
)


@dataclass(frozen=True)
class Training:
    """One command line.

    Attributes:
        words: Of `medvl fit`, without the run folder.
        ranks: Processes.
    """

    words: tuple[str, ...]
    ranks: int

    def start(self, folder: Path, *more: str) -> list[ForkServerProcess]:
        """Start every rank."""
        words = ["fit", *self.words, "--run", str(folder), *more]
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        ranks = [
            _context().Process(target=_rank, args=(words, i, self.ranks, port, str(folder))) for i in range(self.ranks)
        ]
        for one in ranks:
            one.start()
        return ranks

    def run(self, folder: Path, *more: str) -> None:
        """Train to the end.

        Raises:
            RuntimeError: A rank failed.
        """
        ranks = self.start(folder, *more)
        for one in ranks:
            one.join(LIMIT)
        if any(one.exitcode for one in ranks):
            _kill(ranks)
            raise RuntimeError(f"medvl fit failed: {folder.with_suffix('.log').read_text()[-2000:]}")

    def cut(self, folder: Path, step: int, delay: float, *more: str) -> int:
        """Train, and kill all ranks `delay` seconds after a step was logged; return how many steps were logged."""
        ranks = self.start(folder, *more)
        deadline = time.monotonic() + LIMIT
        while (logged := _logged(folder)) < step and all(one.is_alive() for one in ranks):
            if time.monotonic() > deadline:
                break
            time.sleep(0.002)
        time.sleep(delay)
        _kill(ranks)
        return logged


def run(times: int = 10, seed: int = 0, studies: int = 48, tasks: str = "grounding,alignment,volume") -> dict[str, Any]:
    """Kill and go on, so many times for each task, and count the runs that end as if they had not been killed.

    Args:
        times: Killed runs of each task; ranks (1, 2) and loader workers (0, 2) take turns.
        seed: Of the moments.
        studies: Of each twin.
        tasks: Which, with commas between.
    """
    found: dict[str, list[str]] = {}
    with tempfile.TemporaryDirectory() as place:
        for task in tasks.split(","):
            found[task] = one_task(task, Path(place) / task, times, seed, studies)
    exact = {task: sum(not fault for fault in faults) for task, faults in found.items()}
    total = sum(map(len, found.values()))
    share = sum(exact.values()) / max(1, total)
    return write_result(
        "resume",
        unit="share of killed runs that end bitwise like one that was never killed",
        ours=share,
        peers={},
        n=total,
        seed=seed,
        ratio=share,
        per_task={task: {"exact": exact[task], "n": len(faults)} for task, faults in found.items()},
        differed=sorted({f"{task}: {fault}" for task, faults in found.items() for fault in faults if fault}),
    )


def one_task(task: str, place: Path, times: int, seed: int, studies: int) -> list[str]:
    """Return what differed in each killed run of one task, empty where nothing did."""
    twin, options = TASKS[task]
    call("data", "twin", twin[0], str(place / "twin"), "--studies", str(studies), *twin[1:])
    words = ("--config", str(CONFIGS / "quickstart" / f"{task}.yaml"), "--data.source.root", str(place / "twin"))
    os.environ["MEDVL_CACHE"] = str(place / "cache")
    draw, faults = np.random.default_rng([seed, list(TASKS).index(task)]), list[str]()
    whole: dict[tuple[int, int], Path] = {}
    for turn in range(times):
        ranks, workers = SETTINGS[turn % len(SETTINGS)]
        training = Training((*words, *options, *COMMON, "--data.num_workers", str(workers)), ranks)
        if (ranks, workers) not in whole:
            whole[ranks, workers] = place / f"whole-{ranks}-{workers}"
            training.run(whole[ranks, workers])
        reference = whole[ranks, workers]
        every, step = int(draw.integers(1, 4)), int(draw.integers(4, STEPS))
        if turn % 3 == 1:  # at the end of an epoch
            every, step = 1, int(draw.choice(_ends(reference)))
        folder, save = place / f"cut-{turn}", ("--save_every", str(every))
        logged = training.cut(folder, step, draw.uniform(0, 0.1) * (turn % 3 != 1), *save)
        training.run(folder, *save, "--ckpt_path", "last")
        faults.append(difference(reference, folder))
        print(f"{task} {ranks} ranks, {workers} workers, killed at step {logged}: {faults[-1] or 'exact'}", flush=True)
    return faults


def difference(whole: Path, cut: Path) -> str:
    """Return what differs between two runs, empty where nothing does."""
    import torch

    lines = [_lines(run) for run in (whole, cut)]
    one, other = (torch.load(run / "checkpoints" / "last.ckpt", weights_only=True) for run in (whole, cut))
    parts = [name for name in STATES if not _same(one.get(name), other.get(name))]
    steps = [line["step"] for line in lines[0] if line not in lines[1]]
    steps += [line["step"] for line in lines[1] if line not in lines[0]]
    parts += [f"metrics from step {min(steps)}"] if steps else ["order of metrics"] if lines[0] != lines[1] else []
    return ", ".join(parts)


def _lines(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]


def _same(one: Any, other: Any) -> bool:
    import torch

    if isinstance(one, torch.Tensor) and isinstance(other, torch.Tensor):
        return one.dtype == other.dtype and torch.equal(one, other)
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_same(value, other[name]) for name, value in one.items())
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        return len(one) == len(other) and all(map(_same, one, other))
    return bool(one == other)


def _ends(run: Path) -> list[int]:
    """Return the counts of steps after which an epoch ends, but for the run's own end."""
    pairs = itertools.pairwise(line for line in _lines(run) if "train/loss" in line)
    return [before["step"] + 1 for before, after in pairs if before["epoch"] != after["epoch"]]


def _logged(run: Path) -> int:
    """Return how many steps have logged their loss."""
    path = run / "metrics.jsonl"
    return path.read_text(encoding="utf-8").count('"train/loss"') if path.exists() else 0


def _kill(ranks: Sequence[ForkServerProcess]) -> None:
    """Kill every rank with its workers, and wait."""
    for one in ranks:
        if one.pid and one.is_alive():
            os.killpg(one.pid, signal.SIGKILL)  # each leads a group of its own
    for one in ranks:
        one.join()


def _context() -> ForkServerContext:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(list(PRELOAD))
    return context


def _rank(words: list[str], rank: int, ranks: int, port: int, folder: str) -> None:
    """Be one rank of `medvl fit`, as under torchrun where there are several."""
    os.setpgrp()
    multiprocessing.set_start_method("fork", force=True)  # of loader workers, as in a process that was not forked
    log = os.open(f"{folder}.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(log, 1)
    os.dup2(log, 2)
    if ranks > 1:
        words = [*words, "--trainer.devices", str(ranks), "--trainer.strategy", "ddp"]
        places = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": ranks, "LOCAL_WORLD_SIZE": ranks, "GROUP_RANK": 0}
        os.environ |= {name: str(value) for name, value in places.items()}
        os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "TORCHELASTIC_RUN_ID": "resume"}
    import torch

    from medvl.cli.main import main

    torch.set_num_threads(1)
    sys.argv = ["medvl", *words]
    sys.exit(main(words))
