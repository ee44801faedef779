"""`medvl retrieve`: neighbours as plain sorting finds them, and a page that says why."""

from __future__ import annotations

import contextlib
import re
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from cli_toy import Run, medvl
from torch.nn.functional import normalize

from datamodules.records import ReportRecord
from datamodules.reports import ReportData
from datamodules.sources import MIMICCXR
from datamodules.twins import mimic_cxr
from medvl.cli.gallery import Embedder, Gallery, nearest, read_gallery
from medvl.cli.main import main
from medvl.cli.restore import restore
from medvl.cli.search import Query, Search, query_of
from medvl.cli.why import Reader
from medvl.errors import DataError
from medvl.viz.retrieved import Shared, Why
from tasks.alignment import AlignmentTask

__all__ = ["medvl"]
QUICKSTART = Path(__file__).resolve().parents[2] / "configs/quickstart/alignment.yaml"
TEXTS = [
    "Small left pleural effusion.",
    "No effusion.",
    "small LEFT  pleural effusion.",
    "Large right effusion. A mass is seen.",
]


@pytest.fixture(scope="module")
def twin(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("twins") / "mimic"
    mimic_cxr.write(folder, 24, seed=0, size=96, workers=0)
    return folder


@pytest.fixture(scope="module")
def trained(twin: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    here = tmp_path_factory.mktemp("run")
    words = f"fit --config {QUICKSTART} --data.source.root {twin} --data.image_size 32 --data.batch_size 8"
    with contextlib.chdir(here), pytest.MonkeyPatch.context() as patch:
        patch.setenv("MEDVL_CACHE", str(here / "cache"))
        patch.setattr("sys.argv", ["medvl"])
        more = "--trainer.max_steps 1 --trainer.val_check_interval 1 --trainer.enable_progress_bar false"
        assert main(f"{words} {more}".split()) == 0
    return next((here / "runs/alignment").glob("*/latest")).resolve()


def make_gallery() -> Gallery:
    """Four studies of three patients whose vectors are the axes, each text near its image."""
    records = [ReportRecord((f"{i}.png",), f"p{i // 2}", f"s{i}", "test", "toy") for i in range(4)]
    vectors = {"i": torch.eye(4), "t": normalize(torch.eye(4) + 0.1 * torch.ones(4, 4), dim=1)}
    vectors["t"][2] = vectors["t"][0]
    present = {kind: torch.ones(4, dtype=torch.bool) for kind in "it"}
    return Gallery(records, [f"{i}.png" for i in range(4)], TEXTS, vectors, present)


def test_nearest_is_plain_sorting_with_one_hit_for_one_answer() -> None:
    draw = torch.Generator().manual_seed(0)
    keys = normalize(torch.randn(30, 5, generator=draw), dim=1)
    query, names = normalize(torch.randn(5, generator=draw), dim=0), [i % 9 for i in range(30)]
    candidates = torch.rand(30, generator=draw) < 0.8
    hits = nearest(query, keys, candidates, names)
    expected: dict[int, int] = {}
    for row in sorted(range(30), key=lambda row: -float(keys[row] @ query)):
        if candidates[row]:
            expected.setdefault(names[row], row)
    assert [hit.row for hit in hits] == list(expected.values())
    for hit in hits:
        assert hit.cosine == pytest.approx(float(keys[hit.row] @ query), abs=1e-6)
        assert hit.copies == sum(bool(candidates[i]) and names[i] == names[hit.row] for i in range(30))


def test_a_study_is_no_neighbour_of_itself_but_finds_its_own_other_half() -> None:
    gallery = make_gallery()
    search = Search(gallery, Reader(), query_of(gallery, "s2"), Path())
    assert [hit.row for hit in search.hits("i2i")] == [0, 1, 3]
    assert search.hits("t2t")[0].row == 0  # the same words, of another study
    hits = search.hits("t2i")
    assert hits[0].row == 0
    assert {hit.row for hit in hits} == {0, 1, 2, 3}
    ranking = search.ranking("i2t", 4)
    own = next(one for one in ranking.neighbours if one.study.name == "s2")
    assert own.note == "the query's own · 2 studies have these words"
    assert len(ranking.neighbours) == 3
    assert "of 3 different reports." in ranking.remark
    assert [one.note for one in search.ranking("i2i", 4).neighbours] == ["", "", "same patient"]


def test_why_tells_what_is_shared_and_what_is_not() -> None:
    reader = Reader()
    assert reader.why(TEXTS[0], TEXTS[3]) == Why(
        score=pytest.approx(0.85 / 2),
        shared=(Shared("pleural effusion", (), ("small", "left"), ("large", "right")),),
        here=("mass",),
    )
    same = reader.why(TEXTS[0], TEXTS[2])
    assert (same.score, same.shared[0].both) == (pytest.approx(1.0), ("small", "left"))
    assert reader.why(TEXTS[1], "Clear lungs.") == Why(pytest.approx(0.85))


def test_an_image_is_told_by_what_its_neighbours_have() -> None:
    gallery = make_gallery()
    search = Search(gallery, Reader(), Query("An image", "", {"i": torch.eye(4)[3]}, Path("x.png")), Path())
    ranking = search.ranking("i2i", 1)
    assert ranking.neighbours[0].why is None
    assert "pleural effusion 1 of 1 (75% of all)" in ranking.remark
    assert "mass 1 of 1 (25% of all)" in ranking.remark


def test_embeddings_are_those_of_the_model(trained: Path, twin: Path) -> None:
    task = restore(str(trained)).model
    assert isinstance(task, AlignmentTask)
    data = ReportData(MIMICCXR(twin), image_size=32, batch_size=5, cache="none")
    embedder = Embedder(task, device="cpu")
    gallery = embedder.gallery(data, "all")
    assert len(gallery.records) == 24
    row = gallery.row_of(gallery.records[7].study_id)
    torch.testing.assert_close(embedder.text(gallery.texts[row]), gallery.vectors["t"][row], atol=1e-5, rtol=0)
    image = embedder.image(twin / gallery.paths[row], 32)
    torch.testing.assert_close(image, gallery.vectors["i"][row], atol=1e-5, rtol=0)
    torch.testing.assert_close(gallery.vectors["i"].norm(dim=1), torch.ones(24))


def test_stored_embeddings_are_as_good_as_new_ones(trained: Path, twin: Path, tmp_path: Path) -> None:
    data = ReportData(MIMICCXR(twin), image_size=32, batch_size=5, cache="none")
    task = restore(str(trained)).model
    assert isinstance(task, AlignmentTask)
    fresh = Embedder(task, device="cpu").gallery(data, "train")
    columns: dict[str, Any] = {
        "study_id": [record.study_id for record in fresh.records],
        "split": ["train"] * len(fresh.records),
        "image": fresh.paths,
        "image_embedding": [None, *fresh.vectors["i"].tolist()[1:]],
        "text_embedding": fresh.vectors["t"].tolist(),
    }
    pq.write_table(pa.table(columns), tmp_path / "e.parquet")
    read = read_gallery(tmp_path / "e.parquet", data, "train")
    assert (read.records, read.paths, read.texts) == (fresh.records, fresh.paths, fresh.texts)
    assert read.present["i"].tolist() == [False] + [True] * (len(fresh.records) - 1)
    torch.testing.assert_close(read.vectors["i"][1:], fresh.vectors["i"][1:])
    torch.testing.assert_close(read.vectors["t"], fresh.vectors["t"])
    with pytest.raises(DataError, match="hold no study of val"):
        read_gallery(tmp_path / "e.parquet", data, "val")
    pq.write_table(pa.table(columns | {"study_id": ["x"] * len(fresh.records)}), tmp_path / "x.parquet")
    with pytest.raises(DataError, match="are of another data set"):
        read_gallery(tmp_path / "x.parquet", data, "train")
    (tmp_path / "no.parquet").write_text("text")
    with pytest.raises(DataError, match="these are no embeddings"):
        read_gallery(tmp_path / "no.parquet", data, "train")


def test_a_page_for_a_text_a_study_and_an_image(medvl: Run, trained: Path, twin: Path) -> None:
    record = next(one for one in MIMICCXR(twin).read().records if one.split == "train")
    image = twin / record.images[0]
    base = f"retrieve --run {trained} --split train --k 3"
    queries = {
        "text": ("--query", "small left <effusion>"),
        "study": ("--study", record.study_id),
        "image": ("--image", str(image)),
    }
    ways = {"text": 2, "study": 4, "image": 2}
    for kind, words in queries.items():
        status, out, error = medvl(base, *words, "--output", f"{kind}.html")
        assert status == 0, error
        assert out.startswith(f"{kind}.html  next:")
        page = Path(f"{kind}.html").read_text()
        assert page.count("<section>") == ways[kind]
        assert len(re.findall(r'<b class="name">[123]\. ', page)) == 3 * ways[kind]
        assert page.count("<img") == 3 * ways[kind] + (kind != "text")
        assert not re.search(r'<script|src="http|<effusion>', page)
        assert ("entity score" in page) == (kind != "image")
    assert "small left &lt;" in Path("text.html").read_text()
    assert "The query&#x27;s own is number" in Path("study.html").read_text()
    status, out, _ = medvl(f"{base} --study {record.study_id} --ways i2t")
    assert status == 0
    page = Path(out.split("  next:")[0])
    assert page.parent.parent == trained / "retrieval"
    assert page.read_text().count("<section>") == 1


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("--run RUN --study s0", "no such study\n  where: --study s0"),
        ("--run nowhere --query effusion", "nowhere"),
        ("--query effusion", "which checkpoint?"),
        ("--run RUN", "what to search for?"),
        ("--run RUN --query effusion --study s0", "what to search for?"),
        ("--run RUN --query effusion --k 0", "--k 0"),
        ("--run RUN --image none.png", "no such image file"),
        ("--run RUN --query effusion --ways i2t", "has nothing to search with"),
        ("--run RUN --query effusion --language xx", "no lexicon 'xx'"),
        ("--run RUN --query effusion --output page.png", "expected a file such as neighbours.html"),
        ("--run RUN --query effusion --qery x", "did you mean '--query'?"),
        ("--run RUN --query effusion --data.source.rot x", "rot"),
        ("--run RUN --query effusion --data.source.root nowhere", "nowhere"),
    ],
)
def test_mistakes_are_told_in_four_lines(medvl: Run, trained: Path, words: str, told: str) -> None:
    status, _, error = medvl(f"retrieve {words.replace('RUN', str(trained))} --device cpu")
    assert (status, told in error, len(error.splitlines()) <= 4) == (2, True, True), error
