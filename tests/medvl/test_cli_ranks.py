"""When ranks fail together, one of them says why, and the others leave without a stack of calls."""

from __future__ import annotations

import contextlib
import io
import os
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import torch.distributed as dist
from ranks import on_ranks

from medvl.cli import main as cli
from medvl.cli import ranks
from medvl.errors import DataError

GONE = "[/gloo/transport/tcp/pair.cc:561] Connection closed by peer [127.0.0.1]:36000. GLHF!"


def failing(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def dispatch(words: list[str]) -> int:
        raise error

    monkeypatch.setattr(cli, "dispatch", dispatch)


def as_rank(monkeypatch: pytest.MonkeyPatch, rank: int, store: dist.Store) -> None:
    distributed = SimpleNamespace(
        get_rank=lambda: rank, distributed_c10d=SimpleNamespace(_get_default_store=lambda: store)
    )
    monkeypatch.setattr(ranks, "_group", lambda: distributed)


def test_of_several_ranks_with_one_mistake_the_first_tells(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    store = dist.HashStore()
    failing(monkeypatch, DataError("no table", where="t.csv"))
    for rank in (2, 0, 1):
        as_rank(monkeypatch, rank, store)
        assert cli.main([]) == 2
    assert capsys.readouterr().err == "error: no table\n  where: t.csv\n"


def test_a_rank_that_is_left_alone_says_so_only_where_nobody_spoke(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    store = dist.HashStore()
    failing(monkeypatch, RuntimeError(GONE))
    for rank in (1, 0):
        as_rank(monkeypatch, rank, store)
        assert cli.main([]) == 2
    assert capsys.readouterr().err.splitlines() == [
        "error: another process of this run ended without a word; out of memory, perhaps"
    ]
    as_rank(monkeypatch, 0, store)
    assert cli.main([]) == 2
    assert capsys.readouterr().err == ""


def test_a_defect_keeps_its_stack_and_silences_the_others(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    store = dist.HashStore()
    as_rank(monkeypatch, 1, store)
    failing(monkeypatch, RuntimeError("sizes differ"))
    with pytest.raises(RuntimeError, match="sizes differ"):
        cli.main([])
    as_rank(monkeypatch, 0, store)
    failing(monkeypatch, RuntimeError(GONE))
    assert cli.main([]) == 2
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("environment", "tells"),
    [
        ({}, True),
        ({"LOCAL_RANK": "1"}, True),  # started by rank 0, which has read the same config without a mistake
        ({"LOCAL_RANK": "1", "TORCHELASTIC_RUN_ID": "x"}, False),
        ({"LOCAL_RANK": "0", "TORCHELASTIC_RUN_ID": "x"}, True),
        ({"SLURM_LOCALID": "3", "SLURM_NTASKS": "4"}, False),
        ({"SLURM_LOCALID": "0", "SLURM_NTASKS": "4"}, True),
    ],
)
def test_before_ranks_have_met(monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], tells: bool) -> None:
    for name in ("LOCAL_RANK", "TORCHELASTIC_RUN_ID", "SLURM_LOCALID", "SLURM_NTASKS"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert ranks.first_to_tell() == tells


def leaving(rank: int, folder: str) -> None:
    """Make a mistake on rank 0, which leaves, while rank 1 waits for it; write what each says."""

    def dispatch(words: list[str]) -> int:
        if rank == 0:
            raise DataError("no table")
        dist.all_reduce(torch.zeros(1))
        return 0

    cli.dispatch = dispatch
    said = io.StringIO()
    with contextlib.redirect_stderr(said):
        status = cli.main([])
    Path(folder, f"{rank}.txt").write_text(f"{status} {said.getvalue()}")
    os._exit(0)


def test_two_ranks(tmp_path: Path) -> None:
    on_ranks(leaving, str(tmp_path))
    assert (tmp_path / "0.txt").read_text() == "2 error: no table\n"
    assert (tmp_path / "1.txt").read_text() == "2 "
