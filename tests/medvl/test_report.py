"""The report: whole, self-contained, its figures those of the metric, with whatever a run folder holds so far."""

from __future__ import annotations

import base64
import dataclasses
import io
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from medvl.errors import DataError
from medvl.metrics import GroundingMetrics, patient_bootstrap, phrase_outcomes
from medvl.outputs import PhrasePrediction, write_predictions
from medvl.viz.chart import Line, _ticks, line_chart
from medvl.viz.overlay import GOLD, PREDICTED, caption, draw_boxes, draw_prediction, draw_predictions, grid
from medvl.viz.report import write_report

SIZE = (120, 160)  # height, width
VOID = {"meta", "img", "line", "polyline", "circle", "br"}


class Page(HTMLParser):
    """Collects table cells by row name, images and links, and checks that tags are closed in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.sources: list[str] = []
        self.rows: dict[str, list[str]] = {}
        self.row: list[str] | None = None
        self.words: list[str] = []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.sources += [value or "" for name, value in attrs if name in ("src", "href")]
        if tag not in VOID:
            self.open.append(tag)
        if tag == "tr":
            self.row = []
        elif tag in ("td", "th") and self.row is not None:
            self.row.append("")

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag
        if tag == "tr" and self.row:
            self.rows[self.row[0]] = self.row[1:]
            self.row = None

    def handle_data(self, data: str) -> None:
        self.words.append(data)
        if self.row:
            self.row[-1] += data if self.open[-1] != "small" else f" {data}"


def make_predictions(root: Path) -> list[PhrasePrediction]:
    """Two phrases about each of twelve images: one that the model finds, half finds or misses, one without a box."""
    rng, made = np.random.default_rng(0), []
    root.mkdir()
    height, width = SIZE
    for i in range(12):
        Image.fromarray(rng.integers(0, 255, SIZE, dtype=np.uint8)).save(root / f"{i}.png")
        gold = np.array([[20.0, 20, 70, 90], [90.0, 30, 140, 100]][: 1 + i % 2])
        boxes = np.concatenate([gold + rng.normal(0, 4 if i % 3 else 40, (1, 4)), [[0, 0, 9, 9]]])
        boxes = np.sort(boxes.reshape(-1, 2, 2), axis=1).reshape(-1, 4).clip(0, [width, height, width, height])
        scores = np.array([*rng.uniform(0.55, 0.95, len(gold)), 0.1])
        for kind, phrase in (("boxed", f"Opacity <{i}> & more."), (("negated", "absent")[i % 2], "No fracture.")):
            has_box = kind == "boxed"
            found = scores if has_box else scores - (0.6 if i % 4 else 0)
            keep = found > 0.5
            made.append(
                PhrasePrediction(
                    image=f"{i}.png",
                    phrase=phrase,
                    boxes_xyxy_px=tuple(map(tuple, boxes[keep].tolist())),
                    scores=tuple(found[keep].tolist()),
                    threshold=0.5,
                    kind=kind,
                    patient=f"salted{i // 2}",
                    image_path=f"{i}.png",
                    root=str(root),
                    width=width,
                    height=height,
                    gold_xyxy_px=tuple(map(tuple, gold.tolist())) if has_box else (),
                    all_boxes_xyxy_px=tuple(map(tuple, boxes.tolist())),
                    all_scores=tuple(found.tolist()),
                )
            )
    return made


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run folder as it is after fit."""
    folder = tmp_path / "runs" / "grounding" / "demo" / "2026-01-02_03-04-05"
    folder.mkdir(parents=True)
    lines: list[dict[str, float | None]] = [
        {"step": s, "epoch": 0, "train/loss": 3 / (1 + s)} for s in range(0, 90, 10)
    ]
    lines += [
        {"step": s, "epoch": 1, "val/loss": 2 / s, "val/p_at_f1/boxed": s / 100, "val/n_acc": None} for s in (40, 80)
    ]
    text = "\n".join(json.dumps(line) for line in lines)
    (folder / "metrics.jsonl").write_text(text + '\n{"step": 90, "train/lo')
    (folder / "fit.yaml").write_text("model:\n  width: 128  # <wide>\n")
    return folder


def test_after_fit_only(run: Path) -> None:
    text = write_report(run).read_text()
    page = Page(text)
    assert text.count("<svg") == 2
    assert page.rows["val/loss"] == ["0.025", "0.025", "80"]
    assert page.rows["val/p_at_f1/boxed"][0] == "0.800"
    assert "width: 128  # <wide>" in "".join(page.words)
    assert "2026-01-02 03:04" in "".join(page.words)
    assert "research use only" in text
    assert "Test metrics" not in text


def test_validation_and_tests_of_other_data_are_no_part_of_the_curves(run: Path) -> None:
    lines = [("validate", "val/loss", 0.001), ("test", "test/p_at_f1", 0.9), ("test", "test/p_at_f1", 0.5)]
    told = "\n".join(json.dumps({"step": 90, "epoch": 1, "stage": stage, name: value}) for stage, name, value in lines)
    (run / "metrics.jsonl").write_text((run / "metrics.jsonl").read_text() + "\n" + told)
    page = Page(write_report(run).read_text())
    assert page.rows["val/loss"] == ["0.025", "0.025", "80"]
    assert page.rows["test/p_at_f1"] == ["0.500", "0.500", "90"]


def test_of_an_empty_folder(tmp_path: Path) -> None:
    assert "research use only" in write_report(tmp_path).read_text()


def test_figures_are_those_of_the_metric(run: Path, tmp_path: Path) -> None:
    predictions = make_predictions(tmp_path / "images")
    write_predictions(run / "predictions" / "test.jsonl", predictions)
    (run / "data.json").write_text(json.dumps({"fingerprint": "abc123"}))
    text = write_report(run).read_text()
    page = Page(text)

    preds = [
        {"boxes": torch.tensor(p.all_boxes_xyxy_px).reshape(-1, 4), "scores": torch.tensor(p.all_scores)}
        for p in predictions
    ]
    targets = [{"boxes": torch.tensor(p.gold_xyxy_px).reshape(-1, 4)} for p in predictions]
    metric = GroundingMetrics()
    metric.update(preds, targets)
    values = metric.compute()
    assert 0 < values["p_at_f1/boxed"] < 1
    assert 0 < values["n_acc"] < 1
    rows = {"All phrases": "", "With boxes": "/boxed", "one box": "/single", "several boxes": "/multi"}
    for row, suffix in {**rows, "Without boxes": "/zero"}.items():
        assert page.rows[row][2].split()[0] == f"{values[f'p_at_f1{suffix}']:.3f}"
    for row, suffix in {"All phrases": "", "one box": "/single", "several boxes": "/multi"}.items():
        shown = [cell.split()[0] for cell in page.rows[row][4:]]
        assert shown == [f"{values[name + suffix]:.3f}" for name in ("t_acc", "miou", "coverage", "center_hit")]
    assert page.rows["With boxes"][3] == "–"
    assert page.rows["All phrases"][:2] == ["24", "6"]

    out = phrase_outcomes(preds, targets)
    absent = np.array([p.kind == "absent" for p in predictions])
    mean, low, high = patient_bootstrap(np.where(absent, out["n_acc"], np.nan), [p.patient for p in predictions])
    assert page.rows["finding not in this image"][3] == f"{mean:.3f} {low:.3f} to {high:.3f}"
    assert page.rows["fingerprint"] == ["abc123"]


def test_groups_have_rows_of_their_own(run: Path, tmp_path: Path) -> None:
    known = {0: {"sex": "F", "age": "<40-59>"}, 1: {"sex": "M"}, 2: {"sex": "M"}, 3: {}}
    predictions = [
        dataclasses.replace(p, groups=known[i // 4 % 4]) for i, p in enumerate(make_predictions(tmp_path / "images"))
    ]
    write_predictions(run / "predictions" / "test.jsonl", predictions)
    page = Page(write_report(run).read_text())

    kept = [
        {"boxes": torch.tensor(p.boxes_xyxy_px).reshape(-1, 4), "scores": torch.tensor(p.scores)} for p in predictions
    ]
    out = phrase_outcomes(kept, [{"boxes": torch.tensor(p.gold_xyxy_px).reshape(-1, 4)} for p in predictions])
    men = np.array([p.groups.get("sex") == "M" for p in predictions])
    boxed = np.array([p.kind == "boxed" for p in predictions])
    patients = [p.patient for p in predictions]
    for column, (metric, mask) in enumerate((("p_at_f1", men & boxed), ("n_acc", men), ("miou", men)), start=2):
        mean, low, high = patient_bootstrap(np.where(mask, out[metric], np.nan), patients)
        assert page.rows["M"][column] == f"{mean:.3f} {low:.3f} to {high:.3f}"
    assert page.rows["M"][:2] == [str(men.sum()), "3"]
    assert page.rows["Sex"][:2] == ["20", "5"]
    assert page.rows["Age"][:2] == page.rows["<40-59>"][:2] == page.rows["F"][:2]
    assert "View" not in page.rows


def test_without_groups_there_is_no_table_of_them(run: Path, tmp_path: Path) -> None:
    write_predictions(run / "predictions" / "test.jsonl", make_predictions(tmp_path / "images"))
    assert "By group" not in write_report(run).read_text()


def test_is_self_contained_and_shows_cases(run: Path, tmp_path: Path) -> None:
    write_predictions(run / "predictions" / "test.jsonl", make_predictions(tmp_path / "images"))
    report = write_report(run)
    text = report.read_text()
    page = Page(text)
    assert report.stat().st_size < 5_000_000
    assert page.sources
    assert all(source.startswith("data:image/jpeg;base64,") for source in page.sources)
    assert not re.search(r"<script|https?://|@import|url\(", text)
    sizes = {Image.open(io.BytesIO(base64.b64decode(s.split(",")[1]))).size for s in page.sources}
    assert sizes == {SIZE[::-1]}
    assert text.count("<svg") == 3
    assert {"Best", "Worst"} <= set(page.words)
    assert "Opacity &lt;" in text
    assert "salted" not in text


def test_a_lost_image_does_not_lose_the_report(run: Path, tmp_path: Path) -> None:
    predictions = make_predictions(tmp_path / "images")
    for image in (tmp_path / "images").iterdir():
        image.unlink()
    write_predictions(run / "predictions" / "test.jsonl", predictions)
    assert "no such image file" in write_report(run).read_text()


def test_without_gold_predictions_are_shown(run: Path, tmp_path: Path) -> None:
    predictions = [
        PhrasePrediction.from_json(json.dumps({**json.loads(p.to_json()), "gold_xyxy_px": None}))
        for p in make_predictions(tmp_path / "images")
    ]
    write_predictions(run / "predictions" / "predictions.jsonl", predictions, full=False)
    page = Page(write_report(run).read_text())
    assert len(page.sources) == 12
    assert "With boxes" not in page.rows


def test_overlays_are_named_by_line(tmp_path: Path) -> None:
    predictions = make_predictions(tmp_path / "images")
    path = write_predictions(tmp_path / "run" / "predictions" / "predictions.jsonl", predictions, full=False)
    written = draw_predictions(tmp_path / "run", n=3)
    assert [file.name for file in written] == ["00001.png", "00002.png", "00003.png", "overview.png"]
    assert {file.parent for file in written} == {path.parent / "overlays"}
    assert draw_predictions(path, tmp_path / "elsewhere", n=1)[0] == tmp_path / "elsewhere" / "00001.png"
    path.write_text("")
    with pytest.raises(DataError, match="no predictions"):
        draw_predictions(path)


def test_boxes_are_drawn_where_they_are(tmp_path: Path) -> None:
    picture = np.asarray(
        draw_boxes(np.zeros((100, 200), np.uint8), [(40, 20, 160, 80)], [(10, 10, 60, 40)], [0.5], 0.5)
    )
    assert picture.shape == (100, 200, 3)
    gold, found = ((picture == colour).all(-1) for colour in (GOLD, PREDICTED))
    ys, xs = np.nonzero(gold)
    assert (xs.min(), xs.max(), ys.min(), ys.max()) == (20, 80, 10, 40)
    assert found[5, 5]
    assert found[12, 5]
    assert not found[60:].any()


def test_boxes_at_and_beyond_the_edge_are_seen() -> None:
    black = np.zeros((50, 50), np.uint8)
    for box in [(0, 0, 50, 50), (-20, -20, 90, 90), (49, 49, 50, 50), (10, 10, 10, 10), (80, 80, 90, 90)]:
        for gold, found, colour in (([box], [], GOLD), ([], [box], PREDICTED)):
            picture = np.asarray(draw_boxes(black, gold, found, [0.5] * len(found)))
            assert (picture == colour).all(-1).any()


def test_scores_without_room_are_left_out_and_counted() -> None:
    def corner(count: int) -> np.ndarray:
        box = (100.0, 100.0, 200.0, 200.0)
        picture = draw_boxes(np.zeros((300, 300), np.uint8), (), [box] * count, [0.5] * count)
        return np.asarray(picture)[260:, :150]

    few, many, more = corner(6), corner(12), corner(13)
    assert not few.any()  # six scores find a place around one box
    assert (many == 255).all(-1).any()
    assert (many != more).any()  # six without, and seven


def test_a_prediction_is_scaled_to_its_picture(tmp_path: Path) -> None:
    Image.fromarray(np.zeros((400, 1000), np.uint8)).save(tmp_path / "a.png")
    one = PhrasePrediction("a.png", "x", (), (), 0.5, root=str(tmp_path), gold_xyxy_px=((500, 200, 900, 380),))
    picture = np.asarray(draw_prediction(one, 250))
    assert picture.shape == (100, 250, 3)
    ys, xs = np.nonzero((picture == GOLD).all(-1))
    assert (xs.min(), xs.max(), ys.min(), ys.max()) == (125, 225, 50, 95)


def test_captions_wrap_and_grids_hold_all() -> None:
    panel = caption(Image.new("RGB", (200, 100)), "Derrame pleural pequeño en la base izquierda. " * 3, "nota")
    assert panel.width == 200
    assert panel.height > 170
    sheet = grid([panel] * 5, columns=2)
    assert sheet.width > 400
    assert sheet.height > 3 * panel.height
    with pytest.raises(ValueError, match="at least one"):
        grid([])


def test_charts_of_nothing_one_point_and_many() -> None:
    assert line_chart("x", [Line("empty", [], [])], "step") == ""
    assert "nan" not in line_chart("x", [Line("one", [5], [0.25])], "step")
    long = line_chart("x", [Line("<long>", range(5000), [1.0] * 5000)], "step", marker=(9e9, "end"))
    assert "&lt;long&gt;" in long
    points = re.search(r'points="([^"]*)"', long)
    assert points is not None
    assert len(points[1].split()) == 240


@pytest.mark.parametrize(("low", "high"), [(0, 1), (0.001, 0.0019), (-3, 12_000), (5, 5), (0, 0)])
def test_ticks_span_the_data(low: float, high: float) -> None:
    ticks = _ticks(low, high)
    assert ticks[0] <= low
    assert ticks[-1] >= high
    assert 2 <= len(ticks) <= 9
