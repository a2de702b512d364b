"""Text to token ids, by the `tokenizers` library: characters, words, subwords, or tokens that come ready.

T timesteps, here tokens.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field
from tokenizers import Encoding, Regex, Tokenizer, models, normalizers, pre_tokenizers, trainers

from gatewise.ascii_text import AsciiTokenizer
from gatewise.errors import Loc
from gatewise.schema import parse_text, parse_tokens

Level = Literal["characters", "words", "subwords", "tokens"]
Keep = Literal["head", "tail", "head_tail"]

PADDING, UNKNOWN = "[PAD]", "[UNK]"
PADDING_ID, UNKNOWN_ID = 0, 1

# Scripts written without spaces: in `words` each character of theirs is a token. Thai and its neighbours are not here:
# their vowels and tones are characters of their own, and one alone says little.
_UNSPACED = r"\p{Han}\p{Hiragana}\p{Katakana}"
_IN_WORD = r"\p{L}\p{M}\p{N}_"
_WORD_PATTERN = rf"[{_UNSPACED}]|[{_IN_WORD}&&[^{_UNSPACED}]]+|[^\s{_IN_WORD}]"
# A text is cut to this many characters for each token of max_length before it is tokenized, so that ten megabytes cost
# no more than the tokens kept of them. Words this long are not words.
_CHARACTERS_PER_TOKEN = 64
# Texts encoded at a time: enough to share the cost of a call, few enough that what is between weighs nothing.
_PIECE = 1024


class TextEncoderConfig(BaseModel):
    """How a text becomes token ids.

    `keep` says which tokens stay of a text longer than `max_length`: its head, its tail, or half of each. The `tokens`
    level keeps all, for each has a label.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["text"] = "text"
    level: Level
    lowercase: bool = True
    max_length: int | None = Field(default=None, ge=2)
    keep: Keep = "head"


@dataclass(frozen=True)
class TokenIds:
    """An encoded text.

    Attributes:
        ids: int64 (T,); T is at least 1.
        unknown: position and normalized spelling of each token that the vocabulary lacks.
        tokens: the tokens as they came, where each gets a label.
        cut_from: the ids before they were cut to the maximum, where they were.
        truncated: whether the text was longer than the maximum.
    """

    ids: NDArray[np.int64]
    unknown: tuple[tuple[int, str], ...] = ()
    tokens: list[str] | None = None
    cut_from: NDArray[np.int64] | None = None
    truncated: bool = False

    @property
    def whole(self) -> NDArray[np.int64]:
        """All ids that the tokenizer read, before they were cut to the maximum."""
        return self.ids if self.cut_from is None else self.cut_from


class TextEncoder:
    """Encodes texts; an empty text, or one without a single token, is one unknown token."""

    def __init__(self, config: TextEncoderConfig, tokenizer: Tokenizer) -> None:
        self.config = config
        self.tokenizer = tokenizer
        self._vocabulary = tokenizer.get_vocab() if config.level == "tokens" else {}
        self._ascii: AsciiTokenizer | None = None

    @classmethod
    def fit(
        cls, items: Sequence[Any], config: TextEncoderConfig, *, vocab_size: int = 30_000, min_count: int = 2
    ) -> TextEncoder:
        """Learn the vocabulary of the train split.

        Args:
            items: texts, or lists of tokens for the `tokens` level.
            vocab_size: the most entries, the two special ones included.
            min_count: tokens seen less often are unknown.
        """
        tokenizer = _untrained(config)
        trainer_of = trainers.BpeTrainer if config.level == "subwords" else trainers.WordLevelTrainer
        trainer = trainer_of(
            vocab_size=vocab_size, min_frequency=min_count, special_tokens=[PADDING, UNKNOWN], show_progress=False
        )
        if config.level == "tokens":
            items = [[_normalized(token, config.lowercase) for token in tokens] for tokens in items]
        tokenizer.train_from_iterator(items, trainer)
        return cls(config, tokenizer)

    @classmethod
    def from_json(cls, config: TextEncoderConfig, tokenizer_json: str) -> TextEncoder:
        """Read a tokenizer that `to_json` wrote."""
        return cls(config, Tokenizer.from_str(tokenizer_json))

    def to_json(self) -> str:
        """The tokenizer, as the `tokenizers` library writes it."""
        return self.tokenizer.to_str(pretty=True)

    def with_words(self, words: Sequence[str]) -> TextEncoder:
        """The encoder with more words, whose ids follow those that there are; for the levels whose tokens are words."""
        assert self.config.level in ("words", "tokens")
        vocabulary = self.tokenizer.get_vocab()
        tokenizer = Tokenizer.from_str(self.tokenizer.to_str())
        more = {word: id for id, word in enumerate(words, len(vocabulary))}
        tokenizer.model = models.WordLevel(vocabulary | more, unk_token=UNKNOWN)
        return TextEncoder(self.config, tokenizer)

    def token_of(self, word: str) -> str | None:
        """The one unknown token that a text of this word alone becomes; None where it is known, none or several."""
        text = self.encode([word] if self.config.level == "tokens" else word)
        return text.unknown[0][1] if len(text.ids) == len(text.unknown) == 1 else None

    @property
    def vocab_size(self) -> int:
        """Entries of the vocabulary, padding and unknown included."""
        return int(self.tokenizer.get_vocab_size())

    def encode(self, item: object, loc: Loc = ()) -> TokenIds:
        """Encode one raw item.

        Raises:
            InvalidSequence: it is not a text (or, for the `tokens` level, not tokens), with its place.
        """
        if self.config.level == "tokens":
            return self._look_up(parse_tokens(item, loc))
        text = parse_text(item, loc)
        read = self._cut(text)
        return self._kept(self.tokenizer.encode(read[0], add_special_tokens=False), read)

    def encode_many(self, items: Sequence[Any]) -> list[TokenIds]:
        """Encode items that `encode` would accept; the result is that of `encode`, faster."""
        return list(self.encode_each(items))

    def encode_each(self, items: Sequence[Any]) -> Iterator[TokenIds]:
        """Yield what `encode_many` returns, a piece of the items at a time, so that a million need not be held.

        The ids of a piece lie side by side in one array; do not write to them.
        """
        if self.config.level == "tokens":
            yield from (self._look_up(parse_tokens(item, (i,))) for i, item in enumerate(items))
            return
        for start in range(0, len(items), _PIECE):
            piece = items[start : start + _PIECE]
            yield from self._encode_piece([parse_text(item, (start + i,)) for i, item in enumerate(piece)])

    def words(self) -> list[str]:
        """The vocabulary in the order of the ids."""
        vocabulary = self.tokenizer.get_vocab()
        return sorted(vocabulary, key=vocabulary.__getitem__)

    def _look_up(self, tokens: list[str]) -> TokenIds:
        normalized = [_normalized(token, self.config.lowercase) for token in tokens]
        ids = np.array([self._vocabulary.get(token, UNKNOWN_ID) for token in normalized], dtype=np.int64)
        unknown = tuple((int(t), normalized[t]) for t in np.flatnonzero(ids == UNKNOWN_ID))
        return TokenIds(ids, unknown, tokens=tokens)

    def _cut(self, text: str) -> tuple[str, bool]:
        """Return what the tokenizer reads of a text, and whether that is less than all."""
        read, limit = text, self.config.max_length
        if limit is not None and len(text) > _CHARACTERS_PER_TOKEN * limit:
            head, tail = _shares(_CHARACTERS_PER_TOKEN * limit, self.config.keep)
            read = f"{text[:head]} {text[len(text) - tail :]}"
        # The tokenizer does this first of all; where it composes, its offsets leave out what it took into a letter.
        return unicodedata.normalize("NFC", read), read is not text

    def _encode_piece(self, texts: Sequence[str]) -> list[TokenIds]:
        """Encode ASCII texts by the way that is faster for them, the others by the tokenizer, on all cores."""
        quick = self._quick()
        plain = [quick.reads(text) for text in texts] if quick else [False] * len(texts)
        found = iter(
            quick.encode([text for text, is_plain in zip(texts, plain, strict=True) if is_plain]) if quick else ()
        )
        reads = [self._cut(text) for text, is_plain in zip(texts, plain, strict=True) if not is_plain]
        encodings = self.tokenizer.encode_batch([read for read, _ in reads], add_special_tokens=False) if reads else []
        others = zip(encodings, reads, strict=True)
        return [self._shortened(*next(found)) if is_plain else self._kept(*next(others)) for is_plain in plain]

    def _quick(self) -> AsciiTokenizer | None:
        # Made when first asked for: a service encodes items one by one.
        level, limit = self.config.level, self.config.max_length
        if self._ascii is None and (level == "words" or level == "characters"):
            self._ascii = AsciiTokenizer(
                self.tokenizer.get_vocab(),
                level,
                lowercase=self.config.lowercase,
                unknown_id=UNKNOWN_ID,
                special=(PADDING, UNKNOWN),
                longest=None if limit is None else _CHARACTERS_PER_TOKEN * limit,
            )
        return self._ascii

    def _shortened(self, ids: NDArray[np.int64], unknown: tuple[tuple[int, str], ...]) -> TokenIds:
        """What `_kept` makes of an encoding, of ids whose unknown tokens are spelled already."""
        kept = self._kept_places(len(ids))
        if kept is None:
            return TokenIds(ids if len(ids) else _nothing(), unknown)
        spelled = dict(unknown)
        places = enumerate(kept.tolist())
        unknown = tuple((t, spelled[p]) for t, p in places if p in spelled)
        return TokenIds(ids[kept], unknown, cut_from=ids, truncated=True)

    def _kept(self, encoding: Encoding, read: tuple[str, bool]) -> TokenIds:
        text, is_cut = read
        if not encoding.ids:
            return TokenIds(_nothing(), truncated=is_cut)
        whole = np.array(encoding.ids, dtype=np.int64)
        kept = self._kept_places(len(whole))
        places = np.arange(len(whole)) if kept is None else kept
        ids = whole[places]
        unknown = np.flatnonzero(ids == UNKNOWN_ID)
        offsets = encoding.offsets if len(unknown) else []
        spelled = tuple((int(t), self._spelling(text, offsets[places[t]])) for t in unknown)
        cut_from = None if kept is None else whole
        return TokenIds(ids, spelled, cut_from=cut_from, truncated=is_cut or kept is not None)

    def _kept_places(self, length: int) -> NDArray[np.int64] | None:
        """Which of so many tokens are kept; None where all are."""
        limit = self.config.max_length
        if limit is None or length <= limit:
            return None
        head, tail = _shares(limit, self.config.keep)
        kept: NDArray[np.int64] = np.concatenate([np.arange(head), np.arange(length - tail, length)])
        return kept

    def _spelling(self, text: str, offsets: tuple[int, int]) -> str:
        # Not Python's lower case: that of a sigma depends on its place, and the vocabulary's does not.
        return str(self.tokenizer.normalizer.normalize_str(text[offsets[0] : offsets[1]]))


def _nothing() -> NDArray[np.int64]:
    return np.array([UNKNOWN_ID], dtype=np.int64)


def _shares(budget: int, keep: Keep) -> tuple[int, int]:
    head = {"head": budget, "tail": 0, "head_tail": budget - budget // 2}[keep]
    return head, budget - head


def _normalized(token: str, lowercase: bool) -> str:
    token = unicodedata.normalize("NFC", token)
    # The lower case of a letter can have a composed form where the letter has none: J with a caron is two characters.
    return unicodedata.normalize("NFC", token.lower()) if lowercase else token


def _untrained(config: TextEncoderConfig) -> Tokenizer:
    if config.level == "subwords":
        tokenizer = Tokenizer(models.BPE(unk_token=UNKNOWN))
        # A word's first piece carries its space, so that "in" and "within" do not share their pieces by accident.
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
            [pre_tokenizers.Metaspace(), pre_tokenizers.Split(Regex(r"[^\s\p{L}\p{M}\p{N}▁]"), behavior="isolated")]
        )
    else:
        tokenizer = Tokenizer(models.WordLevel({PADDING: PADDING_ID, UNKNOWN: UNKNOWN_ID}, unk_token=UNKNOWN))
        pattern = {"words": _WORD_PATTERN, "characters": r"(?m)."}.get(config.level)
        if pattern:
            tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(pattern), behavior="removed", invert=True)
    steps: list[Any] = [normalizers.NFC()] + ([normalizers.Lowercase()] if config.lowercase else [])
    tokenizer.normalizer = normalizers.Sequence(steps)
    return tokenizer
