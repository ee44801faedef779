"""Asking a language model in batches, with verdicts kept on disk as they come, so that a broken run goes on."""

from __future__ import annotations

import hashlib
import sqlite3
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from datamodules.cleanup.endpoint import NoAnswerError
from datamodules.cleanup.prompt import TASK, VERSION, question, read_answer, same
from datamodules.cleanup.statuses import Status
from medvl.errors import DataError

PATIENCE = 5  # batches without an answer, one after another, after which no more are sent


class Model(Protocol):
    """A language model."""

    @property
    def name(self) -> str:
        """What verdicts are kept under."""

    def ask(self, task: str, question: str) -> str:
        """Return the answer, or raise `NoAnswerError`."""


@dataclass(frozen=True)
class Asking:
    """How to ask.

    Attributes:
        batch: Sentences in one question.
        retries: How often to ask again where that may help.
        pause: Seconds before the first of these; each further one waits twice as long.
        workers: Questions under way at once.
    """

    batch: int = 20
    retries: int = 3
    pause: float = 1.0
    workers: int = 1


@dataclass
class Answers:
    """What came back.

    Attributes:
        verdicts: Status by sentence, as the sentences are written; the rules decide on those that are not here.
        counts: `asked` (different sentences), of them `kept` (answered in an earlier run), `answered`, and why others
            were not: as in `read_answer`, the reason of `NoAnswerError`, `not-sent` after too many failures in a row.
    """

    verdicts: dict[str, Status] = field(default_factory=dict)
    counts: Counter[str] = field(default_factory=Counter)


class Store:
    """Verdicts on disk by model, version of the question and hash of the sentence; holds no report text.

    Raises:
        DataError: The file is no such store.
    """

    def __init__(self, path: Path, model: str, version: str = VERSION) -> None:
        self.path, self._model, self._version = path, model, version
        self._lock = threading.Lock()
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            self._base = sqlite3.connect(path, check_same_thread=False, timeout=60)
            with self._base:
                self._base.execute(
                    "CREATE TABLE IF NOT EXISTS verdicts (model TEXT, version TEXT, sentence TEXT, status TEXT,"
                    " PRIMARY KEY (model, version, sentence)) WITHOUT ROWID"
                )
        except sqlite3.Error as error:
            what = "the kept verdicts cannot be read"
            raise DataError(what, where=str(path), hint=f"{error}; delete the file to ask anew") from None

    def known(self, sentences: Iterable[str]) -> dict[str, Status]:
        """Return the verdicts that are kept on these sentences."""
        wanted = {_hash(sentence): sentence for sentence in sentences}
        rows = self._base.execute(
            "SELECT sentence, status FROM verdicts WHERE model = ? AND version = ?", (self._model, self._version)
        )
        return {wanted[key]: Status(status) for key, status in rows if key in wanted and status in set(Status)}

    def keep(self, verdicts: dict[str, Status]) -> None:
        """Keep verdicts; they are on disk when this returns."""
        rows = [(self._model, self._version, _hash(name), str(status)) for name, status in verdicts.items()]
        with self._lock, self._base:
            self._base.executemany("INSERT OR REPLACE INTO verdicts VALUES (?, ?, ?, ?)", rows)

    def close(self) -> None:
        """Close the file."""
        self._base.close()


def _hash(sentence: str) -> str:
    return hashlib.sha256(sentence.encode()).hexdigest()


def batches(sentences: Iterable[str], size: int) -> list[list[str]]:
    """Return the different sentences (as `same` tells them apart) in batches.

    What is in a batch does not depend on what was answered before, so that a run that goes on asks what an unbroken one
    would have asked.
    """
    firsts: dict[str, str] = {}
    for sentence in sentences:
        if key := same(sentence):
            firsts.setdefault(key, sentence)
    different = list(firsts.values())
    return [different[first : first + size] for first in range(0, len(different), size)]


def ask_all(sentences: Sequence[str], model: Model, store: Store, asking: Asking | None = None) -> Answers:
    """Ask a model about sentences that are not yet answered; whatever goes wrong is counted and corrupts nothing.

    Raises:
        ConfigError: The model cannot be asked at all, as `Model.ask` says.
    """
    asking = asking or Asking()
    parts = batches(sentences, asking.batch)
    known = store.known(same(sentence) for part in parts for sentence in part)
    counts = Counter(asked=sum(map(len, parts)), kept=len(known))
    open_parts = [part for part in ([s for s in part if same(s) not in known] for part in parts) if part]
    for found, lost in _Asker(model, store, asking).results(open_parts):
        known |= found
        counts.update(lost, answered=len(found))
    verdicts = {sentence: known[same(sentence)] for sentence in sentences if same(sentence) in known}
    return Answers(verdicts, +counts)


class _Asker:
    """Sends batches until too many in a row fail."""

    def __init__(self, model: Model, store: Store, asking: Asking) -> None:
        self.model, self.store, self.asking = model, store, asking
        self._failed = 0

    def results(self, parts: list[list[str]]) -> Iterable[tuple[dict[str, Status], Counter[str]]]:
        """Yield verdicts and losses of each batch."""
        from rich.console import Console
        from rich.progress import track

        console = Console(file=sys.stderr)
        with ThreadPoolExecutor(self.asking.workers) as pool:
            try:
                found = pool.map(self._one, parts)
                yield from track(
                    found, "asking", len(parts), console=console, transient=True, disable=not console.is_terminal
                )
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise

    def _one(self, part: list[str]) -> tuple[dict[str, Status], Counter[str]]:
        if self._failed >= PATIENCE:
            return {}, Counter({"not-sent": len(part)})
        try:
            answer = self._answer(question(part))
        except NoAnswerError as error:
            self._failed += 1
            return {}, Counter({error.reason: len(part)})
        self._failed = 0
        found, lost = read_answer(answer, [same(sentence) for sentence in part])
        self.store.keep(found)
        return found, lost

    def _answer(self, asked: str) -> str:
        for turn in range(self.asking.retries + 1):
            try:
                return self.model.ask(TASK, asked)
            except NoAnswerError as error:
                if not error.again or turn == self.asking.retries:
                    raise
                time.sleep(self.asking.pause * 2**turn)
        raise NoAnswerError("not-sent")  # retries is negative
