"""What medvl is installed with: are the versions at peace, and is every licence one that a user can live with?"""

from __future__ import annotations

import re
import subprocess
import sys
from importlib.metadata import Distribution, PackageNotFoundError, distribution

from packaging.requirements import Requirement

COPYLEFT = re.compile(r"(?<!L)\b(?:A?GPL|GNU (?:Affero )?General Public)|Affero", re.IGNORECASE)
LESSER = re.compile(r"LGPL|Lesser|Library General", re.IGNORECASE)


def needed(root: str = "medvl") -> dict[str, Distribution]:
    """Return what is installed for a package, by name; extras only where a dependency asks for them."""
    found: dict[str, Distribution] = {}
    waiting: list[tuple[str, frozenset[str]]] = [(root, frozenset())]
    seen = set(waiting)
    while waiting:
        name, extras = waiting.pop()
        try:
            one = distribution(name)
        except PackageNotFoundError:  # for another platform
            continue
        found[one.name] = one
        for requirement in map(Requirement, one.requires or ()):
            marker = requirement.marker
            if marker is None or any(marker.evaluate({"extra": extra}) for extra in ("", *extras)):
                following = (requirement.name, frozenset(requirement.extras))
                if following not in seen:
                    seen.add(following)
                    waiting.append(following)
    return found


def licence(one: Distribution) -> str:
    """Return what a package says of its licence: the expression, else the classifiers, else the first line."""
    told = one.metadata
    kinds = [line.rpartition(" :: ")[2] for line in told.get_all("Classifier") or () if line.startswith("License")]
    text = (told.get("License") or "").strip().partition("\n")[0]
    return told.get("License-Expression") or ", ".join(kinds) or text


def unwelcome(text: str) -> bool:
    """Tell whether a licence asks that programs which use the package be given away under it.

    One of several that may be chosen from is none of these.
    """
    choices = re.split(r"\bOR\b", text)
    return all(COPYLEFT.search(choice) and not LESSER.search(choice) for choice in choices)


def main() -> int:
    """Print each package with its licence; return 1 where versions clash or a licence is unwelcome."""
    packages = needed()
    bad = [name for name, one in packages.items() if unwelcome(licence(one))]
    for name, one in sorted(packages.items(), key=lambda item: item[0].lower()):
        print(f"{'!' if name in bad else ' '} {name:<28}{one.version:<18}{licence(one) or 'does not say'}")
    clash = subprocess.run([sys.executable, "-m", "pip", "check"], check=False).returncode
    print(f"{len(packages)} packages, {len(bad)} with a licence of the GPL kind")
    return int(bool(bad or clash))


if __name__ == "__main__":
    raise SystemExit(main())
