"""What pyproject.toml asks for: each floor is there and says why, and no licence binds our users' programs."""

from __future__ import annotations

import re
import tomllib

import pytest
from audit import licence, needed, unwelcome
from floors import PYPROJECT, constraints


def test_each_dependency_has_a_floor_and_says_why() -> None:
    text = PYPROJECT.read_text(encoding="utf-8")
    runtime = text[text.index("\ndependencies = [") : text.index("[project.optional-dependencies]")]
    lines = re.findall(r'^    "([^"]+)",?(.*)$', runtime, re.MULTILINE)
    declared = tomllib.loads(text)["project"]["dependencies"]
    assert [line for line, _ in lines] == declared
    assert [line for line, why in lines if not re.search(r"#.*\w{3}", why)] == []
    assert len(constraints()) == len(declared)
    assert all(re.fullmatch(r"[\w.-]+==\d[\w.]*", line) for line in constraints(extras=("dev", "ray", "bench")))


def test_a_floor_may_stay_as_it_is_here(tmp_path_factory: pytest.TempPathFactory) -> None:
    file = tmp_path_factory.mktemp("project") / "pyproject.toml"
    file.write_text('[project]\ndependencies = ["numpy>=1.26,<9", "pyyaml>=6.0.1"]\n')
    assert constraints(file) == ["numpy==1.26", "pyyaml==6.0.1"]
    assert constraints(file, here=["numpy"])[0] not in ("numpy==1.26", "numpy==")
    file.write_text('[project]\ndependencies = ["numpy<9"]\n')
    with pytest.raises(ValueError, match="numpy<9 has no floor"):
        constraints(file)


def test_no_licence_binds_our_users() -> None:
    packages = needed()
    assert {"medvl", "torch", "lightning"} <= packages.keys()
    assert [name for name, one in packages.items() if unwelcome(licence(one))] == []


@pytest.mark.parametrize(
    ("text", "bad"),
    [
        ("GPL-3.0-or-later", True), ("AGPL-3.0-only", True), ("GNU General Public License v3 (GPLv3)", True),
        ("GNU Affero General Public License v3", True), ("LGPL-2.1-only", False), ("MIT", False), ("", False),
        ("GNU Lesser General Public License v3 or later (LGPLv3+)", False), ("MIT OR GPL-2.0-only", False),
    ],
)  # fmt: skip
def test_licences_are_told_apart(text: str, bad: bool) -> None:
    assert unwelcome(text) is bad
