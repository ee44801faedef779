"""Several gloo ranks on one machine, for tests."""

from __future__ import annotations

import os

from benchmarks.ranks import on_ranks

__all__ = ["as_launched", "on_ranks"]


def as_launched(rank: int, world_size: int = 2) -> None:
    """Make this rank, whose group is open, look to Lightning like a process that its launcher started."""
    place = {"LOCAL_RANK": rank, "NODE_RANK": 0, "WORLD_SIZE": world_size, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": 1}
    os.environ.update({name: str(value) for name, value in place.items()})
