"""Entities for training: codes and their scores are those of the ontology, labels stand in, mining is the command's."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from medvl.entities import EntityCodes, entity_scores
from medvl.errors import ConfigError, DataError
from ontology.mining import Settings, mine
from ontology.similarity import EntitySets, Similarity
from ontology.studies import read_studies
from ontology.training import Codes, EntityFile

TERMS = st.lists(st.sampled_from(["mild", "left", "éé", "a b"]), max_size=3)
ENTITY = st.fixed_dictionaries(
    {
        "disease": st.sampled_from(["mass", "edema", "x", "y"]),
        "status": st.sampled_from(["present", "present", "absent", "historical"]),
        "adjectives": TERMS,
        "directions": TERMS,
    }
)


@dataclass(frozen=True)
class Known:
    """A study as training sees it."""

    study_id: str
    patient_id: str = ""
    text: str = "Words."
    labels: Mapping[str, int] = field(default_factory=dict)
    row: str = "reports.csv:2"


def write(path: Path, entities: list[list[dict[str, object]]]) -> Path:
    lines = [json.dumps({"id": f"s{i}", "patient_id": f"p{i // 2}", "entities": e}) for i, e in enumerate(entities)]
    path.write_text("\n".join(lines))
    return path


def as_tensor(codes: Codes) -> EntityCodes:
    return EntityCodes(torch.from_numpy(codes.rows.toarray()), *codes[1:])


@settings(deadline=None, max_examples=80)
@given(
    st.lists(st.lists(ENTITY, max_size=4), min_size=1, max_size=8),
    st.sampled_from([(0.85, 0.10, 0.05), (1.0, 0.0, 0.0), (0.2, 0.5, 0.3)]),
    st.booleans(),
)
def test_scores_are_those_of_the_ontology(
    tmp_path_factory: pytest.TempPathFactory,
    entities: list[list[dict[str, object]]],
    gamma: tuple[float, float, float],
    both: bool,
) -> None:
    path = write(tmp_path_factory.mktemp("entities") / "e.jsonl", entities)
    file = EntityFile(str(path), settings=Settings(gamma=gamma, symmetric=both))
    codes = as_tensor(file.codes([Known(f"s{i}") for i in range(len(entities))]))
    sets = EntitySets(read_studies(path).profiles)
    expected = Similarity(sets, gamma, both).matrix(sets.of, sets.of)
    np.testing.assert_allclose(entity_scores(codes, codes).numpy(), expected, atol=1e-12)
    assert codes.known.all()
    some = entity_scores(codes[torch.tensor([0])], codes)
    np.testing.assert_array_equal(some.numpy(), entity_scores(codes, codes)[:1].numpy())
    with torch.autocast("cpu", torch.bfloat16):
        np.testing.assert_allclose(entity_scores(codes, codes).numpy(), expected, atol=1e-12)


def finding(disease: str, *adjectives: str) -> dict[str, object]:
    return {"disease": disease, "status": "present", "adjectives": list(adjectives), "directions": []}


@pytest.fixture
def entities(tmp_path: Path) -> Path:
    """Eight studies of four patients, in entities."""
    kinds = [[finding("edema", "mild")], [finding("mass")], [finding("edema"), finding("mass")], []]
    return write(tmp_path / "e.jsonl", [*kinds, *kinds[::-1]])


def test_labels_stand_in_where_there_is_no_text(entities: Path) -> None:
    file = EntityFile(str(entities), label_set="chexpert")
    nothing = Known("s0", text="")
    stated: tuple[dict[str, int], ...] = (
        {"Edema": 1, "Fracture": 0, "Unheard Of": 1}, {"Edema": -1}, {"No Finding": 1}, {"Edema": 0}, {},
        {"Pleural Effusion": 1},
    )  # fmt: skip
    found = file.profiles([Known("s0"), *(replace(nothing, labels=labels) for labels in stated)])
    none = frozenset[str]()
    assert found == [
        {"edema": (frozenset({"mild"}), none)}, {"edema": (none, none)}, None, {}, None, None,
        {"pleural effusion": (none, none)},
    ]  # fmt: skip
    records = [Known("s0"), Known("s1"), Known("s3"), *(replace(nothing, labels=labels) for labels in stated)]
    codes = as_tensor(file.codes(records))
    scores = entity_scores(codes, codes)
    assert codes.known.tolist() == [True, True, True, True, False, True, False, False, True]
    assert scores[0].tolist() == pytest.approx([1, 0, 0, 0.9, 0, 0, 0, 0, 0])  # by disease and no directions alike
    assert scores[2, 5] == scores[5, 5] == 0.85  # both without finding
    assert not scores[4].any()
    assert not scores[:, 4].any()
    with pytest.raises(ConfigError, match="unknown label_set 'chexpret'"):
        EntityFile(str(entities), label_set="chexpret")
    with pytest.raises(DataError, match="no label of the data"):
        file.profiles([replace(nothing, labels={"Tumour": 1})])
    assert EntityFile(str(entities)).profiles([replace(nothing, labels={"Edema": 1})]) == [None]


def test_a_study_without_a_line_is_told(entities: Path) -> None:
    with pytest.raises(DataError, match="1 of 2 studies have a text, and no line") as caught:
        EntityFile(str(entities)).codes([Known("s0"), Known("secret", row="reports.csv:7")])
    assert "e.jsonl; the first study at reports.csv:7" in str(caught.value)
    assert "secret" not in str(caught.value)
    with pytest.raises(DataError, match="cannot read"):
        EntityFile("nowhere.jsonl").codes([Known("s0")])


def test_triplets_are_those_of_the_command(entities: Path) -> None:
    settings = Settings(tau_min=0.1, seed=3)
    studies = read_studies(entities)
    records = [Known(f"s{i}", f"p{i // 2}") for i in range(8)]
    draw = EntityFile(str(entities), settings=settings).miner(records)
    for epoch in (0, 1, 5):
        found = mine(studies, settings, epoch)
        assert draw(epoch).tolist() == np.stack([found.anchor, found.positive, found.negative], 1).tolist() != []
    assert any(draw(0).tolist() != draw(epoch).tolist() for epoch in range(1, 6))


def test_triplets_are_of_the_studies_asked_for(entities: Path) -> None:
    records = [Known("none", text=""), *(Known(f"s{i}", f"p{i // 2}") for i in (7, 5, 2, 0))]
    file = EntityFile(str(entities), settings=Settings(tau_min=0.1))
    places = file.miner(records)(0)
    assert len(places)
    assert set(places.ravel()) <= {1, 2, 3, 4}
    patients = [records[i].patient_id for i in places.ravel()]
    assert all(len(set(three)) >= 2 for three in zip(*[iter(patients)] * 3, strict=True))
    assert file.miner([records[0]])(0).shape == (0, 3)
