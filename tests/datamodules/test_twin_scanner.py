"""Another scanner's look, and the anatomies of a synthetic film."""

from __future__ import annotations

import importlib
import json
from pathlib import Path

import numpy as np
import pytest

from datamodules.twins import TWINS
from datamodules.twins.regions import NESTED, around, regions
from datamodules.twins.scanner import rescanned
from datamodules.twins.scene_graphs import twin_graph
from datamodules.twins.studies import make_study, plan
from medvl.io.image import read_image

SEED, SIZE = 11, 200


def test_a_shifted_film_shows_the_same_and_looks_different() -> None:
    for index in range(6):
        plain, shifted = (make_study(index, SEED, size=SIZE, appearance=look) for look in ("plain", "shifted"))
        assert shifted.findings == plain.findings
        assert (shifted.image.shape, shifted.image.dtype) == (plain.image.shape, np.uint16)
        assert shifted.image.max() == 4095
        height, width = plain.image.shape
        middle = np.s_[height // 5 : -height // 5, width // 5 : -width // 5]
        films = [film.image[middle].astype(float) for film in (plain, shifted)]
        ranks = [np.argsort(np.argsort(film[::4, ::4].ravel())) for film in films]
        assert np.corrcoef(ranks)[0, 1] > 0.75  # the same structures, ...
        tones = [np.histogram(film, 32)[0] / film.size for film in films]
        assert abs(tones[0] - tones[1]).sum() > 0.3  # ... in other tones, ...
        edges = [np.abs(np.diff(film)).mean() / np.ptp(film) for film in films]
        assert edges[1] > 1.3 * edges[0]  # ... sharper and noisier
    again = make_study(0, SEED, size=SIZE, appearance="shifted").image
    np.testing.assert_array_equal(again, make_study(0, SEED, size=SIZE, appearance="shifted").image)


def test_the_shutter_cuts_corners_and_no_box() -> None:
    film = np.tile(np.linspace(500, 3000, 100).astype(np.uint16), (120, 1))
    for boxes in ([], [(0.1, 0.02, 0.3, 0.3)], [(0.5, 0.9, 0.8, 0.97)]):
        out = rescanned(film, boxes, np.random.default_rng(0))
        assert out[-1, 0] == out[0, -1] == 4095
        for x1, y1, x2, y2 in boxes:
            assert (out[int(y1 * 120) + 1 : int(y2 * 120) - 1, int(x1 * 100) + 1 : int(x2 * 100) - 1] < 4095).all()


@pytest.mark.parametrize("name", [name for name in TWINS if name != "ct-rate"])  # volumes look as their site does
def test_every_writer_takes_the_appearance(name: str, tmp_path: Path) -> None:
    module, _, function = TWINS[name].rpartition(".")
    films, tables = {}, {}
    for look in ("plain", "shifted"):
        folder = tmp_path / look
        getattr(importlib.import_module(module), function)(folder, 3, 1, size=64, appearance=look)
        files = sorted(path for path in folder.rglob("*") if path.is_file())
        paths = [path for path in files if path.suffix in (".png", ".jpg", ".dcm", ".dicom")]
        films[look] = [read_image(path).pixels.astype(float) / 255 for path in paths]
        tables[look] = [p.read_bytes() for p in files if p not in paths and p.name != "twin.json"]
        assert json.loads((folder / "twin.json").read_text()).get("appearance", "plain") == look
    assert len(films["plain"]) >= 3  # some formats have second frontals and laterals
    for plain, shifted in zip(films["plain"], films["shifted"], strict=True):
        assert abs(plain - shifted).mean() > 0.05
    assert tables["plain"] == tables["shifted"]


# --- anatomies --------------------------------------------------------------------------------------------------------


def test_anatomies_lie_where_they_should() -> None:
    for index in range(12):
        body = plan(index, SEED).body
        boxes = regions(body, body.shape(SIZE))
        assert len(boxes) == 36
        assert all(x1 < x2 and y1 < y2 for x1, y1, x2, y2 in boxes.values())
        assert all(min(box) > -0.3 and max(box) < 1.3 for box in boxes.values())
        middle = {name: ((x1 + x2) / 2, (y1 + y2) / 2) for name, (x1, y1, x2, y2) in boxes.items()}
        for part in ("lung", "apical zone", "costophrenic angle", "clavicle", "cardiac silhouette"):
            assert middle[f"right {part}"][0] < middle[f"left {part}"][0]  # the patient's right is on the left
        for side in ("right", "left"):
            zones = [f"{side} {zone} lung zone" for zone in ("upper", "mid", "lower")]
            assert middle[zones[0]][1] < middle[zones[1]][1] < middle[zones[2]][1]
            np.testing.assert_allclose(around(boxes[zone] for zone in zones), boxes[f"{side} lung"], atol=0.03)
    assert {name for names in NESTED.values() for name in names} | NESTED.keys() <= boxes.keys()


def test_sentences_hang_on_the_side_of_their_lesions() -> None:
    checked = 0
    for index in range(40):
        planned = plan(index, SEED)
        made = twin_graph(planned, "d", planned.body.shape(SIZE), np.random.default_rng(0), ())
        true = {text: names for text, _, names in made.gold}
        for painted in planned.painted:
            sides = {lesion.side for lesion in painted.lesions}
            for sentence in (s for s in planned.findings if s.boxes == painted.boxes and len(sides) == 1):
                if sides <= {"right", "left"}:
                    checked += 1
                    assert {name.split()[0] for name in true[sentence.sentence_en]} == sides
    assert checked > 30
