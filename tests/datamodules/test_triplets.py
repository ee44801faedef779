"""Triplets in batches: every study once, shared out without overlap, drawn alike wherever, and refused where wrong."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
import torch.distributed as dist
from PIL import Image
from ranks import on_ranks

from datamodules.batches import ReportBatch
from datamodules.loader import BatchLoader
from datamodules.records import ReportRecord
from datamodules.reports import ReportData
from datamodules.sources.report_table import ReportTable
from datamodules.triplets import Remined, TripletSampler, read_triplets
from medvl.cli.composed import EntityFile
from medvl.entities import EntityCodes, entity_scores
from medvl.errors import ConfigError, DataError
from ontology.mining import Settings

STUDIES = 30
DISEASES = ("edema", "pneumonia", "fracture")
Names = set[tuple[str, ...]]


def is_half(number: int) -> str:
    """Return what a study lacks."""
    return {3: "text", 4: "image"}.get(number % 10, "")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A table of studies, some without an image or a text, with their entities; the last nine are of val and test."""
    lines, entities = ["image,text,patient_id,study_id,labels,split"], []
    for i in range(STUDIES):
        grey = np.full((8, 8), 8 * i, np.uint8)
        grey[0, 0] = 255  # an image of one grey throughout is refused
        Image.fromarray(grey).save(tmp_path / f"{i}.png")
        found = [disease for k, disease in enumerate(DISEASES) if (i + 1) >> k & 1]
        split = "train" if i < 21 else "val" if i < 25 else "test"
        image, text = (f"{i}.png", f"Study {i}.")
        half = is_half(i)
        image, text = ("" if half == "image" else image), ("" if half == "text" else text)
        lines.append(f"{image},{text},p{i // 2 * 2 if split == 'train' else i},s{i},{'|'.join(found)},{split}")
        given = [{"disease": d, "status": "present", "adjectives": ["mild"] * (i % 2), "directions": []} for d in found]
        if half != "text":
            entities.append(json.dumps({"id": f"s{i}", "entities": given, "split": split}))
    (tmp_path / "t.csv").write_text("\n".join(lines))
    (tmp_path / "e.jsonl").write_text("\n".join(entities))
    return tmp_path


def write_triplets(path: Path, triplets: Sequence[tuple[object, ...]]) -> str:
    columns = zip(("anchor", "positive", "negative"), zip(*triplets, strict=True), strict=True)
    pq.write_table(pa.table({name: list(column) for name, column in columns}), path)
    return str(path)


def numbered(count: int, first: int = 0, size: int = 21) -> list[tuple[str, str, str]]:
    """Return that many different triplets of the first studies."""
    return [(f"s{first + i % size}", f"s{(i + 1 + i // size) % size}", f"s{(i + 9) % size}") for i in range(count)]


def make_data(folder: Path, **given: Any) -> ReportData:
    settings: dict[str, Any] = {"image_size": 8, "batch_size": 4, "cache": "none"} | given
    return ReportData(ReportTable(folder / "t.csv", unpaired=True), **settings)


def named(batch: ReportBatch) -> list[tuple[str, ...]]:
    assert batch.triplets is not None
    return [tuple(batch.study_ids[row] for row in three) for three in batch.triplets.tolist()]


def loader_of(data: ReportData, epoch: int = 0) -> BatchLoader[ReportBatch]:
    data.setup("fit")
    loader = data.train_dataloader()
    loader.sampler.set_epoch(epoch)  # type: ignore[attr-defined]
    return loader


@pytest.mark.parametrize("workers", [0, 1])
def test_a_batch_has_each_study_of_its_triplets_once(folder: Path, workers: int) -> None:
    given = numbered(18)
    data = make_data(folder, triplets=write_triplets(folder / "t.parquet", given), num_workers=workers)
    batches = list(loader_of(data))
    assert len(batches) == 4  # of four triplets; two are left over
    seen = [three for batch in batches for three in named(batch)]
    assert len(set(seen)) == len(seen) == 16
    assert set(seen) <= set(given)
    texts = {record.study_id: record.text for record in data.records("train")}
    for batch in batches:
        assert batch.triplets is not None
        assert batch.triplets.shape == (4, 3)
        assert batch.triplets.dtype == torch.long
        assert sorted(set(batch.study_ids)) == sorted(batch.study_ids)
        assert set(batch.study_ids) == {name for three in named(batch) for name in three}
        assert batch.texts == [texts[name] for name in batch.study_ids]
        assert batch.images[:, 0, 4, 4].tolist() == pytest.approx(
            [0.0 if not record.images else float(batch.images[i, 0, 4, 4]) for i, record in enumerate(batch.records)]
        )
        assert batch.to(torch.device("cpu")).triplets is not None
        halves = {"": (True, True), "text": (True, False), "image": (False, True)}
        for name, image, text in zip(batch.study_ids, batch.has_image.tolist(), batch.has_text.tolist(), strict=True):
            assert (image, text) == halves[is_half(int(name[1:]))]
    assert any(not batch.has_image.all() for batch in batches)
    assert any(not batch.has_text.all() for batch in batches)
    assert [batch.triplets for batch in data.val_dataloader()] == [None]


def test_anchors_are_shuffled_and_a_killed_epoch_goes_on(folder: Path) -> None:
    data = make_data(folder, triplets=write_triplets(folder / "t.parquet", numbered(16)))
    epochs = [[named(batch) for batch in loader_of(data, epoch)] for epoch in (0, 1, 1)]
    assert epochs[0] != epochs[1] == epochs[2]
    assert {three for batch in epochs[0] for three in batch} == {three for batch in epochs[1] for three in batch}
    killed = loader_of(data, 1)
    before = [named(batch) for batch, _ in zip(killed, range(3), strict=False)][:2]
    resumed = loader_of(data, 1)
    resumed.load_state_dict({"epoch": 1, "yielded": 2})
    assert before + [named(batch) for batch in resumed] == epochs[1]


@pytest.mark.parametrize("count", [3, 17, 40])
@pytest.mark.parametrize("world", [1, 2, 3])
def test_ranks_share_out_an_epoch(count: int, world: int) -> None:
    rows = np.arange(3 * count).reshape(count, 3)
    samplers = [TripletSampler(lambda epoch: rows, 4, world=world, rank=rank) for rank in range(world)]
    draws = [list(sampler) for sampler in samplers]
    assert {len(own) for own in draws} == {max(1, count // (4 * world))} == {len(samplers[0])}
    anchors = [draw.chunks[a][0] // 3 for own in draws for draw in own for a, _, _ in draw.triplets or []]
    assert len(set(anchors)) == len(anchors) == min(count, len(samplers[0]) * 4 * world)


def ranks_loop(rank: int, folder: str) -> None:
    """Write what one of two ranks is given in two epochs, as the trainer places it."""
    place = Path(folder)
    entities = EntityFile(str(place / "e.jsonl"), "chexpert", Settings(tau_min=0.1))
    data = make_data(place, batch_size=2, entities=entities, remine_every=1)
    data.place = lambda: (dist.get_world_size(), dist.get_rank())  # type: ignore[method-assign]
    told: dict[str, Any] = {}
    for epoch in (0, 1):
        batches = list(loader_of(data, epoch))
        own = batches[0].entities
        assert own is not None
        scores = entity_scores(own, own.gathered()).tolist()
        told[str(epoch)] = {"batches": [named(batch) for batch in batches], "scores": scores}
        told[str(epoch)]["ids"] = batches[0].study_ids
    (place / f"rank{rank}.json").write_text(json.dumps(told))


def test_two_ranks_have_as_many_batches_and_no_triplet_in_common(folder: Path) -> None:
    on_ranks(ranks_loop, str(folder))
    first, second = (json.loads((folder / f"rank{rank}.json").read_text()) for rank in range(2))
    entities = EntityFile(str(folder / "e.jsonl"), "chexpert", Settings(tau_min=0.1))
    data = make_data(folder)
    data.setup("fit")
    records = data.records("train")
    mine, by_name = entities.miner(records), {record.study_id: record for record in records}
    for epoch in ("0", "1"):
        one, other = ({tuple(t) for b in told[epoch]["batches"] for t in b} for told in (first, second))
        assert len(first[epoch]["batches"]) == len(second[epoch]["batches"]) == len(mine(0)) // 4 > 1
        assert one.isdisjoint(other)
        expected = {tuple(records[i].study_id for i in three) for three in mine(int(epoch)).tolist()}
        assert one | other <= expected
        assert len(one | other) == len(mine(0)) // 4 * 4
        everyone = [by_name[name] for name in (*first[epoch]["ids"], *second[epoch]["ids"])]
        codes = entities.codes(everyone)
        whole = EntityCodes(torch.from_numpy(codes.rows.toarray()), *codes[1:])
        both = first[epoch]["scores"] + second[epoch]["scores"]
        np.testing.assert_allclose(both, entity_scores(whole, whole).numpy(), atol=1e-12)


def test_mined_anew_every_so_many_epochs(folder: Path) -> None:
    entities = EntityFile(str(folder / "e.jsonl"), "chexpert", Settings(tau_min=0.1))
    data = make_data(folder, entities=entities, remine_every=2, batch_size=1)
    epochs: list[Names] = [{t for batch in loader_of(data, epoch) for t in named(batch)} for epoch in range(5)]
    assert epochs[0] == epochs[1]
    assert epochs[2] == epochs[3]
    assert epochs[0] != epochs[2] != epochs[4]
    resumed = loader_of(make_data(folder, entities=entities, remine_every=2, batch_size=1), 3)
    assert {t for batch in resumed for t in named(batch)} == epochs[3]  # a killed run's triplets are found again
    halves = {is_half(int(name[1:])) for epoch in epochs for three in epoch for name in three}
    assert halves == {"", "text", "image"}  # labels, and entities without an image, stand in
    assert data.facts["triplets"].endswith("at first, mined every 2 epochs")


def test_another_number_of_triplets_gives_as_many_batches() -> None:
    sizes = {0: 12, 1: 9, 2: 15}

    def mined(number: int) -> Any:
        return np.arange(3 * sizes[number]).reshape(-1, 3) + 100 * number

    sampler = TripletSampler(Remined(mined, 1), 4)
    for epoch, most in ((0, 1), (1, 2), (2, 1)):
        sampler.set_epoch(epoch)
        draws = list(sampler)
        assert [len(draw.triplets or []) for draw in draws] == [4, 4, 4]
        anchors = Counter(draw.chunks[a][0] for draw in draws for a, _, _ in draw.triplets or [])
        assert max(anchors.values()) == most
        assert len(anchors) == min(sizes[epoch], 12)
        assert {anchor // 100 for anchor in anchors} == {epoch}
    with pytest.raises(DataError, match="gives no triplet"):
        Remined(lambda number: np.empty((0, 3), np.int64), 1)(0)


def study(name: str, split: str) -> ReportRecord:
    return ReportRecord((), name, name, split, "test", "Text.")


def test_a_wrong_table_is_told(tmp_path: Path) -> None:
    splits = {"a": "train", "b": "train", "c": "train", "d": "val", "e": "val", "f": "val", "7": "train"}
    records = [study(name, split) for name, split in splits.items()]
    path, good = tmp_path / "t.parquet", ("c", "a", "b")

    def refused(match: str, *triplets: tuple[object, ...], where: str, **more: Any) -> None:
        write_triplets(path, triplets)
        with pytest.raises(DataError, match=match) as caught:
            read_triplets(path, records, **more)
        assert where in str(caught.value.where)
        assert len(str(caught.value).splitlines()) <= 4

    refused("1 of 2 triplets name a study that is not in the data", good, ("a", "x", "b"), where="t.parquet, row 2")
    refused("not in the data", good, (None, "a", "b"), where="t.parquet, row 2")
    refused("1 of 2 triplets", good, ("a", "x", "b"), where="row 2", lenient=True, most=0.4)
    refused("2 triplets have studies of several splits", ("a", "b", "d"), good, ("d", "b", "e"), where="row 1")
    refused("names one study twice", good, good, ("a", "b", "a"), where="row 3")
    refused("none of 1 triplets is of training studies", ("d", "e", "f"), where="t.parquet")
    write_triplets(path, [good, ("d", "e", "f"), ("a", "b", "c"), ("a", "b", "x")])
    with pytest.warns(UserWarning, match="1 triplets are left out") as told:
        table = read_triplets(path, records, lenient=True, most=0.5)
    assert "row 4" in str(told[0].message)
    assert (table.rows.tolist(), table.elsewhere, table.unknown) == ([[2, 0, 1], [0, 1, 2]], 1, 1)
    pq.write_table(pa.table({"anchor": [7], "positive": ["a"], "negative": ["b"]}), path)
    assert read_triplets(path, records).rows.tolist() == [[3, 0, 1]]  # a name may be a number
    pq.write_table(pa.table({name: pa.array([], pa.string()) for name in ("anchor", "positive", "negative")}), path)
    for change, match in ((None, "is empty"), (b"PAR1", "no Parquet file"), (b"", "no Parquet file")):
        if change is not None:
            path.write_bytes(change)
        with pytest.raises(DataError, match=match):
            read_triplets(path, records)
    pq.write_table(pa.table({"anchor": ["a"], "positive": ["b"]}), path)
    with pytest.raises(DataError, match="no column 'negative'"):
        read_triplets(path, records)
    with pytest.raises(DataError, match="no such table"):
        read_triplets(tmp_path / "none.parquet", records)


def test_options_that_do_not_go_together(folder: Path) -> None:
    entities = EntityFile(str(folder / "e.jsonl"))
    for match, given in (
        ("a table or from mining", {"triplets": "t.parquet", "entities": entities, "remine_every": 1}),
        ("remine_every is 1", {"remine_every": 1}),
        ("remine_every is 0", {"remine_every": 0, "entities": entities}),
        ("of studies, not of images", {"triplets": "t.parquet", "several": "each"}),
    ):
        with pytest.raises(ConfigError, match=match):
            make_data(folder, **given)


def test_batches_of_pairs_carry_entities_too(folder: Path) -> None:
    data = make_data(folder, entities=EntityFile(str(folder / "e.jsonl"), "chexpert"), batch_size=21)
    (batch,) = loader_of(data)
    assert batch.triplets is None
    assert batch.entities is not None
    scores = entity_scores(batch.entities, batch.entities)
    number = [int(name[1:]) for name in batch.study_ids]
    for row, i in enumerate(number):
        for column, j in enumerate(number):
            ours, theirs = ({k for k in range(3) if (n + 1) >> k & 1} for n in (i, j))
            # Direction sets are empty alike; of the adjectives, those of a study of labels alone are unknown: empty.
            mild = [n % 2 == 1 and is_half(n) != "text" for n in (i, j)]
            shared = len(ours & theirs)
            expected = 0.85 * (shared / len(ours | theirs) if ours | theirs else 1)
            expected += (0.1 * (mild[0] == mild[1]) + 0.05) * shared / max(len(ours), 1)
            known = [n % 10 != 3 or (n + 1) % 8 for n in (i, j)]  # no label of a study without a text: nothing known
            assert scores[row, column] == pytest.approx(expected if all(known) else 0)
