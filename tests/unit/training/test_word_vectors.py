"""Vectors from a file in a network: what trains, what stays, and what is served."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from gatewise.embedding import TokenEmbedder
from gatewise.errors import InvalidData
from gatewise.text import TextEncoder, TextEncoderConfig
from tests.artifacts import config_of, pieces
from tests.artifacts import crc32 as checksum
from training.config import TrainingConfig
from training.data import EncodedDataset
from training.dataset import Dataset
from training.embedding import Forms
from training.fitting import Candidate, Devices, fit
from training.module import Network
from training.preparing import encode
from training.word_tables import PretrainedRows
from training.word_vectors import WordVectors, add_vectors, fit_width

MODES: Any = ["frozen", "finetuned", "gated"]
TRAIN = ["the cat sat", "the dog sat", "The cat ran to Oslo", "a zyx ran"]
FILE = "the 1 0 0\noslo 0 1 0\ncat 0 0 1\nmoon 1 1 0\nsea-side 5 5 5\nsun 0 1 1\nzebra 2 2 2\n"


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> None:
    torch.set_num_threads(1)


def dataset(items: list[Any], labels: list[Any] | None = None) -> Dataset:
    return Dataset("text", "sequence", items, labels or ["x"] * len(items), None, None, "t.csv", np.arange(len(items)))


def encoder_of(**fields: Any) -> TextEncoder:
    return TextEncoder.fit(TRAIN, TextEncoderConfig(level="words", **fields), min_count=2)


def added(tmp_path: Path, *, content: str = FILE, **settings: Any) -> tuple[TextEncoder, WordVectors]:
    path = tmp_path / "v.txt"
    path.write_text(content)
    config = TrainingConfig(**{"embedding_dim": 3, "embedding_words": 2, **settings})
    return add_vectors(encoder_of(lowercase=config.lowercase), dataset(TRAIN), str(path), config)


# The vocabulary


def test_the_vocabulary_gains_rare_words_of_train_and_frequent_words_of_the_file(tmp_path: Path) -> None:
    encoder, vectors = added(tmp_path)
    before = encoder_of().words()
    assert set(before) == {"[PAD]", "[UNK]", "the", "cat", "sat", "ran"}
    # "sea-side" is no token that a text can have; "dog", "to", "a" and "zyx" are rare and have no vector.
    assert encoder.words() == [*before, "oslo", "moon", "sun"]
    assert vectors.of_train == (3, 9)
    assert vectors.added == 2
    known = dict(zip(encoder.words(), vectors.pretrained.known.tolist(), strict=True))
    assert [word for word, has in known.items() if has] == ["the", "cat", "oslo", "moon", "sun"]
    assert encoder.encode("Moon over OSLO").ids.tolist() == [7, 1, 6]
    assert encoder_of().words() == before


def test_words_keep_their_ids_and_survive_being_written(tmp_path: Path) -> None:
    encoder, _ = added(tmp_path)
    again = TextEncoder.from_json(encoder.config, encoder.to_json())
    for text in [*TRAIN, "the moon", "sun , sun"]:
        np.testing.assert_array_equal(again.encode(text).ids, encoder.encode(text).ids)
        ids = encoder_of().encode(text).ids
        np.testing.assert_array_equal(encoder.encode(text).ids[ids > 1], ids[ids > 1])


def test_coverage_counts_tokens(tmp_path: Path) -> None:
    encoder, vectors = added(tmp_path, ngram_buckets=7)
    forms = Forms(encoder.words(), 7, pretrained=vectors.pretrained)
    train = encode(dataset(TRAIN), encoder, ("x",), forms)
    valid = encode(dataset(["the moon", "zyx", "sat"]), encoder, ("x",), forms)
    # the cat - | the - - | the cat - - oslo | - - -
    assert vectors.coverage(train) == pytest.approx(6 / 14)
    assert vectors.coverage(valid) == pytest.approx(2 / 4)
    card = vectors.card(train, valid)
    assert card["source"] == "v.txt"
    assert card["coverage"] == {"train": 0.4286, "valid": 0.5}
    first, second = vectors.notes(train, valid)
    assert "7 vectors of 3 numbers, finetuned. 3 of the 9 words of train have one: 42.9% of its tokens" in first
    assert "is the file of the same language" in second


def test_a_file_that_knows_no_word_of_train_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidData, match="holds none of the 9 words of the training texts, such as") as error:
        added(tmp_path, content="lune 1 2\nsoleil 3 4\n")
    assert error.value.message.endswith("Give vectors of the texts' language")


# Width and scale


def test_vectors_of_another_width_keep_what_they_can() -> None:
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(50, 2)) @ rng.normal(size=(2, 5)) * 7 + 100
    distances = np.linalg.norm(vectors[:, None] - vectors[None], axis=2)
    for width in (2, 5, 9):
        fitted = fit_width(vectors.astype(np.float32), width)
        assert (fitted.shape, fitted.dtype) == ((50, width), np.float32)
        shown = np.linalg.norm(fitted[:, None].astype(np.float64) - fitted[None], axis=2)
        # Of rank 2, so that two components keep every distance, up to the common scale.
        np.testing.assert_allclose(shown / shown.max(), distances / distances.max(), atol=1e-5)
        np.testing.assert_allclose(fitted.mean(axis=0), 0, atol=1e-6)
    np.testing.assert_array_equal(fit_width(vectors.astype(np.float32), 9)[:, 5:], 0)


# Training and serving


def trained(folder: Path, mode: Any, **settings: Any) -> tuple[Candidate, PretrainedRows, TextEncoder, TrainingConfig]:
    """Words that are good or bad, half of them; rows of a table of 3 numbers, which the last two words lack."""
    words = ["good", "fine", "bad", "poor", "so", "very"]
    encoder = TextEncoder.fit([" ".join(words)], TextEncoderConfig(level="words"), min_count=1)
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(encoder.vocab_size, 3)).astype(np.float32)
    known = np.array([word in words[:4] for word in encoder.words()])
    rows[~known] = 0
    pretrained = PretrainedRows(rows, known, mode)
    tables = {"embedding_dim": 3, "ngram_buckets": 0, "pair_buckets": 0, **settings}
    config = TrainingConfig(hidden_size=4, dense_sizes=(), epochs=4, batch_size=8, learning_rate=0.05, **tables)
    model = config_of(
        "text", "gru", vocab_size=encoder.vocab_size, dense_sizes=(), num_classes=2, pooling=("mean",), **tables
    )
    forms = Forms(encoder.words(), config.ngram_buckets, pretrained=pretrained)
    labels = rng.integers(0, 2, size=48).tolist()
    texts = [f"so {rng.choice(words[:2] if label else words[2:4])} very" for label in labels]
    data = EncodedDataset([forms.number(text) for text in encoder.encode_many(texts)], labels)
    cpu = Devices(accelerator="cpu", devices="1")
    candidate = fit(model, config, data, data, ("0", "1"), forms, folder, say=lambda line: None, devices=cpu)
    return candidate, pretrained, encoder, config


def test_frozen_vectors_stay_bit_by_bit_and_words_without_one_are_trained(tmp_path: Path) -> None:
    candidate, pretrained, _, _ = trained(tmp_path, "frozen")
    table = candidate.weights["embedding.weight"]
    np.testing.assert_array_equal(table[pretrained.known], pretrained.rows[pretrained.known])
    assert (np.abs(table[~pretrained.known][2:]) > 0.05).any(axis=1).all()
    assert candidate.epochs[-1]["valid_accuracy"] == 1


@pytest.mark.parametrize("mode", ["finetuned", "gated"])
def test_the_other_modes_move_the_vectors_that_training_meets(tmp_path: Path, mode: str) -> None:
    candidate, pretrained, _, _ = trained(tmp_path, mode)
    moved = np.abs(candidate.weights["embedding.weight"] - pretrained.rows)[pretrained.known]
    assert (moved.max(axis=1) > 1e-3).all()
    assert candidate.epochs[-1]["valid_accuracy"] == 1


def test_a_gated_word_that_training_never_meets_keeps_most_of_its_vector() -> None:
    rows = np.array([[0, 0], [0, 0], [0.5, -2.0]], dtype=np.float32)
    pretrained = PretrainedRows(rows, np.array([False, False, True]), "gated")
    network = Network(
        config_of("text", vocab_size=3, embedding_dim=2), Forms(["[PAD]", "[UNK]", "a"], pretrained=pretrained), 0
    )
    assert network.embedding is not None
    share = 1 / (1 + np.exp(-2.2))
    np.testing.assert_allclose(network.weights()["embedding.weight"][2], share * rows[2], rtol=1e-6)
    assert (network.weights()["embedding.weight"][:2] != 0).all()


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("tables", [{}, {"ngram_buckets": 13, "pair_buckets": 11}])
def test_what_is_served_is_what_was_trained(mode: Any, tables: dict[str, int]) -> None:
    words = ["[PAD]", "[UNK]", "cat", "moon", "sat"]
    rng = np.random.default_rng(1)
    rows = rng.normal(size=(5, 3)).astype(np.float32)
    known = np.array([False, False, True, True, False])
    config = config_of("text", vocab_size=5, **tables)
    forms = Forms(words, config.ngram_buckets, pretrained=PretrainedRows(rows * known[:, None], known, mode))
    torch.manual_seed(0)
    network = Network(config, forms, 0.0).eval()
    assert network.embedding is not None
    for parameter in network.embedding.parameters():
        torch.nn.init.normal_(parameter)
    weights = network.weights()
    ids = np.array([2, 4, 3, 1, 2])
    with torch.no_grad():
        trained = network.embedding(torch.from_numpy(ids)[None])[0].numpy()
    np.testing.assert_allclose(TokenEmbedder(config, weights).embed(ids), trained, atol=1e-5)
    # The table by hand: the mode's own arithmetic, and the mean of the characters' rows.
    state = {name: tensor.double().numpy() for name, tensor in network.embedding.state_dict().items()}
    own = state["words.weight"]
    gate = 1 / (1 + np.exp(-(rows @ state["words.gate.weight"].T + state["words.gate.bias"]))) if mode == "gated" else 0
    mixed = {"frozen": rows, "finetuned": own, "gated": gate * rows + (1 - gate) * own}[mode]
    expected = np.where(known[:, None], mixed, own)
    for i, word in enumerate(words):
        if tables and i > 1:
            buckets = [checksum(piece.encode()) % 13 for piece in pieces(word)]
            expected[i] += state["ngrams.weight"][buckets].mean(axis=0)
    np.testing.assert_allclose(weights["embedding.weight"], expected, atol=1e-5)


@pytest.mark.parametrize("mode", MODES)
def test_only_what_may_learn_has_a_gradient(mode: Any) -> None:
    known = np.array([False, False, True, False])
    pretrained = PretrainedRows(np.ones((4, 2), dtype=np.float32) * known[:, None], known, mode)
    network = Network(
        config_of("text", vocab_size=4, embedding_dim=2), Forms(["[PAD]", "[UNK]", "a", "b"], pretrained=pretrained), 0
    )
    network(torch.tensor([[2, 3, 1]]), torch.tensor([3])).sum().backward()
    assert network.embedding is not None
    gradient = network.embedding.words.weight.grad
    assert gradient is not None
    assert (gradient.abs().sum(dim=1) > 0).tolist() == [False, True, mode != "frozen", True]
    names = {name for name, _ in network.embedding.named_parameters()}
    assert names == {"words.weight"} | ({"words.gate.weight", "words.gate.bias"} if mode == "gated" else set())


def test_the_same_seed_gives_the_same_weights(tmp_path: Path) -> None:
    first, second = (trained(tmp_path / name, "gated")[0].weights for name in "ab")
    assert all(np.array_equal(first[name], second[name]) for name in first)
