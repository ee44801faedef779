"""Checkpoint files: whole or absent, with a checksum, `last` with a predecessor; a full disk; exported weights."""

from __future__ import annotations

import hashlib
import json
import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from cli_toy import Run, medvl
from safetensors import safe_open

from medvl.cli.checkpoints import intact, sidecar
from medvl.cli.recording import WholeCheckpointIO, load_primitives, no_room
from medvl.cli.runs import named_checkpoint
from medvl.errors import CheckpointError

__all__ = ["medvl"]
TOY = "--allow-import cli_toy --config toy.yaml"
PARENT = Path("runs/toy/toy")


def save(path: Path, number: int, disk: WholeCheckpointIO | None = None, size: int = 10) -> None:
    path.parent.mkdir(exist_ok=True)
    (disk or WholeCheckpointIO()).save_checkpoint({"number": number, "x": torch.zeros(size)}, path)


def number(path: Path) -> int:
    return int(WholeCheckpointIO().load_checkpoint(path)["number"])


@pytest.fixture
def last(tmp_path: Path) -> Path:
    return tmp_path / "checkpoints" / "last.ckpt"


def test_last_has_a_predecessor(last: Path) -> None:
    for count in (1, 2, 3):
        save(last, count)
    previous = last.with_name("previous.ckpt")
    assert (number(previous), number(last)) == (2, 3)
    for path in (previous, last):
        assert sidecar(path).read_text() == f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}\n"
    assert sorted(path.name for path in last.parent.iterdir()) == sorted(
        name for path in (previous, last) for name in (path.name, sidecar(path).name)
    )
    save(last.with_name("best.ckpt"), 4)
    save(last.with_name("best.ckpt"), 5)
    assert number(previous) == 2


def test_where_there_are_no_hard_links(last: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object) -> None:
        raise OSError("no links here")

    monkeypatch.setattr(os, "link", refuse)
    save(last, 1)
    save(last, 2)
    assert (number(last.with_name("previous.ckpt")), number(last)) == (1, 2)


@pytest.mark.parametrize("checksum", [True, False])
@pytest.mark.parametrize("damage", ["cut", "altered", "empty"])
def test_a_damaged_file_never_passes_and_never_replaces_a_good_one(last: Path, damage: str, checksum: bool) -> None:
    save(last, 1)
    save(last, 2, size=1000)
    content = bytearray(last.read_bytes())
    content[len(content) // 2] ^= 1  # in the tensor
    last.write_bytes({"cut": content[: len(content) // 2], "altered": content, "empty": b""}[damage])
    if not checksum:  # as after a kill between the file and its checksum
        sidecar(last).unlink()
    assert not intact(last)
    path, warning = named_checkpoint(last.parent.parent, "last")
    assert number(path) == 1
    assert warning == f"{last} is damaged (its checksum differs): previous.ckpt stands in for it"
    save(last, 3)
    assert (number(last.with_name("previous.ckpt")), number(last)) == (1, 3)


def test_whenever_a_save_is_cut_off_one_file_is_whole(last: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each call to the operating system that a save makes fails in turn; what is there then can be gone on from."""
    save(last, 1)
    calls = [(os, "replace"), (os, "link"), (os, "fsync"), (Path, "unlink")]
    for module, name in calls:
        for nth in range(8):
            left, real = nth, getattr(module, name)

            def failing(*args: object, _real: object = real, **options: object) -> object:
                nonlocal left
                left -= 1
                if left < 0:
                    raise KeyboardInterrupt
                return _real(*args, **options)  # type: ignore[operator]

            with monkeypatch.context() as patch:
                patch.setattr(module, name, failing)
                try:
                    save(last, 2)
                except KeyboardInterrupt:
                    assert left < 0
            assert number(named_checkpoint(last.parent.parent, "last")[0]) in (1, 2)
            save(last, 1)


@contextmanager
def little_room(size: int) -> Iterator[None]:
    """Let the system refuse files larger than `size` bytes, as a full disk refuses to let them grow."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_full_disk_loses_nothing(last: Path) -> None:
    save(last, 1)
    save(last, 2)
    with pytest.raises(CheckpointError) as caught, little_room(100_000):
        save(last, 3, size=1_000_000)
    run = last.parent.parent
    assert str(caught.value).splitlines() == [
        "no room to write (File too large)",
        f"  where: {last}",
        "  hint:  what was saved before is whole; make room, then go on",
        f"  next:  medvl fit --run {run} --ckpt_path last",
    ]
    assert (number(last.with_name("previous.ckpt")), number(last)) == (1, 2)
    assert len(list(last.parent.iterdir())) == 4  # no draft is left


def test_a_disk_that_fills_up_ends_a_run_in_four_lines(medvl: Run) -> None:
    assert medvl(f"fit {TOY}")[0] == 0
    run = PARENT / (PARENT / "latest").readlink()
    with little_room((run / "checkpoints/last.ckpt").stat().st_size - 100):
        status, _, error = medvl(f"fit {TOY} --ckpt_path last --trainer.max_epochs 4")
    assert status == 2
    assert error.splitlines()[-4] == "error: no room to write (File too large)"
    assert load_primitives(run / "checkpoints/last.ckpt")["global_step"] == 4
    assert medvl(f"fit {TOY} --ckpt_path last --trainer.max_epochs 4")[0] == 0
    assert load_primitives(run / "checkpoints/last.ckpt")["global_step"] == 8


def test_other_errors_are_no_full_disk() -> None:
    assert no_room(OSError(13, "Permission denied"), Path("a")) is None
    assert no_room(RuntimeError("else"), Path("a")) is None


def test_weights_are_exported_and_come_back(medvl: Run, caplog: pytest.LogCaptureFixture) -> None:
    assert medvl(f"fit {TOY}")[0] == 0
    run = PARENT / (PARENT / "latest").readlink()
    status, out, error = medvl(f"export {run} --out toy.safetensors")
    assert status == 0, error
    assert f"from {run}/checkpoints/best.ckpt" in out
    held = load_primitives(run / "checkpoints/best.ckpt")
    with safe_open("toy.safetensors", "pt") as file:
        assert all(torch.equal(file.get_tensor(name), value) for name, value in held["state_dict"].items())
        told = {name: json.loads(value) for name, value in file.metadata().items() if name != "format"}
    assert told["medvl_config"] == held["medvl_config"]
    assert told["global_step"] == held["global_step"]
    assert not {"optimizer_states", "loops", "random_states"} & told.keys()

    scored = [
        medvl(f"test --allow-import cli_toy --ckpt_path {path}")
        for path in ("toy.safetensors", run / "checkpoints/best.ckpt")
    ]
    assert [status for status, _, _ in scored] == [0, 0], scored[0][2]
    assert medvl(f"fit {TOY} --name two --model.optimizer.lr 0 --init_from toy.safetensors")[0] == 0
    assert "weights from toy.safetensors: 2 tensors taken over" in caplog.text
    begun = load_primitives(Path("runs/toy/two/latest/checkpoints/last.ckpt"))["state_dict"]
    assert all(torch.equal(begun[name], value) for name, value in held["state_dict"].items())


def test_what_cannot_be_exported_or_used_is_told(medvl: Run) -> None:
    assert medvl(f"fit {TOY}")[0] == 0
    run = f"{PARENT}/latest"
    assert medvl(f"export {run} --out toy.bin")[2].startswith("error: the file's name must end with .safetensors\n")
    assert medvl(f"export {run} --ckpt_path last --out toy.safetensors")[0] == 0
    assert medvl(f"export {run} --out toy.safetensors")[2].startswith("error: there is something already\n")
    assert medvl("export nowhere --out a.safetensors")[2].startswith("error: this run has no checkpoint 'best'\n")
    status, _, error = medvl(f"fit {TOY} --ckpt_path toy.safetensors")
    assert (status, len(error.splitlines()) <= 4) == (2, True), error
    assert "weights only" in error
    os.truncate("toy.safetensors", 100)
    assert medvl(f"fit {TOY} --init_from toy.safetensors")[2].startswith("error: these weights cannot be read\n")
