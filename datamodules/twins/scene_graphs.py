"""Scene graphs of synthetic studies: sentences attached to anatomies, with the known faults of the real ones planted.

A true sentence about a finding hangs on the one anatomy that fits each of its boxes best; a sentence that denies a
finding or says that all is well hangs on `unknown`, which has no box. Noise adds what weak labelling adds.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from datamodules.twins import lexicon as lex
from datamodules.twins.regions import NESTED, regions
from datamodules.twins.shapes import Box
from datamodules.twins.studies import StudyPlan, TwinFinding

SQUARE = 224
LABEL_NOISE = ("redundant", "negated", "non-diagnostic")
NOISE = (*LABEL_NOISE, "format")
UNBOXED = "unknown"
_ZONES = ("apical zone", "upper lung zone", "mid lung zone", "lower lung zone", "lung")
_PLACES = {
    lex.LUNG: _ZONES,
    lex.PLEURA: (*_ZONES, "costophrenic angle"),
    lex.HILUM: ("hilar structures",),
    lex.BONE: _ZONES,
    lex.CHEST: _ZONES,
    lex.FIXED: ("cardiac silhouette", "mediastinum", "upper mediastinum", "aortic arch"),
}
TOKENS = {
    "pleural effusion": "anatomicalfinding|{}|pleural effusion",
    "pneumothorax": "anatomicalfinding|{}|pneumothorax",
    "consolidation": "anatomicalfinding|{}|consolidation",
    "nodule": "anatomicalfinding|{}|mass/nodule (not otherwise specified)",
    "mass": "anatomicalfinding|{}|lung lesion",
    "atelectasis": "anatomicalfinding|{}|atelectasis",
    "interstitial pattern": "anatomicalfinding|{}|increased reticular markings/ild pattern",
    "fibrosis": "anatomicalfinding|{}|scarring",
    "pleural thickening": "anatomicalfinding|{}|pleural/parenchymal scarring",
    "calcified granuloma": "anatomicalfinding|{}|calcified nodule",
    "cavitation": "disease|{}|granulomatous disease",
    "bulla": "anatomicalfinding|{}|cyst/bullae",
    "bronchiectasis": "anatomicalfinding|{}|bronchiectasis",
    "hilar enlargement": "anatomicalfinding|{}|enlarged hilum",
    "rib fracture": "anatomicalfinding|{}|rib fracture",
    "pacemaker": "tubesandlines|{}|cardiac pacer and wires",
    "hiatal hernia": "anatomicalfinding|{}|hernia",
    "aortic elongation": "anatomicalfinding|{}|tortuous aorta",
    "cardiomegaly": "anatomicalfinding|{}|enlarged cardiac silhouette",
}
_SPURIOUS = (  # words of a sentence that affirms nothing, and the anatomies it then hangs on
    (("heart", "cardiac", "cardiothoracic", "cardiomegaly"), ("cardiac silhouette",)),
    (("costophrenic",), ("right costophrenic angle", "left costophrenic angle")),
    (("hil",), ("right hilar structures", "left hilar structures")),
    (("mediastin", "hernia"), ("mediastinum",)),
    (("aort",), ("aortic arch",)),
    (("trachea",), ("trachea",)),
    (("bony", "osseous"), ("spine", "right clavicle", "left clavicle")),
    (("diaphragm",), ("right hemidiaphragm", "left hemidiaphragm")),
    (("abdomen",), ("abdomen",)),
)
_BOTH_LUNGS = ("right lung", "left lung")
_NOT_DIAGNOSTIC = (
    "Comparison is made to prior.",
    "Comparison is made to the previous study of two days earlier.",
    "The previous radiograph is not at hand for comparison.",
    "A single frontal view of the chest was obtained.",
    "Frontal view of the chest,\n upright.",
    "The patient is rotated towards the right.",
    "These results were telephoned to the ward at the time of reading.",
    "Clinical correlation is advised.",
    "Follow-up in six weeks is recommended.",
    "As seen on the study of the day before.",
)


@dataclass
class TwinGraph:
    """A graph and what was planted in it.

    Attributes:
        graph: As it stands in the file; None where the file is missing.
        view: View position in the split's table.
        pairs: Planted pairs: the phrase, the anatomy that it hangs on wrongly, and the kind of noise.
        faults: Planted faults of format: kind and anatomy.
        gold: The sentences with their tokens and the anatomies where they are true.
    """

    graph: dict[str, Any] | None
    view: str
    pairs: list[dict[str, str]] = field(default_factory=list)
    faults: list[dict[str, str]] = field(default_factory=list)
    gold: list[tuple[str, list[str], list[str]]] = field(default_factory=list)


@dataclass
class _Said:
    """A sentence on its way into a graph."""

    text: str
    tokens: list[str]
    regions: list[str]


def twin_graph(
    planned: StudyPlan, dicom: str, size: tuple[int, int], rng: np.random.Generator, noise: Collection[str]
) -> TwinGraph:
    """Return the graph of a study.

    Args:
        planned: The study.
        dicom: Id of its image.
        size: Height and width of the image.
        rng: Draws the noise; what is planted of one kind does not depend on the other kinds.
        noise: Kinds to plant, of `NOISE`.
    """
    made = TwinGraph(None, planned.body.view)
    streams = dict(zip(NOISE, rng.spawn(len(NOISE)), strict=True))
    boxes = regions(planned.body, size)
    said = [_true(finding, boxes, "format" in noise) for finding in planned.findings if finding.kind != "absent"]
    made.gold = [(one.text, one.tokens, list(one.regions)) for one in said]
    if "redundant" in noise:
        _plant_redundant(said, made, streams["redundant"])
    if "negated" in noise:
        _plant_negated(said, made, planned)
    if "non-diagnostic" in noise:
        said += _plant_empty(made, streams["non-diagnostic"])
    objects = [_object(dicom, name, box, size) for name, box in boxes.items()]
    graph = made.graph = {
        "image_id": dicom,
        "viewpoint": planned.body.view,
        "patient_id": int(planned.patient_id),
        "study_id": int(planned.study_id),
        "gender": planned.body.sex,
        "age_decile": f"{planned.body.age // 10 * 10}-{planned.body.age // 10 * 10 + 10}",
        "objects": objects,
        "attributes": _attributes(said, dicom, planned.study_id),
        "relationships": [],
    }
    if "format" in noise:
        _plant_faults(made, graph, streams["format"], size, said)
    return made


def _true(finding: TwinFinding, boxes: dict[str, Box], ribs_unboxed: bool) -> _Said:
    """Return a sentence on the anatomies where it is true."""
    kind = finding.labels[0]
    if finding.kind == "normal":
        return _Said(finding.sentence_en, ["nlp|yes|normal"], [UNBOXED])
    if finding.kind == "negated":
        return _Said(finding.sentence_en, [TOKENS[kind].format("no"), "nlp|yes|normal"], [UNBOXED])
    tokens = [TOKENS[kind].format("yes"), "nlp|yes|abnormal"]
    if kind == "rib fracture" and ribs_unboxed:
        return _Said(finding.sentence_en, tokens, ["ribs"])
    places = _PLACES[lex.WORDS[kind].place]
    names = [name for name in boxes if name.removeprefix("right ").removeprefix("left ") in places]
    best = [max(names, key=lambda name: _iou(boxes[name], box)) for box in finding.boxes]
    return _Said(finding.sentence_en, tokens, list(dict.fromkeys(best)))


def _iou(a: Box, b: Box) -> float:
    w, h = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    shared = max(w, 0.0) * max(h, 0.0)
    return shared / (sum((c[2] - c[0]) * (c[3] - c[1]) for c in (a, b)) - shared)


def _hang(made: TwinGraph, one: _Said, names: Collection[str], kind: str) -> None:
    one.regions += names
    made.pairs += [{"phrase": " ".join(one.text.split()), "region": name, "kind": kind} for name in names]


def _plant_redundant(said: list[_Said], made: TwinGraph, rng: np.random.Generator) -> None:
    """Hang sentences on anatomies around or nearly equal to their own, too."""
    for one in said:
        for name in tuple(one.regions):
            more = [other for other in NESTED.get(name, ()) if other not in one.regions and rng.random() < 0.6]
            _hang(made, one, more, "redundant")


def _plant_negated(said: list[_Said], made: TwinGraph, planned: StudyPlan) -> None:
    """Hang sentences that affirm nothing on boxed anatomies."""
    kinds = {finding.sentence_en: finding.kind for finding in planned.findings}
    for one in said:
        if one.regions == [UNBOXED]:
            text = one.text.lower()
            names = next((names for words, names in _SPURIOUS if any(w in text for w in words)), _BOTH_LUNGS)
            one.regions.clear()
            _hang(made, one, names, kinds[one.text])


def _plant_empty(made: TwinGraph, rng: np.random.Generator) -> list[_Said]:
    """Add sentences that say nothing of the image, on anatomies at random."""
    added = []
    for i in rng.permutation(len(_NOT_DIAGNOSTIC))[: int(rng.choice([0, 1, 2], p=[0.4, 0.4, 0.2]))]:
        one = _Said(
            _NOT_DIAGNOSTIC[i], ["technicalassessment|yes|rotated"] if "rotated" in _NOT_DIAGNOSTIC[i] else [], []
        )
        names = [*_BOTH_LUNGS, "mediastinum", "cardiac silhouette"]
        _hang(made, one, [names[k] for k in rng.permutation(4)[: int(rng.integers(1, 4))]], "non-diagnostic")
        added.append(one)
    return added


def _object(dicom: str, name: str, box: Box, size: tuple[int, int]) -> dict[str, Any]:
    """Return an object: found in the 224 square, in whole pixels, then scaled up to the original."""
    height, width = size
    ratio = max(size) / SQUARE
    left, top = (SQUARE - width / ratio) / 2, (SQUARE - height / ratio) / 2
    x1, y1, x2, y2 = np.clip(box, 0, 1) * (width, height, width, height) / ratio + (left, top, left, top)
    coarse = [int(v) for v in (np.floor(x1), np.floor(y1), np.ceil(x2), np.ceil(y2))]
    fine = [round((v - pad) * ratio) for v, pad in zip(coarse, (left, top, left, top), strict=True)]
    fine = [min(max(v, 0), side) for v, side in zip(fine, (width, height, width, height), strict=True)]
    return {"object_id": f"{dicom}_{name}", "bbox_name": name, "synsets": [], "name": name.capitalize()} | _sides(
        coarse, fine
    )


def _sides(coarse: list[int], fine: list[int]) -> dict[str, int]:
    """Return both boxes under the names they have in a graph; `width` and `height` are those of the box."""
    found: dict[str, int] = {}
    for prefix, (x1, y1, x2, y2) in (("", coarse), ("original_", fine)):
        values = {"x1": x1, "y1": y1, "x2": x2, "y2": y2, "width": x2 - x1, "height": y2 - y1}
        found |= {f"{prefix}{name}": value for name, value in values.items()}
    return found


def _attributes(said: list[_Said], dicom: str, study: str) -> list[dict[str, Any]]:
    """Return the attributes by anatomy, with their parallel lists."""
    entries: dict[str, dict[str, Any]] = {}
    cues = ("comparison_cues", "temporal_cues", "severity_cues", "texture_cues")
    for number, one in enumerate(said):
        for name in one.regions:
            fresh: dict[str, Any] = {name: True, "bbox_name": name, "synsets": [], "name": name.capitalize()}
            fresh |= {key: [] for key in ("attributes", "attributes_ids", "phrases", "phrase_IDs", "sections", *cues)}
            entry = entries.setdefault(name, fresh | {"object_id": f"{dicom}_{name}"})
            entry["attributes"].append(one.tokens)
            entry["attributes_ids"].append(["" for _ in one.tokens])
            entry["phrases"].append(one.text)
            entry["phrase_IDs"].append(f"{study}|{number}")
            entry["sections"].append("finalreport")
            for key in cues:
                entry[key].append([])
    return list(entries.values())


def _plant_faults(
    made: TwinGraph, graph: dict[str, Any], rng: np.random.Generator, size: tuple[int, int], said: list[_Said]
) -> None:
    """Plant duplicates, boxes outside and empty ones, graphs without objects, missing graphs and lateral views."""
    objects = graph["objects"]
    chosen = rng.permutation(len(objects))
    draws = rng.random(6)
    made.faults += [{"kind": "region-unboxed", "region": "ribs"} for one in said if one.regions == ["ribs"]]
    if draws[0] < 0.15:
        twice = objects[chosen[0]]
        shift = max(size) // 30
        coarse, fine = ([twice[f"{p}{s}"] for s in ("x1", "y1", "x2", "y2")] for p in ("", "original_"))
        coarse, fine = [v + round(shift * SQUARE / max(size)) for v in coarse], [v + shift for v in fine]
        objects.append(twice | _sides(coarse, fine))
        made.faults.append({"kind": "object-duplicate", "region": twice["bbox_name"]})
    if draws[1] < 0.2:
        out = objects[chosen[1]]
        far = round(0.12 * size[1])
        out |= {"original_x2": size[1] + far, "original_width": size[1] + far - out["original_x1"]}
        out["x2"] = round((SQUARE + size[1] * SQUARE / max(size)) / 2 + far * SQUARE / max(size))
        made.faults.append({"kind": "box-clipped", "region": out["bbox_name"]})
    if draws[2] < 0.15:
        flat = objects[chosen[2]]
        flat |= {"x2": flat["x1"], "original_x2": flat["original_x1"], "width": 0, "original_width": 0}
        made.faults.append({"kind": "box-empty", "region": flat["bbox_name"]})
    if draws[3] < 0.04:
        objects.clear()
        made.faults.append({"kind": "objects-missing", "region": ""})
    elif draws[4] < 0.04:
        made.graph = None
        made.faults.append({"kind": "graph-missing", "region": ""})
    if draws[5] < 0.04:
        made.view = "LATERAL"
        made.faults.append({"kind": "view-excluded", "region": ""})
