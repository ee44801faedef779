from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from datamodules.sources import PhraseTable
from datamodules.sources.files import resolve_inside
from datamodules.sources.grouping import BOX_FORMATS, to_norm
from datamodules.twins import table as table_twin_writer
from medvl.errors import ConfigError, DataError

SAME_BOX = {
    "xyxy_px": [20, 10, 60, 60],
    "xywh_px": [20, 10, 40, 50],
    "xyxy_norm": [0.1, 0.1, 0.3, 0.6],
    "xywh_norm": [0.1, 0.1, 0.2, 0.5],
    "cxcywh_norm": [0.2, 0.35, 0.2, 0.5],
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in "abcd":
        Image.new("L", (200, 100)).save(tmp_path / f"{name}.png")
    return tmp_path


def write(folder: Path, text: str, name: str = "t.csv", encoding: str = "utf-8") -> Path:
    (folder / name).write_bytes(text.encode(encoding))
    return folder / name


def codes(source: PhraseTable) -> list[tuple[str, str]]:
    return [(p.where, p.code) for p in source.read().problems if p.fatal]


@pytest.mark.parametrize("box_format", BOX_FORMATS)
def test_box_conventions(folder: Path, box_format: Any) -> None:
    path = write(folder, f'image,phrase,boxes,split\na.png,A nodule.,"{[SAME_BOX[box_format]]}",train\n')
    (record,) = PhraseTable(path, box_format=box_format).load().records
    assert record.boxes[0] == pytest.approx((0.1, 0.1, 0.3, 0.6))
    assert to_norm(SAME_BOX[box_format], box_format, (100, 200)) == pytest.approx((0.1, 0.1, 0.3, 0.6))


@pytest.mark.parametrize(
    ("columns", "box_format"),
    [("x1,y1,x2,y2", "xyxy_px"), ("x,y,w,h", "xywh_px"), ("x,y,w,h", "xywh_norm"), ("cx,cy,w,h", "cxcywh_norm")],
)
def test_one_box_per_row(folder: Path, columns: str, box_format: Any) -> None:
    cells = ",".join(map(str, SAME_BOX[box_format]))
    other = ",".join(map(str, to_other(box_format)))
    text = f"image,phrase,{columns},split\na.png,Two.,{cells},test\nb.png,None.,,,,,test\na.png,Two.,{other},test\n"
    records = PhraseTable(write(folder, text), box_format=box_format).load().records
    assert [(r.phrase, len(r.boxes)) for r in records] == [("Two.", 2), ("None.", 0)]
    assert records[0].boxes[1] == pytest.approx((0.5, 0.5, 0.75, 0.75))


def to_other(box_format: str) -> list[float]:
    """Return xyxy (0.5, 0.5, 0.75, 0.75) of a 200 x 100 image in another convention."""
    return {
        "xyxy_px": [100, 50, 150, 75],
        "xywh_px": [100, 50, 50, 25],
        "xywh_norm": [0.5, 0.5, 0.25, 0.25],
        "cxcywh_norm": [0.625, 0.625, 0.25, 0.25],
    }[box_format]


@pytest.mark.parametrize("name", ["table.csv", "table.parquet", "table.jsonl"])
def test_twin_in_each_form(table_twin: Path, name: str) -> None:
    source = PhraseTable(table_twin / name, columns=table_twin_writer.COLUMNS, box_format="xyxy_px")
    loaded = source.load()
    assert loaded.problems == []
    assert {r.split for r in loaded.records} == {"train", "val", "test"}
    by_row = PhraseTable(
        table_twin / "rows.csv",
        columns={key: name for key, name in table_twin_writer.COLUMNS.items() if key != "boxes"},
        box_format="xywh_px",
    ).load()
    ours, theirs = ([(r.image, r.phrase, r.patient_id, r.split) for r in x.records] for x in (loaded, by_row))
    assert ours == theirs
    for a, b in zip(loaded.records, by_row.records, strict=True):
        assert [pytest.approx(box) for box in a.boxes] == list(b.boxes)
    assert any(r.boxes for r in loaded.records)


@pytest.mark.parametrize("mark", [",", ";", "\t", "|"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp1252"])
def test_dialects(folder: Path, mark: str, encoding: str) -> None:
    header, row = ["Image", "finding, free text", "phrase"], ["a.png", "x", '"Nódulo,\r\nal parecer; ""nuevo"""']
    text = mark.join(['"finding, free text"' if "," in h else h for h in header]) + "\r\n" + mark.join(row) + "\r\n"
    text += "\r\n" + mark.join(["b.png", "y", "Plain."])
    records = PhraseTable(write(folder, text, encoding=encoding)).load().records
    assert [(r.phrase, r.row) for r in records] == [
        ('Nódulo,\r\nal parecer; "nuevo"', "t.csv:2"),
        ("Plain.", "t.csv:5"),
    ]


@pytest.mark.parametrize(
    ("word", "split"),
    [("train", "train"), ("Training", "train"), ("val", "val"), ("valid", "val"), ("validation", "val"),
     ("validate", "val"), ("dev", "val"), ("TEST", "test")],
)  # fmt: skip
def test_split_words(folder: Path, word: str, split: str) -> None:
    assert PhraseTable(write(folder, f"image,phrase,split\na.png,A.,{word}\n")).load().records[0].split == split


def test_without_boxes_all_goes_to_test(folder: Path) -> None:
    path = write(folder, "filename,notes,license\na.png,A nodule.,x\nb.png,Clear.,y\n")
    source = PhraseTable(path, columns={"image": "filename", "phrase": "notes"})
    assert [(r.split, r.patient_id, r.boxes) for r in source.load().records] == [
        ("test", x, ()) for x in ("a.png", "b.png")
    ]


def test_without_split_patients_are_dealt(folder: Path) -> None:
    lines = [f'{image}.png,Phrase {i}.,"[[0.1, 0.1, 0.5, 0.5]]",{image}' for i in range(3) for image in "abcd"]
    path = write(folder, "image,phrase,boxes,patient_id\n" + "\n".join(lines))
    records = PhraseTable(path, box_format="xyxy_norm").load().records
    assert {r.split for r in records} == {"train", "val", "test"}
    assert len({(r.patient_id, r.split) for r in records}) == 4
    assert {r.split for r in PhraseTable(path, box_format="xyxy_norm", split="val").load().records} == {"val"}


def test_the_column_counts_only_when_asked_for(folder: Path) -> None:
    path = write(
        folder, "image,phrase,study_id,split\na.png,A.,s,fold1\nb.png,A.,s,fold2\nc.png,A.,t,fold3\nd.png,A.,u,fold1\n"
    )
    assert codes(PhraseTable(path)) == [(f"t.csv:{i}", "split-unknown") for i in (2, 3, 4, 5)]
    records = PhraseTable(path, split="deal").load().records
    assert [r.patient_id for r in records] == ["s", "s", "t", "u"]
    assert {r.split for r in records} == {"train", "val", "test"}


def test_cells_of_boxes(folder: Path) -> None:
    lines = [
        {"image": "a.png", "phrase": "list", "boxes": [[0.1, 0.1, 0.5, 0.5], [0, 0, 1, 1]]},
        {"image": "a.png", "phrase": "flat", "boxes": [0.1, 0.1, 0.5, 0.5]},
        {"image": "a.png", "phrase": "text", "boxes": "[(0.1, 0.1, 0.5, 0.5)]"},
        {"image": "a.png", "phrase": "null cell", "boxes": None},
        {"image": "a.png", "phrase": "empty cell", "boxes": []},
        {"image": "a.png", "phrase": "nan cell", "boxes": float("nan")},
        {"image": "a.png", "phrase": "words cell", "boxes": "nan"},
        {"image": "a.png", "phrase": "absent cell"},
    ]
    path = write(folder, "".join(json.dumps(line) + "\n" for line in lines), "t.jsonl")
    records = PhraseTable(path, box_format="xyxy_norm", split="train").load().records
    assert [len(r.boxes) for r in records] == [2, 1, 1, 0, 0, 0, 0, 0]


def test_parquet_with_nested_boxes_and_nulls(folder: Path) -> None:
    rows = [
        {"image": "a.png", "phrase": "x", "boxes": [[1, 2, 30, 40]]},
        {"image": "b.png", "phrase": "y", "boxes": None},
    ]
    pq.write_table(pa.Table.from_pylist(rows), folder / "t.parquet")
    records = PhraseTable(folder / "t.parquet", box_format="xyxy_px", split="train").load().records
    assert [len(r.boxes) for r in records] == [1, 0]


def test_convention_must_be_named(folder: Path) -> None:
    path = write(folder, 'image,phrase,boxes\na.png,A.,"[[20, 10, 60, 60]]"\n')
    with pytest.raises(ConfigError, match=r"(?s)convention is not named.*xyxy_px.*cxcywh_norm \(these look like px\)"):
        PhraseTable(path).load()
    with pytest.raises(DataError, match="box-outside"):
        PhraseTable(path, box_format="xyxy_norm").load()


def test_mistakes_in_the_columns(folder: Path) -> None:
    path = write(folder, "filename,notes,x,y,w,h\na.png,A.,1,2,3,4\n")
    with pytest.raises(DataError, match=r"(?s)no column 'image'.*columns: \{image: NAME\}.*'filename', 'notes'"):
        PhraseTable(path).load()
    with pytest.raises(DataError, match=r"(?s)'filenam', which the table lacks.*did you mean 'filename'"):
        PhraseTable(path, columns={"image": "filenam"}).load()
    with pytest.raises(ConfigError, match=r"(?s)unknown column 'phrases'.*did you mean 'phrase'"):
        PhraseTable(path, columns={"phrases": "notes"})
    with pytest.raises(ConfigError, match="unknown box_format"):
        PhraseTable(path, box_format="xywh")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="unknown split"):
        PhraseTable(path, split="holdout")
    with pytest.raises(ConfigError, match=r"(?s)does not fit the columns x, y, w, h.*xywh_px"):
        PhraseTable(path, columns={"image": "filename", "phrase": "notes"}, box_format="xyxy_px").load()


def test_mistakes_in_the_file(folder: Path) -> None:
    with pytest.raises(DataError, match="the table does not exist"):
        PhraseTable(folder / "none.csv").load()
    with pytest.raises(DataError, match="a folder, not a table"):
        PhraseTable(folder).load()
    with pytest.raises(DataError, match="the table is empty"):
        PhraseTable(write(folder, "")).load()
    with pytest.raises(DataError, match="cannot be read"):
        PhraseTable(write(folder, "PAR1", "t.parquet")).load()
    with pytest.raises(DataError, match="no usable row"):
        PhraseTable(write(folder, "image,phrase\n")).load()


def test_every_bad_row_is_told(folder: Path) -> None:
    (folder / "empty.png").touch()
    (folder / "text.png").write_text("this is no image")
    rows = [
        'a.png,ok,"[[20, 10, 60, 60]]",train',
        'a.png,,"[[20, 10, 60, 60]]",train',
        'a.png,b,"[[20, 10, 60",train',
        'a.png,c,"[[20, 10, 60]]",train',
        'a.png,d,"[[60, 10, 20, 60]]",train',
        'a.png,e,"[[20, 10, NaN, 60]]",train',
        'a.png,f,"[[20, 10, 20, 60]]",train',
        'a.png,g,"[[20, 10, 260, 60]]",train',
        "a.png,h,,tset",
        "a.png,i,,",
        'a.png,ok,"[[0, 0, 6, 6]]",train',
        "none.png,j,,train",
        'none.png,k,"[[0, 0, 6, 6]]",train',
        "../a.png,l,,train",
        f"{folder}/a.png,m,,train",
        ",n,,train",
        "a.png,o,,train,surplus",
        "empty.png,p,,train",
        'text.png,q,"[[0, 0, 6, 6]]",train',
        ".,r,,train",
    ]
    source = PhraseTable(write(folder, "image,phrase,boxes,split\n" + "\n".join(rows)), box_format="xyxy_px")
    expected = [
        "phrase-empty", "box-unreadable", "box-unreadable", "box-inverted", "box-nan", "box-empty", "box-outside",
        "split-unknown", "split-missing", "duplicate", "image-missing", "image-missing", "path-outside", "path-outside",
        "image-unnamed", "row-unreadable", "image-empty", "image-unreadable", "path-outside",
    ]  # fmt: skip
    assert sorted(codes(source)) == sorted((f"t.csv:{i}", code) for i, code in enumerate(expected, 3))
    assert [r.phrase for r in source.read().records] == ["ok"]


def test_one_bad_line_of_jsonl_costs_only_itself(folder: Path) -> None:
    path = write(folder, '{"image": "a.png", "phrase": "x"}\n{"image": \n[1]\n', "t.jsonl")
    assert codes(PhraseTable(path)) == [("t.jsonl:2", "row-unreadable"), ("t.jsonl:3", "row-unreadable")]


def test_images_relative_to_another_folder(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = write(tmp_path_factory.mktemp("elsewhere"), "image,phrase\na.png,A.\n")
    with pytest.raises(DataError, match="image-missing"):
        PhraseTable(path).load()
    source = PhraseTable(path, images=folder)
    assert source.path_of(source.load().records[0]) == folder / "a.png"


@pytest.mark.parametrize("path", ["", "/etc/passwd", "../x", "a/../../x", "..\\x", "C:\\x", "a\0b"])
def test_paths_that_leave_the_folder(tmp_path: Path, path: str) -> None:
    with pytest.raises(DataError):
        resolve_inside(tmp_path, path)


def test_links(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "x").touch()
    (tmp_path / "in" / "same").symlink_to("x")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "x").touch()
    (tmp_path / "in" / "out").symlink_to(tmp_path / "other")
    assert resolve_inside(tmp_path / "in", "same") == tmp_path / "in" / "same"
    with pytest.raises(DataError, match="symbolic link"):
        resolve_inside(tmp_path / "in", "out/x")
    assert resolve_inside(tmp_path / "in", "out/x", follow_links=True).is_file()


def test_columns_to_group_by(folder: Path) -> None:
    path = write(folder, "image,phrase,Sex,years,view,note\na.png,A.,F,63,,x\nb.png,B.,nan,,PA,y\n")
    records = PhraseTable(path, columns={"age": "years"}).load().records
    assert [r.attributes for r in records] == [{"sex": "F", "age": "63"}, {"view": "PA"}]
