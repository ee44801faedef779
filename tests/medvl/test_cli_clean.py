from __future__ import annotations

import json
import shutil
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from cli_toy import Run, medvl

from datamodules.sources import ChestImaGenome
from datamodules.twins import imagenome

__all__ = ["medvl"]


@pytest.fixture(scope="module")
def twin(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("clean") / "twin"
    imagenome.write(folder, 24, 5, size=64, workers=0)
    return folder


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEDVL_CACHE", str(tmp_path / "cache"))


class Endpoint(ThreadingHTTPServer):
    """Says of every other sentence that it is normal; stops answering after some questions."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.asked: list[list[str]] = []
        self.good_for = 10**6
        self.words = f"--llm-endpoint http://localhost:{self.server_port}/v1 --llm-model m --llm-pause 0 --llm-batch 5"


class Handler(BaseHTTPRequestHandler):
    server: Endpoint

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        sentences = json.loads(body["messages"][1]["content"].partition("\n")[2])
        self.server.asked.append(sentences)
        kinds = ("normal", "finding")
        said = [{"sentence": s, "status": kinds[sum(s.encode()) % 2]} for s in sentences]
        text = json.dumps({"choices": [{"message": {"content": json.dumps({"verdicts": said})}}]}).encode()
        self.send_response(200 if len(self.server.asked) <= self.server.good_for else 503)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *args: Any) -> None:
        pass


@pytest.fixture
def endpoint() -> Iterator[Endpoint]:
    with Endpoint() as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield server
        server.shutdown()


def texts(folder: str) -> list[bytes]:
    return [Path(folder, name).read_bytes() for name in ("pairs.parquet", "audit.json", "audit.md")]


def test_pairs_in_kept_pairs_and_an_audit_out(medvl: Run, twin: Path) -> None:
    status, out, error = medvl(f"data clean imagenome {twin} --output out --workers 1")
    assert (status, error) == (0, "")
    assert out.splitlines()[-1].endswith(f"--data.source.root {twin} --data.source.clean out/pairs.parquet")
    given, left = ChestImaGenome(twin).load().records, ChestImaGenome(twin, clean="out/pairs.parquet").load().records
    audit = json.loads(Path("out/audit.json").read_text())
    assert (audit["before"]["pairs"], audit["after"]["pairs"]) == (len(given), len(left))
    assert f"in:   {len(given)} pairs" in out
    assert audit["source_problems"]["box-clipped"] > 0
    assert not any(record.phrase in out for record in given)  # report text is in the folder named, and there only
    first = texts("out")
    assert medvl(f"data clean imagenome {twin} --output out --workers 1")[0] == 0
    assert texts("out") == first
    assert sorted(path.name for path in Path("out").iterdir()) == ["audit.json", "audit.md", "pairs.parquet"]
    fewer = "--negated drop --off redundant --samples 0"
    assert medvl(f"data clean imagenome {twin} --output other --workers 1 {fewer}")[0] == 0
    other = ChestImaGenome(twin, clean="other/pairs.parquet").load().records
    assert all(record.boxes for record in other)
    assert max(len(record.boxes) for record in other) > max(len(record.boxes) for record in left)
    assert "“" not in Path("other/audit.md").read_text()


def test_a_broken_run_goes_on_and_ends_as_an_unbroken_one(medvl: Run, twin: Path, endpoint: Endpoint) -> None:
    words = f"data clean imagenome {twin} --workers 1 {endpoint.words} --llm-retries 0"
    status, out, _ = medvl(f"{words} --output whole")
    assert status == 0
    questions, whole = [*endpoint.asked], texts("whole")
    assert len(questions) > 3
    assert "llm-negated" in out
    assert not any(sentence in out for part in questions for sentence in part)
    endpoint.asked.clear()
    endpoint.good_for = 2
    status, out, _ = medvl(f"{words} --output broken --llm-cache other.sqlite")
    assert (status, "server-error" in out, "the same command asks about them again" in out) == (0, True, True)
    endpoint.asked.clear()
    endpoint.good_for = 10**6
    assert medvl(f"{words} --output broken --llm-cache other.sqlite")[0] == 0
    assert endpoint.asked == questions[2:]
    assert texts("broken")[0] == whole[0]
    endpoint.asked.clear()
    assert medvl(f"{words} --output again")[0] == 0
    assert (endpoint.asked, texts("again")[0]) == ([], whole[0])


def test_a_dry_run_asks_nobody_and_writes_nothing(medvl: Run, twin: Path, endpoint: Endpoint, tmp_path: Path) -> None:
    before = sorted(tmp_path.rglob("*"))
    status, out, _ = medvl(f"data clean imagenome {twin} --workers 1 --dry-run --output out {endpoint.words}")
    assert (status, endpoint.asked, sorted(tmp_path.rglob("*"))) == (0, [], before)
    assert "m would be asked about" in out
    assert '{"verdicts": [{"sentence": "...", "status": "..."}]}' in out
    assert not any(record.phrase in out for record in ChestImaGenome(twin).load().records)
    status, _, error = medvl(f"data clean imagenome {twin} --dry-run --llm-endpoint https://example.org --llm-model m")
    assert (status, "not on this machine" in error, "PhysioNet" in error) == (2, True, True)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ("", "add --output FOLDER"),
        ("--output out --off redundat", "did you mean 'redundant'?"),
        ("--output out --llm-endpoint http://localhost:1", "add --llm-model NAME"),
        ("--output out --llm x --llm-endpoint http://localhost:1 --llm-model m", "two language models"),
        ("--output out --llm ./nowhere", "no such folder"),
        ("--output out --llm x --llm-batch 0", "--llm-batch is 0"),
        ("--output out --llm-endpoint http://localhost:1 --llm-model m --llm-key NOT_SET", "variable is not set"),
        ("--output out --clean x", "unknown option '--clean'"),
    ],
)
def test_a_mistake_is_told_before_anything_is_read(medvl: Run, twin: Path, options: str, told: str) -> None:
    status, out, error = medvl(f"data clean imagenome {twin} {options}")
    assert (status, out, told in error) == (2, "", True), error
    assert len(error.splitlines()) <= 4


def test_graphs_that_say_nothing_are_counted_and_none_left_is_an_error(medvl: Run, twin: Path, tmp_path: Path) -> None:
    shutil.copytree(twin, tmp_path / "bad")
    graphs = sorted((tmp_path / "bad/silver_dataset/scene_graph").iterdir())
    graphs[0].unlink()
    graphs[1].write_text(json.dumps(json.loads(graphs[1].read_text()) | {"objects": []}))
    status, out, _ = medvl("data clean imagenome bad --output out --workers 1")
    assert status == 0
    assert "graph-missing" in out
    assert "objects-missing" in out
    for path in graphs[1:]:
        entries = json.loads(path.read_text())
        for entry in entries["attributes"]:
            entry["phrases"] = ["No nodule." for _ in entry["phrases"]]
        path.write_text(json.dumps(entries))
    status, _, error = medvl("data clean imagenome bad --output none --workers 1")
    assert (status, error.startswith("error: no pair with boxes is left of ")) == (2, True)
    assert "the rule 'negated' removed" in error
    assert not Path("none").exists()
    for path in graphs[1:]:
        path.unlink()
    status, _, error = medvl("data clean imagenome bad --output none --workers 1")
    assert (status, "no usable row" in error, "has no scene graph" in error) == (2, True, True)
