"""Signatures of failure: what the papers saw go wrong, recognised by what a run leaves behind.

Each signature is a function of the evidence. It returns what it found, or None where the run does not hold what it
takes to tell. The thresholds are our defaults, with the reason beside each; `docs/doctor.md` explains them to users.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from medvl.evidence import Array, Evidence, Part

Pairs = NDArray[np.bool_]
Severity = Literal["healthy", "mild", "severe"]

LEAST = 20  # answers or studies: of fewer, a share of .5 is uncertain by more than .2
COLLAPSED, NARROW = 3.0, 6.0  # effective rank; one direction with noise of 1 % has 2, a line in noise of 3 % has 5
OVERLAP, HIT = 0.5, 0.3  # of hits the mean IoU is .65 in a trained quickstart; .5 is what a found box needs
SILENT, SHOWN, HARDLY = 0.9, 0.5, 0.25  # N-acc that looks good, T-acc that says why
CHANCE_AUC, ONE_ANSWER, LOW_F1 = 0.55, 0.95, 0.3  # AUC of 20 to 200 images strays from .5 by about .05
STAY, KNOWS = 0.9, 0.2  # of answers, and of right ones where a fifth is right at all; the quickstart keeps .05
PAIRED = 0.6  # share of strangers that are farther than the partner; chance is .5, and strays by .05 for 38 pairs
APART, WITHIN = 0.7, 0.55  # the same, among studies of other findings and of the very same findings


@dataclass(frozen=True)
class Finding:
    """What a signature says of a run.

    Attributes:
        name: Of the failure.
        severity: `healthy` where it was looked for in vain.
        evidence: The numbers, as a sentence.
        advice: What to do next.
    """

    name: str
    severity: Severity
    evidence: str
    advice: str


Signature = Callable[[Evidence], Finding | None]


def effective_rank(vectors: Array) -> float:
    """Return the effective rank of rows `(n, C)`: the exponential of the entropy of their singular values' shares.

    Roy & Vetterli, "The effective rank", EUSIPCO 2007. Between 1, where all rows lie on one line, and min(n, C); the
    rows are not centred, so that one vector for all has rank 1.
    """
    values = np.linalg.svd(vectors, compute_uv=False)
    shares = values[values > 0] / values.sum()
    return float(np.exp(-(shares * np.log(shares)).sum()))


def collapsed_images(seen: Evidence) -> Finding | None:
    """Tell whether all images have about the same embedding."""
    return _collapsed("image", seen.image)


def collapsed_texts(seen: Evidence) -> Finding | None:
    """Tell whether all texts have about the same embedding."""
    return _collapsed("text", seen.text)


def unrelated(seen: Evidence) -> Finding | None:
    """Tell whether a partner is no nearer than a stranger: pairs dealt out anew would do as well."""
    if len(seen.image) < LEAST:
        return None
    near = _nearer(seen, _strangers(seen))
    if math.isnan(near):  # all say the same
        return None
    return Finding(
        "unrelated image and text",
        _severity(near <= PAIRED, near <= CHANCE_AUC),
        f"a partner is nearer than a text or image dealt out anew in {near:.0%} of comparisons over {len(seen.image)} "
        f"studies (chance 50 %, healthy above {PAIRED:.0%})",
        "train longer or on more studies; check that images and reports are paired (medvl data check)",
    )


def over_separated(seen: Evidence) -> Finding | None:
    """Tell whether findings are told apart but not the studies of one finding.

    What MedTrim (arXiv 2504.15929) holds against losses that only push classes apart: place, size and severity are
    lost. Studies without findings do not count, for there is nothing to tell them apart by.
    """
    if not (seen.shows and len(seen.image)):
        return None
    kinds = {one: number for number, one in enumerate(set(seen.shows))}
    kind = np.array([kinds[one] for one in seen.shows])
    alike = (kind[:, None] == kind[None]) & np.array([bool(one) for one in seen.shows])[:, None]
    strangers = _strangers(seen)
    if (strangers & alike).any(axis=1).sum() < LEAST:
        return None
    across, within = _nearer(seen, strangers & (kind[:, None] != kind[None])), _nearer(seen, strangers & alike)
    return Finding(
        "over-separated classes",
        _severity(across >= APART and within <= WITHIN, False),
        f"a partner is nearer than a study of other findings in {across:.0%} of comparisons, than one of the same "
        f"findings in {within:.0%} (chance 50 %; healthy above {WITHIN:.0%} where the former exceeds {APART:.0%})",
        "use a loss that looks inside a class (MedTrim on entities, InfoNCE), or lower its weight on labels",
    )


def misplaced_size(seen: Evidence) -> Finding | None:
    """Tell whether boxes hit the centre but do not cover what they should."""
    hit, overlap = (seen.metrics.get(name, math.nan) for name in ("center_hit", "miou"))
    if not (hit >= HIT and math.isfinite(overlap)):
        return None
    return Finding(
        "boxes at the right place in the wrong size",
        _severity(overlap < OVERLAP * hit, overlap < OVERLAP / 2 * hit),
        f"{hit:.0%} of gold boxes are hit in their centre, mIoU is {overlap:.2f} (healthy above "
        f"{OVERLAP * hit:.2f}, half the hits)",
        "check data.source.box_format and the picture of the worst cases; then a finer grid or more weight on GIoU",
    )


def over_suppressed(seen: Evidence) -> Finding | None:
    """Tell whether the model is right about sentences without a place because it hardly ever shows a box."""
    silent, shown, right = (seen.metrics.get(name, math.nan) for name in ("n_acc", "t_acc", "p_at_f1/boxed"))
    if not (math.isfinite(silent) and math.isfinite(shown)):
        return None
    return Finding(
        "over-suppression",
        _severity(silent >= SILENT and shown <= SHOWN, shown <= HARDLY),
        f"N-acc {silent:.2f}; of the sentences with a box {shown:.0%} are shown one (healthy above {SHOWN:.0%}), "
        f"and P@(F1=1) of these is {right:.2f}",
        "medvl calibrate --run RUN --n-acc-floor 0.8; if boxes are still missing, train longer",
    )


def zero_shot_collapse(seen: Evidence) -> Finding | None:
    """Tell whether prompts tell nothing apart, or all images get the same answer."""
    prefix = "zero_shot/" if "zero_shot/auc" in seen.metrics else ""
    area, f1, one = (seen.metrics.get(f"{prefix}{name}", math.nan) for name in ("auc", "f1", "same_answer"))
    count = seen.metrics.get("zero_shot/images", seen.metrics.get("texts", 0.0))
    if not math.isfinite(area) or count < LEAST:
        return None
    constant = one >= ONE_ANSWER and not f1 >= LOW_F1
    return Finding(
        "zero-shot collapse",
        _severity(area <= CHANCE_AUC or constant, area <= CHANCE_AUC and constant),
        f"AUC {area:.2f} (chance .50, healthy above {CHANCE_AUC:.2f}), F1 {f1:.2f}; {one:.0%} of {count:.0f} images "
        f"get the same answer (healthy below {ONE_ANSWER:.0%})",
        "look at the prompts (names, there is / there is no) and at f1 by class; train longer or balance the classes",
    )


def ignores_image(seen: Evidence) -> Finding | None:
    """Tell whether the answers stay when images are dealt out anew."""
    return _ignores("image", seen)


def ignores_text(seen: Evidence) -> Finding | None:
    """Tell whether the answers stay when sentences are dealt out anew."""
    return _ignores("text", seen)


SIGNATURES: tuple[Signature, ...] = (
    *(collapsed_images, collapsed_texts, unrelated, over_separated, zero_shot_collapse),
    *(misplaced_size, over_suppressed, ignores_image, ignores_text),
)


def diagnose(seen: Evidence) -> list[Finding]:
    """Return what every signature that can be judged says, the worst first."""
    found = [one for signature in SIGNATURES if (one := signature(seen)) is not None]
    return sorted(found, key=lambda one: ("severe", "mild", "healthy").index(one.severity))


def _severity(mild: bool, severe: bool) -> Severity:
    if not mild:
        return "healthy"
    return "severe" if severe else "mild"


def _collapsed(part: Part, vectors: Array) -> Finding | None:
    if len(vectors) < LEAST:
        return None
    rank = effective_rank(vectors)
    mean = float(np.linalg.norm(vectors.mean(axis=0)) ** 2)  # of unit vectors: the mean cosine of all pairs
    return Finding(
        f"collapsed {part} embeddings",
        _severity(rank < NARROW, rank < COLLAPSED),
        f"{len(vectors)} {part}s span {rank:.1f} directions (effective rank; healthy above {NARROW:.0f}), their mean "
        f"cosine is {mean:.2f}",
        "lower the learning rate, above all of a pretrained encoder (lr_scale); give the loss larger batches",
    )


def _ignores(part: Part, seen: Evidence) -> Finding | None:
    found = seen.permuted.get(part)
    if found is None or max(found.answers, found.asked) < LEAST:
        return None
    stay, judged = found.answers >= LEAST and found.same >= STAY, found.asked >= LEAST and found.right >= KNOWS
    told = f"with {part}s dealt out anew {found.same:.0%} of {found.answers} answers stay (healthy below {STAY:.0%})"
    if judged:
        told += f", and {found.still:.0%} of {found.asked} are right where {found.right:.0%} were"
    return Finding(
        f"ignores the {part}",
        _severity(stay or (judged and found.still >= STAY * found.right), stay),
        told,
        f"compare with a run of --data.blind {part}; check that the {part} encoder learns (freeze, lr_scale) and that "
        "the data need it",
    )


def _strangers(seen: Evidence) -> Pairs:
    """Return which pairs `(n, n)` of studies have texts that differ."""
    if not seen.said:
        return ~np.eye(len(seen.image), dtype=np.bool_)
    said = np.array(seen.said)
    differ: Pairs = said[:, None] != said[None]
    return differ


def _nearer(seen: Evidence, against: Pairs) -> float:
    """Return how often a partner is nearer than those named; a tie counts half, both directions the same."""
    cosines = np.round(seen.image @ seen.text.T, 6)  # finer differences are those of the arithmetic
    own, shares = np.diag(cosines), []
    for rows, mask in ((cosines, against), (cosines.T, against.T)):
        won = (own[:, None] > rows) + 0.5 * (own[:, None] == rows)
        counts = mask.sum(axis=1)
        shares.append(((won * mask).sum(axis=1)[counts > 0] / counts[counts > 0]).mean() if counts.any() else np.nan)
    return float(np.mean(shares))
