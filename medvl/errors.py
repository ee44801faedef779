"""Errors meant for people: what happened, where, what to do next."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class MedvlError(Exception):
    """A mistake that the user can mend, told in at most four lines.

    Args:
        what: What is wrong, in one line.
        where: The file, configuration key or row concerned.
        hint: What was expected, or the nearest valid name.
        command: The next command to run.
    """

    def __init__(
        self, what: str, *, where: str | None = None, hint: str | None = None, command: str | None = None
    ) -> None:
        super().__init__(what)
        self.what, self.where, self.hint, self.command = what, where, hint, command

    def __str__(self) -> str:
        lines = [self.what]
        lines += [f"  where: {self.where}"] if self.where else []
        lines += [f"  hint:  {self.hint}"] if self.hint else []
        lines += [f"  next:  {self.command}"] if self.command else []
        return "\n".join(map(visible, lines))


class DataError(MedvlError):
    """The data on disk is not what its format promises."""


class ConfigError(MedvlError):
    """A configuration names something that does not exist or does not fit."""


class CheckpointError(MedvlError):
    """A checkpoint is missing, damaged or of another model."""


def nearest(name: str, options: Iterable[str]) -> str:
    """Return a hint that names the option closest to `name`, or lists them all when none is close."""
    known = sorted(options)
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    return f"did you mean {close[0]!r}?" if close else f"expected one of: {', '.join(known)}"


def visible(text: str) -> str:
    """Return one line with whatever a terminal would obey (escape codes, line ends, changes of direction) spelt out."""
    return "".join(
        mark if mark.isprintable() else mark.encode("unicode_escape", "surrogatepass").decode() for mark in text
    )
