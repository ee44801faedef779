"""Command-line words that matter before the parser exists."""

from __future__ import annotations


def options_of(words: list[str], *names: str) -> list[str]:
    """Return the values given to an option, as `--name value` or `--name=value`, in order."""
    pairs = zip(words, [*words[1:], ""], strict=True)
    found = [(word.partition("=")[2] if "=" in word else after) for word, after in pairs if word.split("=")[0] in names]
    return [value for value in found if value]


def without_options(words: list[str], *names: str) -> list[str]:
    """Return `words` less an option and its values."""
    kept: list[str] = []
    skip = False
    for word in words:
        if not skip and word.split("=")[0] not in names:
            kept.append(word)
        skip = not skip and word in names
    return kept
