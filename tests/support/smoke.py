"""Does an installation work? Imports every module and runs each quickstart for some steps; needs no test tools."""

from __future__ import annotations

import os
import pkgutil
import sys
import tempfile
import warnings
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

CONFIGS = Path(__file__).resolve().parents[2] / "configs" / "quickstart"
PACKAGES = ("medvl", "tasks", "datamodules", "ontology")
TWINS = {
    "grounding": ("padchest-gr", "24", "--data.image_size", "64"),
    "alignment": ("mimic-cxr", "24", "--data.image_size", "64"),
    "volume": ("ct-rate", "12", "--data.spacing", "[10.0,8.0,8.0]"),
}
STEPS = ("--trainer.max_steps", "3", "--trainer.val_check_interval", "3", "--data.batch_size", "4")


def modules() -> Iterator[str]:
    """Yield the name of every module that we install."""
    for name in PACKAGES:
        yield name
        for module in pkgutil.walk_packages(import_module(name).__path__, f"{name}."):
            if not module.name.endswith("__main__"):  # importing it would run it
                yield module.name


def quickstart(task: str, folder: Path) -> None:
    """Write a twin, train, test and predict.

    Raises:
        RuntimeError: A command failed.
    """
    from medvl.cli.main import main

    kind, studies, *small = TWINS[task]
    twin = folder / kind
    data = ["--config", str(CONFIGS / f"{task}.yaml"), "--data.source.root", str(twin), *small]
    for words in (
        ["data", "twin", kind, str(twin), "--studies", studies],
        ["fit", *data, *STEPS],
        ["test", *data, "--ckpt_path", "best"],
        ["predict", *data, "--ckpt_path", "best"],
    ):
        if status := main(words):
            raise RuntimeError(f"medvl {' '.join(words)} ended with status {status}")


def main() -> int:
    """Run everything; the first failure raises."""
    names = list(modules())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name in names:
            import_module(name)
    print(f"{len(names)} modules imported from {Path(sys.modules['medvl'].__file__ or '').parent}", flush=True)
    with tempfile.TemporaryDirectory() as place:
        os.chdir(place)
        os.environ["MEDVL_CACHE"] = f"{place}/cache"
        for task in TWINS:
            quickstart(task, Path(place))
            print(f"{task}: fit, test and predict", flush=True)
        os.chdir("/")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
