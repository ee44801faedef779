"""Prediction files: what is written is read back, damaged lines are named, COCO files fit together."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from medvl.errors import DataError
from medvl.outputs import PhrasePrediction, facts_of, make_room, read_predictions, write_coco, write_predictions

FULL = PhrasePrediction(
    image="a.png",
    phrase="Derrame pleural en la base izquierda, pequeño.",
    boxes_xyxy_px=((10.0, 20.0, 110.5, 220.25),),
    scores=(0.75,),
    threshold=0.5,
    kind="boxed",
    patient="5f0c",
    image_path="images/a.png",
    root="/data",
    width=400,
    height=300,
    gold_xyxy_px=((12.0, 20.0, 100.0, 200.0), (300.0, 1.0, 380.0, 90.0)),
    all_boxes_xyxy_px=((10.0, 20.0, 110.5, 220.25), (0.0, 0.0, 1.0, 1.0)),
    all_scores=(0.75, 0.1),
)
BARE = PhrasePrediction("b.png", "No pneumothorax.", (), (), 0.5)


def test_round_trip(tmp_path: Path) -> None:
    path = write_predictions(tmp_path / "predictions" / "test.jsonl", [FULL, BARE])
    assert read_predictions(path) == [FULL, BARE]
    assert FULL.file == Path("/data/images/a.png")
    assert [file.name for file in path.parent.iterdir()] == ["test.jsonl"]


def test_the_first_keys_are_the_promised_ones() -> None:
    keys = list(json.loads(FULL.to_json(full=False)))
    assert keys[:5] == ["image", "phrase", "boxes_xyxy_px", "scores", "threshold"]
    assert not any(key.startswith("all_") for key in keys)
    assert "pequeño" in FULL.to_json()


def test_unknown_gold_is_not_empty_gold() -> None:
    assert PhrasePrediction.from_json(BARE.to_json()).gold_xyxy_px is None
    empty = PhrasePrediction("b.png", "x", (), (), 0.5, gold_xyxy_px=())
    assert PhrasePrediction.from_json(empty.to_json()).gold_xyxy_px == ()


def test_keys_of_others_are_ignored() -> None:
    line = json.dumps({**json.loads(BARE.to_json()), "reader": 2})
    assert PhrasePrediction.from_json(line) == BARE


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"image": "a.png"', "not a prediction"),
        ("[1, 2]", "not a prediction|missing key"),
        ('{"image": "a.png", "phrase": "x", "boxes_xyxy_px": [], "threshold": 0.5}', "missing key.*scores"),
        ('{"image": "a", "phrase": "x", "boxes_xyxy_px": [[1,2,3]], "scores": [1], "threshold": 0.5}', "prediction"),
        ('{"image": "a", "phrase": "x", "boxes_xyxy_px": [], "scores": [1], "threshold": 0.5}', "as many scores"),
    ],
)
def test_damaged_lines_are_named(tmp_path: Path, line: str, message: str) -> None:
    path = tmp_path / "test.jsonl"
    path.write_text(BARE.to_json() + "\n\n" + line + "\n")
    with pytest.raises(DataError, match=message) as caught:
        read_predictions(path)
    assert caught.value.where == f"{path}:3"
    assert len(str(caught.value).splitlines()) <= 4


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such predictions file"):
        read_predictions(tmp_path / "nothing.jsonl")


def test_coco_files_fit_together(tmp_path: Path) -> None:
    results_path, images_path = write_coco(tmp_path, [BARE, FULL])
    results, truth = json.loads(results_path.read_text()), json.loads(images_path.read_text())
    assert results == [{"image_id": 2, "category_id": 1, "bbox": [10.0, 20.0, 100.5, 200.25], "score": 0.75}]
    assert [image["id"] for image in truth["images"]] == [1, 2]
    assert truth["images"][1]["caption"] == FULL.phrase
    assert [a["image_id"] for a in truth["annotations"]] == [2, 2]
    assert truth["annotations"][0]["bbox"] == [12.0, 20.0, 88.0, 180.0]
    assert truth["annotations"][0]["area"] == 88 * 180
    assert {a["category_id"] for a in truth["annotations"]} == {c["id"] for c in truth["categories"]}


def test_what_tells_of_other_data_is_put_aside_and_never_lost(tmp_path: Path) -> None:
    path = tmp_path / "predictions" / "predictions.jsonl"

    def predict(source: str, phrase: str) -> str | None:
        aside = make_room(path, {"source": source, "fingerprint": "0123456789"}, ["overlays"])
        write_predictions(path, [PhrasePrediction("b.png", phrase, (), (), 0.5)])
        (path.parent / "overlays").mkdir(exist_ok=True)
        (path.parent / "overlays" / "1.png").write_text(phrase)
        return aside.name if aside else None

    moved = [predict(*words) for words in [("a", "one"), ("a", "two"), ("b", "three"), ("a", "four"), ("c", "five")]]
    assert moved == [None, None, "a-01234567", "b-01234567", "a-01234567-2"]
    told = {file: read_predictions(file)[0].phrase for file in path.parent.rglob("*.jsonl")}
    assert sorted(told.values()) == ["five", "four", "three", "two"]
    for file, phrase in told.items():
        assert (file.parent / "overlays" / "1.png").read_text() == phrase
        assert facts_of(file)["source"] == ("c" if file == path else file.parent.name[0])
    path.with_suffix(".data.json").unlink()  # as runs of old have it
    assert predict("c", "six") == "earlier"
