"""Text to ids: every script, every odd token, every cut, against vocabularies and cuts worked out by hand."""

from __future__ import annotations

import unicodedata

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatewise.errors import InvalidSequence
from gatewise.text import UNKNOWN_ID, Keep, Level, TextEncoder, TextEncoderConfig, TokenIds

LEVELS: tuple[Level, ...] = ("words", "characters", "subwords")
CORPUS = ["the cat sat on the mat", "The dog ate the cat .", "日本語 の text", "ภาษาไทย is Thai", "naïve café"]
ODD = {
    "empty": "",
    "spaces": "  \t ",
    "lines": "\n\r\n",
    "unknown": "zyx qqq",
    "emoji": "😀 👩‍👩‍👧 🇫🇷",
    "chinese": "你好世界",
    "japanese": "日本語のテキスト",
    "thai": "ภาษาไทย",
    "hebrew": "שלום עולם",
    "arabic": "مرحبا بالعالم",
    "combining": "cafe\u0301 n\u0303 \u0301",
    "control": "the\x00cat\x1b\u200b\ufeffmat",
    "turkish": "İstanbul ıİ ß ŉ",
    "special": "[PAD] [UNK] [pad]",
    "long": "the " * 3000,
    "astral": "𝕋𝕙𝕖 𓀀",
}


def fitted(level: Level, **fields: object) -> TextEncoder:
    config = TextEncoderConfig.model_validate({"level": level, **fields})
    items = [text.split() for text in CORPUS] if level == "tokens" else CORPUS
    return TextEncoder.fit(items, config, min_count=1)


ENCODERS = {level: fitted(level, max_length=64) for level in (*LEVELS, "tokens")}


def words(encoder: TextEncoder, item: object) -> list[str]:
    names = {i: token for token, i in encoder.tokenizer.get_vocab().items()}
    return [names[i] for i in encoder.encode(item).ids.tolist()]


def parts(text: TokenIds) -> tuple[object, ...]:
    return text.ids.tolist(), text.unknown, text.tokens, text.truncated


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("name", ODD)
def test_every_text_has_the_same_ids_alone_in_a_list_and_after_json(level: Level, name: str) -> None:
    encoder, text = ENCODERS[level], ODD[name]
    again = TextEncoder.from_json(encoder.config, encoder.to_json())
    alone = encoder.encode(text)
    many = encoder.encode_many(["the cat", text, "x"])[1]
    assert alone.ids.dtype == many.ids.dtype == np.int64
    assert parts(alone) == parts(many) == parts(again.encode(text))
    assert 1 <= len(alone.ids) <= 64
    assert 0 <= alone.ids.min() <= alone.ids.max() < encoder.vocab_size


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=40))
def test_any_text_has_ids_of_the_vocabulary(text: str) -> None:
    for level in LEVELS:
        encoder = ENCODERS[level]
        encoded = encoder.encode(text)
        assert len(encoded.ids) >= 1
        assert encoded.ids.max() < encoder.vocab_size
        assert parts(encoded) == parts(encoder.encode_many([text])[0])
        # One form of a text is as good as another: what a keyboard composes is what a file holds apart.
        apart = encoder.encode(unicodedata.normalize("NFD", text))
        np.testing.assert_array_equal(encoded.ids, apart.ids)
        # An unknown character is its own spelling; elsewhere there is one for each unknown token.
        if level != "characters":
            assert encoded.unknown == apart.unknown
        if encoder.tokenizer.encode(text, add_special_tokens=False).ids:
            assert [place for place, _ in encoded.unknown] == np.flatnonzero(encoded.ids == UNKNOWN_ID).tolist()
        else:
            assert encoded.unknown == ()


@pytest.mark.parametrize("level", ["words", "characters"])
def test_a_text_without_a_token_is_one_unknown_token(level: Level) -> None:
    assert ENCODERS[level].encode("").ids.tolist() == [1]
    assert ENCODERS["words"].encode(" \n").ids.tolist() == [1]
    assert ENCODERS["words"].encode("zyx").ids.tolist() == [1]


def test_words_are_split_by_script_and_punctuation() -> None:
    encoder = TextEncoder.fit(
        ["don't stop_it 3.5 日本の text ภาษาไทย cafe\u0301"], TextEncoderConfig(level="words"), min_count=1
    )
    text = "Don't STOP_IT 3.5 日本のtext ภาษาไทย café"
    expected = ["don", "'", "t", "stop_it", "3", ".", "5", "日", "本", "の", "text", "ภาษาไทย", "café"]
    assert words(encoder, text) == expected


def test_characters_are_tokens_with_their_spaces() -> None:
    assert words(ENCODERS["characters"], "A Cat") == ["a", " ", "c", "a", "t"]


def test_subwords_join_to_the_text_again() -> None:
    assert "".join(words(ENCODERS["subwords"], "the cat ate")).replace("▁", " ") == " the cat ate"


def test_lower_casing_is_the_models_own_choice() -> None:
    kept = fitted("words", lowercase=False)
    assert words(kept, "The THE the") == ["The", "[UNK]", "the"]
    assert words(ENCODERS["words"], "The THE the") == ["the", "the", "the"]


def test_the_vocabulary_holds_what_was_seen_often_enough_and_the_commonest_of_it() -> None:
    texts = ["a a a b b c", "a c d"]  # a 4, b 2, c 2, d 1
    config = TextEncoderConfig(level="words")
    assert TextEncoder.fit(texts, config, min_count=1).tokenizer.get_vocab() == {
        "[PAD]": 0, "[UNK]": 1, "a": 2, "b": 3, "c": 4, "d": 5,
    }  # fmt: skip
    assert words(TextEncoder.fit(texts, config, min_count=2), "a b c d") == ["a", "b", "c", "[UNK]"]
    assert words(TextEncoder.fit(texts, config, min_count=3), "a b c d") == ["a", "[UNK]", "[UNK]", "[UNK]"]
    small = TextEncoder.fit(texts, config, min_count=1, vocab_size=3)
    assert small.vocab_size == 3
    assert words(small, "a b") == ["a", "[UNK]"]


@pytest.mark.parametrize("level", [*LEVELS, "tokens"])
def test_fitting_twice_gives_the_same_vocabulary(level: Level) -> None:
    assert fitted(level).to_json() == fitted(level).to_json()


@pytest.mark.parametrize(
    ("keep", "max_length", "expected"),
    [
        ("head", 4, "a b c d"),
        ("tail", 4, "d e f g"),
        ("head_tail", 4, "a b f g"),
        ("head_tail", 5, "a b c f g"),
        ("head", 2, "a b"),
        ("tail", 2, "f g"),
        ("head", 7, "a b c d e f g"),
    ],
)
def test_a_long_text_keeps_the_end_that_the_model_was_made_for(keep: Keep, max_length: int, expected: str) -> None:
    text = "a b c d e f g"
    config = TextEncoderConfig(level="words", max_length=max_length, keep=keep)
    encoder = TextEncoder.fit([text], config, min_count=1)
    assert " ".join(words(encoder, text)) == expected
    assert encoder.encode(text).truncated == (max_length < 7)
    # What it was before the cut stays at hand, and is not kept twice where nothing was cut.
    assert [encoder.words()[i] for i in encoder.encode(text).whole] == text.split()
    assert (encoder.encode(text).cut_from is None) == (max_length == 7)
    assert parts(encoder.encode_many([text])[0]) == parts(encoder.encode(text))


@pytest.mark.parametrize(("keep", "expected"), [("head", "a b c"), ("tail", "e f g"), ("head_tail", "a b g")])
def test_ten_megabytes_are_read_as_their_ends_alone(keep: Keep, expected: str) -> None:
    config = TextEncoderConfig(level="words", max_length=3, keep=keep)
    encoder = TextEncoder.fit(["a b c d e f g"], config, min_count=1)
    text = "a b c " + "d " * 5_000_000 + "e f g"
    encoded = encoder.encode(text)
    assert encoded.truncated
    assert " ".join(words(encoder, text)) == expected
    # Of 64 characters for each token, and no more, the tokenizer reads any.
    assert 3 < len(encoded.whole) <= 64 * 3 // 2 + 2


def test_a_text_of_more_characters_than_are_read_is_called_truncated() -> None:
    encoder = TextEncoder.fit(["a b"], TextEncoderConfig(level="words", max_length=2), min_count=1)
    encoded = encoder.encode("x" * 1000 + " a")
    assert encoded.ids.tolist() == [1]
    assert encoded.truncated


def test_tokens_keep_one_id_for_each_whatever_they_are() -> None:
    encoder = ENCODERS["tokens"]
    tokens = ["The", "", " ", "cat sat", "日本語", "cat", "\x00", "CAT"]
    encoded = encoder.encode(tokens)
    assert encoded.tokens == tokens
    assert words(encoder, tokens) == ["the", "[UNK]", "[UNK]", "[UNK]", "日本語", "cat", "[UNK]", "cat"]
    assert parts(encoder.encode_many([tokens])[0]) == parts(encoded)
    assert encoded.unknown == ((1, ""), (2, " "), (3, "cat sat"), (6, "\x00"))
    assert encoder.encode("The cat").ids.tolist() == encoder.encode(["The", "cat"]).ids.tolist()


def test_tokens_with_spaces_in_them_are_learned_whole() -> None:
    config = TextEncoderConfig(level="tokens")
    encoder = TextEncoder.fit([["New York", " ", "New York"]], config, min_count=1)
    assert words(encoder, ["new york", "New", " "]) == ["new york", "[UNK]", " "]


def test_tokens_are_never_cut_for_each_has_a_label() -> None:
    encoder = fitted("tokens", max_length=2)
    encoded = encoder.encode(["the"] * 500)
    assert len(encoded.ids) == 500
    assert not encoded.truncated


@pytest.mark.parametrize("token", ["J\u030c", "İ", "ΑΣ", "É", "E\u0301", "ǅ", "T\u0308a", "ẞ"])
def test_a_token_seen_in_training_is_known_whatever_its_letters(token: str) -> None:
    encoder = TextEncoder.fit([[token, "x"]], TextEncoderConfig(level="tokens"), min_count=1)
    assert encoder.encode([token]).ids.tolist() != [1]
    again = TextEncoder.from_json(encoder.config, encoder.to_json())
    assert again.encode([token]).ids.tolist() == encoder.encode([token]).ids.tolist()


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("item", ["\ud800", None, 5, ["a"], b"a"])
def test_what_is_not_text_is_refused_with_its_place(level: Level, item: object) -> None:
    with pytest.raises(InvalidSequence) as caught:
        ENCODERS[level].encode(item, (4,))
    assert caught.value.loc == (4,)
    with pytest.raises(InvalidSequence) as caught:
        ENCODERS[level].encode_many(["fine", item])
    assert caught.value.loc == (1,)


def test_a_token_that_is_not_text_is_refused_with_its_place() -> None:
    with pytest.raises(InvalidSequence) as caught:
        ENCODERS["tokens"].encode_many([["a"], ["a", "b", None]])
    assert caught.value.loc == (1, 2)


# What the vocabulary lacks, spelled


@pytest.mark.parametrize(
    ("text", "unknown"),
    [
        ("the cat sat", ()),
        ("", ()),
        (" \n", ()),
        ("Zyx the QQQ", ((0, "zyx"), (2, "qqq"))),
        ("the zyx, the zyx", ((1, "zyx"), (2, ","), (4, "zyx"))),
        # Positions are of tokens and spellings of characters, however many bytes they have.
        ("😀 the 𝕋𝕙𝕖 zyx", ((0, "😀"), (2, "𝕋𝕙𝕖"), (3, "zyx"))),
        ("你the好", ((0, "你"), (2, "好"))),
        ("ภาษา the", ((0, "ภาษา"),)),
        ("the ĞÜL İz", ((1, "ğül"), (2, "i\u0307z"))),
        ("zoe\u0301 zo\u00e9 the E\u0302\u0301t", ((0, "zoé"), (1, "zoé"), (3, "ết"))),
        (unicodedata.normalize("NFD", "the 한국어 zo\u00e9"), ((1, "한국어"), (2, "zoé"))),
    ],
)
def test_unknown_words_are_spelled_as_the_vocabulary_spells(text: str, unknown: tuple[tuple[int, str], ...]) -> None:
    encoder = ENCODERS["words"]
    assert encoder.encode(text).unknown == encoder.encode_many(["the", text])[1].unknown == unknown


@pytest.mark.parametrize("level", ["words", "tokens"])
@pytest.mark.parametrize("word", ["ΟΔΟΣ", "Οδός", "İZMİR", "STRASSE", "Straße", "J\u030c", "E\u0301", "ẞ", "ǅ"])
def test_a_word_is_spelled_alike_known_or_unknown(level: Level, word: str) -> None:
    # The characters of a word that is known are those of its entry; where it is not, they must be the same.
    config = TextEncoderConfig(level=level)
    knows = TextEncoder.fit([[word]] if level == "tokens" else [word], config, min_count=1)
    lacks = TextEncoder.fit([["a"]] if level == "tokens" else ["a"], config, min_count=1)
    [spelled] = lacks.encode([word] if level == "tokens" else word).unknown
    assert spelled == (0, knows.words()[2])


@pytest.mark.parametrize(
    ("keep", "unknown"),
    [("head", ((1, "x1"),)), ("tail", ((0, "x2"), (2, "x3"))), ("head_tail", ((1, "x1"), (2, "x3")))],
)
def test_unknown_words_stand_where_they_are_after_the_cut(keep: Keep, unknown: tuple[tuple[int, str], ...]) -> None:
    config = TextEncoderConfig(level="words", max_length=3, keep=keep)
    encoder = TextEncoder.fit(["a b c"], config, min_count=1)
    encoded = encoder.encode("a x1 b c x2 c x3")
    assert (encoded.unknown, len(encoded.ids), encoded.truncated) == (unknown, 3, True)
    assert encoder.encode_many(["a x1 b c x2 c x3"])[0].unknown == unknown
    # Of so long a text the tokenizer sees the ends alone.
    long = encoder.encode("a x1 b " + "c " * 500 + "x2 c x3")
    assert (long.unknown, len(long.ids), long.truncated) == (unknown, 3, True)


@pytest.mark.parametrize("level", ["words", "tokens"])
def test_capitals_are_spelled_where_the_model_keeps_them(level: Level) -> None:
    encoder = fitted(level, lowercase=False)
    item = ["cat", "Zyx", "CAT"] if level == "tokens" else "cat Zyx CAT"
    assert encoder.encode(item).unknown == ((1, "Zyx"), (2, "CAT"))


@pytest.mark.parametrize("level", [*LEVELS, "tokens"])
def test_the_words_stand_in_the_order_of_their_ids(level: Level) -> None:
    encoder = ENCODERS[level]
    assert encoder.words()[:2] == ["[PAD]", "[UNK]"]
    assert {word: i for i, word in enumerate(encoder.words())} == encoder.tokenizer.get_vocab()
