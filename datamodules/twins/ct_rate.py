"""Write a synthetic dataset in the layout of CT-RATE, with a table of snippets that CT-RATE does not have."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import nibabel
import numpy as np

from datamodules.sources.ct_rate_tables import CLASSES, TABLE_WORDS, VolumeName
from datamodules.sources.snippets import FILE
from datamodules.twins.mimic_cxr import FACTORS
from datamodules.twins.studies import study_plan
from datamodules.twins.torso_scan import SITES
from datamodules.twins.torso_study import TwinCt, TwinVolume, make_ct
from datamodules.twins.torso_words import Tongue
from datamodules.twins.writer import twin_writer, write_csv
from medvl.errors import ConfigError
from medvl.io.volume import Affine
from medvl.io.workers import run_all

SIZE = 96
INTERCEPT = -1024.0  # what the metadata declare; only the first edition still needs it
_HEAD_FIRST = 0.2  # share of volumes whose slices are stored from the head down
_REPORT = ("VolumeName", "ClinicalInformation_EN", "Technique_EN", "Findings_EN", "Impressions_EN")
_METADATA = (
    "VolumeName", "Manufacturer", "SeriesDescription", "PatientSex", "PatientAge", "ConvolutionKernel",
    "ImagePositionPatient", "ImageOrientationPatient", "Rows", "Columns", "XYSpacing", "RescaleIntercept",
    "RescaleSlope", "RescaleType", "NumberofSlices", "ZSpacing", "StudyDate",
)  # fmt: skip


@twin_writer("ct-rate")
def write(
    folder: Path,
    studies: int,
    seed: int,
    difficulty: float = 0.5,
    workers: int | None = None,
    *,
    size: int | None = None,
    edition: Literal["fixed", "v1"] = "fixed",
    language: Tongue = "en",
    references: bool = False,
    sites: list[str] | None = None,
) -> None:
    """Write a twin of CT-RATE: `dataset/` with volumes and tables, `snippets.jsonl` and `twin_factors.jsonl`.

    The factors hold what made each study, and under `organs` the depths in mm of every organ in its first volume.

    About an eighth of the studies has two reconstructions. A fifth of the patients is in `valid`. In edition `v1`,
    stored values lack the intercept and the file's affine is no patient's; both stand in the metadata. Labels are those
    of the findings painted, all of which the report names; of 18 classes, 12 occur.

    Arguments as in `twin_writer`; `size` is of a slice (96); `language` is that of reports and snippets; with
    `references`, reports cite the image of each finding. `sites` names the hospitals (`0`, `1`, `2`) that the studies
    come from, all three by default; they differ in slice spacing, kernels, noise and wording.
    """
    plans, names, chosen = study_plan(studies, seed), _names(studies, seed), _sites(sites)
    jobs = [
        (str(folder), index, *name, seed, difficulty, size or SIZE, edition, language, references, chosen)
        for (index, _, _), name in zip(plans, names, strict=True)
    ]
    written = run_all(_write_study, jobs, workers, "writing studies")
    for split, table in TABLE_WORDS.items():
        rows = [row for study in written if study["split"] == split for row in study["rows"]]
        places = {
            f"radiology_text_reports/{table}_reports.csv": _REPORT,
            f"multi_abnormality_labels/{split}_predicted_labels.csv": ("VolumeName", *CLASSES),
            f"metadata/{table}_metadata.csv": _METADATA,
        }
        for place, columns in places.items():
            path = folder / "dataset" / place
            path.parent.mkdir(parents=True, exist_ok=True)
            write_csv(path, [{key: row[key] for key in columns} for row in rows], columns)
        (folder / f"dataset/metadata/no_chest_{split}.txt").write_text("", encoding="utf-8")
    _write_lines(folder / FILE, [line for study in written for line in study["snippets"]])
    _write_lines(folder / FACTORS, [study["factors"] for study in written])


def _names(studies: int, seed: int) -> list[tuple[str, str, str]]:
    """Return split, patient and study of each study, named as CT-RATE does: `train_1` and `valid_1` are two people."""
    found: dict[str, tuple[str, str]] = {}
    counts = {"train": 0, "valid": 0}
    scans: dict[str, int] = {}
    names = []
    for _, patient, word in study_plan(studies, seed):
        split = "valid" if word == "test" else "train"
        if patient not in found:
            counts[split] += 1
            found[patient] = split, f"{split}_{counts[split]}"
        name = found[patient][1]
        scans[name] = scans.get(name, 0) + 1
        names.append((split, name, f"{name}_{'abcdefgh'[scans[name] - 1]}"))
    return names


def _sites(names: list[str] | None) -> tuple[int, ...]:
    known = [str(at) for at in range(len(SITES))]
    for name in names or ():
        if name not in known:
            raise ConfigError(f"no site {name!r}", where="sites", hint=f"expected some of {','.join(known)}")
    return tuple(map(int, dict.fromkeys(names or known)))


def _write_lines(path: Path, lines: list[Any]) -> None:
    with path.open("w", encoding="utf-8") as file:
        file.writelines(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)


def _write_study(
    folder: str,
    index: int,
    split: str,
    patient: str,
    study: str,
    seed: int,
    difficulty: float,
    size: int,
    edition: str,
    language: Tongue,
    references: bool,
    sites: tuple[int, ...],
) -> dict[str, Any]:
    """Write the volumes of a study; return its rows."""
    ct = make_ct(index, seed, difficulty, size, language, references, sites)
    rng = np.random.default_rng([seed & 0xFFFFFFFF, index, 7])
    person = {"PatientSex": "MF"[int(rng.integers(2))], "PatientAge": f"{int(rng.integers(25, 90)):03d}Y"}
    names = [VolumeName(split, patient, study, at, f"{study}_{at}") for at in range(1, len(ct.volumes) + 1)]
    rows = []
    for name, volume in zip(names, ct.volumes, strict=True):
        down = bool(rng.random() < _HEAD_FIRST) and edition == "fixed"  # the metadata cannot tell it
        path = Path(folder) / "dataset" / name.path("_fixed" if edition == "fixed" else "")
        path.parent.mkdir(parents=True, exist_ok=True)
        affine = _save(path, volume, down, edition)
        rows.append(person | _text_row(name, ct) | _metadata_row(ct, volume, affine))
    factors = {"study_id": study, "patient_id": patient, "volumes": [name.name for name in names]} | ct.factors
    return {"split": split, "rows": rows, "snippets": list(_snippet_rows(names[0], ct)), "factors": factors}


def _save(path: Path, volume: TwinVolume, down: bool, edition: str) -> Affine:
    """Write a volume in the order of DICOM's rows, columns and slices; return its affine, `(i, j, k, 1)` to RAS mm."""
    stored = volume.hu[:, ::-1, ::-1]
    affine = volume.scan.affine @ np.diag([-1.0, -1.0, 1.0, 1.0])
    depth, height, width = volume.scan.shape
    affine[:3, 3] += volume.scan.affine[:3, :3] @ [width - 1, height - 1, 0]
    if down:
        stored = stored[::-1]
        affine[:3, 3] += affine[:3, 2] * (depth - 1)
        affine[:3, 2] *= -1
    values, kept = stored.T, affine
    if edition == "v1":
        values, kept = values - np.int16(INTERCEPT), np.eye(4)
    make: Any = nibabel.Nifti1Image  # nibabel's carries no types
    image = make(np.asfortranarray(values, np.int16), kept)
    image.header.set_xyzt_units("mm")
    image.set_qform(kept, 1)
    path.write_bytes(gzip.compress(image.to_bytes(), 1, mtime=0))
    return affine


def _text_row(name: VolumeName, ct: TwinCt) -> dict[str, Any]:
    return {
        "VolumeName": f"{name.name}.nii.gz",
        "ClinicalInformation_EN": "Not given.",
        "Technique_EN": "Axial sections.",
        "Findings_EN": ct.findings,
        "Impressions_EN": ct.impression,
        **{label: ct.labels.get(label, 0) for label in CLASSES},
    }


def _metadata_row(ct: TwinCt, volume: TwinVolume, affine: Affine) -> dict[str, Any]:
    """Return the columns of the metadata that the source reads, and a few beside them."""
    depth, height, width = volume.scan.shape
    step, row, column = (round(float(value), 6) for value in volume.scan.spacing)
    position = [round(float(value), 4) for value in affine[:3, 3] * (-1, -1, 1)]
    return {
        "Manufacturer": ct.site.scanner,
        "SeriesDescription": "Thorax",
        "ConvolutionKernel": ct.site.kernels[volume.scan.kernel],
        "ImagePositionPatient": str(position),
        "ImageOrientationPatient": "[1.0, 0.0, 0.0, 0.0, 1.0, 0.0]",
        "Rows": height,
        "Columns": width,
        "XYSpacing": str([column, row]),
        "RescaleIntercept": INTERCEPT,
        "RescaleSlope": 1.0,
        "RescaleType": "HU",
        "NumberofSlices": depth,
        "ZSpacing": step,
        "StudyDate": "20200101",
    }


def _snippet_rows(name: VolumeName, ct: TwinCt) -> Iterator[dict[str, Any]]:
    for one in ct.snippets:
        yield {
            "volume": name.name,
            "text": one.text,
            "intervals": [list(interval) for interval in one.intervals],
            "organ": one.organ,
            "finding": one.claim.kind,
        }
