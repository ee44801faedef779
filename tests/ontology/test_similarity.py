from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ontology.similarity import GAMMA, EntitySets, Profile, Similarity, profile

TERMS = st.frozensets(st.sampled_from(["mild", "left", "éé", "a b"]), max_size=3)
PROFILES = st.lists(
    st.dictionaries(st.sampled_from(["mass", "edema", "x", "y", "z"]), st.tuples(TERMS, TERMS), max_size=4), max_size=9
)
GAMMAS = st.sampled_from([GAMMA, (1.0, 0.0, 0.0), (0.2, 0.5, 0.3), (0.0, 1.0, 1.0)])


def jaccard(one: frozenset[str], other: frozenset[str]) -> float:
    return len(one & other) / len(one | other) if one | other else 1.0


def reference(anchor: Profile, other: Profile, gamma: tuple[float, float, float]) -> float:
    score = gamma[0] * jaccard(frozenset(anchor), frozenset(other))  # of two normal studies: 0/0 is 1
    for disease in anchor.keys() & other.keys():
        score += gamma[1] * jaccard(anchor[disease][0], other[disease][0]) / len(anchor)
        score += gamma[2] * jaccard(anchor[disease][1], other[disease][1]) / len(anchor)
    return score


@settings(deadline=None, max_examples=150)
@given(PROFILES, GAMMAS, st.booleans(), st.sampled_from([0, 2048]))
def test_scores_are_the_published_ones(
    profiles: list[Profile], gamma: tuple[float, float, float], both: bool, long: int
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("ontology.similarity._LONG", long)  # from how many columns on rows are added one by one
        assert_published(profiles, gamma, both)


def assert_published(profiles: list[Profile], gamma: tuple[float, float, float], both: bool) -> None:
    sets = EntitySets(profiles)
    similarity = Similarity(sets, gamma, symmetric=both)
    count = len(profiles)
    one_way = np.array([reference(a, r, gamma) for a in profiles for r in profiles]).reshape(count, count)
    expected = (one_way + one_way.T) / 2 if both else one_way
    np.testing.assert_allclose(similarity.matrix(sets.of, sets.of), expected, atol=1e-12)
    rows, columns = (each.ravel() for each in np.meshgrid(sets.of, sets.of, indexing="ij"))
    np.testing.assert_allclose(similarity.pairs(rows, columns), expected.ravel(), atol=1e-12)
    for group in range(len(sets.sizes)):
        bounds = similarity.bounds(group)
        inside = np.arange(sets.starts[group], sets.starts[group + 1])
        scores = similarity.block(inside, np.arange(len(sets)))
        np.testing.assert_allclose(scores, similarity.matrix(inside, np.arange(len(sets))), atol=1e-12)
        assert (scores >= bounds.least[sets.group] - 1e-12).all()
        assert (scores <= bounds.most[sets.group] + 1e-12).all()


@settings(deadline=None, max_examples=50)
@given(PROFILES)
def test_equal_entities_are_one_set(profiles: list[Profile]) -> None:
    sets = EntitySets(profiles)
    assert len(sets) == len({frozenset((disease, *terms) for disease, terms in one.items()) for one in profiles})
    for first, one in zip(sets.of, profiles, strict=True):
        for second, other in zip(sets.of, profiles, strict=True):
            assert (first == second) == (one == other)


def entity(disease: str, status: str = "present", adjectives: tuple = (), directions: tuple = ()) -> dict:
    return {"disease": disease, "status": status, "adjectives": [*adjectives], "directions": [*directions]}


def test_profile_keeps_what_is_present_and_merges() -> None:
    rows = [
        entity("edema", adjectives=("mild",)),
        entity("edema", directions=("left",)),
        entity("edema", "historical", adjectives=("severe",)),
        entity("mass", "absent"),
        entity("nodule", "uncertain"),
        entity("no finding"),
    ]
    expected = {"edema": (frozenset(["mild"]), frozenset(["left"]))}
    assert profile(rows) == expected
    assert profile([SimpleNamespace(**row) for row in rows]) == expected
    assert profile([{"disease": "x", "status": "present"}]) == {"x": (frozenset(), frozenset())}
    with pytest.raises(KeyError):
        profile([{"disease": "x"}])


def test_known_values() -> None:
    mild, left = frozenset(["mild"]), frozenset(["left"])
    profiles: list[Profile] = [{}, {"edema": (mild, left)}, {"edema": (frozenset(), left), "mass": (mild, left)}]
    sets = EntitySets([*profiles, {}])
    scores = Similarity(sets).matrix(sets.of, sets.of)
    assert scores[0, 3] == pytest.approx(0.85)
    assert scores[0, 1] == 0
    assert scores[1, 1] == pytest.approx(1)
    assert scores[1, 2] == pytest.approx(0.425 + 0.05)
    assert scores[2, 1] == pytest.approx(0.425 + 0.025)  # of two diseases, one is shared
    assert Similarity(sets, symmetric=True).matrix(sets.of, sets.of)[1, 2] == pytest.approx(0.425 + 0.0375)
