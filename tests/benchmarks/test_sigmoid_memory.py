"""The memory benchmark on a small batch: it measures, ours needs less, and the gradients are the same."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks import harness, sigmoid_memory


def test_ours_needs_less_and_has_the_same_gradients(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(harness, "RESULTS", tmp_path)
    found = sigmoid_memory.run(batch=1024, width=64, rounds=1)
    assert json.loads((tmp_path / "sigmoid-memory.json").read_text()) == found
    assert found["ratio"] > 1
    assert set(found["gradient_errors"]) == {"image", "text", "log_scale", "bias"}
    assert 0 < found["gradient_error"] < 1e-5
