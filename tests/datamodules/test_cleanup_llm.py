"""A language model is asked over a real connection, and one of transformers in this process; both may misbehave."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from datamodules.cleanup import endpoint as endpoint_module
from datamodules.cleanup.endpoint import Endpoint, NoAnswerError
from datamodules.cleanup.local import LocalModel
from datamodules.cleanup.prompt import SCHEMA, TASK, read_answer, same
from datamodules.cleanup.statuses import Status
from datamodules.cleanup.verdicts import PATIENCE, Asking, Store, ask_all, batches
from medvl.errors import ConfigError, DataError

SENTENCES = [f"Shade number {i}." for i in range(10)]
Answer = Callable[["Server", dict[str, Any]], tuple[int, dict[str, str], str]]


class Server:
    """An OpenAI-compatible endpoint that answers as a test wants, and remembers what it was asked."""

    def __init__(self, answer: Answer) -> None:
        self.answer, self.asked, self.headers, self.paths = answer, [], [], []
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                server.asked.append(body)
                server.headers.append(dict(self.headers))
                server.paths.append(self.path)
                status, headers, text = server.answer(server, body)
                content = text.encode()
                self.send_response(status)
                for name, value in ({"Content-Length": str(len(content))} | headers).items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *args: Any) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_port}/v1"
        threading.Thread(target=self.http.serve_forever, args=(0.01,), daemon=True).start()


@pytest.fixture
def serve() -> Iterator[Callable[[Answer], Server]]:
    servers: list[Server] = []

    def start(answer: Answer) -> Server:
        servers.append(Server(answer))
        return servers[-1]

    yield start
    for server in servers:
        server.http.shutdown()
        server.http.server_close()


def sentences_in(body: dict[str, Any]) -> list[str]:
    return json.loads(body["messages"][1]["content"].partition("\n")[2])


def completion(text: str) -> tuple[int, dict[str, str], str]:
    return 200, {}, json.dumps({"choices": [{"message": {"role": "assistant", "content": text}}]})


def verdicts(sentences: list[str], status: str = "negated") -> str:
    return json.dumps({"verdicts": [{"sentence": s, "status": status} for s in sentences]})


def well(server: Server, body: dict[str, Any]) -> tuple[int, dict[str, str], str]:
    return completion(verdicts(sentences_in(body)))


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    found = Store(tmp_path / "kept" / "verdicts.sqlite", "m")
    yield found
    found.close()


FAST = Asking(batch=4, retries=2, pause=0.01)


def test_a_good_answer_is_taken_and_kept(serve: Any, store: Store) -> None:
    server = serve(well)
    model = Endpoint(server.url, "m", key="word")
    answers = ask_all([*SENTENCES, SENTENCES[0], "shade NUMBER 1"], model, store, FAST)
    assert answers.verdicts == dict.fromkeys([*SENTENCES, "shade NUMBER 1"], Status.NEGATED)
    assert answers.counts == {"asked": 10, "answered": 10}
    assert [len(sentences_in(body)) for body in server.asked] == [4, 4, 2]
    body = server.asked[0]
    assert (body["model"], body["temperature"], body["messages"][0]["content"]) == ("m", 0, TASK)
    assert body["response_format"]["json_schema"]["schema"] == SCHEMA
    assert (server.headers[0]["Authorization"], server.paths[0]) == ("Bearer word", "/v1/chat/completions")
    again = ask_all(SENTENCES, model, store, FAST)
    assert (again.verdicts, again.counts) == ({s: Status.NEGATED for s in SENTENCES}, {"asked": 10, "kept": 10})
    assert len(server.asked) == 3
    assert b"Shade" not in store.path.read_bytes()


def test_many_questions_at_once_give_the_same(serve: Any, store: Store) -> None:
    answers = ask_all(SENTENCES, Endpoint(serve(well).url, "m"), store, Asking(batch=1, workers=4))
    assert list(answers.verdicts) == SENTENCES
    assert len(store.known(map(same, SENTENCES))) == 10


@pytest.mark.parametrize(
    ("text", "counts"),
    [
        ("I cannot do this.", {"garbage": 10}),
        ("", {"garbage": 10}),
        ('{"verdicts": [{"sentence": "Shade', {"garbage": 10}),
        ("{" * 5000, {"garbage": 10}),
        ('{"verdicts": "none"}', {"garbage": 10}),
        ("[1, 2]", {"garbage": 10}),
        (verdicts(["Another sentence.", "A lie"]), {"missing": 10, "invented": 6}),
        (verdicts(SENTENCES, "fine"), {"missing": 10, "invalid": 30}),
        ('{"verdicts": [1, {"sentence": 2, "status": "normal"}, {}]}', {"missing": 10, "invalid": 9}),
    ],
)
def test_garbage_and_inventions_are_counted_and_believed_nowhere(
    serve: Any, store: Store, text: str, counts: dict[str, int]
) -> None:
    server = serve(lambda server, body: completion(text))
    answers = ask_all(SENTENCES, Endpoint(server.url, "m"), store, FAST)
    assert (answers.verdicts, answers.counts) == ({}, {"asked": 10} | counts)
    server.answer = well  # nothing of it was kept: the next run asks again
    assert ask_all(SENTENCES, Endpoint(server.url, "m"), store, FAST).counts == {"asked": 10, "answered": 10}


def test_of_a_mixed_answer_only_what_was_asked_counts(serve: Any, store: Store) -> None:
    def answer(server: Server, body: dict[str, Any]) -> tuple[int, dict[str, str], str]:
        one, two, three, _ = sentences_in(body)
        said = [(one.upper(), "normal"), (two, "normal"), (two, "finding"), (three, "finding"), ("New.", "negated")]
        listed = {"verdicts": [{"sentence": s, "status": status} for s, status in said]}
        return completion(f'<think>{{"verdicts": []}}</think>Here: {{"a": 1}} ```json\n{json.dumps(listed)}\n```')

    answers = ask_all(SENTENCES[:4], Endpoint(serve(answer).url, "m"), store, FAST)
    assert answers.verdicts == {SENTENCES[0]: Status.NORMAL, SENTENCES[2]: Status.FINDING}
    assert answers.counts == {"asked": 4, "answered": 2, "conflicting": 1, "missing": 1, "invented": 1}


@pytest.mark.parametrize(("status", "turns"), [(500, 2), (503, 2), (429, 2)])
def test_a_server_in_trouble_is_asked_again(serve: Any, store: Store, status: int, turns: int) -> None:
    def answer(server: Server, body: dict[str, Any]) -> tuple[int, dict[str, str], str]:
        return (status, {}, "trouble") if len(server.asked) < turns else well(server, body)

    server = serve(answer)
    answers = ask_all(SENTENCES[:3], Endpoint(server.url, "m"), store, FAST)
    assert (answers.counts, len(server.asked)) == ({"asked": 3, "answered": 3}, turns)


def test_a_server_without_schemas_is_asked_without(serve: Any, store: Store) -> None:
    def answer(server: Server, body: dict[str, Any]) -> tuple[int, dict[str, str], str]:
        return (400, {}, "{}") if "response_format" in body else well(server, body)

    assert ask_all(SENTENCES, Endpoint(serve(answer).url, "m"), store, FAST).counts["answered"] == 10


def test_time_outs_end_and_leave_what_was_answered(serve: Any, store: Store) -> None:
    def answer(server: Server, body: dict[str, Any]) -> tuple[int, dict[str, str], str]:
        if SENTENCES[4] in sentences_in(body):
            time.sleep(0.6)
        return well(server, body)

    server = serve(answer)
    model = Endpoint(server.url, "m", timeout=0.15)
    answers = ask_all(SENTENCES, model, store, Asking(batch=4, retries=1, pause=0))
    assert list(answers.verdicts) == SENTENCES[:4] + SENTENCES[8:]
    assert answers.counts == {"asked": 10, "answered": 6, "timed-out": 4}
    assert len(server.asked) == 4
    server.answer = well  # the run goes on where it broke: only the batch that is open
    assert ask_all(SENTENCES, model, store, FAST).counts == {"asked": 10, "kept": 6, "answered": 4}
    assert sentences_in(server.asked[-1]) == SENTENCES[4:8]


def test_an_answer_by_drops_is_not_waited_for() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def drip() -> None:
            connection, _ = listener.accept()
            connection.recv(1 << 16)
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
            try:
                while True:
                    connection.sendall(b" ")
                    time.sleep(0.02)
            except OSError:
                connection.close()

        threading.Thread(target=drip, daemon=True).start()
        model, start = Endpoint(f"http://127.0.0.1:{listener.getsockname()[1]}", "m", timeout=0.3), time.monotonic()
        with pytest.raises(NoAnswerError, match="timed-out"):
            model.ask("task", "question")
        assert time.monotonic() - start < 2


def test_a_dead_endpoint_is_not_asked_forever(store: Store) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    answers = ask_all(SENTENCES, Endpoint(f"http://127.0.0.1:{port}/v1", "m"), store, Asking(1, retries=0))
    assert answers.counts == {"asked": 10, "unreachable": PATIENCE, "not-sent": 10 - PATIENCE}


def test_no_redirect_is_followed(serve: Any, store: Store) -> None:
    there = serve(well)
    for target in (there.url, "http://192.0.2.1/v1", "https://example.org/v1"):
        for status in (301, 302, 307, 308):
            here = serve(lambda server, body, t=target, s=status: (s, {"Location": f"{t}/chat/completions"}, ""))
            answers = ask_all(SENTENCES[:3], Endpoint(here.url, "m", allow_remote=True), store, FAST)
            assert (answers.counts, len(here.asked)) == ({"asked": 3, "redirected": 3}, 1)
    assert there.asked == []


@pytest.mark.parametrize(
    "url",
    ["https://api.openai.com/v1", "http://192.0.2.7:8000/v1", "http://[2001:db8::1]/v1", "http://0x7f.1.example/v1"],
)
def test_report_text_does_not_leave_this_machine(url: str) -> None:
    with pytest.raises(ConfigError, match="not on this machine") as caught:
        Endpoint(url, "m")
    assert "PhysioNet" in str(caught.value)
    assert "--allow-remote-report-text" in str(caught.value)
    assert len(str(caught.value).splitlines()) <= 4
    assert Endpoint(url, "m", allow_remote=True).url == url


@pytest.mark.parametrize(
    "url", ["http://localhost:1/v1", "http://127.0.0.9/v1", "http://[::1]:8/v1", "http://[::ffff:127.0.0.1]"]
)
def test_this_machine_has_several_names(url: str) -> None:
    assert Endpoint(url, "m").url == url


@pytest.mark.parametrize(
    "url", ["localhost:8000", "file:///etc/hosts", "http://", "http://localhost:port/v1", "http://[::1"]
)
def test_a_url_that_is_none_is_told(url: str) -> None:
    with pytest.raises(ConfigError, match="no URL"):
        Endpoint(url, "m")


def test_where_a_connection_really_leads_is_looked_at_before_anything_is_sent(
    serve: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = serve(well)
    model = Endpoint(server.url, "m")
    monkeypatch.setenv("HTTP_PROXY", "http://192.0.2.1:3128")
    monkeypatch.setenv("http_proxy", "http://192.0.2.1:3128")
    assert read_answer(model.ask(TASK, 'Sentences:\n["A."]'), ["a"])[0] == {"a": Status.NEGATED}
    # the name led here when it was checked; now it does not, as after a change of its address
    monkeypatch.setattr(endpoint_module, "_is_loopback", lambda address: False)
    with pytest.raises(ConfigError, match="not on this machine"):
        model.ask(TASK, "Sentences:\n[]")
    assert len(server.asked) == 1


@pytest.mark.parametrize("status", [401, 404])
def test_a_wrong_key_path_or_model_stops_the_run(serve: Any, store: Store, status: int) -> None:
    server = serve(lambda server, body: (status, {}, "secret sentence"))
    with pytest.raises(ConfigError, match=f"answered {status}") as caught:
        ask_all(SENTENCES, Endpoint(server.url, "m"), store, FAST)
    assert "secret" not in str(caught.value)


def test_verdicts_are_kept_by_model_and_question(tmp_path: Path) -> None:
    path = tmp_path / "verdicts.sqlite"
    first = Store(path, "m")
    first.keep({"a b": Status.NORMAL})
    assert first.known(["a b", "c"]) == {"a b": Status.NORMAL}
    assert Store(path, "other").known(["a b"]) == {}
    assert Store(path, "m", version="other").known(["a b"]) == {}
    assert Store(path, "m").known(["a b"]) == {"a b": Status.NORMAL}
    path.write_bytes(b"not a database" * 100)
    with pytest.raises(DataError, match="delete the file"):
        Store(path, "m")


def test_batches_do_not_depend_on_what_is_known() -> None:
    assert batches(["A b.", "a  B", "C", "...", "D"], 2) == [["A b.", "C"], ["D"]]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A causal language model of random weights, which writes 12 random words."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    folder = tmp_path_factory.mktemp("lm") / "tiny"
    words = ["<unk>", "</s>", "{", "}", '"', "verdicts", "sentence", "status", "finding", "negated", ":", ",", "[", "]"]
    special = {"unk_token": "<unk>", "eos_token": "</s>"}
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, special["unk_token"]))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, **special).save_pretrained(folder)
    config = LlamaConfig(
        vocab_size=len(words), hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2,
        max_position_embeddings=2048,
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(folder)
    return folder


def test_the_garbage_of_a_random_model_is_survived(tiny: Path, store: Store) -> None:
    model = LocalModel(str(tiny), max_tokens=12)
    assert model.name.startswith("tiny@")
    answer = model.ask(TASK, "Sentences:\n[]")
    assert answer == LocalModel(str(tiny), max_tokens=12).ask(TASK, "Sentences:\n[]")  # nothing is drawn
    answers = ask_all(SENTENCES, model, store, FAST)
    assert (answers.verdicts, answers.counts) == ({}, {"asked": 10, "garbage": 10})


def test_a_chat_template_is_used(tiny: Path) -> None:
    model = LocalModel(str(tiny), max_tokens=3)
    tokenizer, lm = model._loaded
    tokenizer.chat_template = "{% for m in messages %}{{ m['role'] }} {{ m['content'] }} {% endfor %}"
    seen: list[int] = []
    lm.register_forward_pre_hook(
        lambda module, args, kwargs: seen.append(kwargs["input_ids"].shape[1]), with_kwargs=True
    )
    model.ask("a b c", "d e")
    assert seen[0] == len(["system", "a", "b", "c", "user", "d", "e"])


def test_a_model_that_fails_on_a_question_is_counted(tiny: Path, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    model = LocalModel(str(tiny), max_tokens=3)

    def fail(**kwargs: Any) -> None:
        raise RuntimeError("out of memory")

    monkeypatch.setattr(model._loaded[1], "generate", fail)
    assert ask_all(SENTENCES[:4], model, store, FAST).counts == {"asked": 4, "model-failed": 4}


def test_a_model_that_is_not_there_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match="no such folder"):
        LocalModel(str(tmp_path / "none"))
    with pytest.raises(ConfigError, match="holds no model"):
        LocalModel(str(tmp_path))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(ConfigError, match="cannot load the language model"):
        LocalModel("nobody/no-such-model").ask("task", "question")
