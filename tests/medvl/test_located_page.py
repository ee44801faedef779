"""The page of sentences in a CT: right way up, to scale, tied by colour, and nothing fetched or run."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medvl.io.sidecar import Sidecar, Slice
from medvl.io.volume import Volume, unnumbered
from medvl.located import DepthProfile, LocatedSentence, LocatedVolume, images_between, nearest_place
from medvl.viz.levels import Levels, apart, draw_levels
from medvl.viz.located import write_page
from medvl.viz.planes import WINDOWS, axial, coronal, sagittal

SHAPE, SPACING = (20, 40, 60), (4.0, 1.5, 2.0)


def scan(first: float = -100.0, numbered: bool = True) -> Volume:
    """A box of water in air with bone at its head, front and right end."""
    hu = np.full(SHAPE, -1000, np.int16)
    hu[1:-1, 5:-5, 10:-10] = 0
    hu[-3:-1, -12:-5, -20:-10] = 1000
    affine = np.diag([SPACING[2], SPACING[1], SPACING[0], 1.0])
    affine[2, 3] = first
    volume = Volume(hu, affine, Sidecar(()), ("tilt: some",))
    slices = tuple(Slice(volume.depth.z(i), image=120 - i, thickness=1.0) for i in range(SHAPE[0]))
    return Volume(hu, affine, Sidecar(slices, 4) if numbered else unnumbered(volume.depth), volume.notes)


def sentence(volume: Volume, text: str, mm: float, present: float = 0.9) -> LocatedSentence:
    edges = tuple(volume.depth.z(i - 0.5) for i in range(0, SHAPE[0] + 1, 4))
    middle = sum(edge <= mm for edge in edges) - 1
    probability = tuple(0.8 if i == middle else 0.05 for i in range(len(edges) - 1))
    return LocatedSentence(
        snippet=text,
        mm=mm,
        low_mm=mm - 9,
        high_mm=mm + 11,
        present=present,
        extents_mm=((edges[middle], edges[middle + 1]),),
        place=nearest_place(volume.sidecar, mm),
        interval_images=images_between(volume.sidecar, mm - 9, mm + 11),
        profile=DepthProfile(edges, probability),
    )


class Page(HTMLParser):
    """Collects the classes of sentences and levels, every tag and every address."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.said: list[set[str]] = []
        self.levels: list[set[str]] = []
        self.tags: set[str] = set()
        self.addresses: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        known = dict(attrs)
        classes = set((known.get("class") or "").split())
        self.tags.add(tag)
        self.addresses += [value or "" for name, value in attrs if name in ("src", "href")]
        self.said += [classes] if "said" in classes else []
        self.levels += [classes] if "level" in classes else []


def test_planes_stand_upright_with_the_left_on_the_right() -> None:
    volume = scan()
    bone = {"coronal": coronal(volume).hu, "sagittal": sagittal(volume).hu, "axial": axial(volume, 18).hu}
    assert [one.shape for one in bone.values()] == [(20, 60), (20, 40), (40, 60)]
    hu = volume.hu.copy()
    hu[:, :, :] = 0
    hu[-1, :, :], hu[:, -1, :], hu[:, :, -1] = 500, 600, 700
    marked = Volume(hu, volume.affine, volume.sidecar)
    assert (coronal(marked).hu[0, 1:] == 500).all()  # the head on top
    assert (coronal(marked).hu[:, 0] == 700).all()  # the right on the left
    assert (sagittal(marked).hu[0, 1:] == 500).all()
    assert (sagittal(marked).hu[:, 0] == 600).all()  # the front on the left
    assert (axial(marked, 3).hu[0, 1:] == 600).all()  # the front on top
    assert (axial(marked, 3).hu[:, 0] == 700).all()
    assert (bone["axial"] == 1000).any(axis=1).argmax() == 5


def test_planes_are_to_scale_and_windowed() -> None:
    volume = scan()
    for plane, width, height in ((coronal(volume), 120, 80), (sagittal(volume), 60, 80), (axial(volume, 9), 120, 60)):
        assert (plane.width, plane.height) == (width, height)
        shown = plane.picture(WINDOWS["soft"])
        assert shown.width / shown.height == pytest.approx(width / height, rel=0.02)
    grey = np.asarray(axial(volume, 9).picture(WINDOWS["soft"]))
    assert grey[0, 0] == 0
    assert grey[grey.shape[0] // 2, grey.shape[1] // 2] == round(255 * 160 / 400)


def test_planes_go_through_the_body() -> None:
    hu = np.full((4, 40, 60), -1000, np.int16)
    hu[:, 30:40, 2:6] = 50
    volume = Volume(hu, np.eye(4), Sidecar(()))
    assert (coronal(volume).hu == 50).any()
    assert (sagittal(volume).hu == 50).any()
    empty = Volume(np.full_like(hu, -1000), np.eye(4), Sidecar(()))
    assert coronal(empty).hu.shape == (4, 60)


def test_a_level_lies_where_its_depth_is() -> None:
    volume = scan(first=-100.0)
    one = sentence(volume, "A nodule.", -60.0)
    drawn, ratio = draw_levels(volume, LocatedVolume("x", (one,), 0.8))
    at = Levels(volume.depth, coronal(volume), sagittal(volume))
    assert ratio == pytest.approx(at.width / at.height)
    # The scan reaches from -102 to -22 mm, so -60 mm lies 38 mm below its top.
    image = re.search(r'<image class="window-soft" x="0.00" y="([\d.]+)" width="120.00" height="80.00"', drawn)
    assert image
    head = float(image[1])
    spans = re.findall(r'<rect class="span" x="0.00" y="([\d.]+)" width="[\d.]+" height="([\d.]+)"', drawn)
    assert [(float(y), float(height)) for y, height in spans] == [(pytest.approx(head + 27, abs=0.01), 20.0)]
    median = re.search(r'<path class="median" d="M0.00 ([\d.]+) ', drawn)
    assert median
    assert float(median[1]) == pytest.approx(head + 38, abs=0.01)
    assert at.along(-102) - at.along(-22) == pytest.approx(80 * at.stretch)


def test_a_thin_stack_is_spread_out_in_the_profile_alone() -> None:
    thin = Volume(scan().hu[:3], scan().affine, scan().sidecar)
    at = Levels(thin.depth, coronal(thin), sagittal(thin))
    assert at.feet - at.head == pytest.approx(12)
    assert at.bottom - at.top > 4 * 12
    assert at.top <= at.head < at.feet <= at.bottom


@settings(deadline=None)  # a busy machine is no failure
@given(st.lists(st.floats(0, 100), max_size=12))
def test_numbers_keep_apart(places: list[float]) -> None:
    moved = apart(places, 5, 2, 98)
    assert all(2 - 1e-6 <= place <= 98 + 1e-6 for place in moved)
    ordered = sorted(moved)
    assert all(b - a >= 5 - 1e-6 for a, b in pairwise(ordered))
    if len(places) == 1 and 2 <= places[0] <= 98:
        assert moved == places


def test_the_page_ties_sentences_and_levels(tmp_path: Path) -> None:
    volume = scan()
    told = (
        sentence(volume, "Nodule <1> & more.", -60.0),
        sentence(volume, "Fracture.", -40.0, present=0.2),
        sentence(volume, "Lesion.", -90.0),
    )
    html = write_page(tmp_path / "page.html", LocatedVolume("scan <x>", told, 0.8), volume).read_text()
    found = Page(html)
    assert [{"t1", "k0"} <= found.said[0], "silent" in found.said[1], {"t3", "k2"} <= found.said[2]] == [True] * 3
    assert [sorted(one & {"t1", "t2", "t3"}) for one in found.levels] == [["t1"], ["t3"]]
    assert "Nodule &lt;1&gt; &amp; more." in html
    assert "Not in this scan" in html
    assert "Series 4, image 110 · −60.0 mm" in html
    assert "80 % between −69.0 and −49.0 mm (images 107 to 112)" in html
    assert "tilt: some" in html
    assert "patient&#x27;s left" in html or "patient's left" in html
    assert "script" not in found.tags
    assert len(found.addresses) == 2 * (2 + 2)
    assert all(address.startswith("data:image/png;base64,") for address in found.addresses)


def test_a_volume_without_numbers_names_its_slice(tmp_path: Path) -> None:
    volume = scan(numbered=False)
    one = sentence(volume, "Nodule.", -60.0)
    html = write_page(tmp_path / "page.html", LocatedVolume("x", (one,), 0.8), volume).read_text()
    assert "Slice 11 of 20 from the feet · −60.0 mm" in html
    assert (one.place.image, one.interval_images) == (None, None)


def test_nothing_found_is_drawn_too(tmp_path: Path) -> None:
    volume = scan()
    one = sentence(volume, "Nodule.", -60.0, present=0.1)
    found = Page(write_page(tmp_path / "page.html", LocatedVolume("x", (one,), 0.8), volume).read_text())
    assert found.levels == []
    assert len(found.addresses) == 4


def test_json_has_its_keys() -> None:
    values = json.loads(sentence(scan(), "Nodule.", -60.0).to_json())
    assert values == {
        "snippet": "Nodule.", "series": 4, "image": 110, "mm": -60.0, "low_mm": -69.0, "high_mm": -49.0,
        "interval_images": [107, 112], "present": 0.9, "extents_mm": [[-70.0, -54.0]],
    }  # fmt: skip


def test_depths_beyond_the_outermost_images_are_theirs() -> None:
    side = scan().sidecar  # slices of 1 mm every 4 mm, numbered against the depth
    assert nearest_place(side, -101.9).image == 120
    assert nearest_place(side, 0.0).image == 101
    assert images_between(side, -300.0, -96.0) == (119, 120)


def test_density_is_per_mm() -> None:
    assert DepthProfile((0.0, 10.0, 15.0), (0.5, 0.5)).density == (0.05, 0.1)
