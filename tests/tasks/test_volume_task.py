"""The volume task on batches made by hand: it learns depths and diseases, and no rank may be left without snippets."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from datamodules.batches import VolumeBatch
from datamodules.volume_records import Interval, Snippet, VolumeRecord
from medvl.encoders import Tiny3D, TinyConv, TinyText
from medvl.errors import ConfigError
from tasks.volume import VolumeTask
from tasks.volume.localisation import Answer
from tasks.volume.predictions import SnippetResult
from tasks.volume.prompts import Prompts

WORDS = ("bright spot", "dark spot")


def batch(count: int = 4, seed: int = 0) -> VolumeBatch:
    """Volumes of 32 to 40 slices, 3 mm each, with a bright and perhaps a dark cube at depths of their own."""
    rng = torch.Generator().manual_seed(seed)
    depth, side, step = 40, 32, 3.0
    volumes, slices = (
        torch.full((count, 1, depth, side, side), 0.5),
        torch.tensor([40 - 4 * (i % 3) for i in range(count)]),
    )
    first = torch.randint(-500, 500, (count,), generator=rng).float()
    valid = torch.arange(depth)[None, :, None, None].expand(count, -1, side, side) < slices[:, None, None, None]
    snippets, records = [], []
    for i in range(count):
        places = torch.randperm(int(slices[i]) // 4, generator=rng)[:2].tolist()
        own = []
        for word, place, value in zip(WORDS, places, (1.0, 0.0), strict=True):
            shown = word == WORDS[0] or i % 2 == 0
            low = float(first[i]) - step / 2 + 4 * place * step
            own.append(Snippet(f"there is a {word}", (Interval(low, low + 4 * step),) if shown else ()))
            if shown:
                volumes[i, 0, 4 * place : 4 * place + 4, 8:16, 8:16] = value
        labels = {WORDS[0]: 1, WORDS[1]: 1 - i % 2}
        records.append(
            VolumeRecord((f"{i}.nii.gz",), f"p{i}", f"s{i}", "train", "test", labels=labels, snippets=tuple(own))
        )
        snippets += own
    return VolumeBatch(
        volumes=volumes * valid[:, None],
        valid=valid,
        first_mm=first,
        step_mm=torch.full((count,), step),
        slices=slices,
        texts=["a dark spot is seen" if i % 2 == 0 else "no dark spot" for i in range(count)],
        labels=torch.tensor([[r.labels[word] for word in WORDS] for r in records]).float(),
        label_names=WORDS,
        snippets=[one.text for one in snippets],
        snippet_index=torch.arange(count).repeat_interleave(2),
        intervals=[torch.tensor(one.intervals).reshape(-1, 3) for one in snippets],
        paths=[r.volumes[0] for r in records],
        records=records,
        targets=snippets,
    )


def task(**options: float) -> VolumeTask:
    torch.manual_seed(0)
    made = VolumeTask(Tiny3D(width=32, depth=1, context=1), TinyText(width=32, depth=1, buckets=256), dim=32, **options)  # type: ignore[arg-type]
    made.prompts = Prompts.of(WORDS, ["There is a {}."], ["No {}."])
    return made


def test_it_learns_where_and_whether() -> None:
    one, model = batch(8), task()
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for _ in range(120):
        losses = model.losses(model(one), one)
        optimizer.zero_grad()
        losses["loss"].backward()
        optimizer.step()
    model.eval()
    with torch.no_grad():
        output = model(one)
        answers = model._answers(output)
    assert set(losses) == {"loss", "contrastive", "depth", "disease"}
    for answer, target in zip(answers, one.targets, strict=True):
        assert (answer.present > 0.5) == target.present
        if target.extent is not None:
            assert target.extent[0] - 6 < answer.mm < target.extent[1] + 6
            assert answer.low < answer.mm < answer.high
    assert output.diseases is not None
    assert ((output.diseases[:, 1] > 0) == (one.labels[:, 1] == 1)).all()


def test_depths_do_not_depend_on_padding() -> None:
    one, model = batch(3), task().eval()
    with torch.no_grad():
        together = model._answers(model(one))
        alone = one.slices.tolist()[1]
        short = VolumeBatch(
            **{name: getattr(one, name) for name in ("label_names",)},
            volumes=one.volumes[1:2, :, :alone], valid=one.valid[1:2, :alone], first_mm=one.first_mm[1:2],
            step_mm=one.step_mm[1:2], slices=one.slices[1:2], texts=one.texts[1:2], labels=one.labels[1:2],
            snippets=one.snippets[2:4], snippet_index=torch.zeros(2, dtype=torch.long), intervals=one.intervals[2:4],
            paths=one.paths[1:2], records=one.records[1:2], targets=one.targets[2:4],
        )  # fmt: skip
        single = model._answers(model(short))
    for a, b in zip(together[2:4], single, strict=True):
        assert (a.mm, a.low, a.high, a.present) == pytest.approx((b.mm, b.low, b.high, b.present), abs=1e-3)


def test_without_snippets_every_parameter_still_has_a_gradient() -> None:
    full = batch(2)
    empty = VolumeBatch(
        **{**vars(full), "snippets": [], "snippet_index": full.snippet_index[:0], "intervals": [], "targets": []}
    )
    model = task(disease_weight=0.0)
    model.losses(model(empty), empty)["loss"].backward()
    missing = [name for name, parameter in model.named_parameters() if parameter.grad is None]
    assert missing == []


def test_an_encoder_of_images_is_refused() -> None:
    with pytest.raises(ConfigError, match="encodes no volumes"):
        VolumeTask(TinyConv(), TinyText())


def test_results_keep_what_was_asked_and_answered() -> None:
    one = batch(2)
    answers = [Answer(1.0, 0.0, 2.0, 0.9, ((0.0, 2.0),))] * 4
    results = SnippetResult.of(one, answers)
    assert [r.volume for r in results] == ["0.nii.gz", "0.nii.gz", "1.nii.gz", "1.nii.gz"]
    assert [bool(r.gold) for r in results] == [True, True, True, False]
    low, high = results[2].scan
    assert high - low == pytest.approx(36 * 3)
    assert Path(results[0].volume).suffix == ".gz"


def test_frozen_parts_rest_and_a_wrong_name_is_said() -> None:
    model = VolumeTask(
        Tiny3D(width=32, depth=1, context=1), TinyText(width=32, depth=1), dim=32, freeze=["image_encoder"]
    )
    assert not model.model.image_encoder.training
    assert not any(parameter.requires_grad for parameter in model.model.image_encoder.parameters())
    assert model.model.text_encoder.training
    with pytest.raises(ConfigError, match="prefix"):
        VolumeTask(Tiny3D(width=32), TinyText(width=32), freeze=["image_encodr"])
