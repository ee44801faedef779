"""The fourteen CheXpert labels, in the spellings of the files that hold them."""

from __future__ import annotations

from collections.abc import Iterable

from datamodules.sources.cells import cell, number

CHEXPERT = (
    "No Finding", "Enlarged Cardiomediastinum", "Cardiomegaly", "Lung Opacity", "Lung Lesion", "Edema", "Consolidation",
    "Pneumonia", "Atelectasis", "Pneumothorax", "Pleural Effusion", "Pleural Other", "Fracture", "Support Devices",
)  # fmt: skip
OTHER_NAMES = {"Airspace Opacity": "Lung Opacity"}  # in the labels that radiologists gave to MIMIC's test set


def chexpert_labels(columns: Iterable[str], cells: Iterable[object]) -> dict[str, int]:
    """Return the labels of a row: 1 present, 0 absent, -1 uncertain; a blank says nothing and is left out.

    What is none of these becomes 9, which no label may be.
    """
    told = {OTHER_NAMES.get(name, name): value for name, value in zip(columns, cells, strict=True) if cell(value)}
    values = {name: number(value) for name, value in told.items()}
    return {name: int(value) if value in (-1, 0, 1) else 9 for name, value in values.items()}
