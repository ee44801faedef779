"""`medvl doctor`: what this machine has to offer; what is in a run folder, and how its model fails."""

from __future__ import annotations

import os
import platform
import shutil
import sys
from importlib import import_module
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path

from medvl.cli.checkpoints import intact
from medvl.cli.plain import Parser
from medvl.cli.runs import CHECKPOINTS
from medvl.errors import ConfigError
from medvl.text.untrusted import parse_json

PACKAGES = ("torch", "torchvision", "lightning", "jsonargparse", "timm", "transformers", "pydicom", "pillow")


def run(words: list[str]) -> int:
    """Print the state of the machine, or of a run folder; 1 when something is wrong."""
    parser = Parser(
        prog="medvl doctor",
        description="Tell what this machine has to offer; or whether a run is whole, and how its model fails.",
        epilog="Status 1 when something is found. What each finding means: docs/doctor.md.",
    )
    parser.add_argument(
        "run", nargs="?", type=Path, metavar="RUN", help="a run folder to look into, best after medvl test"
    )
    folder: Path | None = parser.parse_args(words).run
    faults = examine_machine() if folder is None else examine_run(folder)
    for fault in faults:
        print(f"PROBLEM    {fault}")
    print("no problem found" if not faults else f"{len(faults)} to mend")
    return int(bool(faults))


def examine_machine() -> list[str]:
    """Print packages, processors, cache and disk; return what is wrong."""
    tell("medvl", version("medvl"))
    tell("python", f"{platform.python_version()} in {sys.prefix}")
    faults = [fault for name in PACKAGES if (fault := examine_package(name))]
    faults += [] if faults else examine_torch()
    from medvl.io.cache import cache_root

    cache = cache_root()
    faults += examine_folder("cache", cache)
    faults += examine_folder("here", Path.cwd())
    return faults


def examine_package(name: str) -> str | None:
    """Print one package's version; return what is wrong with it."""
    try:
        tell(name, version(name))
        return None
    except PackageNotFoundError:
        return f"{name} is not installed: make setup"


def examine_torch() -> list[str]:
    """Import torch, compare it with torchvision, and print threads and GPUs; return what is wrong."""
    wanted = [line for line in requires("torchvision") or [] if line.startswith("torch=")]
    have = version("torch").partition("+")[0]
    if wanted and wanted[0].removeprefix("torch==") != have:
        return [f"torchvision {version('torchvision')} wants {wanted[0]}, not torch {have}: make setup"]
    import torch

    try:
        import_module("torchvision")
    except (ImportError, RuntimeError, OSError) as error:
        return [f"torchvision does not load: {str(error).splitlines()[0]}"]
    tell("threads", f"{torch.get_num_threads()} of {os.cpu_count()} cores (OMP_NUM_THREADS changes it)")
    gpus = [torch.cuda.get_device_properties(i) for i in range(torch.cuda.device_count())]
    for index, gpu in enumerate(gpus):
        tell(f"gpu {index}", f"{gpu.name}, {gpu.total_memory / 2**30:.0f} GiB")
    if not gpus:
        tell("gpu", "Apple MPS" if torch.backends.mps.is_available() else "none: training runs on the CPU")
    return []


def examine_folder(label: str, folder: Path) -> list[str]:
    """Print a folder and the free space there; return what is wrong."""
    there = next(parent for parent in (folder, *folder.absolute().parents) if parent.exists())
    free = shutil.disk_usage(there).free / 2**30
    tell(label, f"{folder} ({free:.1f} GiB free)")
    faults = [] if os.access(there, os.W_OK) else [f"{there} cannot be written to"]
    return faults + ([f"less than 1 GiB is free in {there}"] if free < 1 else [])


def examine_run(folder: Path) -> list[str]:
    """Print what is in a run folder; return what is wrong.

    Raises:
        ConfigError: It is no run folder.
    """
    if not (folder / "fit.yaml").is_file():
        raise ConfigError("not a run folder: it has no fit.yaml", where=str(folder), command="medvl doctor RUN")
    tell("run", str(folder.resolve()))
    metrics = folder / "metrics.jsonl"
    lines = metrics.read_text(encoding="utf-8").splitlines() if metrics.is_file() else []
    last = next((line for line in map(read_line, reversed(lines)) if line), {})
    tell("metrics", f"{len(lines)} lines, the last at step {last.get('step')}, epoch {last.get('epoch')}")
    faults = []
    for checkpoint in sorted((folder / CHECKPOINTS).glob("*.ckpt")):
        whole = intact(checkpoint)
        tell(checkpoint.name, f"{checkpoint.stat().st_size / 2**20:.1f} MiB, {'whole' if whole else 'damaged'}")
        faults += [] if whole else [f"{checkpoint} is damaged (its checksum differs)"]
    if not any((folder / CHECKPOINTS).glob("*.ckpt")):
        faults.append("no checkpoint: the run ended before its first one")
    for part in ("predictions", "report.html"):
        tell(part, "yes" if (folder / part).exists() else "no")
    return faults + examine_model(folder)


def read_line(text: str) -> dict[str, object]:
    """Return a line of metrics; nothing for one that a kill has cut short."""
    try:
        return dict(parse_json(text))
    except (ValueError, TypeError):
        return {}


def examine_model(folder: Path) -> list[str]:
    """Print which signatures of failure were looked for; return those that were found."""
    from medvl.evidence import Evidence
    from medvl.signatures import diagnose

    found = diagnose(Evidence.of(folder))
    for one in found:
        if one.severity == "healthy":
            tell("not seen", f"{one.name}: {one.evidence}")
    if not found:
        tell("model", f"nothing to judge it by yet: medvl test --run {folder} --ckpt_path best")
    return [
        f"{one.name} ({one.severity}): {one.evidence}\n  next     {one.advice.replace('RUN', str(folder))}"
        for one in found
        if one.severity != "healthy"
    ]


def tell(label: str, text: str) -> None:
    """Print one line."""
    print(f"{label:<14}{text}")
