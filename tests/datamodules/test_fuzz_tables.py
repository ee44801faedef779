from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fuzz import MANY, damaged, few, mutated, refusal, scalars, values
from hypothesis import example, given, settings
from hypothesis import strategies as st

from datamodules.records import PhraseRecord, Problem, Snippet
from datamodules.snippets.reports import Miner
from datamodules.sources.cells import box_list, cell, number
from datamodules.sources.ms_cxr import MSCXR
from datamodules.sources.padchest_gr import PadChestGR
from datamodules.sources.padchest_master import MasterTable
from datamodules.sources.report_table import labels_of
from datamodules.sources.rows import read_json, read_lines, read_table, stream_columns
from datamodules.sources.scene_graph import regions_of, sentences_of
from datamodules.sources.snippets import intervals_of, snippet_of
from datamodules.sources.splits import split_word

MASTER = (
    b'StudyID,ImageID,PatientID,split,label,PatientAge\n1,1.png,10,train,"nodule, small",60\n2,2.png,11,test,mass,\n'
)
GRAPH: dict[str, Any] = {
    "patient_id": 10,
    "objects": [
        {
            "bbox_name": "left lung",
            **{"x1": 112, "y1": 40, "x2": 180, "y2": 190},
            **{"original_x1": 500, "original_y1": 180, "original_x2": 800, "original_y2": 850},
        }
    ],
    "attributes": [
        {
            "bbox_name": "left lung",
            "phrases": ["There is a nodule.", "No effusion."],
            "attributes": [["anatomicalfinding|yes|nodule"], ["anatomicalfinding|no|pleural effusion"]],
        }
    ],
}
COCO = {
    "images": [{"id": 0, "file_name": "x.jpg", "path": "files/p10/p10000032/s1/x.jpg", "width": 100, "height": 90}],
    "categories": [{"id": 0, "name": "Edema"}],
    "annotations": [{"id": 0, "image_id": 0, "category_id": 0, "bbox": [1, 2, 30, 40], "label_text": "Oedema."}],
}
STUDIES = [
    {
        "StudyID": "1",
        "ImageID": "1.png",
        "findings": [
            {
                "sentence_en": "A nodule.",
                "abnormal": True,
                "boxes": [[0.1, 0.2, 0.3, 0.4]],
                "extra_boxes": [],
                "labels": ["nodule"],
                "locations": ["left"],
            }
        ],
    }
]
SENTENCES = st.lists(
    st.sampled_from(
        [
            *("image", "images", "Bild", "series", "Serie", "slice", "12", "3", "99999999999999999999", "IMA", "se"),
            *("(", ")", "/", "-", "–", ",", ";", ".", ":", "#", "and", "to", "bis", "und", "mm", "on", "2019", "²"),
            *("cyst", "Zyste", "unchanged", "prior", "\n", "FINDINGS:", "IMPRESSION:", "é", "\0", "٣", "1.5", "x", "½"),
        ]
    ),
    max_size=24,
).map(" ".join)  # fmt: skip


def survives(job: Callable[[], object]) -> None:
    assert str(refusal(job)).count("\n") <= 3


@few
@given(damaged(MASTER))
@example(b"")
@example(b'StudyID,"Image')
@example(b"a,b\n1,\xff\xfe\xc3\xa9\n")
@example(b"\xff\xfe")
@example(b"\xff\xfea")
@example(b"\0\n\0")
def test_tables(tmp_path: Path, content: bytes) -> None:
    table = tmp_path / "t.csv"
    table.write_bytes(content)
    survives(lambda: MasterTable(read_table(table), split_word))
    survives(lambda: list(stream_columns(table, "StudyID", "split")))
    for suffix in ("jsonl", "zip", "gz", "parquet"):
        other = tmp_path / f"t.{suffix}"
        other.write_bytes(content)
        survives(lambda other=other: read_table(other))  # type: ignore[misc]


@settings(few, max_examples=MANY // 100 or 20)  # each is read by a process of its own
@given(damaged(MASTER))
@example(b"")
def test_workbooks(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "t.xlsx").write_bytes(content)
    survives(lambda: read_table(tmp_path / "t.xlsx"))


@few
@given(damaged(json.dumps(STUDIES).encode()))
@example(b"[" * 100_000)
@example(b"9" * 5000)
def test_json(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "t.json"
    file.write_bytes(content)
    survives(lambda: read_json(file))
    survives(lambda: read_lines(file))


@few
@example(GRAPH | {"objects": [GRAPH["objects"][0] | {"x1": 10**400}]}, (1, 1))  # once too large for a float
@given(mutated(GRAPH), st.tuples(st.integers(1, 4000), st.integers(1, 4000)))
def test_scene_graphs(graph: Any, size: tuple[int, int]) -> None:
    if isinstance(graph, dict):  # what is none is refused by who reads the file
        regions = regions_of(graph, size)
        assert all(0 <= v <= 1 for box in regions.boxes.values() for v in box)
        assert all(sentence.text for sentence in sentences_of(graph))


@few
@given(mutated(COCO))
def test_coco(tmp_path: Path, content: Any) -> None:
    (tmp_path / "MS_CXR_Local_Alignment_v1.0.0.json").write_text(json.dumps(content))
    survives(lambda: MSCXR(tmp_path).read())


@few
@given(mutated(STUDIES))
@example([STUDIES[0] | {"ImageID": 10**400}])  # a name longer than a file's may be
def test_grounded_reports(tmp_path: Path, content: Any) -> None:
    (tmp_path / "master_table.csv").write_bytes(MASTER)
    (tmp_path / "PadChest_GR").mkdir(exist_ok=True)
    (tmp_path / "grounded_reports_20240819.json").write_text(json.dumps(content))
    survives(lambda: PadChestGR(tmp_path).read())


@few
@given(values)
@example([[10**400, 1, 2, 3]])
@example("[[1, 2, 3, 9" + "9" * 5000 + "]]")
def test_cells(value: Any) -> None:
    assert isinstance(cell(value), str)
    assert isinstance(number(value), float)
    assert box_list(value) is None or all(len(box) == 4 for box in box_list(value) or ())
    assert intervals_of(value) is None or all(len(one) == 3 for one in intervals_of(value) or ())
    assert labels_of(json.dumps(value)) is None or isinstance(labels_of(json.dumps(value)), dict)


@few
@given(st.dictionaries(st.sampled_from(["text", "intervals", "organ", "finding"]), values | scalars))
def test_snippet_rows(cells: dict[str, Any]) -> None:
    assert isinstance(snippet_of(cells, "t:1"), Snippet | Problem)


@few
@given(SENTENCES)
@example("series 4 images 1 - 99999999999999999999")
@example("image ²")
@example("Bild ½ / ٣")
def test_sentences(text: str) -> None:
    for language in ("en", "de", "auto"):
        miner = Miner(language)
        miner.sentence(text)
        snippets, _ = miner.report(text, whole=True)
        assert all(text[slice(*one.span)] for one in snippets)


def test_records_are_what_the_clean_files_say(tmp_path: Path) -> None:
    (tmp_path / "MS_CXR_Local_Alignment_v1.0.0.json").write_text(json.dumps(COCO))
    (item,) = MSCXR(tmp_path).candidates()
    assert isinstance(item, PhraseRecord)
    assert item.boxes == ((0.01, 2 / 90, 0.31, 42 / 90),)
