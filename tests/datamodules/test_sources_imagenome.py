from __future__ import annotations

import csv
import json
import re
import shutil
from collections import Counter, defaultdict
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pictures import size_of
from PIL import Image

from datamodules.sources import ChestImaGenome
from datamodules.twins import imagenome
from medvl.errors import ConfigError, DataError

STUDIES, SIZE, SEED = 48, 128, 0
DICOM = "0-1-2"
Graph = dict[str, Any]


@pytest.fixture(scope="module")
def twin(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("imagenome") / "twin"
    imagenome.write(folder, STUDIES, SEED, size=SIZE, workers=0)
    return folder


@pytest.fixture(scope="module")
def clean(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("imagenome") / "clean"
    imagenome.write(folder, 12, SEED, size=SIZE, workers=0, noise=["none"])
    return folder


# --- one graph, by hand -----------------------------------------------------------------------------------------------


def thing(name: str, fine: tuple[int, ...] | None, coarse: tuple[int, ...] | None = None) -> Graph:
    """An object of the 448 x 336 image: the square is half as large, with 28 pixels above and below."""
    if coarse is None and fine is not None:
        coarse = tuple(value // 2 + (28 if i % 2 else 0) for i, value in enumerate(fine))
    sides = ("x1", "y1", "x2", "y2")
    found: Graph = {"bbox_name": name, "object_id": f"{DICOM}_{name}"}
    found |= dict(zip(sides, coarse, strict=True)) if coarse else {}
    return found | ({f"original_{s}": v for s, v in zip(sides, fine, strict=True)} if fine else {})


def said(name: str, **tokens: list[str]) -> Graph:
    """Attributes of one anatomy: sentence (underscores for blanks) to tokens."""
    phrases = [phrase.replace("_", " ") for phrase in tokens]
    return {name: True, "bbox_name": name, "phrases": phrases, "attributes": list(tokens.values())}


def write(root: Path, graph: Graph | str | None, view: str = "AP", disk: tuple[int, int] = (448, 336)) -> Path:
    splits, graphs = root / "silver_dataset" / "splits", root / "silver_dataset" / "scene_graph"
    for folder in (splits, graphs):
        folder.mkdir(parents=True, exist_ok=True)
    path = f"files/p10/p10000032/s50414267/{DICOM}.jpg"
    (root / path).parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", disk).save(root / path)
    header = "subject_id,study_id,dicom_id,path,ViewPosition\n"
    row = f"10000032,50414267,{DICOM},{path.replace('.jpg', '.dcm')},{view}\n"
    for name in ("train", "valid", "test"):
        (splits / f"{name}.csv").write_text("," + header + (f"0,{row}" if name == "train" else ""))
    (splits / "images_to_avoid.csv").write_text(header)
    if graph is not None:
        text = graph if isinstance(graph, str) else json.dumps(graph)
        (graphs / f"{DICOM}_SceneGraph.json").write_text(text)
    return root


def found(root: Path, **options: Any) -> tuple[dict[str, tuple[Any, ...]], Counter[str]]:
    loaded = ChestImaGenome(root, **options).read()
    return {r.phrase: r.boxes for r in loaded.records}, Counter(p.code for p in loaded.problems)


LUNG, ZONE = thing("right lung", (0, 0, 112, 336)), thing("right apical zone", (0, 0, 112, 84))


def test_a_sentence_has_the_box_of_every_anatomy_it_hangs_on(tmp_path: Path) -> None:
    graph = {
        "image_id": DICOM, "patient_id": 10000032, "gender": "F", "age_decile": "60-70", "viewpoint": "AP",
        "objects": [LUNG, ZONE, thing("svc", (224, 84, 448, 168))],
        "attributes": [
            said("right lung", A_clot=["anatomicalfinding|yes|clot", "nlp|yes|abnormal"], No_air=["disease|no|air"]),
            said("svc", **{"A_clot": ["anatomicalfinding|no|wire", "nlp|yes|normal"]}, See_prior=["severity|yes|mild"]),
            said("ribs", A_break=["nlp|yes|abnormal"], No_break=["anatomicalfinding|no|break"], A_clot=[]),
        ],
    }  # fmt: skip
    loaded = ChestImaGenome(write(tmp_path, graph)).load()
    records = {r.phrase: r for r in loaded.records}
    lung, svc = (0.0, 0.0, 0.25, 1.0), (0.5, 0.25, 1.0, 0.5)
    assert {p: (r.boxes, r.abnormal, r.labels) for p, r in records.items()} == {
        "A clot": ((lung, svc), True, ("clot",)),
        "No air": ((lung,), False, ("air",)),
        "See prior": ((svc,), None, ()),
        "No break": ((), False, ("break",)),
    }
    first = records["A clot"]
    assert first.attributes == {
        "sex": "F", "age": "60-70", "view": "AP", "locations": "right lung; svc", "context": "yes; no",
    }  # fmt: skip
    assert (first.image, first.patient_id, first.study_id, first.split) == (DICOM, "10000032", "50414267", "train")
    assert [(p.code, p.fatal) for p in loaded.problems] == [("region-unboxed", False)]
    assert not re.search("break|clot", str(loaded.problems))  # no report text


def test_sentences_are_joined_over_line_breaks_and_shared_boxes(tmp_path: Path) -> None:
    attributes = [said("right lung", **{"A\n big_thing": ["nlp|yes|abnormal"]}), said("twin", A_big_thing=[])]
    graph = {"objects": [LUNG, LUNG | {"bbox_name": "twin"}], "attributes": attributes}
    (record,) = ChestImaGenome(write(tmp_path, graph)).load().records
    assert (record.phrase, len(record.boxes)) == ("A big thing", 1)
    assert (record.attributes["locations"], record.attributes["context"]) == ("right lung + twin", "yes + ")


@pytest.mark.parametrize(
    ("objects", "boxes", "codes"),
    [
        ([thing("x", (0, 0, 224, 84)), thing("x", (112, 42, 336, 168))], ((0, 0, 0.75, 0.5),), {"object-duplicate": 1}),
        ([thing("x", (224, 168, 600, 400))], ((0.5, 0.5, 1, 1),), {"box-clipped": 1}),
        ([thing("x", (50, 50, 50, 90)), LUNG], None, {"box-empty": 1, "region-unboxed": 1}),
        ([thing("x", (600, 0, 700, 84)), LUNG], None, {"box-empty": 1, "region-unboxed": 1}),
        ([thing("x", (0, 0, 112, 84), (60, 28, 116, 70)), LUNG], None, {"box-systems": 1, "box-sibling": 1}),
        ([thing("x", None, (56, 70, 112, 112))], ((0.25, 0.25, 0.5, 0.5),), {}),
        ([thing("x", (0, 0, 112, 84)) | {"x1": None}], ((0, 0, 0.25, 0.25),), {}),
        ([{"bbox_name": "x"}, LUNG], None, {"box-unreadable": 1, "box-sibling": 1}),
        (["x", LUNG], None, {"region-unboxed": 1}),
        ([], None, {"objects-missing": 1}),
    ],
)
def test_every_trap_of_a_box(tmp_path: Path, objects: list[Any], boxes: Any, codes: dict[str, int]) -> None:
    graph = {"objects": objects, "attributes": [said("x", A_clot=["nlp|yes|abnormal"])]}
    records, problems = found(write(tmp_path, graph))
    assert problems == codes
    assert records == ({} if boxes is None else {"A clot": tuple(pytest.approx(box) for box in boxes)})


def test_a_sentence_with_one_untrusted_box_is_left_out_whole(tmp_path: Path) -> None:
    wrong = thing("x", (0, 0, 112, 84), (60, 28, 116, 70))
    graph = {"objects": [LUNG, wrong], "attributes": [said("right lung", A=[], B=[]), said("x", A=[])]}
    records, problems = found(write(tmp_path, graph))
    assert list(records) == ["B"]
    assert problems == {"box-systems": 1, "box-sibling": 1}


def test_a_smaller_copy_of_the_image_gives_the_same_boxes(tmp_path: Path) -> None:
    graph = {"objects": [LUNG, ZONE], "attributes": [said("right apical zone", A=[])]}
    whole, small = found(write(tmp_path / "a", graph)), found(write(tmp_path / "b", graph, disk=(112, 84)))
    assert whole == small == ({"A": ((0.0, 0.0, 0.25, 0.25),)}, {})
    cropped = found(write(tmp_path / "c", graph, disk=(336, 336)))
    assert cropped == ({}, {"box-systems": 1, "box-sibling": 1})


@pytest.mark.parametrize(
    ("graph", "code", "fatal"),
    [
        (None, "graph-missing", False),
        ("{", "graph-unreadable", True),
        ('{"objects": [], "phrases": ["secret', "graph-unreadable", True),
        ("[]", "graph-unreadable", True),
        ("{}", "objects-missing", False),
        ({"objects": "x"}, "", False),
        ({"patient_id": "p10000033", "objects": [LUNG]}, "patient-conflict", True),
    ],
)
def test_a_bad_graph_is_a_problem_and_never_a_crash(tmp_path: Path, graph: Any, code: str, fatal: bool) -> None:
    loaded = ChestImaGenome(write(tmp_path, graph)).read()
    assert loaded.records == []
    assert [(p.code, p.fatal) for p in loaded.problems] == ([(code, fatal)] if code else [])
    assert "secret" not in str(loaded.problems)
    assert "10000033" not in str(loaded.problems)


def test_only_frontal_views_unless_asked(tmp_path: Path) -> None:
    graph = {"objects": [LUNG], "attributes": [said("right lung", A=[])], "viewpoint": "LL"}
    for view in ("LL", ""):  # told by the table, or by the graph alone
        root = write(tmp_path, graph, view)
        assert found(root) == ({}, {"view-excluded": 1})
        assert list(found(root, views=["LL"])[0]) == ["A"]


def test_a_missing_or_damaged_image_is_told(tmp_path: Path) -> None:
    graph = {"objects": [LUNG], "attributes": [said("right lung", A=[])]}
    image = write(tmp_path, graph) / f"files/p10/p10000032/s50414267/{DICOM}.jpg"
    image.write_bytes(b"no image")
    assert found(tmp_path) == ({}, {"image-unreadable": 1})
    image.unlink()
    assert found(tmp_path) == ({}, {"image-missing": 1})


# --- the twin ---------------------------------------------------------------------------------------------------------


def plain_reading(root: Path) -> dict[tuple[str, str], dict[str, tuple[float, ...]]]:
    """Read a twin without noise in the plainest way: (image, phrase) to anatomy to box."""
    pairs: dict[tuple[str, str], dict[str, tuple[float, ...]]] = defaultdict(dict)
    for path in (root / "silver_dataset" / "scene_graph").iterdir():
        graph = json.loads(path.read_text())
        image = next(root.rglob(f"{graph['image_id']}.jpg"))
        width, height = size_of(image)
        size = (width, height, width, height)
        things = {o["bbox_name"]: o for o in graph["objects"]}
        for entry in graph["attributes"]:
            for phrase in entry["phrases"]:
                known = pairs[graph["image_id"], phrase]
                if entry["bbox_name"] in things:
                    one = things[entry["bbox_name"]]
                    sides = (one[f"original_{side}"] for side in ("x1", "y1", "x2", "y2"))
                    known[entry["bbox_name"]] = tuple(v / s for v, s in zip(sides, size, strict=True))
    return pairs


def test_the_clean_twin_is_read_as_it_was_planted(clean: Path) -> None:
    loaded = ChestImaGenome(clean, avoid=False).load()
    planted = plain_reading(clean)
    assert loaded.problems == []
    assert {(r.image, r.phrase) for r in loaded.records} == planted.keys()
    for record in loaded.records:
        boxes = planted[record.image, record.phrase]
        assert list(record.boxes) == [pytest.approx(box) for box in boxes.values()]
        assert bool(record.boxes) == record.abnormal  # without noise only true findings have a place
    assert any(len(r.boxes) > 1 for r in loaded.records)
    graphs = [json.loads(path.read_text()) for path in (clean / "silver_dataset" / "scene_graph").iterdir()]
    assert {len(graph["objects"]) for graph in graphs} == {36}
    assert json.loads((clean / "noise.json").read_text()) == {"pairs": [], "faults": []}


def test_planted_noise_is_what_the_side_file_says(twin: Path) -> None:
    noise = json.loads((twin / "noise.json").read_text())
    kinds = Counter(pair["kind"] for pair in noise["pairs"])
    assert kinds.keys() == {"redundant", "negated", "normal", "non-diagnostic"}
    loaded = ChestImaGenome(twin, avoid=False).load()
    records = {(r.image, r.phrase): r for r in loaded.records}
    expected = {"redundant": True, "negated": False, "normal": False, "non-diagnostic": None}
    flat = {(fault["image"], fault["region"]) for fault in noise["faults"] if fault["kind"] == "box-empty"}
    checked: Counter[str] = Counter()
    for pair in noise["pairs"]:
        if record := records.get((pair["image"], pair["phrase"])):
            checked[pair["kind"]] += 1
            assert record.abnormal is expected[pair["kind"]]
            places = re.split("; | \\+ ", record.attributes.get("locations", ""))
            assert pair["region"] in places or (pair["image"], pair["region"]) in flat
    assert checked.keys() == kinds.keys()
    assert all(count > 0.7 * kinds[kind] for kind, count in checked.items())


def test_planted_faults_are_told_and_none_stops_the_reading(twin: Path) -> None:
    images: dict[str, set[str]] = defaultdict(set)
    for fault in json.loads((twin / "noise.json").read_text())["faults"]:
        images[fault["kind"]].add(fault["image"])
    problems = ChestImaGenome(twin, avoid=False).read().problems
    told = Counter(problem.code for problem in problems)
    assert not any(problem.fatal for problem in problems)
    images["graph-missing"] -= images["view-excluded"]  # a film that is not asked for needs no graph
    images["objects-missing"] -= images["view-excluded"]
    seen = images["view-excluded"] | images["graph-missing"] | images["objects-missing"]
    assert all(images.values())
    assert told.pop("view-excluded") == 1  # one remark tells the number
    assert told.pop("box-clipped") >= len(images["box-clipped"] - seen)
    for kind in ("graph-missing", "objects-missing"):
        assert told.pop(kind) == len(images[kind])
    for kind in ("object-duplicate", "box-empty"):
        assert told.pop(kind) == len(images[kind] - seen)
    assert told.pop("region-unboxed") >= len(images["region-unboxed"] - seen)
    assert not told


def test_each_kind_of_noise_can_be_left_out(tmp_path: Path) -> None:
    def pairs(name: str, noise: list[str]) -> set[tuple[str, ...]]:
        imagenome.write(tmp_path / name, 6, SEED, size=48, workers=0, noise=noise)
        return {tuple(sorted(p.items())) for p in json.loads((tmp_path / name / "noise.json").read_text())["pairs"]}

    parts = [pairs(name, [name]) for name in ("redundant", "negated", "non-diagnostic")]
    assert all(parts)
    assert pairs("all", ["redundant", "negated", "non-diagnostic"]) == set.union(*parts)
    with pytest.raises(ConfigError, match="did you mean 'redundant'"):
        imagenome.write(tmp_path / "bad", 2, SEED, noise=["redundent"])


def test_zipped_and_nested_graphs_are_read_alike(twin: Path, tmp_path: Path) -> None:
    whole = ChestImaGenome(twin).load()
    imagenome.write(tmp_path / "zipped", STUDIES, SEED, size=SIZE, workers=0, zipped=True)
    assert not (tmp_path / "zipped" / "silver_dataset" / "scene_graph").exists()
    zipped = ChestImaGenome(tmp_path / "zipped").load()
    assert zipped.records == whole.records
    assert zipped.fingerprint != whole.fingerprint

    nested = tmp_path / "nested" / "chest-imagenome-dataset-1.0.0"
    shutil.copytree(twin / "silver_dataset", nested / "silver_dataset")
    graphs = nested / "silver_dataset" / "scene_graph"
    graphs.rename(nested / "graphs")
    graphs.mkdir()
    (nested / "graphs").rename(graphs / "scene_graph")
    elsewhere = ChestImaGenome(tmp_path / "nested", images=twin)
    assert elsewhere.load().records == whole.records
    fingerprint = elsewhere.load().fingerprint
    next((graphs / "scene_graph").iterdir()).write_text("{}")
    assert elsewhere.read().fingerprint != fingerprint
    (tmp_path / "zipped" / "silver_dataset" / "scene_graph.zip").write_bytes(b"PK")
    with pytest.raises(DataError, match=r"cannot be read.*\n.*scene_graph\.zip"):
        ChestImaGenome(tmp_path / "zipped").load()


def test_processes_change_nothing(twin: Path) -> None:
    assert ChestImaGenome(twin, workers=0).load() == ChestImaGenome(twin, workers=2).load()


def test_gold_is_read_from_its_table(twin: Path) -> None:
    with (twin / "silver_dataset" / "splits" / "images_to_avoid.csv").open() as file:
        patients = {row["subject_id"] for row in csv.DictReader(file)}
    loaded = ChestImaGenome(twin, subset="gold").load()
    assert {r.patient_id for r in loaded.records} <= patients
    assert {r.split for r in loaded.records} == {"test"}
    assert not any(p.fatal for p in loaded.problems)
    noise = {(p["image"], p["phrase"], p["region"]) for p in json.loads((twin / "noise.json").read_text())["pairs"]}
    silver = {(r.image, r.phrase): r for r in ChestImaGenome(twin, avoid=False).load().records}
    assert loaded.records
    for record in loaded.records:
        names = re.split("; | \\+ ", record.attributes["locations"])
        assert not any((record.image, record.phrase, name) in noise for name in names)
        weak = silver.get((record.image, record.phrase), replace(record))
        assert set(record.boxes) <= set(weak.boxes)
        assert (record.abnormal, record.labels) == (weak.abnormal, weak.labels)


def test_errors_name_what_is_missing(tmp_path: Path, twin: Path) -> None:
    with pytest.raises(DataError, match=r"silver set .* is not here(?s:.*)medvl data twin imagenome"):
        ChestImaGenome(tmp_path).load()
    with pytest.raises(ConfigError, match="unknown subset"):
        ChestImaGenome(tmp_path, subset="bronze")  # type: ignore[arg-type]
    shutil.copytree(twin, tmp_path / "twin")
    (tmp_path / "twin" / "silver_dataset" / "splits" / "images_to_avoid.csv").unlink()
    with pytest.raises(DataError, match=r"images_to_avoid\.csv"):
        ChestImaGenome(tmp_path / "twin").load()
    assert ChestImaGenome(tmp_path / "twin", avoid=False).load().records
    shutil.rmtree(tmp_path / "twin" / "silver_dataset" / "scene_graph")
    with pytest.raises(DataError, match="the scene graphs are not here"):
        ChestImaGenome(tmp_path / "twin", avoid=False).load()
