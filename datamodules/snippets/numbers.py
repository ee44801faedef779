"""Numbers of images: single ones, ranges written in any way, lists."""

from __future__ import annotations

from datamodules.snippets.tokens import Tokens
from datamodules.snippets.words import Words

Range = tuple[int, int]
_HOLDS = {",", "+", "&"}
_SIGNS_OF_MEASURES = {"%", "°", "×", "²", "³", "\u2033", "µ"}


def span_of(first: int, last: int) -> Range:
    """Return a range that was written `first`-`last`: downwards is turned, a short last number is completed.

    `138-41` is 138 to 141, and `100-99` is 99 to 100: completed only where that is much the shorter reading.
    """
    size = 10 ** len(str(last))
    full = first - first % size + last
    if last < first < full and 2 * (full - first) < first - last:
        last = full
    return min(first, last), max(first, last)


def measures(tokens: Tokens, words: Words, at: int) -> bool:
    """Tell whether what stands at `at`, behind a number, makes a measurement of it (`mm`, `-mm`, `%`, `x 4`)."""
    token = tokens[at]
    if token.kind in _SIGNS_OF_MEASURES:
        return True
    if token.kind == "dash" and tokens.touches(at) and tokens.touches(at + 1):
        token = tokens[at + 1]
        return token.kind == "word" and words.has(token.text, "units") and tokens[at + 2].kind not in {"int", "."}
    if token.kind != "word" or not words.has(token.text, "units"):
        return False
    # "7 s" is a time, but "s 7" behind it a series
    return not (words.label(token.text) and (tokens[at + 1].kind == "int" or tokens[at + 2].kind == "int"))


class Numbers:
    """Reads numbers of images from tokens. Each method returns what it read and the index behind, or None."""

    def __init__(self, tokens: Tokens, words: Words) -> None:
        self.tokens, self.words = tokens, words

    def single(self, at: int) -> tuple[int, int] | None:
        """Read one number: digits, digits in brackets of their own, or words."""
        token = self.tokens[at]
        if token.kind == "open" and self.tokens.partner.get(at) == at + 2 and self.tokens[at + 1].value:
            return self.tokens[at + 1].value, at + 3
        if token.kind == "int":
            return None if not token.value or measures(self.tokens, self.words, at + 1) else (token.value, at + 1)
        if token.kind == "word":
            value, stop = self.words.numeral(self.tokens, at)
            if value and not measures(self.tokens, self.words, stop):
                return value, stop
        return None

    def ranged(self, at: int, label: bool = True) -> tuple[Range, int] | None:
        """Read a number or a range; between its ends the word `image` may stand again if `label`."""
        found = self.single(at)
        if found is None:
            return None
        first, stop = found
        joined = self._to(stop)
        if joined is not None:
            if label and self.words.label(self.tokens[joined].text).startswith("image"):
                joined = self.skip_label(joined)
            last = self.single(joined)
            if last is not None and not self._pair_begins(joined):
                return span_of(first, last[0]), last[1]
            if last is None and self.tokens[joined].kind in {"int", "dec"} and self.tokens[stop].kind == "dash":
                return None  # "1-2 mm"
        return (first, first), stop

    def listed(self, at: int, plural: bool, between: bool = False) -> tuple[list[Range], int] | None:
        """Read a list of images behind its label.

        Args:
            at: Index of the first number.
            plural: Whether the label is (`images 38/39` are two, `image 38/39` is the 38th of 39).
            between: Whether `and` makes a range of two numbers (`between images 38 and 41`).
        """
        commas = self._commas(at)
        if commas is not None:
            ranges, stop = commas
        elif (found := self.ranged(at)) is not None:
            ranges, stop = [found[0]], found[1]
        else:
            return None
        if not plural:
            stop = self._total(stop, ranges[-1][1])
        while (joined := self._next(stop, plural, ranges[-1][1])) is not None:
            member, stop = joined
            ranges.append(member)
        if between and len(ranges) == 2 and not commas:
            ranges = [span_of(ranges[0][0], ranges[1][1])]
        return ranges, self._following(stop)

    def skip_label(self, at: int) -> int:
        """Return the index behind a label and what belongs to it: `no.`, `-Nr.`, `#`, `:`."""
        tokens, start = self.tokens, at
        at += 1
        if tokens[at].kind == "open" and tokens[at + 1].text in {"s", "er", "en"} and tokens.partner.get(at) == at + 2:
            at += 3
        for _ in range(4):
            token = tokens[at]
            number = at + (token.kind == "dash")
            if tokens[number].kind == "word" and self.words.has(tokens[number].text, "number"):
                at = number + 1
            elif token.kind in {"#", ":", "=", "\u2116"} or (
                token.kind == "." and tokens.touches(at) and (at > start + 1 or self._shortened(tokens[start].text))
            ):
                at += 1
        if self.tokens[at].kind == "dash" and tokens.touches(at) and tokens.touches(at + 1) and at == start + 1:
            at += 1  # "series-4"
        return at

    @staticmethod
    def _shortened(label: str) -> bool:
        return len(label) <= 4 or label.endswith("nr")

    def _to(self, at: int) -> int | None:
        """Return the index behind a dash, an arrow or `to`."""
        token = self.tokens[at]
        if token.kind == "dash":
            return at + 1
        if token.kind == "word" and self.words.has(token.text, "to"):
            return at + 1 + self.words.has(self.tokens[at + 1].text, "inclusive")
        return None

    def _total(self, at: int, image: int) -> int:
        """Return the index behind `/120` or `of 120`, or `at`."""
        token, total = self.tokens[at], self.tokens[at + 1].value
        divided = token.kind == "/" or (token.kind == "word" and self.words.has(token.text, "total"))
        return at + 2 if divided and total > image and not measures(self.tokens, self.words, at + 2) else at

    def _following(self, at: int) -> int:
        """Return the index behind `ff.` or `and following`, or `at`."""
        joined = at + self.words.has(self.tokens[at].text, "and")
        if self.tokens[joined].kind == "word" and self.words.has(self.tokens[joined].text, "following"):
            return joined + 1 + (self.tokens[joined + 1].kind == "." and not self.tokens.ends_sentence(joined + 1))
        return at

    def _commas(self, at: int) -> tuple[list[Range], int] | None:
        """Read `38,41,44`, which looks like a decimal."""
        token = self.tokens[at]
        parts = token.text.split(",")
        if token.kind != "dec" or "." in token.text or measures(self.tokens, self.words, at + 1):
            return None
        if any(part.startswith("0") or len(part) > 4 for part in parts) or (len(parts) == 2 and len(parts[0]) == 1):
            return None
        return [(int(part), int(part)) for part in parts], at + 1

    def _next(self, at: int, plural: bool, before: int) -> tuple[Range, int] | None:
        """Read a separator and the next member of a list."""
        tokens, words = self.tokens, self.words
        slash = plural and tokens[at].kind == "/"
        start = at
        if plural and self._semicolon(at, before):
            return self.ranged(at + 1)
        while at < start + 2 and (tokens[at].kind in _HOLDS or words.has(tokens[at].text, "and")):
            at += 1
            if at > start and tokens[at].kind == "." and len(tokens[at - 1].text) < 3 and tokens[at - 1].kind == "word":
                at += 1  # "u."
                break
        at += slash
        if at == start:
            return None
        labelled = words.label(tokens[at].text).startswith("image")
        number = self.skip_label(at) if labelled else at
        found = self.ranged(number)
        if found is None or (self._pair_begins(number) and not slash):
            return None
        (first, _), stop = found
        after = tokens[stop]
        stranger = after.kind == "word" and not self._may_follow(after.text)
        if not labelled and (stranger and not (plural and first > before)):
            return None
        return found

    def _semicolon(self, at: int, before: int) -> bool:
        """Tell whether a bare number follows that only goes on with the list: `images 201; 214; 233 (series 4)`."""
        tokens = self.tokens
        bare = tokens[at].kind == ";" and tokens[at + 1].value > before
        return bare and tokens[at + 2].kind in {"", ";", ".", "open", "close", "dash"}

    def _may_follow(self, word: str) -> bool:
        """Tell whether a word may stand behind the last number of a list that it does not count."""
        kinds = self.words.kinds(word)
        known = {"and", "to", "link", "show", "lead", "be", "following", "point_after", "point_core"}
        return bool(kinds & known) or bool(self.words.label(word)) or bool(self.words.group(word, "planes"))

    def _pair_begins(self, at: int) -> bool:
        """Tell whether `5/41` or `5:41` begins there."""
        return self.tokens[at + 1].kind in {"/", ":"} and self.tokens[at + 2].kind == "int"
