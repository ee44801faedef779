"""`medvl features --config RECIPE --output FOLDER`: a frozen encoder runs once over all volumes of a data set."""

from __future__ import annotations

from pathlib import Path

from medvl.cli.plain import Parser
from medvl.errors import ConfigError


def run(words: list[str]) -> int:
    """Write the features of every volume, of all splits and reconstructions."""
    parser = Parser(
        prog="medvl features",
        description="Let the image encoder of a config run once over every volume, and keep what it finds for a model "
        "that is trained on top of it: --data.features FOLDER, with the encoder Precomputed.",
        epilog="Further options are those of `medvl fit`, for example --data.source.root FOLDER.",
    )
    parser.add_argument("--output", type=Path, required=True, help="folder to fill")
    parser.add_argument("--pool", type=int, default=1, help="tokens of the plane averaged into one, each way (1)")
    given, rest = parser.parse_known_args(words)
    if given.pool < 1:
        raise ConfigError(f"pool is {given.pool}", where="--pool", hint="expected 1 or more")

    from datamodules.volumes import VolumeData
    from medvl.cli import lightning
    from tasks.volume import VolumeTask
    from tasks.volume.features import precompute

    class Filling(lightning.MedvlCLI):
        """Builds model and data as a training would, and fills the folder in its place."""

        def _run_subcommand(self, subcommand: str) -> None:
            task, data = self.model, self.datamodule
            if not isinstance(task, VolumeTask) or not isinstance(data, VolumeData):
                raise ConfigError("features are of volumes", where="--config", hint="configs/volume/*.yaml")
            data.several, data.predict_split = "each", "all"
            data.setup("predict")
            task.model.image_encoder.to(self.trainer.strategy.root_device)
            count = precompute(data.predict_dataloader(), task.model.image_encoder, given.output, given.pool)
            print(f"{given.output}: features of {count} volumes  next: medvl fit ... --data.features {given.output}")

        def find_folder(self, run: Path | None, parent: Path) -> Path:
            """No run begins, so no folder is made for one."""
            return run or parent

        def finish(self) -> None:
            """Nothing was trained, so there is nothing to report."""

    return lightning.run(["fit", *rest], Filling)
