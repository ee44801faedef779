"""The oldest versions that pyproject.toml lets in, as constraints for pip: `python floors.py [--as-here NAME ...]`."""

from __future__ import annotations

import argparse
import tomllib
from collections.abc import Collection
from importlib.metadata import version
from pathlib import Path

from packaging.requirements import Requirement
from packaging.version import Version

PYPROJECT = Path(__file__).resolve().parents[2] / "pyproject.toml"


def floor(requirement: Requirement) -> str:
    """Return the lowest version that a requirement names.

    Raises:
        ValueError: It names none.
    """
    lowest = [Version(one.version) for one in requirement.specifier if one.operator in (">=", "==", "~=")]
    if not lowest:
        raise ValueError(f"{requirement} has no floor")
    return str(max(lowest))


def constraints(pyproject: Path = PYPROJECT, extras: Collection[str] = (), here: Collection[str] = ()) -> list[str]:
    """Return a line `name==version` for each direct dependency.

    Args:
        pyproject: The file that lists them.
        extras: Optional groups to take along.
        here: Names that keep the version that is installed.
    """
    project = tomllib.loads(pyproject.read_text(encoding="utf-8"))["project"]
    lines = [*project["dependencies"], *(line for name in extras for line in project["optional-dependencies"][name])]
    found = [Requirement(line) for line in lines]
    return [f"{one.name}=={version(one.name) if one.name in here else floor(one)}" for one in found]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--as-here", nargs="*", default=(), metavar="NAME", help="keeps the version installed")
    parser.add_argument("--extras", nargs="*", default=(), metavar="NAME", help="groups to take along")
    options = parser.parse_args()
    print("\n".join(constraints(extras=options.extras, here=options.as_here)))
