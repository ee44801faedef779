"""The losses that are compared: what each is told of the studies, what is swept, and how long each may train.

Budget is encoder forward passes. A batch of triplets encodes every study that it needs once, so its steps are counted
out from the sampler itself until as many studies have been encoded as the others' batches hold.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from itertools import count, product
from pathlib import Path
from typing import Any

from benchmarks.training import CONFIGS, Trainings, logged
from datamodules.reports import ReportData
from datamodules.sources import MIMICCXR
from datamodules.triplets import Remined, TripletSampler
from datamodules.twins.mimic_cxr import FACTORS
from medvl.io.atomic import write_text
from ontology.mining import Settings
from ontology.training import EntityFile

QUICKSTART = ("--config", str(CONFIGS / "quickstart" / "alignment.yaml"))
BATCH, TRIPLETS = 32, 11  # studies of a batch; triplets of one: 33 studies at most
SIDE = 96  # of the quickstart's images, in pixels
RATES = (1e-3, 3e-3)
TEMPERATURES, MARGINS = (0.07, 0.2), (0.1, 0.3)
Extraction = dict[str, Path]  # files of entities, by whose they are


@dataclass(frozen=True)
class Method:
    """A loss, and what it is told.

    Attributes:
        loss: Class name.
        arguments: Of the loss.
        mining: Of triplets, by `Settings`; None where the loss takes none.
        entities: Whose entities it is told (`ours`, `oracle`, `negation-off`); '' for none.
        rate: Of learning.
        centred: Whether vectors lose their modality's mean.
    """

    loss: str
    arguments: Mapping[str, Any] = field(default_factory=dict)
    mining: Mapping[str, Any] | None = None
    entities: str = ""
    rate: float = RATES[0]
    centred: bool = False

    def variants(self) -> list[Method]:
        """Return the grid that is swept: the rate, and the loss's own knob, as many values for each loss."""
        knob, values = ("margin", MARGINS) if self.mining is not None else ("temperature", TEMPERATURES)
        return [self.with_loss(rate=rate, **{knob: value}) for rate, value in product(RATES, values)]

    def with_loss(self, rate: float | None = None, **arguments: Any) -> Method:
        """Return the method with other arguments of its loss."""
        return replace(self, arguments={**self.arguments, **arguments}, rate=self.rate if rate is None else rate)

    def with_mining(self, **settings: Any) -> Method:
        """Return the method with triplets mined otherwise."""
        return replace(self, mining={**(self.mining or {}), **settings})

    def options(self, twin: Path, files: Extraction, seed: int) -> list[str]:
        """Return the command line."""
        loss = {"class_path": self.loss, "init_args": dict(self.arguments)}
        words = ["--data.source.root", str(twin), "--data.seed", str(seed), "--model.loss", json.dumps(loss)]
        words += ["--model.optimizer.lr", str(self.rate), *(["--model.centred", "true"] if self.centred else [])]
        words += [
            "--data.batch_size",
            str(BATCH if self.mining is None else TRIPLETS),
            "--data.eval_batch_size",
            str(BATCH),
        ]
        if self.entities:
            settings = {} if self.mining is None else {"settings": {**self.mining, "seed": seed}}
            arguments = {"path": str(files[self.entities]), "label_set": "chexpert", **settings}
            words += ["--data.entities", json.dumps({"class_path": "EntityFile", "init_args": arguments})]
        return [*QUICKSTART, *words, *(["--data.remine_every", "1"] if self.mining is not None else [])]

    def steps(self, twin: Path, files: Extraction, seed: int, studies: int) -> int:
        """Return in how many steps so many studies are encoded."""
        if self.mining is None:
            return max(1, studies // BATCH)
        data = ReportData(MIMICCXR(str(twin)), SIDE, on_error="quarantine")
        data.setup("fit")
        settings = Settings(**self.mining, seed=seed)
        mine = EntityFile(str(files[self.entities]), "chexpert", settings).miner(data.records("train"))
        sampler, encoded, steps = TripletSampler(Remined(mine, every=1), TRIPLETS, seed=seed), 0, 0
        for epoch in count():
            sampler.set_epoch(epoch)
            for draw in sampler:
                encoded, steps = encoded + len(draw.chunks), steps + 1
                if encoded >= studies:
                    return steps
        raise AssertionError


MEDTRIM = Method(  # what is tried elsewhere is spelt out, so that it is trained once where it is no change
    "MedTrimLoss",
    {"eta": 0.5, "paired": 0.0},
    mining={"gamma": [0.85, 0.1, 0.05], "tau_min": 0.25, "tau_max": 0.6},
    entities="ours",
    centred=True,
)
METHODS: dict[str, Method] = {  # a hinge on cosines learns little between modalities uncentred: docs/log.md
    "medtrim-centred": MEDTRIM,
    "medtrim-batch-centred": MEDTRIM.with_mining(scope="batch"),
    "medtrim-random-centred": MEDTRIM.with_mining(negatives="random", tau_min=0.0),
    "medtrim": replace(MEDTRIM, centred=False),
    "infonce": Method("InfoNCE"),
    "infonce-centred": Method("InfoNCE", centred=True),
    "sigmoid": Method("SigmoidLoss"),
    "supcon": Method("SupCon"),
    "soft-infonce": Method("SoftInfoNCE", entities="ours"),
}


@dataclass
class Bench:
    """What is trained on one twin.

    Attributes:
        done: Where trainings are kept.
        twin: The data.
        files: Its entities.
        steps: Of a batch of `BATCH` studies; others train for as many studies.
    """

    done: Trainings
    twin: Path
    files: Extraction
    steps: int

    @classmethod
    def write(cls, done: Trainings, steps: int, *options: str) -> Bench:
        """Write the twin and its entities, unless they are there."""
        twin = done.twin("mimic-cxr", *options)
        return cls(done, twin, extract(done, twin), steps)

    def train(self, method: Method, seed: int) -> Path:
        """Return the run of a method."""
        steps = method.steps(self.twin, self.files, seed, self.steps * BATCH)
        return self.done.train(method.options(self.twin, self.files, seed), seed, steps, also=())

    def embeddings(self, method: Method, seed: int) -> Path:
        """Return the test studies' embeddings by the last weights: no look at val can favour what it measures."""
        return self.done.tested(self.train(method, seed), "predictions/embeddings.parquet", "--ckpt_path", "last")

    def sweep(self, method: Method, seed: int) -> tuple[Method, dict[str, float]]:
        """Return the best variant by P@10 on val, by the labels of the data, and the figure of each."""
        found = {}
        for one in method.variants():
            log = self.train(one, seed) / "metrics.jsonl"
            name = ", ".join(f"{key} {value}" for key, value in {"rate": one.rate, **one.arguments}.items())
            found[name] = sum(logged(log, f"val/{way}/p@10")[-1] for way in ("i2t", "t2i")) / 2
        best = max(found, key=lambda name: found[name])
        return method.variants()[list(found).index(best)], found


def extract(done: Trainings, twin: Path) -> Extraction:
    """Write the entities of a twin's studies: what was painted, what our extractor reads, and that without status."""
    stem = twin.with_name(twin.name)
    place = {name: Path(f"{stem}-{name}.jsonl") for name in ("reports", "ours", "oracle", "negation-off")}
    done.written(place["reports"], "data", "reports", "mimic-cxr", str(twin), "--output", str(place["reports"]))
    words = ("ontology", "extract", "--input", str(place["reports"]), "--output", str(place["ours"]))
    ours = _lines(done.written(place["ours"], *words))
    painted = {f"s{one['study_id']}": one["findings"] for one in _lines(twin / FACTORS)}
    for row in ours:
        for entity in row["entities"]:
            entity["status"] = "present"
    _write(place["negation-off"], ours)
    _write(place["oracle"], [{**row, "entities": [*map(_entity, painted[row["id"]])]} for row in ours])
    return {name: path for name, path in place.items() if name != "reports"}


def _entity(finding: Mapping[str, str]) -> dict[str, Any]:
    adjectives, directions = ([finding[name]] if finding[name] else [] for name in ("severity", "side"))
    return {"disease": finding["disease"], "status": "present", "adjectives": adjectives, "directions": directions}


def _lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def _write(path: Path, rows: list[dict[str, Any]]) -> None:
    write_text(path, [json.dumps(row) + "\n" for row in rows])
