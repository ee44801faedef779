"""A trained model out of its checkpoint alone, for commands that infer without a trainer."""

from __future__ import annotations

from argparse import ArgumentError
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from lightning.pytorch import LightningModule
from lightning.pytorch.cli import LightningArgumentParser

from medvl.cli import runs
from medvl.cli.imports import guard_imports, import_families
from medvl.cli.kept import config_in
from medvl.cli.mistakes import explain, mistake_behind
from medvl.cli.nulls import read_none_as_null
from medvl.cli.recording import load_primitives
from medvl.encoders.hub import rebuilding
from medvl.errors import CheckpointError


@dataclass(frozen=True)
class Restored:
    """A model as it was trained.

    Attributes:
        model: In evaluation mode, with what was calibrated for it.
        data: The arguments of the datamodule that it was trained with.
        run: The run folder that its checkpoint lies in, None when it lies elsewhere.
    """

    model: LightningModule
    data: dict[str, Any]
    run: Path | None


def restore(run: str | None, ckpt_path: str = "best", every: str = "runs", allow: Sequence[str] = ()) -> Restored:
    """Build the model of a checkpoint, and nothing else.

    Args:
        run: A run folder; `latest` is the newest trained one of any task and name.
        ckpt_path: `best`, `last` or a file.
        every: The folder of all runs.
        allow: Further packages that the checkpoint may name classes of.

    Raises:
        CheckpointError: There is none, or it is damaged, holds no config, or is of another version of the model.
        ConfigError: It names a class that may not be imported, or arguments that the class does not take.
    """
    newest = run == runs.LATEST and not Path(run).exists()
    folder = runs.newest_trained(Path(every), "*/*/*") if newest else Path(run) if run else None
    if folder is None and not Path(ckpt_path).is_file():
        raise CheckpointError("which checkpoint?", where=every, hint="--run FOLDER, --run latest or --ckpt_path FILE")
    path = runs.find_checkpoint(ckpt_path, folder, Path(every))
    guard_imports(list(allow))
    import_families()
    read_none_as_null()
    held = load_primitives(path)
    config = config_in(held, path)
    if "model" not in config:
        raise CheckpointError("this checkpoint holds no config", where=str(path), hint="expected one of medvl fit")
    model = _built(config["model"], held, path).eval()
    return Restored(model, dict(config.get("data", {}).get("init_args", {})), runs.run_of(path))


def _built(config: dict[str, Any], held: dict[str, Any], path: Path) -> LightningModule:
    parser = LightningArgumentParser(exit_on_error=False, prog="medvl")
    parser.add_lightning_class_args(LightningModule, "model", subclass_mode=True)
    try:
        with rebuilding(held):
            model = parser.instantiate_classes(parser.parse_object({"model": config})).model
    except (ArgumentError, TypeError, ValueError, KeyError) as error:
        raise (mistake_behind(error) or explain(error, [], ["predict"])) from error
    try:
        model.load_state_dict(held["state_dict"])
    except (RuntimeError, KeyError) as error:
        reason = str(error).splitlines()[-1].strip()[:120]
        raise CheckpointError("the checkpoint is of another model", where=str(path), hint=reason) from error
    model.on_load_checkpoint(held)
    return cast(LightningModule, model)
