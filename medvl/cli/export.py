"""`medvl export RUN`: the weights of a checkpoint as one safetensors file, to publish or to start from."""

from __future__ import annotations

from pathlib import Path

from medvl.cli.plain import Parser
from medvl.errors import ConfigError


def run(words: list[str]) -> int:
    """Write a checkpoint's weights, with its config and calibration as metadata."""
    parser = Parser(
        prog="medvl export",
        description="Write the weights of a checkpoint as safetensors, with config and calibration as JSON metadata.",
        epilog="The file serves as --ckpt_path of test and predict, and as --init_from of fit.",
    )
    parser.add_argument("run", metavar="RUN", help="a run folder (latest for the newest) or a checkpoint")
    parser.add_argument("--ckpt_path", default="best", help="of a run folder: best or last (best)")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help="the file to write: FILE.safetensors")
    given = parser.parse_args(words)

    from medvl.cli.kept import runs_named
    from medvl.cli.recording import load_primitives
    from medvl.cli.runs import find_checkpoint
    from medvl.cli.weights_file import SUFFIX, write_weights

    out: Path = given.out
    if out.suffix != SUFFIX or out.exists():
        what = "there is something already" if out.exists() else f"the file's name must end with {SUFFIX}"
        raise ConfigError(what, where=str(out), hint="--out names a new file")
    folder = None if Path(given.run).is_file() else (runs_named(["--run", given.run]) or [Path(given.run)])[0]
    checkpoint = find_checkpoint(given.ckpt_path if folder else given.run, folder, Path())
    write_weights(out, load_primitives(checkpoint))
    print(f"{out}: {out.stat().st_size / 2**20:.1f} MiB from {checkpoint}  next: medvl fit --init_from {out} ...")
    return 0
