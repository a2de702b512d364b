"""Text to token ids, by the `tokenizers` library: characters, words, subwords, or tokens that come ready.

T timesteps, here tokens.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field
from tokenizers import Encoding, Regex, Tokenizer, models, normalizers, pre_tokenizers, trainers

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
        read, is_cut = self._cut(text)
        return self._kept(self.tokenizer.encode(read, add_special_tokens=False), read, is_cut=is_cut)

    def encode_many(self, items: Sequence[Any]) -> list[TokenIds]:
        """Encode items that `encode` would accept, on all cores; the result is that of `encode`, faster."""
        if self.config.level == "tokens":
            return [self._look_up(parse_tokens(item, (i,))) for i, item in enumerate(items)]
        reads = [self._cut(parse_text(item, (i,))) for i, item in enumerate(items)]
        encodings = self.tokenizer.encode_batch([read for read, _ in reads], add_special_tokens=False)
        return [
            self._kept(encoding, read, is_cut=is_cut) for encoding, (read, is_cut) in zip(encodings, reads, strict=True)
        ]

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

    def _kept(self, encoding: Encoding, text: str, *, is_cut: bool) -> TokenIds:
        ids = np.array(encoding.ids or [UNKNOWN_ID], dtype=np.int64)
        whole = None
        limit = self.config.max_length
        kept = np.arange(len(ids))
        if limit is not None and len(ids) > limit:
            head, tail = _shares(limit, self.config.keep)
            kept = np.concatenate([kept[:head], kept[len(ids) - tail :]])
            ids, whole = ids[kept], ids
        unknown = np.flatnonzero(ids == UNKNOWN_ID) if encoding.ids else ()
        offsets = encoding.offsets if len(unknown) else []
        spelled = tuple((int(t), self._spelling(text, offsets[kept[t]])) for t in unknown)
        return TokenIds(ids, spelled, cut_from=whole, truncated=is_cut or whole is not None)

    def _spelling(self, text: str, offsets: tuple[int, int]) -> str:
        # Not Python's lower case: that of a sigma depends on its place, and the vocabulary's does not.
        return str(self.tokenizer.normalizer.normalize_str(text[offsets[0] : offsets[1]]))


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
