"""Fixtures that every package's tests share: twins written once per session, a cache of its own, one thread."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from datamodules.twins import ms_cxr, padchest_gr, table

STUDIES, SIZE = 24, 160


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Point the cache at a folder of this session, so that no test sees the user's."""
    monkeypatch.setenv("MEDVL_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))


@pytest.fixture(scope="session")
def padchest_twin(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small twin of PadChest-GR; tests read it and never change it."""
    folder = tmp_path_factory.mktemp("twins") / "padchest-gr"
    padchest_gr.write(folder, STUDIES, seed=0, size=SIZE)
    return folder


@pytest.fixture(scope="session")
def mscxr_twin(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small twin of MS-CXR 1.1.0."""
    folder = tmp_path_factory.mktemp("twins") / "ms-cxr"
    ms_cxr.write(folder, STUDIES, seed=0, size=SIZE)
    return folder


@pytest.fixture(scope="session")
def table_twin(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same table as `table.{csv,parquet,jsonl}` and `rows.csv`; columns as in `twins.table.COLUMNS`."""
    folder = tmp_path_factory.mktemp("twins") / "table"
    table.write(folder, STUDIES, seed=0, size=SIZE)
    return folder
