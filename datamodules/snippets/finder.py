"""Every naming of images or series in a text, in order."""

from __future__ import annotations

from collections.abc import Iterator

from datamodules.snippets.grammar import Grammar, Naming
from datamodules.snippets.pairs import Pairs
from datamodules.snippets.tokens import Tokens
from datamodules.snippets.words import Words


def find(tokens: Tokens, words: Words) -> Iterator[Naming]:
    """Yield labelled namings, series that stand alone, and pairs of bare numbers in brackets."""
    if not words.has_number(tokens):
        return
    grammar, pairs = Grammar(tokens, words), Pairs(tokens, words)
    at = 0
    while at < len(tokens):
        naming = grammar.read(at) or pairs.read(at)
        if naming is None:
            pairs.pass_over(at)
            at += 1
        else:
            pairs.found(naming)
            yield naming
            at = naming.stop


def names_any(text: str, words: Words) -> bool:
    """Tell whether a text names any image or series, of whatever study."""
    return next(find(Tokens(text), words), None) is not None
