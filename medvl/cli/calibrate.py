"""`medvl calibrate --run RUN`: score threshold and fusion IoU, chosen on validation data, into the checkpoint."""

from __future__ import annotations

import json
from pathlib import Path

from medvl.cli.plain import Parser

STORE = "tasks.grounding.calibrator.StoreCalibration"


def run(words: list[str]) -> int:
    """Validate a run's checkpoint, and store what is best in it."""
    parser = Parser(
        prog="medvl calibrate",
        description="Choose score threshold and fusion IoU on the validation split, and store them in the checkpoint. "
        "fit does so by itself; this is for another floor, other data or a checkpoint of elsewhere.",
        epilog="Further options are those of `medvl validate`, for example --data.source.root FOLDER.",
    )
    parser.add_argument("--run", required=True, help="the run folder; latest for the newest")
    parser.add_argument("--ckpt_path", default="best", help="best, last or a file (best)")
    parser.add_argument(
        "--n-acc-floor", type=float, help="least share of sentences without a box that stay without (the run's: 0.9)"
    )
    given, rest = parser.parse_known_args(words)

    from medvl.cli import lightning
    from medvl.cli.kept import runs_named
    from medvl.cli.runs import find_checkpoint

    named_run = (runs_named(["--run", given.run]) or [Path(given.run)])[0]
    checkpoint = find_checkpoint(given.ckpt_path, named_run, named_run.parent)
    store = {"class_path": STORE, "init_args": {"checkpoint": str(checkpoint)}}
    floor = [] if given.n_acc_floor is None else ["--model.postprocess.n_acc_floor", str(given.n_acc_floor)]
    named = ["--run", str(named_run), "--ckpt_path", str(checkpoint)]
    return lightning.run(["validate", *named, *floor, *rest, f"--trainer.callbacks+={json.dumps(store)}"])
