"""Write a synthetic dataset in the layout of Open-i (Indiana University): XML reports, PNG images, a table of views."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as Xml

import numpy as np
from PIL import Image

from datamodules.twins.findings import Finding
from datamodules.twins.folder import eight_bits
from datamodules.twins.mimic_cxr import FACTORS
from datamodules.twins.scanner import Appearance
from datamodules.twins.studies import make_study, plan
from datamodules.twins.wording import Told, factors_of, tell
from datamodules.twins.writer import twin_writer, write_csv
from medvl.io.workers import run_all

REPORTS, IMAGES, PROJECTIONS = "ecgen-radiology", "NLMCXR_png", "indiana_projections.csv"
MESH = {  # headings of Open-i's coders, by disease
    "atelectasis": "Pulmonary Atelectasis", "bronchiectasis": "Bronchiectasis", "bulla": "Blister",
    "cardiomegaly": "Cardiomegaly", "cavitation": "Cavitation", "consolidation": "Consolidation",
    "edema": "Pulmonary Edema", "fibrosis": "Pulmonary Fibrosis", "fracture": "Fractures, Bone/ribs",
    "granuloma": "Calcified Granuloma", "hiatal hernia": "Hernia, Hiatal", "hilar enlargement": "Lung/hilum/prominent",
    "mass": "Mass/lung", "nodule": "Nodule/lung", "pacemaker": "Implanted Medical Device",
    "pleural effusion": "Pleural Effusion", "pleural thickening": "Thickening/pleura", "pneumothorax": "Pneumothorax",
    "tortuous aorta": "Aorta/tortuous",
}  # fmt: skip
_REMOVED = "Visualized XXXX are intact."


@twin_writer("openi")
def write(
    folder: Path,
    studies: int,
    seed: int,
    difficulty: float = 0.5,
    workers: int | None = None,
    *,
    size: int | None = None,
    appearance: Appearance = "plain",
    projections: bool = True,
) -> None:
    """Write a twin of Open-i: `ecgen-radiology/N.xml` with gaps in N, images of eight bits, and no split.

    Six in ten studies have a lateral, one in twelve a second frontal, one in 30 no image. One in eight lacks findings,
    a few the impression or both. MeSH codes say what the report affirms, with side and severity; `normal` is one. The
    images of study 1 name it twice, as in the original. `twin_factors.jsonl` as in the MIMIC-CXR twin, without splits.

    Arguments as in `twin_writer`; without `projections` nothing tells the views, as in the NLM's own distribution.
    """
    (folder / REPORTS).mkdir()
    (folder / IMAGES).mkdir()
    jobs = [(str(folder), index, seed, difficulty, size, appearance) for index in range(studies)]
    written = run_all(_write_study, jobs, workers, "writing studies")
    if projections:
        rows = [row for study in written for row in study["views"]]
        write_csv(folder / PROJECTIONS, rows, ("uid", "filename", "projection"))
    with (folder / FACTORS).open("w", encoding="utf-8") as file:
        file.writelines(json.dumps(study["factors"]) + "\n" for study in written)


def _write_study(
    folder: str, index: int, seed: int, difficulty: float, size: int | None, appearance: Appearance
) -> dict[str, Any]:
    """Write the images and the report of a study; return its views and factors."""
    study, painted = make_study(index, seed, difficulty, size, appearance), plan(index, seed).painted
    rng = np.random.default_rng([seed & 0xFFFFFFFF, index, 8])
    told, uid = tell(rng, painted), index + 1 + index // 9
    shown = [("Frontal", study.image)] if index % 30 != 29 else []
    if shown and rng.random() < 0.6:
        shown.append(("Lateral", study.image[:, ::2]))
    if shown and rng.random() < 1 / 12:
        shown.append(("Frontal", make_study(index, seed, difficulty, size, "shifted").image))
    names = _names(uid, [view for view, _ in shown], bool(rng.random() < 0.1))
    prefix = "CXR1_" if uid == 1 else "CXR"
    for name, (_, pixels) in zip(names, shown, strict=True):
        Image.fromarray(eight_bits(pixels)).save(Path(folder) / IMAGES / f"{prefix}{name}.png")
    form, findings, impression = rng.random(), told.findings, told.impression
    if rng.random() < 0.3:
        findings = f"{findings} {_REMOVED}"
    parts = {
        "COMPARISON": str(rng.choice(["None.", "XXXX, XXXX", "Chest radiographs XXXX."])),
        "INDICATION": f"XXXX-year-old {'male' if study.sex.upper().startswith('M') else 'female'}, XXXX.",
        "FINDINGS": "" if form < 0.135 else findings,
        "IMPRESSION": "" if 0.12 < form < 0.15 else impression,
    }
    report = _report(uid, parts, _codes(told, painted), [f"{prefix}{name}" for name in names])
    (Path(folder) / REPORTS / f"{uid}.xml").write_bytes(report)
    views = [
        {"uid": uid, "filename": f"{name}.dcm.png", "projection": view}
        for name, (view, _) in zip(names, shown, strict=True)
    ]
    factors = {
        "study_id": f"CXR{uid}",
        "findings": [factors_of(finding) for finding in painted],
        "stated": [asdict(stated) for stated in told.stated],
    }
    return {"views": views, "factors": factors}


def _names(uid: int, views: Sequence[str], series: bool) -> list[str]:
    """Return what images are called without the `CXR` of the NLM: some have a third number, counted."""
    return [
        f"{uid}_IM-{1 + uid * 37 % 2400:04d}-" + (f"1001-{place:04d}" if series else f"{place}001")
        for place, _ in enumerate(views, 1)
    ]


def _codes(told: Told, painted: Sequence[Finding]) -> list[str]:
    """Return what coders make of the report: `Pleural Effusion/left/small`; what is doubted is coded, too."""
    affirmed = [one for one in told.stated if one.status != "absent"]
    codes = ["/".join((MESH[one.disease], *one.directions, *one.adjectives)) for one in affirmed]
    return list(dict.fromkeys(codes)) if painted else ["normal"]


def _report(uid: int, parts: dict[str, str], codes: Sequence[str], images: Sequence[str]) -> bytes:
    """Return the XML of a study; what is not read of the original is left away."""
    root = Xml.Element("eCitation")
    for tag, value in (("uId", f"CXR{uid}"), ("pmcId", str(uid)), ("IUXRId", str(uid))):
        Xml.SubElement(root, tag, id=value)
    article = Xml.SubElement(Xml.SubElement(root, "MedlineCitation", Owner="Indiana University"), "Article")
    abstract = Xml.SubElement(article, "Abstract")
    for label, text in parts.items():
        Xml.SubElement(abstract, "AbstractText", Label=label).text = text or None
    mesh = Xml.SubElement(root, "MeSH")
    for code in codes:
        Xml.SubElement(mesh, "major").text = code
    for code in codes:
        if code != "normal":
            Xml.SubElement(mesh, "automatic").text = code.partition("/")[0].lower()
    for number, name in enumerate(images, 1):
        image = Xml.SubElement(root, "parentImage", id=name)
        Xml.SubElement(image, "figureId").text = f"F{number}"
    Xml.indent(root, "   ")
    written: bytes = Xml.tostring(root, encoding="utf-8", xml_declaration=True)
    return written + b"\n"
