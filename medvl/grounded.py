"""A grounded report: every sentence with the boxes that show where it is true, if it has a place at all."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from dataclasses import dataclass

from medvl.outputs import PhrasePrediction, PixelBox


@dataclass(frozen=True, slots=True)
class GroundedBox:
    """Where a sentence is true.

    Attributes:
        image: Which of the study's images, from 0.
        xyxy_px: In pixels of the original image.
        score: The model's confidence in [0, 1].
    """

    image: int
    xyxy_px: PixelBox
    score: float


@dataclass(frozen=True, slots=True)
class GroundedSentence:
    """One sentence of a report.

    Attributes:
        text: The sentence.
        section: Heading it stands under; may be empty.
        kind: What its words do: `finding`, `negated`, `normal`, or `non-diagnostic` (says nothing of this image).
        asked: Whether the model was asked for its place: it is not where the sentence says nothing of this image.
        boxes: Its places; empty where it has none, or was not asked for.
        start: Where the sentence begins in the report.
        stop: Where it ends there.
    """

    text: str
    section: str = ""
    kind: str = "finding"
    asked: bool = True
    boxes: tuple[GroundedBox, ...] = ()
    start: int = 0
    stop: int = 0

    @property
    def groundable(self) -> bool:
        """Whether the model found a place for it."""
        return bool(self.boxes)


@dataclass(frozen=True, slots=True)
class GroundedImage:
    """An image of a study: its file, and its original size in pixels."""

    file: str
    width: int
    height: int


@dataclass(frozen=True, slots=True)
class GroundedReport:
    """A study with its report, sentence by sentence.

    Attributes:
        study: The study as its source calls it.
        images: Its images.
        sentences: Its report, in order.
        threshold: A box is shown when its score is greater.
        generator: What wrote the report; empty where it was given.
    """

    study: str
    images: tuple[GroundedImage, ...]
    sentences: tuple[GroundedSentence, ...]
    threshold: float
    generator: str = ""

    def to_json(self, **more: str) -> str:
        """Return one line of JSON, with further keys first; boxes rounded to 1/1000 pixel."""
        values = more | dataclasses.asdict(self)
        for sentence, known in zip(values["sentences"], self.sentences, strict=True):
            sentence["groundable"] = known.groundable
            for box in sentence["boxes"]:
                box["xyxy_px"] = [round(float(edge), 3) for edge in box["xyxy_px"]]
                box["score"] = round(float(box["score"]), 8)
        return json.dumps(values, ensure_ascii=False, allow_nan=False)

    def predictions(self) -> Iterator[PhrasePrediction]:
        """Yield what was said of each sentence that the model was asked about, image by image."""
        for number, image in enumerate(self.images):
            for sentence in self.sentences:
                if sentence.asked:
                    own = [box for box in sentence.boxes if box.image == number]
                    yield PhrasePrediction(
                        image=image.file,
                        phrase=sentence.text,
                        boxes_xyxy_px=tuple(box.xyxy_px for box in own),
                        scores=tuple(box.score for box in own),
                        threshold=self.threshold,
                        width=image.width,
                        height=image.height,
                    )
