"""The same jobs over the machines of a Ray cluster; Ray is an extra and is imported here alone, when asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from importlib import import_module
from typing import Any, TypeVar

from medvl.errors import ConfigError

_Result = TypeVar("_Result")


def on_ray(job: Callable[..., _Result], inputs: Sequence[tuple[Any, ...]]) -> Iterator[_Result]:
    """Yield `job(*each) for each in inputs`, in order; Ray runs them where cores are free.

    Joins the cluster that `RAY_ADDRESS` or `ray start` names, and starts one on this machine where there is none.

    Raises:
        ConfigError: Ray is not installed.
    """
    try:
        ray: Any = import_module("ray")
    except ImportError:
        hint = "one machine needs none: leave --engine out"
        command = "pip install 'medvl[ray]'"
        raise ConfigError("--engine ray needs the package ray", hint=hint, command=command) from None
    if not ray.is_initialized():
        ray.init(log_to_driver=False, logging_level="error")
    far = ray.remote(job)
    for waiting in [far.remote(*each) for each in inputs]:
        yield ray.get(waiting)
