"""`medvl fit|validate|test|predict`: LightningCLI with run folders, refusals and short errors."""

from __future__ import annotations

import signal
import sys
from argparse import ArgumentError
from pathlib import Path
from typing import Any

import yaml
from jsonargparse.typing import PositiveInt
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.fabric.utilities.rank_zero import rank_zero_only
from lightning.pytorch import LightningDataModule, LightningModule, Trainer
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI

from medvl.cli import runs, slurm
from medvl.cli.headline import print_headline
from medvl.cli.imports import guard_imports, import_families
from medvl.cli.kept import config_of_run
from medvl.cli.last import Stopped
from medvl.cli.mistakes import explain, mistake_behind
from medvl.cli.nulls import read_none_as_null
from medvl.cli.parts import check_precision, let_fused_be_clipped, trainer_parts
from medvl.cli.quiet import quieten
from medvl.cli.recording import RunRecorder, load_primitives, no_room, write_report
from medvl.cli.resuming import steps_done
from medvl.cli.words import options_of, without_options
from medvl.encoders.hub import rebuilding
from medvl.errors import CheckpointError, ConfigError
from medvl.weights import start_from

NOT_SAVED = ("config", "run", "untrained", "ckpt_path", "weights_only", "verbose", "return_predictions")
NEXT = {"fit": "test", "validate": "test", "test": "predict"}


class MedvlCLI(LightningCLI):
    """One run: parse, find the run folder and the checkpoint, build, run."""

    folder: Path
    checkpoint: Path | None = None
    start: Path | None = None
    done: int = 0
    made: Path | None = None

    def __init__(self, args: list[str]) -> None:
        try:
            super().__init__(
                LightningModule,
                LightningDataModule,
                subclass_mode_model=True,
                subclass_mode_data=True,
                auto_configure_optimizers=False,
                save_config_callback=None,
                seed_everything_default=0,
                trainer_defaults={"log_every_n_steps": 10},
                parser_kwargs={"exit_on_error": False, "allow_abbrev": False, "prog": "medvl"},
                args=args,
            )
        except BaseException:
            if self.made:
                runs.discard_unbegun(self.made)
            raise

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        """Parse, and tell a mistake in four lines."""
        try:
            self.config = parser.parse_args(args)
        except (ArgumentError, OSError, TypeError, ValueError, KeyError) as error:
            options = self._subcommand_parsers[args[0]].get_defaults(skip_validation=True).keys(branches=False)
            raise explain(error, options, args) from error

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Add the options that say where a run lies."""
        parser.add_argument("--name", type=str | None, default=None, help="Name of the runs; default: the config's.")
        parser.add_argument("--runs", type=str, default="runs", help="Folder that holds all runs.")
        parser.add_argument("--run", type=str | None, default=None, help="Run folder to take the checkpoint from.")
        parser.add_argument(
            "--init_from", type=str | None, default=None, help="Run or checkpoint to start weights from."
        )
        parser.add_argument("--save_every", type=PositiveInt | None, default=None, help="Steps between saves of last.")
        parser.add_argument("--untrained", type=bool, default=False, help="Permit a model without a checkpoint.")

    def _parse_ckpt_path(self) -> None:
        """Take nothing from the checkpoint: it must neither override the user's flags nor name code to run."""

    def before_instantiate_classes(self) -> None:
        """Name the run and find its checkpoint before anything heavy is built."""
        config = self.config[self.subcommand]
        check_precision(config.trainer.precision)
        module, _, name = config.model.class_path.rpartition(".")
        model = getattr(sys.modules[module], name)
        self.task = str(getattr(model, "task_name", name.removesuffix("Task").lower()))
        config.name = config.name or next((Path(str(path)).stem for path in config.config or ()), "default")
        if self.subcommand in ("test", "validate"):
            config.verbose = False  # the headline is printed instead; every metric is in metrics.jsonl
        if self.subcommand == "predict":
            config.return_predictions = False  # they are written, not kept: a test split may not fit in memory
        parent = Path(config.runs) / self.task / config.name
        run = runs.named_run(config.run, parent)
        if self.subcommand == "fit" and not (run or config.ckpt_path) and (run := slurm.begun_before(parent)):
            config.ckpt_path = "last"  # the same command, started again by SLURM
        named = config.ckpt_path or ("best" if run and self.subcommand != "fit" else None)
        if named:
            self.checkpoint = runs.find_checkpoint(named, run, parent)
            config.ckpt_path = str(self.checkpoint)
        elif self.subcommand != "fit" and not config.untrained:
            raise runs.no_checkpoint(str(self.subcommand), parent)
        elif self.subcommand == "fit" and config.init_from:
            self.start = runs.find_start(config.init_from)
        self.folder = self.find_folder(run, parent)

    def find_folder(self, run: Path | None, parent: Path) -> Path:
        """Return the run folder: the checkpoint's, the one that `--run` names, or a new one."""
        if self.checkpoint and (folder := runs.run_of(self.checkpoint)):
            return folder
        if getattr(rank_zero_only, "rank", 0):  # one process makes the folder; the recorder tells the others
            return run or parent
        self.made = runs.empty_folder(run) if run else runs.new_run(parent)
        return self.made

    def instantiate_classes(self) -> None:
        """Build everything; encoders take their files from the checkpoint, so that it needs no folder beside it."""
        origin = self.checkpoint or self.start
        with rebuilding(held := load_primitives(origin) if origin else {}):
            self.done = steps_done(held, self.checkpoint) if self.checkpoint and self.subcommand == "fit" else 0
            super().instantiate_classes()
        if self.start:
            start_from(self.model, held.get("state_dict", {}), str(self.start))

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        """Build the trainer around the run folder."""
        config = self._get(self.config_init, "trainer")
        self._dump_config()
        keep = {key: value for key, value in self.config_dump.items() if key not in NOT_SAVED}
        newest = self.made is not None and self.subcommand == "fit"
        kept = yaml.safe_dump(keep, sort_keys=False)
        recorder = RunRecorder(self.folder, kept, str(self.subcommand), newest, self.done)
        monitor = getattr(self.model, "monitor", ("val/loss", "min"))
        every = self.config[self.subcommand].save_every
        trainer: Trainer = super().instantiate_trainer(
            default_root_dir=str(self.folder),
            use_distributed_sampler=False,  # the samplers shard themselves, unpadded
            **trainer_parts(config, self.folder, str(self.subcommand), recorder, monitor, every),
            **kwargs,
        )
        return let_fused_be_clipped(trainer)

    def _run_subcommand(self, subcommand: str) -> None:
        """Run, and tell an interruption and a checkpoint of another model as what they are."""
        try:
            super()._run_subcommand(subcommand)
        except Stopped:
            print(f"{self.folder}  next: medvl fit --run {self.folder} --ckpt_path last", file=sys.stderr)
            raise
        except OSError as error:
            raise (no_room(error, self.folder) or error) from error
        except SystemExit:  # Lightning's answer to Ctrl-C, after it has turned the signal off
            signal.signal(signal.SIGINT, signal.default_int_handler)
            if (self.folder / runs.CHECKPOINTS / "last.ckpt").is_file():
                print(f"{self.folder}  next: medvl fit --run {self.folder} --ckpt_path last", file=sys.stderr)
            raise KeyboardInterrupt from None
        except RuntimeError as error:
            if "loading state_dict" not in str(error):
                raise
            reason = str(error).splitlines()[1].strip()[:120]
            raise CheckpointError(
                "the checkpoint is of another model", where=str(self.checkpoint), hint=reason
            ) from error

    @rank_zero_only
    def finish(self) -> None:
        """Write the report, and say where everything lies and what comes next."""
        if self.subcommand in ("test", "validate"):
            print_headline(self.trainer.callback_metrics, getattr(self.model, "headline", ()))
        report = write_report(self.folder)
        following = NEXT.get(str(self.subcommand)) if (self.folder / runs.CHECKPOINTS).is_dir() else None
        command = f"medvl {following} --run {self.folder} --ckpt_path best" if following else f"look at {report}"
        print(f"{self.folder}  next: {command}")


def run(words: list[str], kind: type[MedvlCLI] | None = None) -> int:
    """Run `fit`, `validate`, `test` or `predict`; `words` begins with it, `kind` may do something else in its place."""
    quieten()
    guard_imports(options_of(words, "--allow-import"))
    import_families()
    read_none_as_null()
    words = without_options(words, "--allow-import")
    try:
        cli = (kind or MedvlCLI)([words[0], *config_of_run(words), *words[1:]])
    except MisconfigurationException as error:
        raise ConfigError(str(error).splitlines()[0]) from error
    except (TypeError, ValueError) as error:  # the parser wraps what a constructor raises
        mistake = mistake_behind(error)
        if mistake is None:
            raise
        raise mistake from error
    cli.finish()
    return 0
