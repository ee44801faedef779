"""Bad data: every format damaged in dozens of ways, one at a time, and whether anything goes wrong in silence.

Each damage is done to a fresh copy of a small twin. `medvl data check` looks at it, and then a model is trained for two
steps, with `on_error: raise` and with `on_error: quarantine`. A fault is

- `found`, when the check names a problem that the clean data set does not have, or refuses it;
- `survived`, when check and both trainings end in time, having gone on or refused with an error for people;
- `silent`, when a training went on with records or pixels that are not those of the clean data set, and neither the
  check nor the intake said anything (to lose a row is no wrong data, but is counted below);
- `counted`, when training went on without what vanished meanwhile, and counted it;
- `harmless`, when it changed nothing: the same records and pixels, as of a byte-order mark;
- `lost_uncounted`: how many records, images or snippets are gone without a problem that stands for them.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import signal
import tempfile
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from benchmarks.damage import Patient, damages
from benchmarks.damage_forms import FORMS, Form
from benchmarks.damage_late import Late, Vanish, late_faults
from benchmarks.harness import RESULTS, write_result
from datamodules.check import check_source
from datamodules.intake import OnError
from datamodules.records import AnyRecord, PhraseRecord, Problem, VolumeRecord
from datamodules.shared import SourceData
from datamodules.sources.splits import SPLIT_DEALT
from datamodules.volumes import VolumeData
from medvl.errors import DataError, MedvlError

_STATEMENTS = {SPLIT_DEALT, "patient-unnamed"}  # tell the size of what is left, and so stand for no loss
SECONDS = 120  # within which a check or a training of so little must end


class _Late(Exception):
    """Something did not end in time."""


class Witness(LightningModule):
    """The smallest model that reads every pixel of its batches."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(()))

    def training_step(self, batch: Any) -> torch.Tensor:
        """Return a loss that is finite where the pixels are."""
        images = batch.volumes if hasattr(batch, "volumes") else batch.images
        loss: torch.Tensor = (images.mean() * self.weight - 1) ** 2
        if not bool(torch.isfinite(loss)):
            raise FloatingPointError("the loss is not finite")
        return loss

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Return plain gradient descent."""
        return torch.optim.SGD(self.parameters(), lr=0.1)


@dataclass
class Content:
    """What a training works with.

    Attributes:
        records: Each as a tuple of what it teaches, counted.
        units: The images, and the sentences or snippets of each.
        pixels: Mean and deviation of the pixels of each image, by path.
        codes: Problems that were told, by kind.
        told: The problems.
    """

    records: Counter[tuple[Any, ...]] = field(default_factory=Counter)
    units: set[tuple[str, ...]] = field(default_factory=set)
    pixels: dict[str, tuple[float, ...]] = field(default_factory=dict)
    codes: Counter[str] = field(default_factory=Counter)
    told: list[Problem] = field(default_factory=list)


@dataclass
class Verdict:
    """What became of one fault.

    Attributes:
        found: Whether the check told it.
        survived: Whether everything ended as it should.
        silent: Whether wrong data was trained on and nothing was said.
        harmless: Whether nothing changed.
        counted: Whether training went on without what vanished, and counted it.
        lost: Records gone without a word.
        why: For people.
    """

    found: bool = False
    survived: bool = True
    silent: bool = False
    harmless: bool = False
    counted: bool = False
    lost: int = 0
    why: str = ""

    @property
    def wrong(self) -> bool:
        """Whether it is anything to mend."""
        return self.silent or not self.survived or bool(self.lost)

    @property
    def word(self) -> str:
        """The verdict in a word or two."""
        if not self.survived:
            return "crashed"
        if self.silent:
            return "silent"
        if self.counted:
            return "left out and counted"
        return "found" if self.found else "harmless" if self.harmless else "met in training"


def content_of(form: Form, data: SourceData[Any, Any]) -> Content:
    """Return what a datamodule gives to a training, evaluation and test."""
    data.open("all")
    records = data.records("all")
    loaded = data.intake._data
    told = [*loaded.problems, *data.intake.dropped]
    found = Content(told=told, codes=Counter(problem.code for problem in told))
    for record in records:
        found.records[_taught(record, form.dealt)] += 1
        found.units |= set(_units(record))
    for path in {path for record in records for path in record.paths}:
        with suppress(DataError):  # gone since; the intake counts it
            found.pixels[path] = _pixels(data, path)
    return found


def _pixels(data: Any, path: str) -> tuple[float, ...]:
    values = data.voxels(path).image if isinstance(data, VolumeData) else torch.from_numpy(data._pixels(path).pixels)
    values = values.double()
    return (*values.shape, round(float(values.mean()), 6), round(float(values.std()), 6))


def _taught(record: AnyRecord, dealt: bool) -> tuple[Any, ...]:
    """Return what a record teaches; val and train are one where val is dealt."""
    split = "" if dealt else record.split.replace("val", "train")
    if isinstance(record, PhraseRecord):
        boxes = tuple(tuple(round(v, 6) for v in box) for box in record.boxes)
        return record.path, record.phrase, boxes, record.patient_id, split, record.labels, record.extra_boxes
    told = tuple(sorted(record.labels.items())), record.findings, record.impression, record.other
    snippets = record.snippets if isinstance(record, VolumeRecord) else ()
    return record.paths, record.patient_id, split, told, tuple((one.text, one.intervals) for one in snippets)


def _units(record: AnyRecord) -> Iterator[tuple[str, ...]]:
    for path in record.paths:
        yield (path,)
        if isinstance(record, PhraseRecord):
            yield path, "phrase", record.phrase
        elif isinstance(record, VolumeRecord):
            yield from ((path, "snippet", snippet.text) for snippet in record.snippets)


def train(form: Form, data: SourceData[Any, Any], *callbacks: Callback) -> Content:
    """Train for two steps and return what there was to train on."""
    trainer = Trainer(
        max_steps=2,
        limit_val_batches=0,
        accelerator="cpu",
        devices=1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        callbacks=list(callbacks),
    )
    trainer.fit(Witness(), datamodule=data)
    return content_of(form, data)


@contextmanager
def _in_time() -> Iterator[None]:
    def late(*_: object) -> None:
        raise _Late(f"no end after {SECONDS} s")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(SECONDS)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def _tried(job: Callable[[], Any]) -> Any:
    """Return what a job returns, or the exception that ends it."""
    try:
        with _in_time():
            return job()
    except Exception as error:
        return error


def judge(form: Form, root: Path, clean: Content, known: Counter[str]) -> Verdict:
    """Check and train on a damaged copy, and say what became of the fault.

    Args:
        form: Its format.
        root: The copy.
        clean: What the clean one gives.
        known: Problems that the check tells of the clean one, by kind.
    """
    checked = _tried(lambda: Counter(p.code for p in check_source(form.read(root), workers=0).problems))
    verdict = Verdict(found=isinstance(checked, MedvlError) or _more(checked, known))
    modes: tuple[OnError, ...] = ("raise", "quarantine")
    ends = {mode: _tried(partial(_trained, form, root, mode)) for mode in modes}
    harmless = []
    for name, end in {"check": checked, **ends}.items():
        if isinstance(end, Exception) and not isinstance(end, MedvlError):
            verdict.survived, verdict.why = False, f"{name}: {type(end).__name__}: {end}"[:200]
        elif isinstance(end, MedvlError) and str(end).count("\n") > 3:
            verdict.survived, verdict.why = False, f"{name}: an error of more than four lines"
        elif isinstance(end, Content):
            wrong = [str(one)[:160] for one in end.records - clean.records]
            wrong += [path for path, seen in end.pixels.items() if clean.pixels.get(path) != seen]
            harmless.append(not wrong and end.records == clean.records)
            told = verdict.found or _more(end.codes, clean.codes)
            verdict.silent |= bool(wrong) and not told
            lost = _uncounted(clean, end)
            verdict.lost = max(verdict.lost, lost)
            verdict.why = verdict.why or (f"{name}: {wrong[0]}" if wrong and not told else f"{lost} lost" * bool(lost))
    verdict.harmless = len(harmless) == len(ends) and all(harmless)
    return verdict


def _trained(form: Form, root: Path, mode: OnError) -> Content:
    return train(form, form.module(root, mode))


def _more(codes: Counter[str], known: Counter[str]) -> bool:
    """Whether there are problems of a kind beyond those known."""
    return isinstance(codes, Counter) and any(count > known[code] for code, count in codes.items())


def _uncounted(clean: Content, end: Content) -> int:
    """Return how many units are gone beyond those that new problems stand for.

    A problem stands for one unit, or for as many as its message counts. With an image its phrases and snippets are
    gone, and counted with it.
    """
    gone = clean.units - end.units
    gone = {unit for unit in gone if len(unit) == 1 or unit[:1] not in gone}
    new = Counter((p.where, p.code, p.path, p.message) for p in end.told if p.code not in _STATEMENTS)
    new -= Counter((p.where, p.code, p.path, p.message) for p in clean.told)
    stood = sum(count * max([1, *(int(word) for word in message.split() if word.isdigit() and len(word) < 4)])
                for (_, _, _, message), count in new.items())  # fmt: skip
    return max(0, len(gone) - stood)


def _copy(clean: Path, to: Path) -> Path:
    shutil.copytree(clean, to, copy_function=os.link, symlinks=True)
    return to


@contextmanager
def _quiet(cache: Path) -> Iterator[None]:
    """Silence what trainings say, and keep their caches in a folder of this run."""
    before, level = os.environ.get("MEDVL_CACHE"), logging.getLogger("lightning.pytorch").level
    os.environ["MEDVL_CACHE"] = str(cache)
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.getLogger("lightning.pytorch").setLevel(level)
        if before is None:
            del os.environ["MEDVL_CACHE"]
        else:
            os.environ["MEDVL_CACHE"] = before


def measure(
    name: str, folder: Path, seed: int = 0, only: Sequence[str] = (), repeats: int = 1, tell: bool = False
) -> dict[str, Verdict]:
    """Damage one format in every way and judge each.

    Args:
        name: As in `FORMS`.
        folder: Where copies live while they do.
        seed: Of the places.
        only: Names of the damages to do; by default all.
        repeats: Places for each damage.
        tell: Whether to print faults that went wrong.
    """
    form, clean_root = FORMS[name], folder / name
    with _quiet(folder / "cache"):
        form.write(clean_root)
        clean = train(form, form.module(clean_root, "quarantine"))
        known = Counter(p.code for p in check_source(form.read(clean_root), workers=0).problems)
        source = form.read(clean_root).root
        used = [(source / path).relative_to(clean_root) for path in sorted(clean.pixels)]
        verdicts: dict[str, Verdict] = {}
        faults: dict[str, Late | Callable[[Patient], None]] = {}
        faults |= damages(form.anatomy) | late_faults(form.data is VolumeData)
        chosen = [fault for fault in enumerate(faults) if not only or fault[1] in only]
        for (number, fault), turn in product(chosen, range(repeats)):
            root = _copy(clean_root, folder / f"{name}-{number}-{turn}")
            patient = Patient(root, form.anatomy, used, np.random.default_rng([seed, number, turn]))
            deed = faults[fault]
            if isinstance(deed, Late):
                verdict = _judge_late(form, patient, deed, clean)
            else:
                deed(patient)
                verdict = judge(form, root, clean, known)
            verdicts[f"{fault} ({turn + 1})" if turn else fault] = verdict
            if tell and verdict.wrong:
                print(f"  {name}: {fault}: {verdict}", flush=True)
            shutil.rmtree(root)
            (folder / f"outside-{root.name}").unlink(missing_ok=True)
            shutil.rmtree(folder / "cache", ignore_errors=True)
    return verdicts


def _judge_late(form: Form, patient: Patient, fault: Late, clean: Content) -> Verdict:
    """Train while a fault happens: whatever was read before must stand, and nothing wrong may be read after."""
    module = form.module(patient.root, "quarantine", fault.cache)
    end = _tried(lambda: train(form, module, Vanish(fault, patient)))
    if isinstance(end, Content):
        changed = any(clean.pixels.get(path) != seen for path, seen in end.pixels.items())
        counted = bool(module.intake.lost.get("train"))
        told = {problem.path for problem in end.told}  # of val and test, which nobody has opened before
        gone = 0 if counted else len(clean.pixels.keys() - end.pixels.keys() - told)
        return Verdict(silent=changed, harmless=not (changed or gone or counted), counted=counted, lost=gone)
    why = "" if isinstance(end, MedvlError) and not fault.spared else f"{type(end).__name__}: {end}"[:200]
    return Verdict(survived=not why, why=why)


def summary(verdicts: Mapping[str, Verdict]) -> dict[str, int]:
    """Count."""
    found = list(verdicts.values())
    return {
        "planted": len(found),
        "found": sum(one.found for one in found),
        "harmless": sum(one.harmless and not one.found for one in found),
        "counted": sum(one.counted for one in found),
        "survived": sum(one.survived for one in found),
        "silent": sum(one.silent for one in found),
        "lost_uncounted": sum(one.lost for one in found),
    }


def run(seed: int = 0, formats: str = "", repeats: int = 1) -> dict[str, Any]:
    """Damage every format, write `faults.json` and return it.

    Args:
        seed: Of the places.
        formats: Those to damage, parted by commas; what was measured of the others stands. By default all.
        repeats: Places for each damage.
    """
    per_format, told = dict[str, dict[str, int]](), dict[str, dict[str, str]]()
    for name in formats.split(",") if formats else FORMS:
        with tempfile.TemporaryDirectory() as folder:
            verdicts = measure(name, Path(folder), seed, repeats=repeats, tell=True)
        per_format[name] = summary(verdicts)
        told[name] = {fault: one.word for fault, one in verdicts.items()}
        print(name, per_format[name], flush=True)
    if formats and (before := RESULTS / "faults.json").is_file():
        known = json.loads(before.read_text())
        per_format, told = known["per_format"] | per_format, known["faults"] | told
    total = {key: sum(found[key] for found in per_format.values()) for key in next(iter(per_format.values()))}
    return write_result(
        "faults",
        "faults",
        total["survived"],
        {"planted": float(total["planted"])},
        total["planted"],
        seed,
        **dict[str, Any](total),
        per_format=per_format,
        faults=told,
    )
