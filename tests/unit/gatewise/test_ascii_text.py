"""ASCII texts read in one go, held to the tokenizer that reads them one by one."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from gatewise.text import Keep, Level, TextEncoder, TextEncoderConfig, TokenIds

CORPUS = ["the cat sat on the mat .", "The dog's 3 cats_ate 42% \x00 of it", "[ PAD ] naïve 日本 cafe\u0301"]
ASCII = st.text(st.characters(max_codepoint=127), max_size=30)
# What the vocabulary holds, all that is special to the tokenizer, and texts of other scripts among the ASCII ones.
TEXTS = st.one_of(
    ASCII, st.sampled_from([*CORPUS, "[PAD] x", "a[UNK]b", "", " \t\x1c\x1f\x85", "日本 the", "the cat " * 40])
)


def parts(text: TokenIds) -> tuple[object, ...]:
    return text.ids.tolist(), text.unknown, text.tokens, text.truncated


def fitted(level: Level, lowercase: bool = True, max_length: int | None = None, keep: Keep = "head") -> TextEncoder:
    config = TextEncoderConfig(level=level, lowercase=lowercase, max_length=max_length, keep=keep)
    return TextEncoder.fit(CORPUS, config, min_count=1)


ENCODERS = [
    fitted("words"),
    fitted("words", lowercase=False, max_length=4, keep="head_tail"),
    fitted("words", max_length=2, keep="tail"),
    fitted("characters"),
    fitted("characters", lowercase=False, max_length=5),
    fitted("subwords", max_length=7, keep="head_tail"),
]


@given(st.lists(TEXTS, max_size=8))
def test_a_list_of_texts_is_encoded_as_the_tokenizer_encodes_each(texts: list[str]) -> None:
    for encoder in ENCODERS:
        assert [parts(text) for text in encoder.encode_many(texts)] == [parts(encoder.encode(text)) for text in texts]


def test_more_texts_than_a_piece_holds_keep_their_order() -> None:
    encoder = ENCODERS[0]
    texts = [("the", "cat", "日", "sat", "")[i % 5] for i in range(2500)]
    vocabulary = encoder.tokenizer.get_vocab()
    expected = [vocabulary.get(text, 1) for text in texts]
    assert [int(text.ids[0]) for text in encoder.encode_each(texts)] == expected


def test_every_ascii_character_is_of_the_class_that_the_tokenizer_has_it_in() -> None:
    texts = [f"the{chr(code)}cat" for code in range(128)]
    for encoder in ENCODERS:
        assert [parts(text) for text in encoder.encode_many(texts)] == [parts(encoder.encode(text)) for text in texts]
