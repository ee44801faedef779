"""A rule that says which sentences affirm nothing: the usual filter in front of a model that cannot keep silence.

It reads words, never the image, so it cannot know that a finding is affirmed and not there. English and Spanish; of
the idea of NegEx (Chapman et al. 2001), a trigger with exceptions, but of whole sentences:

- a denial that opens the sentence ("No ...", "There is no ...", "Sin ...", "Se descarta ..."): what is denied later, as
  in "effusion without pneumothorax", leaves the rest affirmed;
- a denial in place of the verb ("... is not seen", "... has resolved", "... no se observa");
- what is called normal ("unremarkable", "within normal limits", "clear", "sin alteraciones", "libres").

"No change", "no increase", "sin cambios" and "not only" deny no finding.
"""

from __future__ import annotations

import re

_SEEN = "seen|identified|visible|visuali[sz]ed|evident|present|appreciated|demonstrated|observed|detected|noted"
_VISTO = "observan?|identifican?|aprecian?|visualizan?|evidencian?|objetivan?|detectan?|reconocen?|ven?"
_STILL = re.compile(
    r"^(?:there (?:is|are|has been) )?no (?:(?:significant|relevant|interval|appreciable|further) )*"
    r"(?:change|increase|decrease|improvement|progression|difference)"
    r"|\bnot only\b|^sin (?:grandes |apenas )?cambios|\bno ha (?:cambiado|variado)",
    re.IGNORECASE,
)
_DENIAL = re.compile(
    r"^(?:(?:there (?:is|are|was|were)|currently|at present|actualmente),? )?"
    r"(?:no|without|neither|nor|negative for|absence of|free of|sin|ausencia de|(?:se )?descartan?|negativo para)\b"
    rf"|\b(?:is|are|was|were|can|has|have)(?: been)? ?not (?:be |been )?(?:{_SEEN})\b"
    r"|\b(?:has|have) (?:now )?(?:resolved|disappeared|cleared)\b|\bno longer\b"
    rf"|\bno se (?:{_VISTO})\b|\bh(?:a|an) (?:desaparecido|resuelto)\b",
    re.IGNORECASE,
)
_NORMAL = re.compile(
    r"\bnormal(?:es)?\b|\bunremarkable\b|^clear\b"
    r"|\b(?:is|are|remains?|appears?) (?:clear|sharp|intact|central|midline|well[ -]defined)\b"
    r"|\bwell[ -](?:aerated|expanded)\b|\bwithout (?:relevant |significant )?(?:findings|abnormalit\w+)\b"
    r"|\bsin (?:alteraciones|hallazgos|particularidades)|\b(?:limpi|conservad|centrad)[oa]s?\b"
    r"|\b(?:senos?|[aá]ngulos?)\b.*\blibres?\b|\bbien (?:aireados?|expandidos?)|\bdiafragmas?\b.*\bbien definidos?\b",
    re.IGNORECASE,
)


def denies(sentence: str) -> bool:
    """Return whether a sentence denies a finding or calls something normal, so that it has no place in an image."""
    text = sentence.strip()
    return not _STILL.search(text) and bool(_DENIAL.search(text) or _NORMAL.search(text))
