"""Write a synthetic dataset in the layout of CheXpert 1.0 with the reports of CheXpert Plus, in words of its own."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from datamodules.sources.chexpert_labels import CHEXPERT
from datamodules.twins.mimic import save_jpeg
from datamodules.twins.mimic_cxr import FACTORS
from datamodules.twins.scanner import Appearance
from datamodules.twins.studies import make_study, plan, study_plan
from datamodules.twins.wording import factors_of, tell
from datamodules.twins.writer import twin_writer, write_csv
from medvl.io.workers import run_all

PLUS = "df_chexpert_plus_240401.csv"
_COLUMNS = ("Path", "Sex", "Age", "Frontal/Lateral", "AP/PA", *CHEXPERT)
_PLUS_COLUMNS = (
    "path_to_image", "frontal_lateral", "ap_pa", "deid_patient_id", "patient_report_date_order", "age", "sex", "split",
    "report", "section_findings", "section_impression",
)  # fmt: skip


@twin_writer("chexpert")
def write(
    folder: Path,
    studies: int,
    seed: int,
    difficulty: float = 0.5,
    workers: int | None = None,
    *,
    size: int | None = None,
    appearance: Appearance = "plain",
    split: bool = True,
) -> None:
    """Write a twin of CheXpert: JPEG images, `train.csv`, `valid.csv`, and CheXpert Plus' table of reports.

    The reports say what those of the MIMIC-CXR twin say, in other words. `twin_factors.jsonl` as there.

    Arguments as in `twin_writer`; without `split` all studies are in `valid.csv`, for testing on.
    """
    plans = study_plan(studies, seed)
    splits = ["train" if word == "train" and split else "valid" for _, _, word in plans]
    names = _names([patient for _, patient, _ in plans])
    jobs = [
        (str(folder), index, f"{part}/{name}", seed, difficulty, size, appearance)
        for (index, _, _), part, name in zip(plans, splits, names, strict=True)
    ]
    written = run_all(_write_study, jobs, workers, "writing studies")
    for part in dict.fromkeys(("train", "valid") if split else ("valid",)):
        rows = [row for study, own in zip(written, splits, strict=True) if own == part for row in study["rows"]]
        write_csv(folder / f"{part}.csv", rows, _COLUMNS)
    write_csv(folder / PLUS, [row for study in written for row in study["plus"]], _PLUS_COLUMNS)
    with (folder / FACTORS).open("w", encoding="utf-8") as file:
        file.writelines(json.dumps(study["factors"]) + "\n" for study in written)


def _names(patients: list[str]) -> list[str]:
    """Return `patient00001/study1` and so on, studies of a patient counted."""
    numbers = {patient: number for number, patient in enumerate(dict.fromkeys(patients), 1)}
    return [
        f"patient{numbers[patient]:05d}/study{patients[: place + 1].count(patient)}"
        for place, patient in enumerate(patients)
    ]


def _write_study(
    folder: str, index: int, place: str, seed: int, difficulty: float, size: int | None, appearance: Appearance
) -> dict[str, Any]:
    """Write the images of a study; return its rows."""
    study, painted = make_study(index, seed, difficulty, size, appearance), plan(index, seed).painted
    rng = np.random.default_rng([seed & 0xFFFFFFFF, index, 7])
    told = tell(rng, painted, dialect="chexpert", prior=bool(rng.random() < 0.3))
    part, patient, name = place.split("/")
    views = [("Frontal", str(rng.choice(["AP", "PA"])), study.image)]
    views += [("Lateral", "", study.image[:, ::2])] if rng.random() < 0.2 else []
    labels = {label: f"{value}.0" for label, value in told.labels.items()}
    sex = "Female" if study.sex.upper().startswith("F") else "Male"
    rows, plus = [], []
    for number, (view, projection, pixels) in enumerate(views, 1):
        path = f"{place}/view{number}_{view.lower()}.jpg"
        save_jpeg(Path(folder), path, pixels)
        common = {"Path": f"CheXpert-v1.0/{path}", "Sex": sex, "Age": study.age, "Frontal/Lateral": view}
        rows.append({**common, "AP/PA": projection, **labels})
        plus.append({
            "path_to_image": path, "frontal_lateral": view, "ap_pa": projection, "deid_patient_id": patient,
            "patient_report_date_order": name.removeprefix("study"), "age": study.age, "sex": sex, "split": part,
            "report": f"NARRATIVE:\nFINDINGS:\n{told.findings}\n\nIMPRESSION:\n{told.impression}\n",
            "section_findings": told.findings, "section_impression": told.impression,
        })  # fmt: skip
    factors = {
        "subject_id": patient,
        "study_id": f"{patient}/{name}",
        "split": part.replace("valid", "val"),
        "findings": [factors_of(finding) for finding in painted],
        "stated": [asdict(stated) for stated in told.stated],
    }
    return {"rows": rows, "plus": plus, "factors": factors}
