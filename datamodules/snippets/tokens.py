"""Report text as tokens: words, whole numbers, decimals, dashes, brackets with their partners, other signs."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

DASHES = "-\u2010\u2011\u2012\u2013\u2014\u2015\u2212\u2192\u21d2~"
_CLOSED_BY = {"(": ")", "[": "]", "{": "}", "<": ">"}
_TOKEN = re.compile(
    r"(?P<dec>\d+(?:[.,]\d+)+)|(?P<int>\d+)|(?P<word>[^\W\d_]+(?:['\u2019]s\b)?)|"
    rf"(?P<dash>-+>|=>|[{re.escape(DASHES)}]|\.\.+|\u2026)|(?P<sign>\S)"
)
_DAY = re.compile(r"(?:0[1-9]|[12]\d|3[01])\.(?:0[1-9]|1[0-2])")  # `12.05.`, whose stop ends no sentence
_LONGEST_NUMBER = 5  # digits of a series or an image; more are a telephone or accession number


@dataclass(frozen=True, slots=True)
class Token:
    """A token.

    Attributes:
        kind: `int`, `dec`, `word`, `dash`, `open`, `close`, else the sign itself.
        text: Case folded.
        start: First character.
        stop: Behind the last.
        value: Of an `int`, if it could number a series or an image, else 0.
    """

    kind: str
    text: str
    start: int
    stop: int
    value: int = 0


NOTHING = Token("", "", 0, 0)


class Tokens:
    """The tokens of a text. Beyond the ends stands `NOTHING`, so that a grammar may look ahead and back.

    Attributes:
        text: What was read.
        partner: Index of the bracket that closes or opens each bracket that has one.
    """

    def __init__(self, text: str) -> None:
        self.text = text
        self._tokens = [_token(match) for match in _TOKEN.finditer(text)]
        self._count = len(self._tokens)
        self.partner = _partners(self._tokens)

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[Token]:
        return iter(self._tokens)

    def __getitem__(self, index: int) -> Token:
        """Return a token, `NOTHING` beyond the ends."""
        return self._tokens[index] if 0 <= index < self._count else NOTHING

    def opens(self, index: int) -> bool:
        """Tell whether a bracket opens there that is closed."""
        return self.partner.get(index, -1) > index

    def closes(self, index: int) -> bool:
        """Tell whether a bracket closes there that was opened."""
        return 0 <= self.partner.get(index, index) < index

    def touches(self, index: int) -> bool:
        """Tell whether a token begins where the one before it ends."""
        return index > 0 and self[index - 1].stop == self[index].start

    def ends_sentence(self, index: int) -> bool:
        """Tell whether a full stop or line ends a sentence: a capital follows, and it is no abbreviation's."""
        token, before, after = self[index], self[index - 1], self[index + 1]
        if (
            token.kind not in {".", "!", "?"}
            or not after.kind
            or self.text[token.stop : after.start].strip(" ") not in {"", "\n", "\n\n"}
        ):
            return False
        if after.start == token.stop or not self.text[after.start].isupper():
            return False
        if before.kind == "dec" and self.touches(index) and _DAY.fullmatch(before.text):
            return False
        return before.kind != "word" or len(before.text) > 3 or not self.touches(index)


def _token(match: re.Match[str]) -> Token:
    kind, text = match.lastgroup or "", match[0].casefold().replace("\u2019", "'")
    value = 0
    if kind == "sign":
        kind = "open" if text in "([{<" else "close" if text in ")]}>" else text
    elif kind == "int" and len(text) <= _LONGEST_NUMBER and text.isascii():
        value = int(text)
    return Token(kind, text, match.start(), match.end(), value)


def _partners(tokens: Sequence[Token]) -> dict[int, int]:
    """Pair the brackets; `<` and `>` only where nothing but words and numbers stands between them."""
    found: dict[int, int] = {}
    opened: list[int] = []
    for index, token in enumerate(tokens):
        if token.kind == "open":
            opened.append(index)
        elif token.kind == "close":
            while opened and tokens[opened[-1]].text == "<" and token.text != ">":
                opened.pop()
            if opened and _CLOSED_BY[tokens[opened[-1]].text] == token.text:
                first = opened.pop()
                found[first], found[index] = index, first
    return found
