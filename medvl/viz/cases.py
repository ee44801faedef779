"""Which phrases a report shows as pictures, and how."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from medvl.errors import DataError
from medvl.outputs import PhrasePrediction
from medvl.viz.overlay import draw_prediction
from medvl.viz.page import escape, picture, section
from medvl.viz.scores import KINDS, Scores

_SIZE = 480
_LEGEND = (
    '<p class="legend"><span><i class="gold"></i>gold</span>'
    '<span><i class="found"></i>predicted, with its score</span></p>'
)


def cases(scores: Scores, count: int = 8) -> str:
    """Show the best and the worst answers.

    Best: exact answers by the IoU of what they cover, those with several boxes first in line for half the places.
    Worst: half the places for boxes that were missed or misplaced, half for boxes where there should be none. An image
    is shown once in each group.
    """
    out = scores.outcomes
    right, boxed = out["p_at_f1"] == 1, out["n_gold"] > 0
    quality = np.where(boxed, np.nan_to_num(out["miou"]), 0.0)
    alarm = np.array([max(one.scores, default=0.0) for one in scores.predictions])
    several = _order(right & (out["n_gold"] > 1), -quality)
    best = _distinct(scores, [*several[: count // 2], *_order(right & boxed, -quality)], count)
    false = _distinct(scores, _order(~right & ~boxed, -alarm), count)
    missed = _distinct(scores, _order(~right & boxed, out["f1"] + quality), count)
    half = max(count // 2, count - len(missed))
    worst = missed[: count - min(half, len(false))] + false[:half]
    return section(
        "Cases",
        _LEGEND,
        _group("Best", best, scores),
        _group("Worst", worst, scores),
    )


def samples(predictions: Sequence[PhrasePrediction], count: int = 12) -> str:
    """Show the first predictions, spread over images: what is left when no gold is known."""
    seen: dict[str, PhrasePrediction] = {}
    for one in predictions:
        if one.image not in seen or (one.boxes_xyxy_px and not seen[one.image].boxes_xyxy_px):
            seen[one.image] = one
    figures = "".join(_figure(one, "") for one in list(seen.values())[:count])
    return section("Predictions", _LEGEND, f'<div class="cases">{figures}</div>') if figures else ""


def _order(mask: np.ndarray, key: np.ndarray) -> list[int]:
    """Return the phrases of a mask by ascending `key`, ties in file order."""
    chosen = np.flatnonzero(mask)
    return [int(i) for i in chosen[np.argsort(key[chosen], kind="stable")]]


def _distinct(scores: Scores, order: Iterable[int], count: int) -> list[int]:
    """Keep the first phrase of each image, up to `count`."""
    first: dict[str, int] = {}
    for i in order:
        first.setdefault(scores.predictions[i].image, i)
    return list(first.values())[:count]


def _group(title: str, chosen: list[int], scores: Scores) -> str:
    if not chosen:
        return ""
    figures = "".join(_figure(scores.predictions[i], _verdict(scores, i)) for i in chosen)
    return f'<h3>{title}</h3><div class="cases">{figures}</div>'


def _verdict(scores: Scores, i: int) -> str:
    gold, kept, miou = (scores.outcomes[name][i] for name in ("n_gold", "n_kept", "miou"))
    if gold:
        return f"gold {gold:.0f}, predicted {kept:.0f}, IoU {miou:.2f}"
    kind = scores.predictions[i].kind
    return f"{KINDS.get(kind, kind) or 'no gold box'}, predicted {kept:.0f}"


def _figure(one: PhrasePrediction, verdict: str) -> str:
    found = f"{len(one.boxes_xyxy_px)} predicted, {len(one.gold_xyxy_px or ())} gold boxes"
    try:
        frame = picture(draw_prediction(one, _SIZE), f"Radiograph with {found}")
    except DataError as error:
        frame = escape(error.what)
    verdict = verdict or (found if one.gold_xyxy_px is not None else f"{len(one.boxes_xyxy_px)} predicted")
    return (
        f'<figure class="case"><div class="frame">{frame}</div><figcaption><q>{escape(one.phrase)}</q>'
        f"<small>{escape(verdict)}</small></figcaption></figure>\n"
    )
