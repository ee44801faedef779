"""Sentences and what is drawn for them, tied by colour and number: hover, tap or tab picks one out, without script.

Within `.study`, whatever belongs to sentence n has the classes `tied`, `t<n>` and `k<colour>`: the sentence itself is
`.said`, with its number in a `.badge`; what is drawn has a class of its own.
"""

from __future__ import annotations

COLOURS = ("#ff9f2e", "#39d5a4", "#5cb8ff", "#f5e050", "#f392da", "#ff7a5c", "#9d9bff", "#b6d957")
_SENTENCES = """
.said { margin: 2px 0; padding: 7px 10px 7px 50px; border-radius: 8px; position: relative; outline-offset: -2px; }
.said small { display: block; }
.said.placed { cursor: pointer; }
.said.silent { color: var(--quiet); }
.badge {
  position: absolute; left: 10px; top: 8px; min-width: 24px; padding: 0 5px; border-radius: 12px; text-align: center;
  font-size: .85rem; font-weight: 700; line-height: 22px; color: #10131a; background: var(--k); border: 1px solid #0003;
}
.silent .badge { color: var(--quiet); background: none; border: 1px dashed var(--quiet); }
"""


def classes(n: int) -> str:
    """Return the classes of what belongs to sentence `n`, from 1."""
    return f"tied t{n} k{(n - 1) % len(COLOURS)}"


def style(count: int, drawn: str, picked: str = "") -> str:
    """Return the rules that tie `count` sentences to what is drawn for them.

    Args:
        count: Sentences.
        drawn: Class of what is drawn.
        picked: Declarations for what belongs to the sentence that is picked out.
    """
    tints = "background: color-mix(in srgb, var(--k) 24%, transparent);"
    dimmed = f".{drawn} {{ transition: opacity .12s; cursor: pointer; outline: none; }}\n"
    dimmed += f".study:has(.tied:is(:hover, :focus)) .{drawn} {{ opacity: .13; }}\n"
    colours = (f".k{i} {{ --k: {colour}; }}\n" for i, colour in enumerate(COLOURS))
    ties = (
        f"{chosen} .{drawn}.t{n} {{ opacity: 1; {picked}}}\n{chosen} .said.t{n} {{ {tints} }}\n"
        for n in range(1, count + 1)
        if (chosen := f".study:has(.t{n}:is(:hover, :focus))")
    )
    return "".join([_SENTENCES, dimmed, *colours, *ties])
