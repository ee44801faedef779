"""Dates in report text: `12.03.2019`, `12 March 2019`, `03/2020`, `in March`, `of 2019`."""

from __future__ import annotations

from datamodules.snippets.tokens import Tokens
from datamodules.snippets.words import Words

_YEARS = range(1980, 2050)
_LEADS = frozenset((
    "in", "on", "of", "from", "at", "im", "am", "vom", "von", "aus", "dated", "performed", "vor", "with", "to", "zum",
    "zur", "dem",
))  # fmt: skip
_MONTHS = frozenset((
    "january", "february", "march", "april", "may", "june", "july", "august", "september", "october", "november",
    "december", "jan", "feb", "mar", "apr", "jun", "jul", "aug", "sept", "sep", "oct", "nov", "dec",
    "januar", "februar", "märz", "mai", "juni", "juli", "oktober", "dezember", "okt", "dez",
))  # fmt: skip


class Dates:
    """Finds dates."""

    def __init__(self, tokens: Tokens, words: Words) -> None:
        self.tokens, self.words = tokens, words

    def at(self, at: int) -> int:
        """Return the index behind the date that begins there; 0 for none."""
        token = self.tokens[at]
        if token.kind == "word":
            return self._month(at) if token.text in _MONTHS else 0
        if token.kind == "dec":
            return at + 1 if self._dotted(token.text) else 0
        if token.kind != "int" or (self.tokens.touches(at) and self.tokens[at - 1].kind in {"dash", "word"}):
            return 0
        if token.value in _YEARS and len(token.text) == 4:
            return at + 1
        return self._slashed(at) or self._day(at)

    def led(self, at: int) -> bool:
        """Tell whether a preposition leads to the date."""
        return self.tokens[at - 1].text in _LEADS

    def near(self, at: int, reach: int) -> bool:
        """Tell whether a date follows within `reach` tokens."""
        return any(self.at(i) for i in range(at + 1, at + 1 + reach))

    def _month(self, at: int) -> int:
        """A month's name with a year, or behind a preposition, for `may` and `march` are words too."""
        stop = at + 1 + (self.tokens[at + 1].kind == ".")
        if self.tokens[stop].value in _YEARS:
            return stop + 1
        return at + 1 if self.led(at) and self.tokens[at].text not in {"mar", "sep", "dec"} else 0

    def _dotted(self, text: str) -> bool:
        parts = text.split(".")
        if not all(part.isdigit() for part in parts) or len(parts) not in (2, 3):
            return False
        numbers = [int(part) for part in parts]
        if len(parts) == 2:
            return (
                len(parts[0]) == len(parts[1]) == 2
                and 0 < numbers[0] <= 31
                and 0 < numbers[1] <= 12
                and parts[1][0] in "01"
            )
        return 0 < numbers[0] <= 31 and 0 < numbers[1] <= 12

    def _slashed(self, at: int) -> int:
        """`03/2020`, `12/4/2021`; `4/22` only behind a preposition or a study."""
        tokens = self.tokens
        if tokens[at + 1].kind not in {"/", "dash"} or tokens[at + 2].kind != "int":
            return 0
        if tokens[at + 3].kind == tokens[at + 1].kind and tokens[at + 4].kind == "int":
            years = tokens[at + 4].value in _YEARS or tokens[at].value in _YEARS or len(tokens[at + 4].text) == 2
            return at + 5 if years else 0
        if not 0 < tokens[at].value <= 12:
            return 0
        if tokens[at + 2].value in _YEARS:
            return at + 3
        led = self.led(at) or self.words.has(tokens[at - 1].text, "study")
        return at + 3 if led and tokens[at + 1].kind == "/" and len(tokens[at + 2].text) == 2 else 0

    def _day(self, at: int) -> int:
        """`12 March 2019`, `4. Mai`."""
        month = at + 1 + (self.tokens[at + 1].kind == ".")
        if not 0 < self.tokens[at].value <= 31 or self.tokens[month].text not in _MONTHS:
            return 0
        return self._month(month) or month + 1
