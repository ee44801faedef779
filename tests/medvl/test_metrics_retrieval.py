"""Retrieval, zero-shot metrics and class lists against plain Python, at the edges and across ranks."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from ranks import on_ranks
from torch import Tensor
from torch.nn.functional import normalize
from torch.utils._python_dispatch import TorchDispatchMode

from medvl.errors import DataError
from medvl.metrics.class_lists import FIVE, draw_class_list
from medvl.metrics.neighbours import class_precision, instance_recall
from medvl.metrics.retrieval import ClassRetrieval, InstanceRetrieval, text_id
from medvl.metrics.zero_shot import (
    ZeroShotClassification,
    area_under_curve,
    best_f1_thresholds,
    pair_probability,
    prompt_scores,
)
from medvl.relevance import no_finding, same_set, score_at_least, share_any
from ontology.similarity import EntitySets, Profile, Similarity

N, C, K = 37, 6, 3


def studies(n: int = N, seed: int = 0) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    draw = torch.Generator().manual_seed(seed)
    image = torch.randn(n, C, generator=draw) - 2 * torch.eye(C)[0]
    text = 2 * torch.eye(C)[0] - torch.randn(n, C, generator=draw)  # cosines across modalities are mostly negative
    labels = (torch.rand(n, K, generator=draw) < 0.3).long()
    return image, text, labels, torch.arange(n) // 2


def naive_precision(
    query: Tensor, keys: Tensor, right: list[bool], out: list[bool], rank: int
) -> tuple[float, float] | None:
    cosines = [float(normalize(query, dim=0) @ normalize(key, dim=0)) for key in keys]
    candidates = [j for j in range(len(keys)) if not out[j]]
    whole = sum(right[j] for j in candidates)
    if not whole or rank > len(candidates):
        return None
    nearest = sorted(candidates, key=lambda j: -cosines[j])[:rank]
    return sum(right[j] for j in nearest) / rank, whole / len(candidates)


@pytest.mark.parametrize("relevance", ["any", "exact"])
@pytest.mark.parametrize("own_pair", [True, False])
def test_class_precision_equals_plain_python(relevance: str, own_pair: bool) -> None:
    image, text, labels, groups = studies()
    metric = ClassRetrieval((1, 5, 36), relevance, classes=("a", "b", "c"), own_pair=own_pair, chunk=10)
    for rows in torch.arange(N).split(9):
        metric.update(image[rows], text[rows], labels[rows], groups[rows])
    values = metric.compute()
    sets = [frozenset(row.nonzero().flatten().tolist()) for row in labels]
    modality = {"i": image, "t": text}
    for way, rank in itertools.product(("i2t", "t2i", "i2i", "t2t"), (1, 5, 36)):
        found: dict[str, list[tuple[float, float]]] = {"": [], "/no_finding": [], "/a": [], "/b": [], "/c": []}
        for i in range(N):
            alike = [s == sets[i] if relevance == "exact" else bool(s & sets[i]) or not (s or sets[i]) for s in sets]
            out = [bool(groups[i] == g) and (way[0] == way[2] or not own_pair) for g in groups]
            value = naive_precision(modality[way[0]][i], modality[way[2]], alike, out, rank)
            if value is not None:
                for name in ["" if sets[i] else "/no_finding", *(f"/{'abc'[k]}" for k in sets[i])]:
                    found[name].append(value)
        for name, pairs in found.items():
            expected = sum(p for p, _ in pairs) / len(pairs) if pairs else math.nan
            assert values[f"{way}/p@{rank}{name}"].item() == pytest.approx(expected, abs=1e-6, nan_ok=True)
            if rank == 1:
                chance = sum(c for _, c in pairs) / len(pairs)
                assert values[f"{way}/chance{name}"].item() == pytest.approx(chance, abs=1e-6)


def test_perfect_ranking_with_negative_cosines_is_perfect() -> None:
    """All cosines < 0; a metric that drops scores <= 0 calls this 0."""
    keys = torch.tensor([[-1.0, 0.1], [-1.0, 2.0], [-1.0, 0.2], [-1.0, 3.0]])
    query = torch.tensor([[1.0, 0.0]])
    right = torch.tensor([[False, True, False, True]])
    found = class_precision(query, keys, lambda rows: right[rows], at=(1, 2, 4))
    assert found.values.tolist() == [[1.0, 1.0, 0.5]]
    assert found.chance.tolist() == [0.5]


def test_a_collapsed_model_reaches_chance_whatever_the_order_of_files() -> None:
    labels = torch.eye(5)[torch.arange(100) // 20]
    same = torch.ones(100, 4)
    metric = ClassRetrieval()
    metric.update(same, same, labels)
    values = metric.compute()
    for rank in (1, 5, 10, 20, 50, 100):
        assert values[f"i2t/p@{rank}"].item() == pytest.approx(0.2)
    assert values["i2t/chance"].item() == pytest.approx(0.2)
    assert values["i2i/p@10"].item() == pytest.approx(19 / 99)
    assert math.isnan(values["i2i/p@100"])  # 99 candidates
    instance = InstanceRetrieval()
    instance.update(same, same, [f"report {i}" for i in range(100)])
    assert instance.compute()["i2t/r@5"].item() == pytest.approx(0.05)


def test_ties_are_worth_what_random_orders_give_on_average() -> None:
    cosine = [0.9, 0.5, 0.5, 0.5, 0.1]
    keys = torch.tensor([[c, math.sqrt(1 - c * c)] for c in cosine])
    query, right = torch.tensor([[1.0, 0.0]]), [False, True, False, True, True]
    orders = [sorted(range(5), key=lambda j: (-cosine[j], order[j])) for order in itertools.permutations(range(5))]
    found = class_precision(query, keys, lambda rows: torch.tensor([right]), at=(1, 2, 3, 4, 5))
    for at, rank in enumerate((1, 2, 3, 4, 5)):
        expected = sum(sum(right[j] for j in order[:rank]) / rank for order in orders) / len(orders)
        assert found.values[0, at].item() == pytest.approx(expected)
    hits, chance = instance_recall(query, keys, torch.ones(1), torch.tensor(right).float(), at=(1, 2, 3, 4, 5))
    shuffles = list(itertools.permutations(range(5)))
    for at, rank in enumerate((1, 2, 3, 4, 5)):
        expected = sum(any(right[j] for j in order[:rank]) for order in orders) / len(orders)
        assert hits[0, at].item() == pytest.approx(expected)
        expected = sum(any(right[j] for j in order[:rank]) for order in shuffles) / len(shuffles)
        assert chance[0, at].item() == pytest.approx(expected)


def test_relevance_rules() -> None:
    rows = torch.tensor([[1, 1, 0], [0, 1, 0], [0, 0, 0], [0, 0, 1]])
    assert share_any(rows, rows)[0].tolist() == [True, True, False, False]
    assert share_any(rows, rows)[2].tolist() == [False, False, True, False]
    assert torch.equal(same_set(rows, rows), torch.eye(4, dtype=torch.bool))
    assert no_finding(rows).tolist() == [False, False, True, False]
    rule = score_at_least(0.5, lambda a, b: (a.float() @ b.float().T) / a.sum(dim=1, keepdim=True).clamp(min=1))
    assert rule(rows, rows)[:2, :2].tolist() == [[True, True], [True, True]]
    metric = ClassRetrieval((1,), rule)
    metric.update(rows.float() + 1, rows.float() + 1, rows)
    assert metric.compute()["i2t/p@1"] == 1


def naive_recall(image: Tensor, text: Tensor, texts: list[str], rank: int) -> tuple[float, float]:
    distinct = sorted(set(texts))
    first = {name: normalize(text[texts.index(name)], dim=0) for name in distinct}
    images = [normalize(row, dim=0) for row in image]
    i2t = t2i = 0
    for i, own in enumerate(texts):
        nearest = sorted(distinct, key=lambda name: -float(images[i] @ first[name]))[:rank]
        i2t += own in nearest
    for name in distinct:
        nearest_images = sorted(range(len(images)), key=lambda j: -float(images[j] @ first[name]))[:rank]
        t2i += any(texts[j] == name for j in nearest_images)
    return i2t / len(texts), t2i / len(distinct)


def test_instance_recall_merges_identical_texts() -> None:
    image, _, _, _ = studies(30, 3)
    names = ["No acute disease.", "no  acute\nDisease. ", *(f"Finding {i % 20}." for i in range(28))]
    draw = torch.Generator().manual_seed(1)
    plain = [" ".join(name.casefold().split()) for name in names]
    table = {name: torch.randn(C, generator=draw) for name in sorted(set(plain))}
    text = torch.stack([table[name] for name in plain]) * torch.rand(30, 1, generator=draw).add(0.5)
    metric = InstanceRetrieval((1, 5), chunk=7)
    metric.update(image[:11], text[:11], names[:11])
    metric.update(image[11:], text[11:], names[11:])
    values = metric.compute()
    assert values["texts"] == 21
    for rank in (1, 5):
        i2t, t2i = naive_recall(image, text, plain, rank)
        assert values[f"i2t/r@{rank}"].item() == pytest.approx(i2t)
        assert values[f"t2i/r@{rank}"].item() == pytest.approx(t2i)
        assert values[f"i2t/chance@{rank}"].item() == pytest.approx(rank / 21)
    assert text_id("a b") == text_id(" A\nb") != text_id("ab")


class Largest(TorchDispatchMode):
    """Notes the size of the largest tensor made, in bytes."""

    size = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        found = func(*args, **(kwargs or {}))
        for value in found if isinstance(found, tuple | list) else [found]:
            if isinstance(value, Tensor):
                self.size = max(self.size, value.numel() * value.element_size())
        return found


def test_memory_grows_with_the_chunk_not_with_the_square() -> None:
    """4,000 x 4,000 cosines would take 64 MB; a block of 50 takes 0.8 MB."""
    draw = torch.Generator().manual_seed(0)
    rows, labels = torch.randn(4000, 8, generator=draw), torch.eye(4)[torch.arange(4000) % 4]
    with Largest() as largest:
        class_precision(rows, rows, lambda block: share_any(labels[block], labels), chunk=50)
        instance_recall(rows, rows, torch.arange(4000), torch.arange(4000), chunk=50)
    assert 50 * 4000 * 4 <= largest.size <= 50 * 4000 * 8


@pytest.mark.filterwarnings("ignore:The ..compute.. method")
def test_empty_metrics_are_nan_and_wrong_input_is_said() -> None:
    assert all(value.isnan() for value in ClassRetrieval(classes=("a",)).compute().values())
    assert InstanceRetrieval().compute()["i2t/r@1"].isnan()
    image, text, labels, groups = studies()
    with pytest.raises(ValueError, match="37 rows of text"):
        ClassRetrieval().update(image, text[:5], labels)
    with pytest.raises(ValueError, match="finite"):
        ClassRetrieval().update(image / 0, text, labels)
    with pytest.raises(ValueError, match="labels"):
        ClassRetrieval(classes=("a",)).update(image, text, labels, groups)


def one_rank(rank: int) -> None:
    image, text, labels, groups = studies()
    groups = groups * 10**15 + 1  # identifiers that float32 cannot hold
    texts = [f"text {i % 20}" for i in range(N)]
    makes = (
        (lambda **kw: ClassRetrieval((1, 5), own_pair=False, **kw), (image, text, labels, groups)),
        (lambda **kw: InstanceRetrieval((1, 5), **kw), (image, text, texts)),
        (lambda **kw: ZeroShotClassification(["a", "b", "c"], "multilabel", **kw), (image[:, :3], labels)),
    )
    for make, given in makes:
        whole = make(sync_on_compute=False)
        whole.update(*given)
        for parts in ([slice(0, 25), slice(25, N)], [None, slice(0, N)]):
            metric, part = make(), parts[rank]
            if part:
                metric.update(*(value[part] for value in given))
            found = metric.compute()
            for name, value in whole.compute().items():
                torch.testing.assert_close(found[name], value, rtol=0, atol=1e-6, equal_nan=True, msg=name)


def test_ranks_agree_with_one_process_and_one_may_be_empty() -> None:
    on_ranks(one_rank)


def test_prompt_ensembles() -> None:
    draw = torch.Generator().manual_seed(0)
    images, prompts = torch.randn(9, C, generator=draw), torch.randn(5, C, generator=draw)
    owner = torch.tensor([0, 1, 0, 1, 1])
    cosines = normalize(images, dim=1) @ normalize(prompts, dim=1).T
    for ensemble, pool in (("score", lambda x: x.mean(dim=1)), ("max", lambda x: x.amax(dim=1))):
        expected = torch.stack([pool(cosines[:, owner == k]) for k in range(2)], dim=1)
        found = prompt_scores(images, prompts, owner, 2, ensemble, chunk=4)
        torch.testing.assert_close(found, expected)
    means = torch.stack([normalize(prompts[owner == k], dim=1).mean(dim=0) for k in range(2)])
    expected = normalize(images, dim=1) @ normalize(means, dim=1).T
    torch.testing.assert_close(prompt_scores(images, prompts, owner, 2), expected)
    torch.testing.assert_close(prompt_scores(7 * images, 3 * prompts, owner, 2), expected)
    pair = torch.softmax(torch.stack([expected, -expected]) * 5, dim=0)[0]
    torch.testing.assert_close(pair_probability(expected, -expected, 5), pair)
    with pytest.raises(ValueError, match="each at least one"):
        prompt_scores(images, prompts, owner, 3)


def naive_auc(scores: list[float], labels: list[float]) -> float:
    pairs = [
        (a > b) + (a == b) / 2
        for a, la in zip(scores, labels, strict=True)
        for b, lb in zip(scores, labels, strict=True)
        if la == 1 and lb == 0
    ]
    return sum(pairs) / len(pairs) if pairs else math.nan


def test_multilabel_equals_plain_python_with_unknown_labels() -> None:
    draw = torch.Generator().manual_seed(0)
    scores = (torch.rand(60, 4, generator=draw) * 8).round() / 8 - 0.5  # ties, and negative ones
    labels = (torch.rand(60, 4, generator=draw) < torch.tensor([0.4, 0.3, 0.04, 0.0])).float()
    labels[::7, 0], labels[::5, 1] = -1, torch.nan
    names = ["a", "b", "rare", "none"]
    metric = ZeroShotClassification(names, "multilabel", thresholds=[0.0, 0.1, 0.2, 0.0], minority=0.1)
    metric.update(scores[:20], labels[:20])
    metric.update(scores[20:], labels[20:])
    values = metric.compute()
    f1s, accs, aucs = [], [], []
    for k, name in enumerate(names):
        known = [(s, y) for s, y in zip(scores[:, k].tolist(), labels[:, k].tolist(), strict=True) if y in (0, 1)]
        calls = [(s >= [0.0, 0.1, 0.2, 0.0][k], y == 1) for s, y in known]
        tp = sum(c and y for c, y in calls)
        wrong = sum(c != y for c, y in calls)
        f1s.append(2 * tp / (2 * tp + wrong) if any(y for _, y in calls) else math.nan)
        accs.append(1 - wrong / len(calls))
        aucs.append(naive_auc([s for s, _ in known], [y for _, y in known]))
        for metric_name, value in (("f1", f1s[-1]), ("acc", accs[-1]), ("auc", aucs[-1])):
            assert values[f"{metric_name}/{name}"].item() == pytest.approx(value, abs=1e-6, nan_ok=True), name
    assert values["f1"].item() == pytest.approx(sum(f1s[:3]) / 3, abs=1e-6)
    assert values["auc"].item() == pytest.approx(sum(aucs[:3]) / 3, abs=1e-6)
    assert values["acc"].item() == pytest.approx(sum(accs) / 4, abs=1e-6)
    assert values["auc/minority"] == values["auc/rare"]
    assert math.isnan(values["f1/none"])


@pytest.mark.filterwarnings("ignore:The ..compute.. method")
def test_multiclass_shares_ties_out() -> None:
    metric = ZeroShotClassification(["a", "b"], minority=["b"])
    metric.update(torch.tensor([[0.5, 0.1], [0.2, 0.2], [-0.3, -0.2]]), torch.tensor([0, 0, 0]))
    metric.update(torch.tensor([[-0.3, -0.2]]), torch.tensor([1]))
    values = metric.compute()
    assert values["acc"].item() == pytest.approx(2.5 / 4)
    assert values["acc/a"].item() == pytest.approx(0.5)
    assert values["acc/minority"].item() == pytest.approx(1.0)
    assert values["f1/a"].item() == pytest.approx(2 * 1.5 / (1.5 + 3))
    assert values["f1/b"].item() == pytest.approx(2 / (2.5 + 1))
    assert ZeroShotClassification(["a", "b"]).compute()["acc"].isnan()


def test_best_thresholds_are_the_best_of_all() -> None:
    draw = torch.Generator().manual_seed(3)
    scores = (torch.rand(40, 3, generator=draw) * 10).round()
    labels = (torch.rand(40, 3, generator=draw) < 0.3).float()
    labels[::6, 0], labels[:, 2] = -1, 0
    found = best_f1_thresholds(scores, labels)
    for k in range(2):
        known = labels[:, k] >= 0
        s, y = scores[known, k], labels[known, k] == 1

        def f1(t: float, s: Tensor = s, y: Tensor = y) -> float:
            return float(2 * ((s >= t) & y).sum() / ((s >= t).sum() + y.sum()))

        assert f1(found[k]) == max(f1(t) for t in range(11))
    assert found[2] == math.inf
    assert area_under_curve(scores, labels)[2].isnan()


def table(n: int = 800) -> tuple[list[str], dict[str, list[float | None]], list[str]]:
    draw = torch.Generator().manual_seed(0)
    options: list[float | None] = [0.0, 0.0, None, None, math.nan, 1.0, -1.0]
    names = [*FIVE, "Fracture", "No Finding"]
    picks = torch.randint(7, (n, len(names)), generator=draw).tolist()
    return (
        [f"s{i}" for i in range(n)],
        {m: [options[row[k]] for row in picks] for k, m in enumerate(names)},
        [f"p{i // 3}" for i in range(n)],
    )


def test_class_list_draws_what_shows_one_class_alone() -> None:
    ids, labels, patients = table()
    frontal = [i % 4 != 0 for i in range(len(ids))]
    found = draw_class_list(ids, labels, per_class=4, eligible=frontal, patients=patients)
    drawn = [name for part in found.ids.values() for name in part]
    assert len(drawn) == len(set(drawn)) == 20
    rows = [ids.index(name) for name in drawn]
    assert len({patients[row] for row in rows}) == 20
    for name, part in found.ids.items():
        for row in (ids.index(one) for one in part):
            assert frontal[row]
            assert labels[name][row] == 1
            others = [labels[m][row] for m in labels if m not in (name, "No Finding")]
            assert all(v is None or math.isnan(v) or v == 0 for v in others)
    assert min(found.pools.values()) >= 4


def test_class_list_leaves_patients_of_a_training_split_out() -> None:
    ids, labels, patients = table()
    free = draw_class_list(ids, labels, per_class=4, patients=patients)
    owner = dict(zip(ids, patients, strict=True))
    barred = {owner[part[0]] for part in free.ids.values()}
    found = draw_class_list(ids, labels, per_class=4, patients=patients, trained_on=barred)
    drawn = {owner[name] for part in found.ids.values() for name in part}
    assert len(drawn) == 20
    assert not drawn & barred
    assert found.sha256 != free.sha256
    assert all(found.pools[name] < free.pools[name] for name in FIVE)
    with pytest.raises(ValueError, match="needs the patients"):
        draw_class_list(ids, labels, per_class=4, trained_on=barred)


def test_class_list_does_not_depend_on_the_order_of_the_file_but_on_the_seed() -> None:
    ids, labels, _ = table()
    first = draw_class_list(ids, labels, per_class=4)
    turned = draw_class_list(ids[::-1], {name: column[::-1] for name, column in labels.items()}, per_class=4)
    assert turned == first
    assert turned.sha256 == first.sha256
    assert first.sha256.startswith("1a8234f088ad5df9")
    assert draw_class_list(ids, labels, per_class=4, seed=1).sha256 != first.sha256


def test_class_list_says_what_is_wrong() -> None:
    ids, labels, _ = table()
    with pytest.raises(DataError, match="200 are wanted"):
        draw_class_list(ids, labels)
    with pytest.raises(DataError, match="no label 'Mass'"):
        draw_class_list(ids, labels, classes=("Mass",))
    with pytest.raises(DataError, match="occur twice"):
        draw_class_list([*ids[:-1], ids[0]], labels)
    with pytest.raises(DataError, match="3 labels for 800"):
        draw_class_list(ids, labels | {"Edema": [0.0] * 3})


def test_class_precision_by_entity_scores() -> None:
    """Relevance `score >= t`: the label of a study is the number of its entity set, 0 for those without a finding."""
    profiles: list[Profile] = [
        {},
        {"edema": (frozenset({"mild"}), frozenset())},
        {"edema": (frozenset({"severe"}), frozenset())},
        {"edema": (frozenset({"mild"}), frozenset()), "mass": (frozenset(), frozenset({"left"}))},
    ]
    of = torch.arange(24) % 4
    sets = EntitySets([profiles[i] for i in of.tolist()])
    scores = Similarity(sets).matrix(np.arange(len(sets)), np.arange(len(sets)))
    assert sets.sizes[sets.group[0]] == 0  # the set without a disease comes first
    whole = torch.from_numpy(scores)
    rule = score_at_least(0.6, lambda a, b: whole[a[:, 0].long()][:, b[:, 0].long()])
    image, text, _, _ = studies(24)
    metric = ClassRetrieval((1, 5), rule, chunk=7)
    metric.update(image, text, torch.from_numpy(sets.of)[:, None])
    values = metric.compute()
    names = [sorted(one) for one in (profiles[i] for i in of.tolist())]
    for normal, key in ((False, ""), (True, "/no_finding")):
        found = []
        for i in (i for i in range(24) if (not names[i]) == normal):
            right = [bool(scores[sets.of[i], sets.of[j]] >= 0.6) for j in range(24)]
            found.append(naive_precision(image[i], text, right, [False] * 24, 5) or (math.nan, math.nan))
        assert values[f"i2t/p@5{key}"].item() == pytest.approx(sum(p for p, _ in found) / len(found), abs=1e-6)
        assert values[f"i2t/chance{key}"].item() == pytest.approx(sum(c for _, c in found) / len(found), abs=1e-6)
