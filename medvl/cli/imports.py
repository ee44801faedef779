"""Which classes a config or a checkpoint may name. Nothing else is imported, let alone called."""

from __future__ import annotations

import os
import pkgutil
import sys
from importlib import import_module

from jsonargparse import set_parsing_settings

ALLOWED = (
    "medvl.cli.composed",
    "medvl.averaging",
    "medvl.encoders",
    "medvl.losses",
    "medvl.metrics",
    "medvl.schedule",
    "medvl.sharding",
    "tasks",
    "datamodules",
    "ontology",
    "torch.nn",
    "torch.optim",
    "timm.optim",
    "lightning.pytorch.callbacks",
    "lightning.pytorch.cli.ReduceLROnPlateau",
    "lightning.pytorch.loggers",
    "lightning.pytorch.plugins",
    "lightning.pytorch.profilers",
    "lightning.pytorch.strategies",
)
DENIED = ("*", "datamodules.twins", "torch.nn.utils", "lightning.pytorch.callbacks.lambda_function")
_opened: set[str] = set()


def guard_imports(extra: list[str]) -> None:
    """Let configs name only `ALLOWED` and `extra` packages (an object counts where it is defined, too).

    Args:
        extra: Packages of the user's own, from `--allow-import`; `MEDVL_ALLOW_IMPORTS` (comma-separated) adds to them.
            They may lie in the working folder.
    """
    named = [*extra, *os.environ.get("MEDVL_ALLOW_IMPORTS", "").split(",")]
    packages = {name.strip() for name in named if name.strip()}
    set_parsing_settings(
        import_path_denylist=[*DENIED, *(_opened - packages)],  # settings are global: close what an earlier call opened
        import_path_allowlist=[*ALLOWED, *packages],
        instantiate_subclass_spec_in_any=False,
    )
    _opened.update(packages)
    if packages and os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())


def import_families() -> None:
    """Import the packages whose classes a config may name in short: `class_path: GroundingTask`."""
    import datamodules
    import tasks

    for package in (tasks, datamodules):
        for info in pkgutil.iter_modules(package.__path__, f"{package.__name__}."):
            if info.name != "datamodules.twins":
                import_module(info.name)
    for name in ("medvl.averaging", "medvl.cli.composed", "medvl.encoders", "medvl.losses", "medvl.sharding"):
        import_module(name)
