"""Namings to references: which study, which plane, and which series an image without one takes."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from datamodules.snippets.finder import find
from datamodules.snippets.grammar import Naming
from datamodules.snippets.numbers import Range
from datamodules.snippets.study import Carried, Studies
from datamodules.snippets.tokens import Tokens
from datamodules.snippets.words import Words

REASONS = ("prior", "modality", "placeless", "count", "measurement", "score", "anatomy", "date", "time", "label")
OTHER_STUDIES = frozenset({"prior", "modality", "placeless"})
_PLANE_REACH = 5
_ACQUIRED_REACH = 8
_WHOLE = 50  # images from the first on at the start of a sentence: what was acquired ("Images 1-88 without contrast")


@dataclass(frozen=True, slots=True)
class Reference:
    """Images of this study that a sentence points to.

    Attributes:
        series: SeriesNumber; None where text and context do not tell.
        images: First and last InstanceNumber of each range, inclusive.
        span: Characters of the text, end exclusive.
        inherited: Whether the series' number stands outside the span.
        plane: `axial`, `coronal`, `sagittal`, or None.
    """

    series: int | None
    images: tuple[Range, ...]
    span: tuple[int, int]
    inherited: bool = False
    plane: str | None = None

    def as_dict(self) -> dict[str, Any]:
        """Return what is written to JSON."""
        images = [list(pair) for pair in self.images]
        return {
            "series": self.series,
            "images": images,
            "span": list(self.span),
            "inherited": self.inherited,
            "plane": self.plane,
        }


@dataclass(frozen=True, slots=True)
class Series:
    """A series that was named, with what is known of it."""

    number: int
    plane: str = ""
    phase: str = ""


@dataclass(frozen=True, slots=True)
class Memory:
    """What a sentence leaves to the next: the series named last, and the study that is spoken of."""

    series: Series | None = None
    carried: Carried = field(default_factory=Carried)


class Reading:
    """What was found in a text.

    Attributes:
        namings: Everything that names images or series, in order; `refused` says which are no references.
        references: Those of this study.
        memory: For the next sentence.
    """

    def __init__(self, text: str, words: Words, memory: Memory | None = None) -> None:
        memory = memory or Memory()
        self.tokens, self.words = Tokens(text), words
        self._studies = Studies(self.tokens, words, memory.carried)
        self.namings = list(find(self.tokens, words))
        for naming in self.namings:
            naming.refused = naming.refused or self._refused(naming)
        self._series = memory.series
        self.references = self._resolve()
        self.memory = Memory(self._series, self._studies.carried)

    def _resolve(self) -> list[Reference]:
        found: list[Reference] = []
        everywhere = self._everywhere()
        stop, phase = 0, ""
        for index, naming in enumerate(self.namings):
            plane = naming.plane or self._plane(naming)
            said = self._phase(stop, naming.first)
            phase = said or phase
            series = naming.series
            if not naming.refused and series is not None:
                self._series = Series(series, plane, phase if said else "")
            if not naming.refused and naming.images:
                inherited = series is None
                if inherited:
                    series = self._inherited(plane, said)
                    if series is None and everywhere and everywhere[0] > index:
                        series = everywhere[1]
                if naming.weak and series is None and not self._in_brackets(naming):
                    naming.refused = "label"
                else:
                    span = self.tokens[naming.first].start, self.tokens[naming.stop - 1].stop
                    inside = inherited and series is not None
                    found.append(Reference(series, tuple(naming.images), span, inside, plane or None))
            stop = naming.stop
        return found

    def _inherited(self, plane: str, phase: str) -> int | None:
        """Return the series that an image takes over; none if its plane or phase is said to be another."""
        named = self._series
        if named is None or (phase and phase != named.phase):
            return None
        other = plane and plane != (named.plane or "axial")
        return None if other else named.number

    def _everywhere(self) -> tuple[int, int] | None:
        """Return index and number of a series that is said, later in the sentence, of the images before it."""
        for index, naming in enumerate(self.namings):
            if naming.images or naming.series is None or naming.refused:
                continue
            before = (self.tokens[naming.first - i] for i in (1, 2, 3))
            if any(token.kind == "word" and self.words.has(token.text, "everywhere") for token in before):
                return index, naming.series
            linked = self.words.has(self.tokens[naming.first - 1].text, "link")
            if linked and index > 1 and all(one.series is None and not one.refused for one in self.namings[:index]):
                return index, naming.series  # "nodule 1 (image 40) and nodule 2 (image 58) in series 4"
        return None

    def _refused(self, naming: Naming) -> str:
        """Return why a naming is no reference to this study."""
        study = self._studies.of[naming.first] or self._own(naming) or self._studies.behind(naming.stop)
        if study and not self._studies.turned_back(naming.stop):
            return study
        if not naming.images:
            return "label" if naming.weak else ""
        if naming.weak and naming.series is None and not self._set_off(naming):
            return "label"
        return "count" if self._counts(naming) else ""

    def _own(self, naming: Naming) -> str:
        """Return another study that the label itself names: `Vorserie 3`, `Ultraschallbild 12`."""
        for at in range(naming.first, naming.stop):
            for kind in OTHER_STUDIES & self.words.kinds(self.tokens[at].text):
                return kind
        return ""

    def _set_off(self, naming: Naming) -> bool:
        """Tell whether punctuation stands around a naming."""
        before, after = self.tokens[naming.first - 1], self.tokens[naming.stop]
        if before.kind not in {"open", ",", ";", ":"} or after.kind not in {"", "close", ",", ";", "."}:
            return False
        ordinal = after.kind == "." and self.tokens[naming.stop + 1].kind == "word"  # "im 4. Quartal"
        return not ordinal or self.tokens.ends_sentence(naming.stop)

    def _in_brackets(self, naming: Naming) -> bool:
        """Tell whether brackets hold a naming and nothing else; its label must have two letters."""
        alone = self.tokens.partner.get(naming.first - 1) == naming.stop
        return alone and len(self.tokens[naming.first].text) > 1

    def _counts(self, naming: Naming) -> bool:
        """Tell whether images are counted, not cited: `images 1 to 320 were acquired`, `number of images 120`."""
        tokens, words = self.tokens, self.words
        after = tokens[naming.stop]
        if after.kind == "word" and words.has(after.text, "be"):
            said = (tokens[i] for i in range(naming.stop + 1, naming.stop + 1 + _ACQUIRED_REACH))
            if any(token.kind == "word" and words.has(token.text, "acquired") for token in said):
                return True
        for at in range(naming.first - 1, naming.first - 4, -1):
            if tokens[at].kind in {"word", "int"} and "count" in words.phrases(tokens, at):
                return True
        first, last = naming.images[0]
        if naming.plural and naming.first == 0 and first == 1 and last >= _WHOLE:
            return True
        listed = len(naming.images) > 1 or naming.images[0][0] < naming.images[0][1]
        return naming.plural and naming.series is None and not listed and tokens[naming.first + 1].kind == ":"

    def _plane(self, naming: Naming) -> str:
        """Return the plane that is said right before or behind a naming."""
        tokens, words = self.tokens, self.words
        carried = False
        for at in range(naming.first - 1, naming.first - 1 - _PLANE_REACH, -1):
            token = tokens[at]
            if token.kind == "word" and (plane := words.group(token.text, "planes")):
                return plane
            carrier = token.kind == "word" and words.has(token.text, "carriers")
            carried = carried or carrier
            sign = token.kind in {",", ".", ":", "#"} or (
                token.kind == "open" and (self._carrier(at - 1) or words.group(tokens[at - 1].text, "planes") != "")
            )
            article = token.kind == "word" and words.has(token.text, "article")
            if not (carrier or sign or article or words.label(token.text)):
                break
        behind = naming.stop + (tokens[naming.stop].kind in {",", "open"})
        plane = words.group(tokens[behind].text, "planes")
        if not plane:
            return ""
        after = tokens[behind + 1]
        return plane if after.kind in {"", "close", ",", ";", ".", ":"} and not words.label(after.text) else ""

    def _carrier(self, at: int) -> bool:
        return self.tokens[at].kind == "word" and self.words.has(self.tokens[at].text, "carriers")

    def _phase(self, start: int, stop: int) -> str:
        """Return the contrast phase that is named between two namings."""
        for at in range(stop - 1, max(start, stop - 8) - 1, -1):
            token = self.tokens[at]
            if token.kind != "word":
                continue
            if (kernel := self.words.group(token.text, "kernels")) and (self._is_phase(at) or self._is_phase(at + 1)):
                return kernel
            if phase := self.words.group(token.text, "phases"):
                noun = self._is_phase(at) or self._is_phase(at + 1) or at == stop - 1 or self._adverb(at, stop)
                return phase if noun else ""
        return ""

    def _adverb(self, at: int, stop: int) -> bool:
        """Tell whether a phase stands alone before a bracket: `portalvenös (Serie 6, Bild 80)`."""
        return at == stop - 2 and self.tokens[at + 1].kind == "open"

    def _is_phase(self, at: int) -> bool:
        return self.tokens[at].kind == "word" and self.words.has(self.tokens[at].text, "phase")
