"""The lexicon: canonical names as in the annotation guide, and what `check` finds in a broken one."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from medvl.errors import ConfigError
from ontology.check import check
from ontology.lexicon import FOLDER, expand, languages, load

GUIDE = (Path(__file__).resolve().parents[2] / "docs" / "ontology-annotation.md").read_text(encoding="utf-8")
Edit = Callable[[str, str, str], str]


@pytest.fixture
def broken(tmp_path: Path) -> Edit:
    """Return what writes a copy of the English lexicon with one file changed."""

    def edit(name: str, old: str, new: str) -> str:
        folder = tmp_path / "en"
        shutil.copytree(FOLDER / "en", folder)
        text = (folder / name).read_text(encoding="utf-8")
        assert old in text
        (folder / name).write_text(text.replace(old, new, 1), encoding="utf-8")
        return str(folder)

    return edit


def test_expand() -> None:
    assert list(expand("(lung|) nodule(s)")) == ["lung nodules", "lung nodule", "nodules", "nodule"]
    assert list(expand("OPACITY")) == ["opacity"]


@pytest.mark.parametrize("language", languages())
def test_ours_is_clean(language: str) -> None:
    assert check(load(language)) == []


def test_canon_is_the_guides() -> None:
    canon = load("en").canon
    sections = {part.partition("\n")[0]: part for part in re.split(r"^## ", GUIDE, flags=re.M)}

    def named(section: str) -> set[str]:
        return set(re.findall(r"`([^`]+)`", section))

    assert set(canon.diseases) == named(sections["Diseases"].split("\n- ")[0])
    assert set(canon.adjectives) == named(sections["Adjectives"])
    assert set(canon.directions) == named(sections["Directions"].split("\n- ")[0])


def test_label_sets() -> None:
    canon = load("en").canon
    chexpert = canon.labels("chexpert")
    assert chexpert["Lung Lesion"] == "nodule"
    assert chexpert["Pleural Effusion"] == "pleural effusion"
    assert len(chexpert) == 13
    assert canon.labels("openi")["Infiltrate"] == "lung opacity"


def test_no_is_a_word() -> None:
    assert "no" in load("en").triggers["absent", "all"]


@pytest.mark.parametrize(
    ("file", "old", "new", "code", "word"),
    [
        ("findings.yaml", "  - ptx\n", "  - ptx\n  - ptx\n", "duplicate", "ptx"),
        ("findings.yaml", "  - ptx\n", "  - ptx\n  - pna\n", "ambiguous", "pna"),
        ("attributes.yaml", "hazy: [hazy]", "hazy: [hazy, patchy]", "ambiguous", "patchy"),
        ("attributes.yaml", "  hazy: [hazy]\n", "", "unreachable", "hazy"),
        ("context.yaml", "pseudo: [", "pseudo: [no, ", "ambiguous", "no"),
        ("context.yaml", "  all: [no,", "  all: [no, history of,", "ambiguous", "history of"),
        ("context.yaml", "  all: [no,", "  all: [no, can not exclude,", "unreachable", None),
    ],
)
def test_check_finds(broken: Edit, file: str, old: str, new: str, code: str, word: str | None) -> None:
    found = check(load(broken(file, old, new)))
    if word is None:  # "cannot" and "can not" are the same tokens: one of the two is never found
        assert [problem.code for problem in found] == [code]
        assert found[0].word in ("cannot exclude", "can not exclude")
    else:
        assert (code, word) in {(problem.code, problem.word) for problem in found}


@pytest.mark.parametrize(
    ("file", "old", "new", "told"),
    [
        ("findings.yaml", "pneumothorax:", "pneumothoraks:", "pneumothoraks"),
        ("attributes.yaml", "hazy: [", "hazzy: [", "hazzy"),
        ("attributes.yaml", "hazy: [hazy]", "hazy: hazy", "hazy"),
        ("context.yaml", "  near: [rather", "  nearby: [rather", "nearby"),
        ("context.yaml", "absent:", "absent: [", "YAML"),
        ("descriptions.yaml", "- subject: [heart,", "- subjects: [heart,", "subject"),
    ],
)
def test_a_mistake_is_told(broken: Edit, file: str, old: str, new: str, told: str) -> None:
    with pytest.raises(ConfigError, match=told) as raised:
        load(broken(file, old, new))
    assert len(str(raised.value).splitlines()) <= 4


def test_unknown_language() -> None:
    with pytest.raises(ConfigError, match="klingon"):
        load("klingon")
