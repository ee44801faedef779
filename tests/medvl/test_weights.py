"""Starting from the weights of another run: what is taken over, what is told, what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from cli_toy import Run, medvl
from torch import nn

from medvl.errors import CheckpointError
from medvl.weights import start_from

__all__ = ["medvl"]
TOY = "--allow-import cli_toy --config toy.yaml"
PARENT = Path("runs/toy/toy")


class Encoder(nn.Linear):
    """Says where it is from, as the encoders do."""

    def __init__(self, source: str) -> None:
        super().__init__(2, 2)
        self.source, self.words = source, ""

    def get_extra_state(self) -> dict[str, Any]:
        return {"kind": "text", "source": self.source, "files": {"words": self.source}}

    def set_extra_state(self, state: dict[str, Any]) -> None:
        self.words = state["files"]["words"]


class Model(nn.Module):
    def __init__(self, source: str, out: int = 3, more: bool = False) -> None:
        super().__init__()
        self.encoder, self.head = Encoder(source), nn.Linear(2, out)
        self.norm = nn.LayerNorm(2)
        if more:
            self.more = nn.Linear(1, 1)


def test_all_is_taken_over() -> None:
    old, new = Model("a"), Model("a")
    taken = start_from(new, old.state_dict(), "x.ckpt")
    assert taken.lines() == ["6 tensors taken over"]
    assert all((value == new.state_dict()[name]).all() for name, value in old.named_parameters())
    assert new.encoder.words == "a"


def test_what_does_not_fit_is_told_and_stays() -> None:
    old, new = Model("a"), Model("a", out=4, more=True)
    before = new.head.weight.clone()
    states = {**old.state_dict(), "gone.weight": torch.ones(1)}
    taken = start_from(new, states, "x.ckpt")
    assert taken.lines() == [
        "4 tensors taken over",
        "2 the checkpoint lacks, so left as built: more.weight, more.bias",
        "2 of another shape, so left as built: head.weight, head.bias",
        "1 in the checkpoint only: gone.weight",
    ]
    assert (new.head.weight == before).all()


def test_another_encoder_is_what_the_user_asks_for() -> None:
    old, new = Model("a"), Model("b")
    before = new.encoder.weight.clone()
    taken = start_from(new, old.state_dict(), "x.ckpt")
    assert taken.lines() == ["4 tensors taken over", "1 another encoder, so left as built: encoder (a there, b here)"]
    assert (new.encoder.weight == before).all()
    assert new.encoder.words == ""
    random = Model("")
    assert start_from(random, old.state_dict(), "x.ckpt").taken == 6
    assert (random.encoder.weight == old.encoder.weight).all()


def test_nothing_fits() -> None:
    with pytest.raises(CheckpointError, match="no weight of this checkpoint fits"):
        start_from(Model("a"), nn.Conv2d(1, 1, 1).state_dict(), "x.ckpt")


def weights(path: Path) -> dict[str, Any]:
    held: dict[str, Any] = torch.load(path / "checkpoints/last.ckpt", weights_only=True)
    return held


def test_fit_starts_from_a_run(medvl: Run, caplog: pytest.LogCaptureFixture) -> None:
    medvl(f"fit {TOY}")
    first = PARENT / (PARENT / "latest").readlink()
    held = torch.load(first / "checkpoints/best.ckpt", weights_only=True)["state_dict"]
    still = f"fit {TOY} --name two --model.optimizer.lr 0 --init_from"
    for start in (first, first / "checkpoints/best.ckpt"):
        status, _, error = medvl(f"{still} {start}")
        assert status == 0, error
        assert f"weights from {first}/checkpoints/best.ckpt: 2 tensors taken over" in caplog.text
        second = Path("runs/toy/two/latest").resolve()
        found = weights(second)
        assert all((value == found["state_dict"][name]).all() for name, value in held.items())
        assert found["global_step"] == 4
    assert yaml.safe_load((second / "fit.yaml").read_text())["init_from"] == str(start)

    assert medvl(f"fit --allow-import cli_toy --run {second} --ckpt_path last --trainer.max_epochs 3")[0] == 0
    assert weights(second)["global_step"] == 6
    assert medvl(f"test --allow-import cli_toy --run {second}")[0] == 0


@pytest.mark.parametrize(
    ("start", "expected"),
    [
        ("nowhere", "error: no such checkpoint\n  where: nowhere\n"),
        (".", "error: this run has no checkpoint 'best'\n"),
        ("toy.yaml", "error: not a whole checkpoint\n"),
    ],
)
def test_a_start_that_is_not_there(medvl: Run, start: str, expected: str) -> None:
    status, _, error = medvl(f"fit {TOY} --init_from {start}")
    assert status == 2
    assert error.startswith(expected)
    assert not Path("runs").exists()


def test_a_start_of_another_shape(medvl: Run, caplog: pytest.LogCaptureFixture) -> None:
    medvl(f"fit {TOY}")
    wide = f"fit {TOY} --name wide --model.width 5 --data.width 5 --init_from {PARENT}/latest"
    status, _, error = medvl(wide)
    assert status == 0, error
    assert "1 tensors taken over" in caplog.text
    assert "1 of another shape, so left as built: net.weight" in caplog.text
