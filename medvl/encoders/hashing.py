"""A tokenizer that needs no file: words and their character n-grams are hashed into buckets.

After Bojanowski et al. 2017, "Enriching word vectors with subword information" (fastText): a word that was never seen,
a typo or another language's cognate still shares n-grams with known words. The hash is CRC-32, the same everywhere.
"""

from __future__ import annotations

import re
import unicodedata
import zlib
from functools import lru_cache

WORD = re.compile(r"[^\W_]+")
START = ""  # stands before every text, so that even an empty one has a token


def split_words(text: str) -> list[str]:
    """Lower-case, fold accents and split: `"Atelectasia básica."` gives `["atelectasia", "basica"]`."""
    folded = text.casefold()
    if not folded.isascii():
        folded = "".join(c for c in unicodedata.normalize("NFKD", folded) if not unicodedata.combining(c))
    return WORD.findall(folded)


def bucket(piece: str, buckets: int) -> int:
    """Hash a piece into 1 .. buckets - 1; 0 is kept for padding."""
    return 1 + zlib.crc32(piece.encode()) % (buckets - 1)


@lru_cache(maxsize=1 << 16)
def pieces(word: str, buckets: int) -> tuple[int, ...]:
    """Return the bucket of the word, then the buckets of its character 3- to 5-grams (`<` and `>` mark its ends)."""
    marked = f"<{word}>"[:40]
    grams = [marked[i : i + n] for n in (3, 4, 5) for i in range(len(marked) - n + 1)]
    return (bucket(f"word {word}", buckets), *(bucket(g, buckets) for g in grams or [marked]))
