"""The linear branch that serves, against n-grams looked up one after another, and what it reads of a text."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file, save_file

from gatewise.engines import EngineName
from gatewise.errors import ArtifactCorrupt, GoldenMismatch, InvalidSequence
from gatewise.predictor import Predictor
from gatewise.schema import Prediction
from gatewise.text import TextEncoder, TextEncoderConfig
from gatewise.wide import WideBranch, wide_logits, wide_rows
from tests.artifacts import Made, config_of, linear_scores, make_text, ngrams_rows, reseal, weights_of

Copy = Callable[[Made], Path]
BOTH_ENGINES = pytest.mark.parametrize("engine", ["onnx", "torch"])


@settings(deadline=None, max_examples=150)
@given(
    ids=st.lists(st.integers(0, 50) | st.integers(0, 2**40), min_size=1, max_size=12),
    order=st.integers(1, 5),
    buckets=st.sampled_from([1, 2, 61, 1 << 20, 2**31]),
)
def test_rows_are_those_of_the_n_grams_one_after_another(ids: list[int], order: int, buckets: int) -> None:
    rows = wide_rows(np.array(ids, dtype=np.int64), order, buckets)
    assert rows.tolist() == ngrams_rows(ids, order, buckets)


def test_n_grams_of_other_tokens_another_order_or_another_length_have_other_rows() -> None:
    buckets = 1 << 20
    texts = [[2, 3], [3, 2], [2, 2], [3, 3], [2, 3, 2], [1, 3], [2, 1]]
    rows = [set(ngrams_rows(ids, 3, buckets)) for ids in texts]
    assert len({frozenset(row) for row in rows}) == len(texts)


def test_hashing_spreads_n_grams_over_the_table() -> None:
    ids = np.random.default_rng(0).permutation(30_000)[:400]
    # 1,197 different n-grams thrown into a million places meet less than once on average.
    assert 1_190 <= len(wide_rows(ids, 3, 1 << 20)) <= 400 + 399 + 398


def test_an_n_gram_counts_once_however_often_it_stands() -> None:
    assert wide_rows(np.array([7] * 9), 1, 61).tolist() == ngrams_rows([7], 1, 61)
    assert len(wide_rows(np.array([7] * 9), 3, 1 << 20)) == 3


def test_scores_are_the_sum_of_the_rows_over_the_root_of_their_number() -> None:
    weight = np.arange(12, dtype=np.float32).reshape(6, 2)
    bias = np.float32([0.5, -1])
    # Rows 1, 2, 4, 5: sums 2+4+8+10 = 24 and 3+5+9+11 = 28, over the root of 4.
    np.testing.assert_array_equal(wide_logits(np.array([1, 2, 4, 5]), weight, bias), np.float32([12.5, 13]))


@pytest.mark.parametrize("name", ["wide.weight", "wide.bias"])
def test_a_branch_without_its_table_or_with_another_is_corrupt(name: str) -> None:
    config = config_of("text", wide_buckets=61, wide_order=3)
    weights = weights_of(config)
    for wrong in ({}, {name: np.concatenate([weights[name]] * 2)}):
        others = {key: array for key, array in weights.items() if key != name}
        with pytest.raises(ArtifactCorrupt, match=rf"the weights have no {name} of shape \(.*restore the folder"):
            WideBranch(config, others | wrong)


# In an artifact


@pytest.mark.parametrize("name", ["wide.weight", "wide.bias"])
def test_an_artifact_without_its_table_is_corrupt(name: str, wide_artifact: Made, copy_of: Copy) -> None:
    folder = copy_of(wide_artifact)
    weights = load_file(folder / "weights.safetensors")
    del weights[name]
    save_file(weights, folder / "weights.safetensors")
    reseal(folder)
    with pytest.raises(ArtifactCorrupt, match=f"the weights have no {name} of shape"):
        Predictor.load(folder)


@BOTH_ENGINES
@pytest.mark.parametrize("name", ["wide.weight", "wide.bias"])
def test_a_changed_table_is_found_by_the_golden_items(
    engine: EngineName, name: str, wide_artifact: Made, copy_of: Copy
) -> None:
    folder = copy_of(wide_artifact)
    weights = load_file(folder / "weights.safetensors")
    save_file({**weights, name: weights[name] + np.float32(0.01)}, folder / "weights.safetensors")
    reseal(folder)
    with pytest.raises(GoldenMismatch, match="a logit differs"):
        Predictor.load(folder, engine=engine)


@BOTH_ENGINES
@pytest.mark.parametrize("level", ["words", "characters", "subwords"])
@pytest.mark.parametrize("keep", ["head", "tail", "head_tail"])
def test_a_text_longer_than_the_maximum_is_judged_by_all_its_n_grams(
    engine: EngineName, level: str, keep: str, tmp_path: Path
) -> None:
    made = make_text(tmp_path / "artifact", level=level, max_length=4, wide_buckets=61, wide_order=3)
    encoder = made.encoder
    assert isinstance(encoder, TextEncoder)
    cut = TextEncoder(encoder.config.model_copy(update={"keep": keep}), encoder.tokenizer)
    uncut = TextEncoder(TextEncoderConfig(level=encoder.config.level), encoder.tokenizer)
    for text in (*made.items, "the moon " * 9, "far", "", "zyx far zyx"):
        whole = uncut.encode(text).ids
        assert cut.encode(text).whole.tolist() == whole.tolist()
        assert len(cut.encode(text).ids) == min(len(whole), 4)
    predictor = Predictor.load(made.folder, engine=engine)
    for text in made.items:
        encoded = predictor.encode(text)
        rows = ngrams_rows(uncut.encode(text).ids.tolist(), 3, 61)
        expected = made.weights["wide.weight"][rows].sum(axis=0) / len(rows) ** 0.5 + made.weights["wide.bias"]
        assert encoded.wide is not None
        np.testing.assert_allclose(encoded.wide, expected, rtol=0, atol=1e-5)


def test_what_the_network_does_not_read_changes_the_answer_by_the_branch_alone(wide_artifact: Made) -> None:
    predictor = Predictor.load(wide_artifact.folder)
    texts = ["how far is the moon", "how far is the cat"]
    [one, other] = predictor.run_each(texts)
    assert not isinstance(one, InvalidSequence)
    assert not isinstance(other, InvalidSequence)
    np.testing.assert_allclose(one[1], other[1], rtol=0, atol=1e-6)
    assert one[0].truncated
    first, second = predictor.predict(texts)
    assert isinstance(first, Prediction)
    assert isinstance(second, Prediction)
    assert first.probabilities != second.probabilities
    for text, answer in zip(texts, (first, second), strict=True):
        np.testing.assert_allclose(
            list(answer.probabilities.values()), wide_artifact.probabilities(text), rtol=0, atol=1e-5
        )


@pytest.mark.parametrize("text", ["", "   ", "zyx", "zyx the zyx", "😀 月は遠い", "x" * 5000, "the " * 400])
def test_empty_texts_and_unknown_words_have_n_grams_too(text: str, wide_artifact: Made) -> None:
    predictor = Predictor.load(wide_artifact.folder)
    assert isinstance(wide_artifact.encoder, TextEncoder)
    expected = linear_scores(wide_artifact.config, wide_artifact.weights, wide_artifact.encoder.encode(text))
    encoded = predictor.encode(text)
    assert encoded.wide is not None
    assert encoded.wide.dtype == np.float32
    np.testing.assert_allclose(encoded.wide, expected, rtol=0, atol=1e-5)
    [answer] = predictor.predict([text])
    assert isinstance(answer, Prediction)
    np.testing.assert_allclose(
        list(answer.probabilities.values()), wide_artifact.probabilities(text), rtol=0, atol=1e-5
    )


def test_an_empty_text_is_one_unknown_word_to_the_branch(wide_artifact: Made) -> None:
    predictor = Predictor.load(wide_artifact.folder)
    scores: list[Any] = [predictor.encode(text).wide for text in ("", "  ", "zyxwvu")]
    for row in scores:
        np.testing.assert_array_equal(row, scores[0])


def test_models_without_a_branch_have_no_scores_of_one(text_artifact: Made, series_artifact: Made) -> None:
    for made in (text_artifact, series_artifact):
        assert Predictor.load(made.folder).encode(made.items[0]).wide is None
