"""Several gloo ranks on one machine, for tests."""

from benchmarks.ranks import on_ranks

__all__ = ["on_ranks"]
