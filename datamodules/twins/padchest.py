"""Write a synthetic dataset in the layout of PadChest: one table with a row per image, 16-bit PNG images in folders."""

from __future__ import annotations

import hashlib
import json
import unicodedata
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from datamodules.twins.mimic_cxr import FACTORS
from datamodules.twins.scanner import Appearance
from datamodules.twins.studies import TwinFinding, TwinStudy, make_study, patient_of, plan
from datamodules.twins.wording import TERMS, factors_of
from datamodules.twins.writer import twin_writer, write_csv
from medvl.io.workers import run_all

TABLE = "PADCHEST_chest_x_ray_images_labels_160K_01.02.19.csv"
_COLUMNS = (
    "", "ImageID", "ImageDir", "StudyDate_DICOM", "StudyID", "PatientID", "PatientBirth", "PatientSex_DICOM",
    "ViewPosition_DICOM", "Projection", "MethodProjection", "Pediatric", "Modality_DICOM", "Manufacturer_DICOM",
    "PhotometricInterpretation_DICOM", "PixelRepresentation_DICOM", "PixelAspectRatio_DICOM",
    "SpatialResolution_DICOM", "BitsStored_DICOM", "WindowCenter_DICOM", "WindowWidth_DICOM", "Rows_DICOM",
    "Columns_DICOM", "XRayTubeCurrent_DICOM", "Exposure_DICOM", "ExposureInuAs_DICOM", "ExposureTime",
    "RelativeXRayExposure_DICOM", "ReportID", "Report", "MethodLabel", "Labels", "Localizations",
    "LabelsLocalizationsBySentence", "labelCUIS", "LocalizationsCUIS",
)  # fmt: skip
_ALIKE = {
    "PhotometricInterpretation_DICOM": "MONOCHROME2", "PixelRepresentation_DICOM": 0, "PixelAspectRatio_DICOM": "None",
    "SpatialResolution_DICOM": 0.148, "BitsStored_DICOM": 12, "WindowCenter_DICOM": 2047.5, "WindowWidth_DICOM": 4095,
    "XRayTubeCurrent_DICOM": "None", "Exposure_DICOM": 0, "ExposureInuAs_DICOM": "None", "ExposureTime": 0,
    "RelativeXRayExposure_DICOM": "None", "labelCUIS": "[]", "LocalizationsCUIS": "[]", "Pediatric": "No",
    "MethodProjection": "Manual review of DICOM fields", "Modality_DICOM": "DX",
}  # fmt: skip
_SCANNERS = ("ImagingDynamicsCompanyLtd", "PhilipsMedicalSystems")
LABELS = {"bulla": "bullas", "fibrosis": "pulmonary fibrosis", "mass": "pulmonary mass"}  # else as we call them
_SMALL_WORDS = (
    "a",
    "al",
    "con",
    "de",
    "del",
    "e",
    "el",
    "en",
    "la",
    "las",
    "lo",
    "los",
    "o",
    "que",
    "se",
    "un",
    "una",
    "y",
)
_SIDES = ("left", "right", "bilateral")
_UNCHANGED = "sin cambi respect rx previ"


@twin_writer("padchest")
def write(
    folder: Path,
    studies: int,
    seed: int,
    difficulty: float = 0.5,
    workers: int | None = None,
    *,
    size: int | None = None,
    appearance: Appearance = "plain",
) -> None:
    """Write a twin of PadChest: reports as stems of Spanish words, labels as typed lists, no split.

    Two in five studies have a lateral, some an image of the ribs or one to exclude. A quarter is labelled by a
    physician. Every second study of a patient may say `unchanged`. A few reports are `nan`, a few labels name nothing
    to be seen. `twin_factors.jsonl` as in the MIMIC-CXR twin, without splits.

    Arguments as in `twin_writer`.
    """
    jobs = [(str(folder), index, seed, difficulty, size, appearance) for index in range(studies)]
    written = run_all(_write_study, jobs, workers, "writing studies")
    rows = [row for study in written for row in study["rows"]]
    write_csv(folder / TABLE, [{"": number} | row for number, row in enumerate(rows)], _COLUMNS)
    with (folder / FACTORS).open("w", encoding="utf-8") as file:
        file.writelines(json.dumps(study["factors"]) + "\n" for study in written)


def _write_study(
    folder: str, index: int, seed: int, difficulty: float, size: int | None, appearance: Appearance
) -> dict[str, Any]:
    """Write the images of a study; return its rows and factors."""
    study = make_study(index, seed, difficulty, size, appearance)
    rng = np.random.default_rng([seed & 0xFFFFFFFF, index, 9])
    said = [one for one in study.findings if one.kind != "absent"]
    second = index > 0 and patient_of(index - 1, seed) == study.patient_id
    common = _ALIKE | _told(rng, said, second and bool(rng.random() < 0.5)) | _whose(rng, study, index, seed)
    rows = []
    for number, (projection, pixels) in enumerate(_views(rng, study)):
        name = f"{common['StudyID']}_{_digits(seed, index)[20:26]}{number}.png"
        target = Path(folder) / str(common["ImageDir"]) / name
        target.parent.mkdir(exist_ok=True)
        Image.fromarray(np.ascontiguousarray(pixels)).save(target, compress_level=1)
        height, width = pixels.shape
        view = {"L": "LATERAL", "PA": "POSTEROANTERIOR"}.get(projection, "nan")
        own = {"ImageID": name, "Projection": projection, "ViewPosition_DICOM": view}
        rows.append(common | own | {"Rows_DICOM": height, "Columns_DICOM": width})
    factors = {
        "subject_id": study.patient_id,
        "study_id": common["StudyID"],
        "findings": [factors_of(finding) for finding in plan(index, seed).painted],
        "stated": [
            {
                "disease": TERMS[one.labels[0]].disease,
                "status": "present" if one.kind == "present" else "absent",
                "adjectives": [],
                "directions": [side for side in _SIDES if side in one.locations],
            }
            for one in said
            if one.kind != "normal"
        ],
    }
    return {"rows": rows, "factors": factors}


def _views(rng: np.random.Generator, study: TwinStudy) -> list[tuple[str, Any]]:
    """Return the images of a study with their projections, in any order."""
    bedside = study.view == "AP" and rng.random() < 0.8
    views = [("AP_horizontal" if bedside else study.view, study.image)]
    if rng.random() < 0.4:
        views.append(("L", study.image[:, ::2]))
    if rng.random() < 0.06:
        views.append((str(rng.choice(["COSTAL", "EXCLUDE"])), study.image[::2]))
    return [views[int(place)] for place in rng.permutation(len(views))]


def _whose(rng: np.random.Generator, study: TwinStudy, index: int, seed: int) -> dict[str, Any]:
    """Return what the table says of patient, study and scanner."""
    return {
        "ImageDir": int(rng.integers(55)),
        "StudyDate_DICOM": 20100101 + index % 28,
        "StudyID": _digits(seed, index),
        "PatientID": study.patient_id,
        "PatientBirth": float(2010 - study.age),
        "PatientSex_DICOM": study.sex,
        "Manufacturer_DICOM": _SCANNERS[int(rng.integers(2))],
        "ReportID": 4_000_000 + index,
    }


def _told(rng: np.random.Generator, said: list[TwinFinding], unchanged: bool) -> dict[str, Any]:
    """Return the report and its labels, with the odd blanks and empty names of the original."""
    sentences = [_stemmed(one.sentence_es) for one in said]
    by_sentence = [
        [LABELS.get(name, name) for name in one.labels] + [f"loc {place}" for place in one.locations]
        for one in said
        if one.kind == "present"
    ] or [["normal"]]
    if unchanged:
        sentences, by_sentence = [_UNCHANGED, *sentences], [["unchanged"], *by_sentence]
    labels = list(dict.fromkeys(part[0] for part in by_sentence))
    if rng.random() < 0.04:
        labels.append(str(rng.choice(["suboptimal study", "exclude", ""])))
    typed = [f" {name}" if rng.random() < 0.05 else name for name in labels]
    places = list(dict.fromkeys(place for part in by_sentence for place in part[1:]))
    return {
        "Report": "nan" if rng.random() < 0.03 else " . ".join(sentences) + " .",
        "MethodLabel": "Physician" if rng.random() < 0.25 else "RNN_model",
        "Labels": str(typed),
        "Localizations": str(places),
        "LabelsLocalizationsBySentence": str(by_sentence),
    }


def _stemmed(sentence: str) -> str:
    """Return a sentence as PadChest stores it: lower case, no accents, no small words, endings cut off."""
    plain = unicodedata.normalize("NFKD", sentence.lower()).encode("ascii", "ignore").decode()
    words = "".join(sign if sign.isalnum() else " " for sign in plain).split()
    return " ".join(_stem(word) for word in words if word not in _SMALL_WORDS)


def _stem(word: str) -> str:
    for ending in ("os", "as", "es", "o", "a", "e", "s"):
        if word.endswith(ending) and len(word) - len(ending) >= 3:
            return word.removesuffix(ending)
    return word


def _digits(seed: int, index: int) -> str:
    """Return the name of a study: 39 digits."""
    return str(int(hashlib.sha256(f"padchest/{seed}/{index}".encode()).hexdigest(), 16))[:39]
