from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datamodules.packing import Draw, PackedBatchSampler, StridedBatchSampler, cut, deal

COUNTS = st.lists(st.integers(1, 9), min_size=1, max_size=40)


def lists(counts: list[int]) -> list[list[int]]:
    ends = [sum(counts[: i + 1]) for i in range(len(counts))]
    return [list(range(end - count, end)) for end, count in zip(ends, counts, strict=True)]


def pairs(draws: list[Draw]) -> list[int]:
    return [pair for draw in draws for chunk in draw.chunks for pair in chunk]


@given(COUNTS, st.integers(1, 12), st.one_of(st.none(), st.integers(1, 4)))
def test_cut_keeps_every_pair_in_full_batches(counts: list[int], size: int, limit: int | None) -> None:
    batches = cut(lists(counts), size, limit)
    assert [pair for batch in batches for chunk in batch for pair in chunk] == list(range(sum(counts)))
    assert all(sum(map(len, batch)) == size for batch in batches[:-1])
    assert all(len(chunk) <= (limit or size) for batch in batches for chunk in batch)


@given(COUNTS, st.integers(1, 6))
def test_deal_is_balanced_and_complete(counts: list[int], world: int) -> None:
    if sum(counts) < world:
        with pytest.raises(ValueError, match="cannot feed"):
            deal(lists(counts), world)
        return
    ranks = deal(lists(counts), world)
    loads = [sum(map(len, rank)) for rank in ranks]
    assert sorted(pair for rank in ranks for chunk in rank for pair in chunk) == list(range(sum(counts)))
    assert min(loads) >= 1
    assert max(loads) <= sum(counts) / world + max(counts)  # Graham's bound for any list scheduling


def test_an_image_stays_on_one_rank_when_it_fits() -> None:
    ranks = deal(lists([3, 3, 2, 2, 2]), 2)
    assert sum(len(rank) for rank in ranks) == 5
    assert sorted(sum(map(len, rank)) for rank in ranks) == [5, 7]


@given(st.lists(st.floats(0.1, 10.0), min_size=4, max_size=24), st.integers(1, 4))
def test_sharing_out_work_leaves_the_numbers_even(work: list[float], world: int) -> None:
    ranks = deal(lists([1] * len(work)), world, work)
    counts = [len(rank) for rank in ranks]
    assert sorted(pair for rank in ranks for (pair,) in rank) == list(range(len(work)))
    assert min(counts) >= 1
    assert max(counts) <= -(-len(work) // world)


def test_ranks_get_the_same_work() -> None:
    work = [8.0, 1.0, 7.0, 2.0, 6.0, 3.0, 5.0, 4.0]
    assert [sum(work[pair] for (pair,) in rank) for rank in deal(lists([1] * 8), 2, work)] == [18, 18]
    assert [len(rank) for rank in deal(lists([1] * 4), 2, [9.0, 1.0, 1.0, 1.0])] == [2, 2]  # no rank holds three
    samplers = [PackedBatchSampler(lists([1] * 8), 4, world=2, rank=rank, work=work) for rank in range(2)]
    assert [sum(work[pair] for pair in pairs(list(sampler))) for sampler in samplers] == [18, 18]


@settings(max_examples=50)
@given(COUNTS, st.integers(1, 3), st.integers(1, 5), st.booleans())
def test_epoch_is_shared_by_all_ranks(counts: list[int], world: int, batch_size: int, pack: bool) -> None:
    total = sum(counts)
    if total < world:
        return
    samplers = [
        PackedBatchSampler(lists(counts), batch_size, world=world, rank=rank, seed=3, pack=pack)
        for rank in range(world)
    ]
    draws = [list(sampler) for sampler in samplers]
    size = min(batch_size * world, total)
    assert {len(d) for d in draws} == {total // size} == {len(s) for s in samplers}
    for step in range(total // size):
        seen = [pair for rank in draws for pair in pairs([rank[step]])]
        assert len(seen) == len(set(seen)) == size
    assert max(Counter(pair for rank in draws for pair in pairs(rank)).values()) == 1


def test_packing_puts_a_sentence_list_in_one_pass() -> None:
    sampler = PackedBatchSampler(lists([4] * 8), 16, seed=1)
    for draw in sampler:
        assert [len(chunk) for chunk in draw.chunks] == [4] * 4
    plain = PackedBatchSampler(lists([4] * 8), 16, seed=1, pack=False)
    assert all([len(chunk) for chunk in draw.chunks] == [1] * 16 for draw in plain)


def test_order_depends_on_seed_and_epoch_only() -> None:
    counts = lists([2, 3, 1, 4, 2, 5, 1, 1, 3])

    def epoch(seed: int, number: int) -> list[Draw]:
        sampler = PackedBatchSampler(counts, 4, seed=seed)
        sampler.set_epoch(number)
        return list(sampler)

    assert epoch(0, 2) == epoch(0, 2)
    assert pairs(epoch(0, 2)) != pairs(epoch(0, 3))
    assert pairs(epoch(0, 2)) != pairs(epoch(1, 2))


def test_skip_works_once_and_only_in_its_epoch() -> None:
    sampler = PackedBatchSampler(lists([1] * 10), 2, seed=0)
    sampler.set_epoch(1)
    whole = list(sampler)
    sampler.skip(1, 3)
    assert list(sampler) == whole[3:]
    assert list(sampler) == whole
    sampler.skip(0, 3)
    assert list(sampler) == whole
    sampler.skip(1, 5)
    assert list(sampler) == []


def test_a_small_set_makes_one_batch() -> None:
    draws = list(PackedBatchSampler(lists([2, 1]), 32))
    assert len(draws) == 1
    assert sorted(pairs(draws)) == [0, 1, 2]


@given(COUNTS, st.integers(1, 5), st.integers(1, 6))
def test_evaluation_sees_every_pair_once(counts: list[int], world: int, batch_size: int) -> None:
    samplers = [StridedBatchSampler(lists(counts), batch_size, world=world, rank=rank) for rank in range(world)]
    seen = [pair for sampler in samplers for pair in pairs(list(sampler))]
    assert sorted(seen) == list(range(sum(counts)))
    assert all(len(list(sampler)) == len(sampler) for sampler in samplers)


@given(COUNTS, st.integers(1, 5), st.integers(1, 6))
def test_ranks_that_wait_for_each_other_take_as_many_batches(counts: list[int], world: int, batch_size: int) -> None:
    whole = [StridedBatchSampler(lists(counts), batch_size, world=world, rank=rank) for rank in range(world)]
    try:
        samplers = [
            StridedBatchSampler(lists(counts), batch_size, world=world, rank=rank, even=True) for rank in range(world)
        ]
    except ValueError:  # a rank has fewer pairs than another has batches
        assert min(sum(counts[rank::world]) for rank in range(world)) < max(map(len, whole))
        return
    assert {len(sampler) for sampler in samplers} == {max(map(len, whole))}
    for sampler, plain in zip(samplers, whole, strict=True):
        assert pairs(list(sampler)) == pairs(list(plain))
        assert all(0 < len(pairs([draw])) <= batch_size for draw in sampler)
