"""Several gloo ranks on one machine."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch.multiprocessing.spawn import start_processes


def on_ranks(function: Callable[..., None], *args: Any, world_size: int = 2, limit: float = 300) -> None:
    """Call `function(rank, *args)` in `world_size` processes that form one gloo group.

    Args:
        function: of a module's top level, as each process imports it anew.
        args: what it is given after its rank; picklable.
        world_size: the number of ranks.
        limit: seconds after which ranks that wait for one another are killed.

    Raises:
        Exception: what the first failing rank raised, with its traceback.
        TimeoutError: the ranks were not done within the limit.
    """
    with tempfile.TemporaryDirectory() as folder:
        given = (function, str(Path(folder) / "meeting"), world_size, limit, args)
        ranks = start_processes(_rank, given, nprocs=world_size, join=False, start_method="spawn")  # type: ignore[no-untyped-call]
        deadline = time.monotonic() + limit
        while not ranks.join(timeout=1):
            if time.monotonic() >= deadline:
                for process in ranks.processes:
                    process.kill()
                raise TimeoutError(f"{world_size} ranks were not done after {limit:g} s")


def _rank(rank: int, function: Callable[..., None], meeting: str, world_size: int, limit: float, args: Any) -> None:
    torch.set_num_threads(1)
    wait = timedelta(seconds=limit)
    dist.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=world_size, timeout=wait)
    function(rank, *args)  # and lets go of its DDP wrappers: one that outlives its group can abort the process
    dist.barrier()
    dist.destroy_process_group()
