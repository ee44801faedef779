"""Grounds whole reports: sentences, what kind each is, and one pass of the image for all of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.utilities import move_data_to_device
from PIL import Image

from datamodules.cleanup.statuses import Status
from datamodules.packing import Draw
from datamodules.phrases import PhraseDataset
from datamodules.pixels import IMAGE_SIZE, Pixels
from datamodules.records import PhraseRecord
from datamodules.studies import Study
from medvl.cli.judge import ontology_judge
from medvl.errors import ConfigError, DataError, MedvlError
from medvl.grounded import GroundedBox, GroundedImage, GroundedReport, GroundedSentence
from medvl.io.image import WINDOW, read_image
from medvl.text.sentences import Sentence, split_report
from tasks.grounding.predictions import SentenceResult
from tasks.grounding.task import PhraseTask

Generator = Callable[[Image.Image], str]
"""What may write a report: given an image (grey, upright, of its original size) it returns text."""
Answers = dict[tuple[str, str], SentenceResult]
"""By image and phrase."""


class Grounder:
    """Grounds the sentences of reports with a trained model.

    Args:
        task: The model, with its postprocessing.
        data: Arguments of the datamodule it was trained with; `image_size` and `window` are used.
        device: A torch device; `auto` takes the accelerator where there is one.
    """

    def __init__(self, task: PhraseTask, data: Mapping[str, Any], device: str = "auto") -> None:
        self.size = int(data.get("image_size", IMAGE_SIZE))
        low, high = data.get("window", WINDOW)
        self.window = (float(low), float(high))
        self.pixels = Pixels(Path(), self.size, self.window, "none")
        found = "cuda" if torch.cuda.is_available() else "cpu"
        self.task = task.eval().to(torch.device(found if device == "auto" else device))

    def ground(self, study: Study, generator: Generator | None = None, written_by: str = "") -> GroundedReport:
        """Return a study with every sentence of its report grounded in every image.

        Args:
            study: The study; without a report, `generator` writes one about its first image.
            generator: Writes reports.
            written_by: What it is called.

        Raises:
            DataError: An image cannot be read, or there is no sentence about it.
        """
        text = study.report if study.report is not None else _written(study, generator)
        sentences = [(sentence, _kind(sentence)) for sentence in split_report(text)]
        asked = list(dict.fromkeys(sentence.text for sentence, kind in sentences if kind != Status.NON_DIAGNOSTIC))
        if not asked:
            what = "no sentence about the image in this report" if sentences else "no sentence in this report"
            raise DataError(what, where=study.where, hint="expected plain text; see docs/grounded-reports.md")
        found = self.answers(_records(study, asked))
        sizes = [found[str(path), asked[0]].size for path in study.images]
        return GroundedReport(
            study=study.name,
            images=tuple(GroundedImage(str(p), w, h) for p, (h, w) in zip(study.images, sizes, strict=True)),
            sentences=tuple(_grounded(study, sentence, kind, found) for sentence, kind in sentences),
            threshold=self.task.postprocess.least_score,
            generator=written_by if study.report is None else "",
        )

    @torch.inference_mode()
    def answers(self, records: Sequence[PhraseRecord]) -> Answers:
        """Return what the model says of each image and phrase, all in one batch: an image goes through once."""
        dataset = PhraseDataset(records, self.pixels, self.size)
        batch = move_data_to_device(dataset[Draw(0, dataset.pairs_of_image)], self.task.device)
        return {(one.record.path, one.record.phrase): one for one in self.task.predict_step(batch, 0)}


def _written(study: Study, generator: Generator | None) -> str:
    """Let a generator write the report about the first image of a study."""
    if generator is None:
        hint = "a column `report` (--columns report=NAME), or --generator"
        raise DataError("no report is given", where=study.where, hint=hint)
    image = Image.fromarray(read_image(study.images[0]).pixels)
    try:
        text = generator(image)
    except MedvlError:
        raise
    except Exception as error:  # somebody else's code may raise anything
        hint = "MEDVL_DEBUG=1 shows where"
        raise ConfigError(f"the generator raised {type(error).__name__}", where=study.where, hint=hint) from error
    if not isinstance(text, str):
        raise ConfigError(f"the generator returned {type(text).__name__}; expected text", where=study.where)
    return text


def _kind(sentence: Sentence) -> Status:
    return ontology_judge()(sentence.text) if sentence.about_image else Status.NON_DIAGNOSTIC


def _records(study: Study, phrases: Sequence[str]) -> list[PhraseRecord]:
    """Return every sentence with every image of the study."""
    shared: dict[str, Any] = {"boxes": (), "patient_id": "", "study_id": "", "split": "test", "source": "report"}
    return [PhraseRecord(str(path), str(path), text, **shared) for path in study.images for text in phrases]


def _grounded(study: Study, sentence: Sentence, kind: Status, found: Answers) -> GroundedSentence:
    boxes = [
        GroundedBox(number, (x0, y0, x1, y1), score)
        for number, path in enumerate(study.images)
        if (answer := found.get((str(path), sentence.text)))
        for (x0, y0, x1, y1), score in zip(answer.kept.boxes.tolist(), answer.kept.scores.tolist(), strict=True)
    ]
    asked = kind != Status.NON_DIAGNOSTIC
    return GroundedSentence(
        text=sentence.text,
        section=sentence.section,
        kind=kind.value,
        asked=asked,
        boxes=tuple(boxes) if asked else (),
        start=sentence.start,
        stop=sentence.stop,
    )
