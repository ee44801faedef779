from __future__ import annotations

import itertools
import random
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from medvl.errors import ConfigError, DataError
from ontology.mining import Miner, Settings, Triplets, mine
from ontology.similarity import GAMMA, Profile
from ontology.studies import Studies

TINY = 1e-9
WORDS = {
    "gamma": [GAMMA, (0.5, 0.3, 0.2), (0.85, 0.15, 0.0)],
    "symmetric": [False, True],
    "negatives": ["hardest", "random", "least"],
    "fallback": ["skip", "below"],
    "gap": [0.0, 0.1],
    "taus": [(0.25, 0.6), (0.0, 0.9), (0.4, 0.5)],
}
OPTIONS = list(itertools.product(*WORDS.values()))


def iou(one: frozenset[str], other: frozenset[str]) -> float:
    return len(one & other) / len(one | other) if one | other else 1.0


def score(anchor: Profile, other: Profile, gamma: tuple[float, float, float], symmetric: bool) -> float:
    """The published score, pair by pair."""
    if symmetric:
        return (score(anchor, other, gamma, False) + score(other, anchor, gamma, False)) / 2
    ours, theirs = set(anchor) or {"no finding"}, set(other) or {"no finding"}
    total = gamma[0] * len(ours & theirs) / len(ours | theirs)
    for disease in set(anchor) & set(other):
        adjectives, directions = (iou(anchor[disease][i], other[disease][i]) for i in (0, 1))
        total += (gamma[1] * adjectives + gamma[2] * directions) / len(anchor)
    return total


def a_study(rng: random.Random, richness: int) -> Profile:
    diseases = rng.sample([f"disease {i}" for i in range(richness)], rng.randint(0, min(4, richness)))
    terms = ["mild", "old", "patchy"], ["left", "right"]
    pick = [lambda words: frozenset(rng.sample(words, rng.randint(0, len(words))))]
    return {disease: (pick[0](terms[0]), pick[0](terms[1])) for disease in diseases}


def some_studies(seed: int) -> Studies:
    """Draw studies: some with equal entities, some of one patient, in two splits."""
    rng = random.Random(seed)  # noqa: S311
    count, richness = rng.randint(1, 36), rng.randint(1, 6)
    profiles = [a_study(rng, richness) for _ in range(count)]
    profiles = [rng.choice(profiles) if rng.random() < 0.4 else one for one in profiles]
    patients = [rng.choice([None, "", rng.randrange(1 + count // 2)]) for _ in range(count)]
    splits = [rng.choice(["train", "train", "val"]) for _ in range(count)]
    names = [f"s{i}" for i in range(count)]
    return Studies.of(names, profiles, patients if seed % 3 else None, splits if seed % 2 else None)


def ranges(given: Settings, best: float, scores: dict[int, float]) -> dict[int, float]:
    """Return the candidates for a negative, by brute force."""
    lowest, highest = given.tau_min - TINY, given.tau_max - TINY
    ceiling = best - given.gap if given.gap else np.inf
    allowed = {i: value for i, value in scores.items() if value <= ceiling + TINY}
    return {i: value for i, value in allowed.items() if lowest <= value < highest} or (
        {i: value for i, value in allowed.items() if value < lowest} if given.fallback == "below" else {}
    )


def assert_exact(studies: Studies, given: Settings, found: Triplets, batch: np.ndarray | None = None) -> None:
    """Compare with all pairs, anchor by anchor."""
    triplets = dict(zip(found.anchor.tolist(), range(len(found)), strict=True))
    assert len(triplets) == len(found)
    lonely = 0
    for anchor in range(len(studies)):
        scores = {
            i: score(studies.profiles[anchor], studies.profiles[i], given.gamma, given.symmetric)
            for i in range(len(studies))
            if studies.patients[i] != studies.patients[anchor]
            and studies.splits[i] == studies.splits[anchor]
            and (batch is None or batch[i] == batch[anchor])
        }
        best = max(scores.values(), default=0.0)
        if best < 1e-6:
            lonely += 1
            assert anchor not in triplets
            continue
        if anchor not in triplets:
            pool = ranges(given, best, scores)
            assert len(pool) < 2  # the only one is the positive, if there is one
            assert all(value > best - TINY for value in pool.values())
            continue
        at = triplets[anchor]
        positive, negative = int(found.positive[at]), int(found.negative[at])
        assert abs(scores[positive] - best) < TINY
        assert abs(found.positive_score[at] - scores[positive]) < TINY
        assert abs(found.negative_score[at] - scores[negative]) < TINY
        pool = ranges(given, best, {i: value for i, value in scores.items() if i != positive})
        assert negative in pool
        inside = any(value >= given.tau_min - TINY for value in pool.values())
        if given.negatives != "random" or not inside:
            least = given.negatives == "least" and inside
            assert abs(scores[negative] - (min if least else max)(pool.values())) < TINY
    assert found.counts["no positive"] == lonely
    assert found.counts["in range"] + found.counts["below"] == len(found)
    assert len(found) + lonely + found.counts["no negative"] == len(studies) == found.counts["studies"]


@pytest.mark.parametrize("part", range(12))
def test_mining_is_exact(part: int, monkeypatch: pytest.MonkeyPatch) -> None:
    for number, values in list(enumerate(OPTIONS * 2))[part::12]:
        monkeypatch.setattr("ontology.search._FIRST", 1 if number % 3 else 512)  # else all are looked at in one go
        given = dict(zip(WORDS, values, strict=True))
        taus = dict(zip(("tau_min", "tau_max"), given.pop("taus"), strict=True))
        chosen = Settings(**given, **taus, seed=number)
        studies = some_studies(number)
        assert_exact(studies, chosen, mine(studies, chosen, epoch=number % 2))


@pytest.mark.parametrize("seed", range(20))
def test_batches_are_exact(seed: int) -> None:
    chosen = Settings(
        scope="batch",
        batch_size=3 + seed % 9,
        negatives=WORDS["negatives"][seed % 3],
        fallback=WORDS["fallback"][seed % 2],
    )
    studies = some_studies(seed)
    miner = Miner(studies, chosen)
    batch = np.zeros(len(studies), dtype=int)
    for rows, split in zip(miner.rows, miner.splits, strict=True):
        batch[rows] = miner._among(split, (0, 5, int(rows[0]))).batch_of
    assert np.bincount(batch[studies.splits == 0]).max() <= chosen.batch_size
    assert_exact(studies, chosen, miner.mine(5), batch)


def tied_studies(normals: int = 3000) -> Studies:
    """Return many normal studies and few others, each of which has two alike."""
    others: list[Profile] = [{f"disease {i % 3}": (frozenset(["mild"] * (i % 2)), frozenset())} for i in range(18)]
    return Studies.of([str(i) for i in range(normals + 18)], [{}] * normals + others)


def test_ties_are_shared_out() -> None:
    studies = tied_studies()
    first = mine(studies, Settings(fallback="below"))
    assert len(first) == len(studies)
    assert first.counts["below"] == len(studies)
    assert first.positive_score[0] == pytest.approx(0.85)
    uses = Counter(first.positive[first.anchor < 3000].tolist())
    assert max(uses.values()) <= 9  # Poisson of mean 1 among 3,000
    assert len(uses) == pytest.approx(3000 * (1 - np.exp(-1)), rel=0.05)
    assert set(uses) <= set(range(3000))
    negatives = Counter(first.negative[first.anchor < 3000].tolist())
    assert set(negatives) == set(range(3000, 3018))
    assert max(negatives.values()) < 3000 / 18 + 6 * np.sqrt(3000 / 18)
    assert first.reuse()["positive"]["max"] == max(Counter(first.positive.tolist()).values())


def test_draws_are_even_where_own_patients_studies_are_in_the_way() -> None:
    """A pool of five, of which the anchor's patient has two: the other three come up alike often."""
    profiles: list[Profile] = [{"mass": (frozenset(), frozenset())}] * 5 + [{}]
    studies = Studies.of([*"abcdef"], profiles, [1, 1, 2, 3, 4, 5])
    miner = Miner(studies, Settings(fallback="below"))
    drawn = Counter(int(miner.mine(epoch).positive[0]) for epoch in range(900))
    assert set(drawn) == {2, 3, 4}
    assert min(drawn.values()) > 240


def test_random_negatives_are_even() -> None:
    """Three scores in the range: all candidates come up alike often."""
    profiles: list[Profile] = [{"a": (frozenset(), frozenset())}] * 2
    profiles += [
        {"a": (frozenset([f"x{i}"]), frozenset(["left"] * (i % 2))), "b": (frozenset(), frozenset())} for i in range(6)
    ]
    studies = Studies.of([str(i) for i in range(8)], profiles)
    miner = Miner(studies, Settings(negatives="random"))
    drawn = Counter(int(miner.mine(epoch).negative[0]) for epoch in range(900))
    assert set(drawn) == set(range(2, 8))
    assert min(drawn.values()) > 105


def test_epochs_differ_and_repeat() -> None:
    studies = some_studies(7)
    for scope in ("dataset", "batch"):
        chosen = Settings(scope=scope, negatives="random", fallback="below", batch_size=12)
        first, again, later = mine(studies, chosen, 0), Miner(studies, chosen).mine(0), mine(studies, chosen, 1)
        assert first.positive.tolist() == again.positive.tolist()
        assert first.negative.tolist() == again.negative.tolist()
        assert [*first.positive, *first.negative] != [*later.positive, *later.negative]
        other = mine(studies, replace(chosen, seed=1), 0)
        assert [*first.positive, *first.negative] != [*other.positive, *other.negative]


def test_chunks_do_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    studies, chosen = some_studies(11), Settings(negatives="least", fallback="below")
    whole = mine(studies, chosen)
    monkeypatch.setattr("ontology.candidates.CELLS", 1)
    monkeypatch.setattr("ontology.search.CELLS", 1)
    monkeypatch.setattr("ontology.search._FIRST", 1)
    parts = mine(studies, chosen)
    for name in ("anchor", "positive", "negative", "positive_score", "negative_score"):
        np.testing.assert_array_equal(getattr(whole, name), getattr(parts, name))


def test_no_triplet_where_there_can_be_none() -> None:
    mass: Profile = {"mass": (frozenset(), frozenset())}
    for profiles in ([], [mass], [mass, {}], [mass] * 5, [{}] * 5):
        found = mine(Studies.of([str(i) for i in range(len(profiles))], profiles))
        assert len(found) == 0
        assert found.counts["studies"] == len(profiles)
        assert found.reuse()["positive"] == {"studies": 0, "mean": 0.0, "max": 0}


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"gamma": (1.0, 0.0)}, "three weights"),
        ({"gamma": (1.0, -0.1, 0.0)}, "three weights"),
        ({"gamma": (0.0, 0.0, 0.0)}, "three weights"),
        ({"tau_min": 0.6}, "tau_min < tau_max"),
        ({"tau_min": float("nan")}, "tau_min < tau_max"),
        ({"negatives": "hard"}, "'hardest'"),
        ({"scope": "all"}, "batch, dataset"),
        ({"batch_size": 2}, "3 studies"),
        ({"gap": -1.0}, "gap"),
    ],
    ids=str,
)
def test_settings_that_do_not_fit(wrong: dict, said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Settings(**wrong)
    assert said in str(caught.value)


def test_ids_are_different() -> None:
    with pytest.raises(DataError, match="given twice"):
        Studies.of(["a", "b", "a"], [{}] * 3)
    with pytest.raises(DataError, match="2 profiles"):
        Studies.of(["a", "b", "c"], [{}] * 2)
