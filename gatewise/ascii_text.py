"""Token ids of ASCII texts, many at a time: what the tokenizer of `gatewise.text` gives them, several times sooner.

The tokenizer composes, aligns and copies every text for the sake of all scripts. ASCII needs none of that: its lower
case and its classes of characters are plain, so that a thousand texts are read in one go, as bytes.

T tokens.
"""

from __future__ import annotations

import string
import sys
from collections.abc import Iterator, Mapping, Sequence
from itertools import repeat
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Ids = NDArray[np.int64]
Unknown = tuple[tuple[int, str], ...]

# Between two texts; a text that holds it is left to the tokenizer.
_END, _END_ID = "\0", -1
# What bytes.split takes for white space is what Unicode does, among ASCII; str.split has four separators more.
_WHITE_OR_IN_WORD = (string.ascii_letters + string.digits + "_ \t\n\r\v\f").encode()


class AsciiTokenizer:
    """Words or characters of ASCII texts, looked up.

    Args:
        vocabulary: ids by token.
        unknown_id: of a token that is not there.
        special: tokens that the tokenizer finds wherever they are spelled out; texts with one are left to it.
        longest: characters; longer texts are left to the tokenizer too.
    """

    def __init__(
        self,
        vocabulary: Mapping[str, int],
        level: Literal["words", "characters"],
        *,
        lowercase: bool,
        unknown_id: int,
        special: tuple[str, str],
        longest: int | None,
    ) -> None:
        self._ids = {token.encode(): i for token, i in vocabulary.items() if token.isascii()}
        self._ids[_END.encode()] = _END_ID
        self._level = level
        self._lowercase = lowercase
        self._unknown_id = unknown_id
        self._special = special
        self._longest = sys.maxsize if longest is None else longest

    def reads(self, text: str) -> bool:
        """Whether `encode` gives this text what the tokenizer would."""
        # A loop over the three would take longer than all else here.
        first, second = self._special
        is_short = len(text) <= self._longest
        return is_short and text.isascii() and _END not in text and first not in text and second not in text

    def encode(self, texts: Sequence[str]) -> Iterator[tuple[Ids, Unknown]]:
        """Yield ids (T,) of each text, T from 0, and position and spelling of its unknown tokens."""
        joined = _END.join([*texts, ""]).encode()
        if self._lowercase:
            joined = joined.lower()
        tokens = _words(joined) if self._level == "words" else _characters(joined)
        ids = np.fromiter(map(self._ids.get, tokens, repeat(self._unknown_id)), dtype=np.int64, count=len(tokens))
        ends = np.flatnonzero(ids == _END_ID)
        starts = np.concatenate([[0], ends[:-1] + 1]) if len(ends) else ends
        unknown = np.flatnonzero(ids == self._unknown_id)
        spans = (starts, ends, np.searchsorted(unknown, starts), np.searchsorted(unknown, ends))
        places = unknown.tolist()
        for start, end, first, last in zip(*(span.tolist() for span in spans), strict=True):
            # A comprehension of nothing, too, would take its time a million times over.
            spelled = [(place - start, tokens[place].decode()) for place in places[first:last]] if last > first else ()
            yield ids[start:end], tuple(spelled)


def _words(text: bytes) -> list[bytes]:
    """Runs of letters, digits and underscores, and every other sign by itself."""
    for sign in set(text.translate(None, _WHITE_OR_IN_WORD)):
        text = text.replace(b"%c" % sign, b" %c " % sign)
    return text.split()


def _characters(text: bytes) -> list[bytes]:
    return [text[i : i + 1] for i in range(len(text))]
