"""The page of a search: the query, what lies nearest to it, and what the reports say that both have in common."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from medvl.io.atomic import write_text
from medvl.io.image import WINDOW, read_image
from medvl.viz import entities
from medvl.viz.entities import Mark
from medvl.viz.page import escape, page, picture

SIDE = 440  # of a picture in the page, in pixels
_NOTICE = (
    "For research use only. Not a medical device: not for diagnosis or treatment. Neighbours are near in a model's "
    "space; what is shared was read from the reports by rules afterwards, and need not be what the model went by. "
    "This page shows images and reports: guard it as you guard those."
)
_STYLE = """
h2 small { font-weight: 400; font-size: .9rem; }
.remark { margin: 0 0 12px; color: var(--quiet); font-size: .93rem; }
.hit { display: grid; grid-template-columns: 190px minmax(0, 1fr) 270px; gap: 20px; margin: 0 0 12px; }
.hit.query { grid-template-columns: 190px minmax(0, 1fr); border-left: 4px solid var(--accent); margin-top: 22px; }
.hit.query.plain { grid-template-columns: minmax(0, 1fr); }
.hit .plate { background: #0b0d10; border-radius: 8px; overflow: hidden; align-self: start; }
.hit .plate img { display: block; width: 100%; max-height: 250px; object-fit: contain; }
.hit .none { color: #a2adba; padding: 40px 10px; text-align: center; font-size: .88rem; }
.hit .words { white-space: pre-wrap; font-size: .95rem; line-height: 1.75; max-height: 250px; overflow: auto; }
.hit .words.asked { font-size: 1.3rem; }
.hit .name { display: block; font-weight: 600; margin-bottom: 4px; }
.hit .name i { font-style: normal; font-weight: 400; color: var(--quiet); margin-left: 8px; }
.why { border-left: 1px solid var(--rule); padding-left: 18px; font-size: .92rem; }
.why .figures { display: flex; gap: 20px; margin: 0 0 10px; }
.why .figures b { display: block; font-size: 1.35rem; line-height: 1.2; font-variant-numeric: tabular-nums; }
.why .figures span { color: var(--quiet); font-size: .82rem; }
.why h3 { margin: 8px 0 2px; font-size: .8rem; color: var(--quiet); font-weight: 600; }
.why ul { list-style: none; margin: 0; padding: 0; }
.why .shared li { font-weight: 600; }
.why .chip {
  display: inline-block; margin: 1px 0 1px 6px; padding: 0 8px; border-radius: 10px; font-weight: 400;
  font-size: .84rem; background: color-mix(in srgb, var(--s2) 16%, transparent); color: var(--s2);
}
.why .off { display: block; font-weight: 400; font-size: .82rem; color: var(--quiet); }
@media (max-width: 860px) {
  .hit, .hit.query:not(.plain) { grid-template-columns: 120px minmax(0, 1fr); }
  .why { grid-column: 1 / -1; border-left: 0; padding-left: 0; }
}
@media print { .hit .words { max-height: none; } }
"""


@dataclass(frozen=True, slots=True)
class Shown:
    """A study as the page shows it.

    Attributes:
        name: As its source calls it.
        text: Its report; '' where it has none.
        marks: The findings in it.
        image: Its image, None where it has none.
    """

    name: str
    text: str = ""
    marks: tuple[Mark, ...] = ()
    image: Path | None = None


@dataclass(frozen=True, slots=True)
class Shared:
    """A disease that both reports affirm: attributes of both, of the query alone, of the neighbour alone."""

    disease: str
    both: tuple[str, ...] = ()
    query: tuple[str, ...] = ()
    here: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Why:
    """What two reports have in common.

    Attributes:
        score: Their entity score.
        shared: The diseases of both; none where both are without a finding.
        query: What the query alone affirms.
        here: What the neighbour alone affirms.
    """

    score: float
    shared: tuple[Shared, ...] = ()
    query: tuple[str, ...] = ()
    here: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Neighbour:
    """A study near the query.

    Attributes:
        study: What is shown of it.
        cosine: Between its embedding and the query's.
        why: What both reports say; None where one of them has none.
        note: What else a reader should know: `the query's own`, `same patient`, `12 studies say this`.
    """

    study: Shown
    cosine: float
    why: Why | None = None
    note: str = ""


@dataclass(frozen=True, slots=True)
class Ranking:
    """The nearest of one kind: a heading, a remark below it, and the neighbours, nearest first."""

    title: str
    remark: str
    neighbours: tuple[Neighbour, ...]


def write_page(
    path: Path,
    query: Shown,
    rankings: Sequence[Ranking],
    facts: str,
    notes: Sequence[str] = (),
    window: tuple[float, float] = WINDOW,
) -> Path:
    """Write the page of a search.

    Args:
        path: Where to.
        query: What was asked for.
        rankings: What was found.
        facts: What was searched, in a line.
        notes: What a reader should know of the query.
        window: Percentiles of the grey values shown black and white, where an image has more than 8 bits.

    Raises:
        DataError: An image cannot be read; names the file.
    """
    asked = _query(query, notes, window)
    parts = "".join(_ranking(ranking, window) for ranking in rankings)
    body = (
        f'<header><p class="quiet">medvl · retrieval</p><h1>{escape(query.name)}</h1>'
        f'<p class="quiet">{escape(facts)}</p><p class="notice">{_NOTICE}</p></header>{asked}'
        f"{entities.legend()}{parts}"
    )
    return write_text(path, [page(f"Retrieval · {query.name}", body, entities.STYLE + _STYLE)])


def _query(query: Shown, notes: Sequence[str], window: tuple[float, float]) -> str:
    told = "".join(f'<p class="quiet">{escape(note)}</p>' for note in notes)
    words = entities.marked(query.text, query.marks, labels=query.image is None)
    kind, size = ("", "") if query.image else (" plain", " asked")
    text = f'<div class="words{size}">{words}</div>' if query.text else ""
    left = _plate(query, window) if query.image else ""
    return f'<div class="card hit query{kind}">{left}<div><b class="name">Query</b>{text}{told}</div></div>'


def _ranking(ranking: Ranking, window: tuple[float, float]) -> str:
    hits = "".join(_hit(rank, one, window) for rank, one in enumerate(ranking.neighbours, start=1))
    return f'<section><h2>{escape(ranking.title)}</h2><p class="remark">{escape(ranking.remark)}</p>{hits}</section>'


def _hit(rank: int, one: Neighbour, window: tuple[float, float]) -> str:
    note = f"<i>{escape(one.note)}</i>" if one.note else ""
    words = entities.marked(one.study.text, one.study.marks, labels=False) or '<span class="quiet">no report</span>'
    text = f'<b class="name">{rank}. {escape(one.study.name)}{note}</b><div class="words">{words}</div>'
    return f'<div class="card hit">{_plate(one.study, window)}<div>{text}</div>{_why(one)}</div>'


def _plate(study: Shown, window: tuple[float, float]) -> str:
    if study.image is None:
        return '<div class="plate"><div class="none">no image</div></div>'
    pixels, _ = read_image(study.image, SIDE, window)
    return f'<div class="plate">{picture(Image.fromarray(pixels), study.name)}</div>'


def _why(one: Neighbour) -> str:
    why = one.why
    score = f"<div><b>{why.score:.2f}</b><span>entity score</span></div>" if why else ""
    figures = f'<div class="figures"><div><b>{one.cosine:.2f}</b><span>cosine</span></div>{score}</div>'
    if why is None:
        return f'<div class="why">{figures}</div>'
    normal = not (why.shared or why.query or why.here)
    shared = "".join(map(_shared, why.shared)) or f"<li>{'both without a finding' if normal else 'nothing'}</li>"
    lists = [f'<h3>Shared</h3><ul class="shared">{shared}</ul>']
    for title, names in (("Only in the query", why.query), ("Only here", why.here)):
        rows = "".join(f"<li>{escape(name)}</li>" for name in names)
        lists += [f"<h3>{title}</h3><ul>{rows}</ul>"] if names else []
    return f'<div class="why">{figures}{"".join(lists)}</div>'


def _shared(one: Shared) -> str:
    chips = "".join(f'<span class="chip">{escape(name)}</span>' for name in one.both)
    sides = [f"{who}: {', '.join(names)}" for who, names in (("query", one.query), ("here", one.here)) if names]
    off = f'<span class="off">{escape("; ".join(sides))}</span>' if sides else ""
    return f"<li>{escape(one.disease)}{chips}{off}</li>"
