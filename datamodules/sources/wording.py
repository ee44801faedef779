"""From a finding's label to a phrase, for datasets that have boxes and no sentences."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import numpy as np

from medvl.errors import ConfigError, nearest

NORMAL = "No finding"
SLOT = "{finding}"


def seeded(*words: object) -> np.random.Generator:
    """Return a generator that depends on `words` only, and not on the order in which rows are read."""
    digest = hashlib.sha256("/".join(map(str, words)).encode()).digest()
    return np.random.default_rng(int.from_bytes(digest[:8], "big"))


class Wording:
    """Words a label as a phrase.

    Args:
        names: The English name of every label; several, parted by `|`, are drawn from. That of `NORMAL` is a whole
            phrase.
        changed: Names to put in place of these.
        template: What stands around a name, which goes where `{finding}` is; several, parted by `|`, are drawn from.
        seed: Of the draws, together with image and label.

    Raises:
        ConfigError: A template has no place for the name, a changed label is unknown, or two labels share a name: one
            phrase would then ask for two findings.
    """

    def __init__(
        self, names: Mapping[str, str], changed: Mapping[str, str] | None = None, template: str = SLOT, seed: int = 0
    ) -> None:
        for label in changed or ():
            if label not in names:
                raise ConfigError(f"unknown label {label!r} in names", hint=nearest(label, names))
        self.names = {label: _parts(text) for label, text in {**names, **(changed or {})}.items()}
        self.templates, self.seed = _parts(template), seed
        if not self.templates or not all(SLOT in one for one in self.templates):
            raise ConfigError(f"the template {template!r} has no place for the name", hint=f"write {SLOT} in it")
        owner: dict[str, str] = {}
        for label, texts in self.names.items():
            for text in texts:
                if owner.setdefault(text.lower(), label) != label:
                    raise ConfigError(f"labels {owner[text.lower()]!r} and {label!r} have one name", hint=repr(text))

    def phrase(self, label: str, image: str) -> str:
        """Return the phrase of a label for an image; a label without a name is its own, in lower case."""
        names = self.names.get(label) or (label.lower(),)
        phrases = names if label == NORMAL else [t.replace(SLOT, name) for t in self.templates for name in names]
        return phrases[int(seeded(self.seed, image, label).integers(len(phrases))) if len(phrases) > 1 else 0]


def _parts(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split("|") if part.strip())
