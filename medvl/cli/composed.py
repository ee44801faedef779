"""What is made of two packages that may not know each other, for configs to name."""

from __future__ import annotations

from datamodules.triplets import StudyEntities
from ontology import training


class EntityFile(training.EntityFile, StudyEntities):
    """The entities of studies, as `medvl ontology extract` or another extractor wrote them.

    A study without a text has no entities of its own: labels that say `present` stand in for them, if `label_set` tells
    how they are called; see `ontology.training.EntityFile`.

    Args:
        path: JSON lines; their ids are the studies' names.
        label_set: `chexpert` (MIMIC-CXR, CheXpert), `nih`, `openi`, `padchest` or `vindr`.
        settings: How triplets are mined; scores have their `gamma` and `symmetric`.
    """
