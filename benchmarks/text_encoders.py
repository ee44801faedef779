"""Text encoders in the grounding task, on sentences as trained on and on synonyms that training never showed.

By default small models of the architectures of RoBERTa and ModernBERT, with random weights and a tokenizer made from
the training sentences, beside the quickstart's own encoder: this shows that each trains, and what none of them can
know. What pretraining is worth, `--encoders configs/encoders/roberta.yaml,configs/encoders/bioclinical_modernbert.yaml`
measures where these weights can be had; no claim about domain language is made without.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from benchmarks.grounding_scores import compare_methods
from benchmarks.harness import write_result
from benchmarks.training import QUICKSTART, films, trainings
from datamodules.sources import PadChestGR
from medvl.outputs import PhrasePrediction

WIDTH, DEPTH, HEADS, WORDS = 128, 2, 4, 1024
OWN = "quickstart"
METRICS = {"seen": "p_at_f1/boxed", "unseen": "p_at_f1/boxed", "unseen_zero": "p_at_f1/zero"}


def run(
    seed: int = 0,
    seeds: int = 3,
    steps: int = 1200,
    studies: int = 1200,
    size: int = 0,
    encoders: str = "",
    keep: str = "",
) -> dict[str, Any]:
    """Train with each encoder, test on both twins, write `text-encoders.json`; about four minutes each and seed.

    Args:
        seed: Of the twins, and the first of the seeds.
        seeds: How many times each model is trained.
        steps: Training steps of each.
        studies: Of the twins, which show the same images.
        size: Longest side of the films; 0 draws it for each.
        encoders: YAML files of encoders, separated by commas, in place of the small random ones.
        keep: Folder where trainings are kept, and found when it is named again.
    """
    found: dict[str, dict[str, list[list[PhrasePrediction]]]] = {"seen": {}, "unseen": {}}
    with trainings(keep) as done:
        twin = done.twin("padchest-gr", *films(studies, seed, size))
        other = done.twin("padchest-gr", *films(studies, seed, size), "--unseen-test")
        options: dict[str, list[str]] = {OWN: []}
        named = {Path(one).stem: one for one in encoders.split(",") if one}
        for name, file in (named or small(done.place / "encoders", twin)).items():
            options[name] = ["--model.text_encoder", file]
        for one in range(seed, seed + seeds):
            for name, more in options.items():
                run_of = done.train([*QUICKSTART, *more, "--data.source.root", str(twin)], one, steps)
                found["seen"].setdefault(name, []).append(done.test(run_of))
                lines = done.test(run_of, "--data.source.root", str(other))
                found["unseen"].setdefault(name, []).append(lines)
        budget = {"seeds": seeds, "steps": steps, "studies": studies, "commits": sorted(done.commits)}
    return write(found, seed, {**budget, "weights": "as the files say" if named else "random"})


def small(folder: Path, twin: Path) -> dict[str, str]:
    """Write small models of both architectures with random weights; return a YAML file for each."""
    from transformers import ModernBertConfig, RobertaConfig

    tokenizer = learnt_tokenizer({one.phrase for one in PadChestGR(twin).load().records if one.split == "train"})
    shape = {"vocab_size": len(tokenizer), "hidden_size": WIDTH, "num_hidden_layers": DEPTH, "intermediate_size": 256}
    shape |= {"num_attention_heads": HEADS, "pad_token_id": tokenizer.pad_token_id}
    configs = {
        "roberta": RobertaConfig(**shape, max_position_embeddings=130, type_vocab_size=1),
        "modernbert": ModernBertConfig(**shape, max_position_embeddings=128, cls_token_id=0, sep_token_id=2),
    }
    files = {}
    for name, config in configs.items():
        config.save_pretrained(folder / name)
        tokenizer.save_pretrained(folder / name)
        encoder = {"class_path": "HFTextEncoder", "init_args": {"pretrained": str(folder / name), "random": True}}
        (folder / f"{name}.yaml").write_text(json.dumps(encoder), encoding="utf-8")  # JSON is YAML
        files[name] = str(folder / f"{name}.yaml")
    return files


def learnt_tokenizer(sentences: Iterable[str]) -> Any:
    """Return a byte-level BPE tokenizer in the form of RoBERTa's, learnt from sentences."""
    from tokenizers import ByteLevelBPETokenizer
    from transformers import PreTrainedTokenizerFast

    marks = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    learnt = ByteLevelBPETokenizer()
    learnt.train_from_iterator(sorted(sentences), vocab_size=WORDS, special_tokens=marks)
    names = {"bos_token": "<s>", "eos_token": "</s>", "cls_token": "<s>", "sep_token": "</s>"}
    names |= {"pad_token": "<pad>", "unk_token": "<unk>", "mask_token": "<mask>"}
    return PreTrainedTokenizerFast(tokenizer_object=learnt._tokenizer, model_max_length=128, **names)


def write(
    found: dict[str, dict[str, list[list[PhrasePrediction]]]], seed: int, budget: dict[str, Any]
) -> dict[str, Any]:
    """Compare on both test splits, print a table of docs/benchmarks.md and write the result."""
    compared = {name: compare_methods(runs).metrics for name, runs in found.items()}
    rows = {
        encoder: {part: compared[part.partition("_")[0]][encoder][metric] for part, metric in METRICS.items()}
        for encoder in found["seen"]
    }
    print("| | words of training | unseen synonyms | unseen, without boxes |\n|---|---|---|---|")
    for encoder, row in rows.items():
        print(f"| {encoder} | {' | '.join(f'{i.mean:.3f} ({i.low:.3f}–{i.high:.3f})' for i in row.values())} |")
    figures = {encoder: {part: interval.mean for part, interval in row.items()} for encoder, row in rows.items()}
    return write_result(
        "text-encoders",
        unit="P@(F1=1, IoU >= .5) with boxes: words of training, unseen synonyms; N-acc of the latter",
        ours=figures.pop(OWN),
        peers=figures,
        n=len(found["seen"][OWN][0]),
        seed=seed,
        **budget,
        intervals={encoder: {part: list(i) for part, i in row.items()} for encoder, row in rows.items()},
    )
