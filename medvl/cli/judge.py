"""The judge of report sentences: the ontology reads what its lexicon names, words decide on the rest."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache

from datamodules.cleanup.statuses import Judge, Named, judge_by
from ontology.entities import Report
from ontology.extract import Ober

_AFFIRMED = {"present": True, "uncertain": True, "absent": False, "historical": None}


@cache
def ontology_judge(language: str = "en") -> Judge:
    """Return a judge that reads with the lexicon and the context rules of the ontology.

    Args:
        language: Of the lexicon.
    """
    ober = Ober(language)

    def find(sentence: str) -> Iterator[Named]:
        for entity in ober.extract(Report("", sentence, ((0, len(sentence)),))):
            yield Named(*entity.span, _AFFIRMED[entity.status])

    return judge_by(find)
