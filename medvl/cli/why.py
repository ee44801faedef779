"""What the reports of a query and of its neighbours have in common, by their entities."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING

from medvl.cli.ontology import label
from medvl.viz.entities import Mark
from medvl.viz.retrieved import Shared, Why

if TYPE_CHECKING:
    from ontology.entities import Entity
    from ontology.extract import Ober
    from ontology.similarity import Profile


class Reader:
    """Reads reports for their findings, each text once.

    Args:
        language: Of the lexicon.
    """

    def __init__(self, language: str = "en") -> None:
        self.language = language
        self.entities = lru_cache(None)(self._entities)
        self.profile = lru_cache(None)(self._profile)

    @cached_property
    def _extractor(self) -> Ober:
        from ontology.extract import Ober

        return Ober(self.language)

    def _entities(self, text: str) -> list[Entity]:
        from ontology.entities import Report

        return self._extractor.extract(Report("", text, ((0, len(text)),)))

    def _profile(self, text: str) -> Profile:
        from ontology.similarity import profile

        return profile(self.entities(text))

    def marks(self, text: str) -> tuple[Mark, ...]:
        """Return the findings in a text, to colour."""
        return tuple(Mark(*entity.span, entity.status, label(entity)) for entity in self.entities(text))

    def scores(self, query: str, texts: Sequence[str]) -> list[float]:
        """Return the entity score of a query's text, as the anchor, against each other text."""
        from ontology.similarity import EntitySets, Similarity

        sets = EntitySets([self.profile(query), *map(self.profile, texts)])
        return [float(score) for score in Similarity(sets).matrix(sets.of[:1], sets.of[1:])[0]]

    def why(self, query: str, text: str) -> Why:
        """Return what two texts have in common."""
        ours, theirs = self.profile(query), self.profile(text)
        return Why(
            score=self.scores(query, [text])[0],
            shared=tuple(self._shared(disease, ours, theirs) for disease in ours if disease in theirs),
            query=tuple(self._told(disease, ours) for disease in ours if disease not in theirs),
            here=tuple(self._told(disease, theirs) for disease in theirs if disease not in ours),
        )

    @cached_property
    def _order(self) -> dict[str, int]:
        canon = self._extractor.lexicon.canon
        return {name: place for place, name in enumerate([*canon.adjectives, *canon.directions])}

    def _named(self, *sets: frozenset[str]) -> tuple[str, ...]:
        """Return adjectives and directions as one says them: `small left lower`."""
        names = frozenset[str]().union(*sets)
        return tuple(sorted(names, key=lambda name: (self._order.get(name, len(self._order)), name)))

    def _shared(self, disease: str, ours: Profile, theirs: Profile) -> Shared:
        pairs = list(zip(ours[disease], theirs[disease], strict=True))  # adjectives, then directions
        both, query, here = ([a & b for a, b in pairs], [a - b for a, b in pairs], [b - a for a, b in pairs])
        return Shared(disease, self._named(*both), self._named(*query), self._named(*here))

    def _told(self, disease: str, profile: Profile) -> str:
        return " ".join((*self._named(*profile[disease]), disease))
