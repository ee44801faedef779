"""The words of a language: what `en.yaml` and `de.yaml` hold, looked up by token."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from datamodules.snippets.tokens import Tokens
from medvl.errors import ConfigError, nearest

LANGUAGES = ("en", "de")
_GROUPED = ("planes", "phases", "kernels", "not_pair")
_SPECIAL = ("labels", "typos", "not_typos", "numerals", *_GROUPED)
_LABELS = ("series", "image", "images")


class Words:
    """What single words and phrases mean in one language.

    Attributes:
        plural: Labels of several images.
    """

    def __init__(self, lists: Mapping[str, Any]) -> None:
        self._classes: dict[str, set[str]] = defaultdict(set)
        self._prefixes: dict[str, list[tuple[str, str]]] = defaultdict(list)
        self._phrases: dict[str, list[tuple[tuple[str, ...], str]]] = defaultdict(list)
        self._kinds: dict[str, frozenset[str]] = {}
        for name, entries in lists.items():
            if name not in _SPECIAL:
                self._add(name, entries)
        for group in _GROUPED:
            for name, entries in lists[group].items():
                self._add(f"{group}:{name}", entries)
        labels = lists["labels"]
        self._labels = {str(word).casefold(): kind for kind in _LABELS for word in labels[kind]}
        self._suffixed: dict[str, str] = labels["suffixed"]
        self._weak = {kind: frozenset(labels[f"weak_{kind}"]) for kind in ("series", "image")}
        self._numbered = frozenset(labels["numbered"])
        self._slips = _slips(lists["typos"], {*lists["not_typos"], *self._labels, *self._classes})
        self._numerals = _numerals(**lists["numerals"])
        self._spelled = frozenset(spelled.split()[0] for spelled in self._numerals)

    def _add(self, name: str, entries: Iterable[str]) -> None:
        for entry in entries:
            parts = tuple(token.text for token in Tokens(entry.rstrip("*")))
            if len(parts) > 1:
                self._phrases[parts[0]].append(((*parts[1:-1], parts[-1] + "*" * entry.endswith("*")), name))
            elif entry.endswith("*"):
                self._prefixes[parts[0][:2]].append((parts[0], name))
            else:
                self._classes[parts[0]].add(name)

    def kinds(self, word: str) -> frozenset[str]:
        """Return every class of a word; `planes:coronal` and the like for those in groups."""
        found = self._kinds.get(word)
        if found is None:
            prefixed = (name for prefix, name in self._prefixes.get(word[:2], ()) if word.startswith(prefix))
            found = frozenset((*self._classes.get(word, ()), *prefixed))
            if len(self._kinds) < 100_000:
                self._kinds[word] = found
        return found

    def has(self, word: str, kind: str) -> bool:
        """Tell whether a word is of a class."""
        return kind in self.kinds(word)

    def group(self, word: str, group: str) -> str:
        """Return which of a group a word names: `coronal` of `planes`; '' for none."""
        return next((kind.partition(":")[2] for kind in self.kinds(word) if kind.startswith(f"{group}:")), "")

    def phrases(self, tokens: Tokens, at: int) -> Mapping[str, int]:
        """Return the classes of the word and of the phrases that begin at a token, each with the index behind it."""
        word = tokens[at].text
        found = dict.fromkeys(self.kinds(word), at + 1)
        for rest, name in self._phrases.get(word, ()):
            if all(_same(part, tokens[at + 1 + i].text) for i, part in enumerate(rest)):
                found[name] = max(found.get(name, 0), at + 1 + len(rest))
        return found

    def label(self, word: str) -> str:
        """Return `series`, `image` or `images` for their names, compounds and misspellings, else ''."""
        found = self._labels.get(word) or self._slips.get(word)
        if found:
            return found
        return next((kind for end, kind in self._suffixed.items() if word.endswith(end) and len(word) > len(end)), "")

    def weak(self, word: str) -> bool:
        """Tell whether a word names a series or image only beside the other."""
        return word in self._weak["series"] or word in self._weak["image"] or word in self._slips

    def numbered(self, word: str) -> bool:
        """Tell whether a label is one only with "no." behind it (`Serien-Nr. 4`, but not `Serien 3 und 4`)."""
        return word in self._numbered

    def numeral(self, tokens: Tokens, at: int) -> tuple[int, int]:
        """Return the number that words spell from a token on, and the index behind them; 0 for none."""
        value, stop = 0, at
        for end in range(at + 1, min(at + 7, len(tokens)) + 1):
            spelled = " ".join(t.text for t in (tokens[i] for i in range(at, end)) if t.kind != "dash")
            if spelled in self._numerals:
                value, stop = self._numerals[spelled], end
        return value, stop

    def has_number(self, tokens: Tokens) -> bool:
        """Tell whether a text holds any number, in digits or words."""
        return any(token.kind in {"int", "dec"} or token.text in self._spelled for token in tokens)

    def share(self, words: Iterable[str]) -> int:
        """Return how many of `words` are common in this language."""
        return sum("function" in self._classes.get(word, ()) for word in words)


@cache
def load(language: str) -> Words:
    """Return the words of `en` or `de`.

    Raises:
        ConfigError: There is no such language.
    """
    if language not in LANGUAGES:
        raise ConfigError(f"no language {language!r}", hint=nearest(language, (*LANGUAGES, "auto")))
    text = Path(__file__).with_name(f"{language}.yaml").read_text(encoding="utf-8")
    return Words(yaml.safe_load(text.casefold()))


def language_of(text: str) -> str:
    """Return the language whose common words a text has more of; English where none is."""
    words = [token.text for token in Tokens(text[:5000]) if token.kind == "word"]
    return max(LANGUAGES, key=lambda name: load(name).share(words))


def _same(part: str, word: str) -> bool:
    return word.startswith(part[:-1]) if part.endswith("*") else word == part


def _slips(names: Iterable[str], known: Iterable[str]) -> dict[str, str]:
    """Return every word one slip from a label: a letter left out, doubled or changed, or two swapped."""
    found: dict[str, str] = {}
    for name in names:
        kind = "series" if name.startswith("ser") else "images" if name[-1] in "sn" or name.endswith("er") else "image"
        for i in range(1, len(name)):
            slips = [
                name[:i] + name[i + 1 :],
                name[:i] + name[i] + name[i:],
                name[: i - 1] + name[i] + name[i - 1] + name[i + 1 :],
            ]
            if len(name) >= 6:
                slips += [name[:i] + letter + name[i + 1 :] for letter in "abcdefghijklmnopqrstuvwxyz"]
            found |= {slip: kind for slip in slips if len(slip) > 3}
    return {slip: kind for slip, kind in found.items() if slip not in set(known)}


def _numerals(units: list[str], tens: list[str], hundred: str) -> dict[str, int]:
    """Return the numbers from 1 to 999 as they are spelled: `thirty eight`, `achtunddreissig`."""
    below: dict[str, int] = {word: value for value, word in enumerate(units, 1)}
    ones = {"ein" if word == "eins" else word: value for word, value in list(below.items())[:9]}
    for place, ten in enumerate(tens, 2):
        below[ten] = 10 * place
        for word, value in ones.items():
            below[f"{ten} {word}"] = below[f"{word}und{ten}"] = 10 * place + value
    found = dict(below)
    for word, value in ones.items():
        for head in (f"{word} {hundred}", f"{word}{hundred}", *((hundred,) if value == 1 else ())):
            found[head] = 100 * value
            for glue in (" ", " and ", "", "und"):
                found |= {f"{head}{glue}{rest}": 100 * value + low for rest, low in below.items()}
    return found
