"""Which study a text speaks of, word by word: this one, an earlier one, another modality, or images without a place.

A small state machine. A cue ("previous CT", "VU", "27 mm in March", "ultrasound") turns the state, "now" turns it
back, brackets keep what is said inside them, a semicolon ends it. How far a cue reaches depends on what it is: a study
that is spoken of, to the end of the clause; one that is compared with, only as far as its name and date; a modality,
four words.
"""

from __future__ import annotations

from dataclasses import dataclass

from datamodules.snippets.dates import Dates
from datamodules.snippets.tokens import Tokens
from datamodules.snippets.words import Words

_FAR, _NEAR = 10_000, 4
_HEAD = 5  # a study named within so many words of the start is what the sentence, and those behind it, speak of
_NOUN = 4  # words between "previous" and "examination"
_COMPARED = 7  # tokens between "compared" and what with
_BEHIND = 6  # tokens between a reference and "of the CT of 12 March"


@dataclass(slots=True)
class State:
    """What is spoken of.

    Attributes:
        study: Empty for this study, else `prior`, `modality` or `placeless`.
        left: How many words more.
        soft: Whether the study is only compared with.
    """

    study: str = ""
    left: int = _FAR
    soft: bool = False


@dataclass(frozen=True, slots=True)
class Carried:
    """What a sentence leaves to the next.

    Attributes:
        study: What it speaks of, as in `State`.
        mentioned: Another study that it named, to which "there" may point.
    """

    study: str = ""
    mentioned: str = ""


class Studies:
    """Reads the state at each token of one or more sentences.

    Attributes:
        of: Per token, the study that is spoken of there: '', `prior`, `modality` or `placeless`.
    """

    def __init__(self, tokens: Tokens, words: Words, carried: Carried | None = None) -> None:
        self.tokens, self.words, self.dates = tokens, words, Dates(tokens, words)
        self.of = [""] * len(tokens)
        self._carried = carried or Carried()
        self._base = self._carried.study
        self._state = State(self._base)
        self._stack: list[State] = []
        self._seen = 0  # words of the sentence
        self._headed = ""  # by what another study is the sentence's subject
        self._titled = ""  # by what, if a colon follows
        self._mentioned = self._carried.mentioned
        self._turned = False  # whether the sentence has turned back to this study
        self._run()

    @property
    def carried(self) -> Carried:
        """What comes after."""
        return Carried(self._base if not self._headed else self._headed, self._mentioned)

    def behind(self, at: int) -> str:
        """Return the study that the words right behind a reference say it is of ("of the CT of 12 March")."""
        tokens, words = self.tokens, self.words
        start = at + (tokens[at].kind == "," or tokens.opens(at))
        token = tokens[start]
        if start > at and token.kind == "word" and self._is_study(start):
            return "prior" if self.dates.near(start, 4) else ""
        if tokens.closes(at) and self._then(at + 1):
            return "prior"
        if tokens.opens(at) or token.kind != "word":
            return ""
        if words.has(token.text, "as"):
            noun = start + 1 + words.has(tokens[start + 1].text, "article")
            return "placeless" if self._cue(noun)[0] == "placeless" else ""
        if not (words.has(token.text, "link") or words.has(token.text, "article")):
            found = self._cue(start)[0] if start > at or not words.has(token.text, "prior_adverb") else ""
            return found if found == "placeless" else ""
        for i in range(start, min(start + _BEHIND, len(tokens))):
            if tokens[i].kind in {",", ";", "open", "close"} or tokens.ends_sentence(i) or self._now(i):
                return ""
            kinds = words.kinds(tokens[i].text)
            if "since" in kinds:
                return ""
            if i > start and (found := self._cue(i)[0]):
                return found
            if i > start and self.dates.at(i) and (i <= start + 2 or self._study_before(i)):
                return "prior"
        return ""

    def _then(self, at: int) -> bool:
        """Tell whether a clause ends with "at that time" there."""
        stop = self.words.phrases(self.tokens, at).get("then", 0) if self.tokens[at].kind == "word" else 0
        return stop > 0 and self.tokens[stop].kind in {"", ".", ",", ";"}

    def turned_back(self, at: int) -> bool:
        """Tell whether the word right behind a reference says that it is of this study: `image 57 today`."""
        return self._now(at)

    def _run(self) -> None:
        tokens = self.tokens
        skip = 0
        for at in range(len(tokens)):
            token = tokens[at]
            if tokens.opens(at):
                self._stack.append(State(self._state.study, self._state.left, self._state.soft))
            elif tokens.closes(at) and self._stack:
                self._state = self._stack.pop()
            elif token.kind == ";" or (token.kind == "," and self._state.soft):
                self._state = State(self._base)
            elif token.kind == ":" and self._titled and not self._stack and at > 0 and tokens[at + 1].kind != "int":
                self._base = self._titled
                self._state = State(self._base)
            elif tokens.ends_sentence(at):
                self._end_sentence()
            elif at >= skip:
                skip = self._word(at)
            self.of[at] = self._state.study
        if self._titled and tokens[len(tokens) - 1].kind == ":":
            self._base = self._titled

    def _end_sentence(self) -> None:
        self._base = self._headed or self._base
        self._state, self._stack, self._seen, self._headed = State(self._base), [], 0, ""
        self._titled, self._turned = "", False

    def _word(self, at: int) -> int:
        """Turn the state at a word or number; return the index up to which it was read."""
        token, state = self.tokens[at], self._state
        if token.kind == "word":
            self._seen += 1
            self._spend(at)
        if self._now(at):
            self._state, self._headed, self._titled, self._turned = State(), "", "", True
            if not self._stack:
                self._base = ""
            return at + 1
        study, stop = self._cue(at)
        if not study and token.kind in {"int", "dec", "word"}:
            study, stop = self._dated(at)
        if not study:
            if state.study == "modality" and "same_modality" in self.words.kinds(token.text) and not self._half(at):
                self._state = State(self._base if self._base != "modality" else "")
            return at + 1
        self._turn(at, study)
        return stop

    def _turn(self, at: int, study: str) -> None:
        soft = study == "prior" and self._compared(at)
        head = self._seen <= _HEAD and not self._stack
        led = any(self.words.has(self.tokens[at - 1].text, kind) for kind in ("link", "lead", "article"))
        left = _FAR if study == "prior" or (head and led and self._seen <= 3) else _NEAR + 2 * head
        if self._state.study == "prior" and study == "modality":
            return
        self._state = State(study, left, soft)
        if study == "prior" or (study == "modality" and head and led):
            self._mentioned = study
        if not soft and head and not self.words.has(self.tokens[at].text, "prior_adverb") and study != "placeless":
            self._titled = study if study == "prior" or self._seen <= 3 else self._titled
            self._headed = study if study == "prior" and led else self._headed  # not "Prior studies are not available."

    def _spend(self, at: int) -> None:
        """Count down how far a cue reaches."""
        state, kinds = self._state, self.words.kinds(self.tokens[at].text)
        if not state.study or self.words.label(self.tokens[at].text):
            return
        if state.soft:
            if not kinds & {
                "study",
                "link",
                "article",
                "there",
                "lead",
                "carriers",
                "month",
                "total",
                "prior_adjective",
                "compare",
            }:
                self._state = State(self._base)
        elif state.left < _FAR:
            state.left -= 1
            if state.left <= 0:
                self._state = State(self._base)

    def _now(self, at: int) -> bool:
        if self.tokens[at].kind != "word" or "now" not in self.words.phrases(self.tokens, at):
            return False
        return not self.words.has(self.tokens[at - 1].text, "total")  # "ultrasound of today"

    def _cue(self, at: int) -> tuple[str, int]:
        """Return the other study that a word or phrase names, and the index behind it."""
        tokens, words = self.tokens, self.words
        if tokens[at].kind not in {"word", "int"}:
            return "", at + 1
        if tokens[at].kind == "int" and not tokens.touches(at + 1):
            return "", at + 1
        found = words.phrases(tokens, at)
        if not found:
            return "", at + 1
        for kind in ("prior", "placeless", "modality"):
            if kind in found and not (kind != "placeless" and self._since(at)):
                if kind == "modality" and self._hybrid(at):
                    continue
                return kind, found[kind]
        exists = self.words.has(tokens[at + 1].text, "be")  # "there is"
        if "there" in found and self._mentioned and not exists and not self._turned:
            return self._mentioned, found["there"]
        if "prior_adverb" in found and self._speaks_of_value(at):
            return "prior", at + 1
        if "prior_bare" in found and (self._before_number(at) or self._noun(at)):
            return "prior", at + 1
        if "prior_adjective" in found and self._noun(at):
            return "prior", at + 1
        if "compare_value" in found and self._value(found["compare_value"]):
            return "prior", found["compare_value"]
        return "", at + 1

    def _hybrid(self, at: int) -> bool:
        """Tell whether a modality is but one of two: the CT of a PET/CT."""
        after = self.tokens[at + 1].kind in {"/", "dash"} and self.words.has(self.tokens[at + 2].text, "same_modality")
        return after and not self.dates.near(at, 6)

    def _half(self, at: int) -> bool:
        """Tell whether a word is the CT of "PET/CT", which does not turn fused images to those of the CT."""
        return self.tokens[at - 1].kind in {"/", "dash"} and self.words.has(self.tokens[at - 2].text, "modality")

    def _speaks_of_value(self, at: int) -> bool:
        """Tell whether "previously" is said of a size or a place, and not of a finding ("previously described")."""
        after = self.tokens[at + 1]
        kinds = self.words.kinds(after.text)
        if after.kind in {"int", "dec", "open", ":", ",", "", "close", ".", "<"} or self.words.label(after.text):
            return True
        return bool(kinds & {"link", "lead", "article", "be", "prior", "prior_adjective", "value_after"})

    def _before_number(self, at: int) -> bool:
        after = self.tokens[at + 1]
        if after.kind in {"int", "dec", "open", ":", ",", "", "close", ".", ";"} or self.words.label(after.text):
            return True
        return bool(self.words.kinds(after.text) & {"link", "be"})

    def _noun(self, at: int) -> bool:
        """Tell whether a study is named soon behind an adjective."""
        for i in range(at + 1, at + 1 + _NOUN):
            token = self.tokens[i]
            if token.kind == "word" and self.words.has(token.text, "study"):
                return True
            if token.kind not in {"word", "dash", "/"} or "link" in self.words.kinds(token.text):
                return False
        return False

    def _value(self, at: int) -> bool:
        """Tell whether measurements stand there: `9 and 8 mm`."""
        numbers = 0
        for i in range(at, at + 8):
            token = self.tokens[i]
            if token.kind in {"int", "dec"}:
                numbers += 1
            elif token.kind == "word" and self.words.has(token.text, "units"):
                return numbers > 0 and token.text != "x"
            elif token.kind == "word" and not self.words.has(token.text, "and") and token.text != "x":
                return False
        return False

    def _dated(self, at: int) -> tuple[str, int]:
        """Return `prior` where a date is that of a study or of a finding's size, and the index behind the date."""
        stop = self.dates.at(at)
        if not stop or self._since(at):
            return "", at + 1
        if self._study_before(at) or (self.tokens[stop].kind == "word" and self._is_study(stop)):
            return "prior", stop
        begins = self.tokens[at - 1].kind in {",", ";", ""}
        stays = self.words.has(self.tokens[stop].text, "value_after")
        if (self.dates.led(at) or begins) and self._value(stop + stays):
            return "prior", stop
        if self.dates.led(at) and (self._unit_before(at) or self._cites(stop)):
            return "prior", stop
        return ("prior", stop) if self._unit_before(at) and self.tokens[at - 1].kind == "," else ("", stop)

    def _is_study(self, at: int) -> bool:
        text = self.tokens[at].text
        return self.words.has(text, "study") and not self.words.label(text)

    def _study_before(self, at: int) -> bool:
        for i in range(at - 1, at - 6, -1):
            token = self.tokens[i]
            if token.kind in {"open", "close", ",", ";", ".", "int"}:
                return False
            if token.kind == "word" and self._is_study(i):
                return True
        return False

    def _unit_before(self, at: int) -> bool:
        for i in range(at - 1, at - 5, -1):
            token = self.tokens[i]
            if (
                token.kind == "word"
                and self.words.has(token.text, "units")
                and self.tokens[i - 1].kind in {"int", "dec"}
            ):
                return True
        return False

    def _cites(self, at: int) -> bool:
        """Tell whether a reference stands there: in brackets, or behind a preposition."""
        inside = self.tokens[at + 1]
        if self.tokens.opens(at):
            return inside.kind == "int" or bool(self.words.label(inside.text))
        return self.words.has(self.tokens[at].text, "lead") and bool(self.words.label(inside.text))

    def _since(self, at: int) -> bool:
        """Tell whether "since" or the like leads to a date or study: what follows is of now."""
        for i in range(at - 1, at - 7, -1):
            token = self.tokens[i]
            if token.kind in {"open", "close", ",", ";", ":"} or self.tokens.ends_sentence(i):
                return False
            if token.kind == "word" and self.words.has(token.text, "since"):
                return True
        return False

    def _compared(self, at: int) -> bool:
        for i in range(at, at - _COMPARED, -1):
            token = self.tokens[i]
            if token.kind in {"open", "close", ",", ";", "."}:
                return False
            if token.kind == "word" and self.words.has(token.text, "compare"):
                return not self._value(i + 1) and not self._value(i + 2)
        return False
