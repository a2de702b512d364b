"""What is trained against what serves: forms numbered, and one embedding in torch and in numpy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from gatewise.architecture import ModelConfig
from gatewise.embedding import TokenEmbedder
from gatewise.text import UNKNOWN_ID, TextEncoder, TextEncoderConfig, TokenIds
from tests.artifacts import PER_STEP, config_of, crc32, embedded, ends, pieces
from training.embedding import Forms, TokenEmbedding
from training.module import Network

TABLES = [
    {},
    {"ngram_buckets": 13},
    {"affix_buckets": 17},
    {"pair_buckets": 11},
    {"ngram_buckets": 13, "affix_buckets": 17, "pair_buckets": 11},
]
# At 2 each bag has one row at most twice: rows that pieces share count for each of them.
FEW_ROWS = {"ngram_buckets": 2, "affix_buckets": 2, "pair_buckets": 2}
TRAIN = ["the cat sat on the mat", "a dog ran , the dog did not", "far"]
TEXTS = [*TRAIN, "the zyx sat", "", "unheard , unheard , the cat", "a " + "long" * 30 + " zyx", "😀 naïve 日本"]


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> None:
    torch.set_num_threads(1)


def ids(*values: int, unknown: tuple[tuple[int, str], ...] = ()) -> TokenIds:
    return TokenIds(np.array(values, dtype=np.int64), unknown)


def encoder_of(level: Any = "words") -> TextEncoder:
    items = [text.split() for text in TRAIN] if level == "tokens" else TRAIN
    return TextEncoder.fit(items, TextEncoderConfig(level=level, max_length=30), min_count=1)


def encoded(encoder: TextEncoder, texts: list[str]) -> list[TokenIds]:
    per_token = encoder.config.level == "tokens"
    return [encoder.encode(text.split() or [""] if per_token else text) for text in texts]


def module_of(
    config: ModelConfig, encoder: TextEncoder, texts: list[TokenIds], word_dropout: float = 0.0
) -> tuple[TokenEmbedding, list[np.ndarray]]:
    """An embedding with tables of random numbers that are easily told apart, and the forms of the texts."""
    forms = Forms(encoder.words(), config.ngram_buckets, config.affix_buckets)
    numbered = [forms.number(text) for text in texts]
    torch.manual_seed(0)
    module = TokenEmbedding(config, forms, word_dropout)
    for parameter in module.parameters():
        torch.nn.init.normal_(parameter)
    return module, numbered


def padded(rows: list[np.ndarray], more: int = 0) -> torch.Tensor:
    batch = torch.zeros(len(rows), max(map(len, rows)) + more, dtype=torch.int64)
    for row, values in zip(batch, rows, strict=True):
        row[: len(values)] = torch.from_numpy(values)
    return batch


# Forms


def test_forms_are_the_vocabulary_then_every_unknown_spelling_once() -> None:
    forms = Forms(["[PAD]", "[UNK]", "a", "b"], 10)
    first = forms.number(ids(2, 1, 3, 1, 1, unknown=((1, "x"), (3, "y"), (4, "x"))))
    assert first.tolist() == [2, 4, 3, 5, 4]
    assert first.dtype == np.int64
    # An unknown token without a spelling, that of an empty text, stays the unknown one.
    assert forms.number(ids(1)).tolist() == [1]
    assert forms.number(ids(1, 1, unknown=((0, "z"), (1, "y")))).tolist() == [6, 5]
    assert forms.number(ids(2, 1, 3, 1, 1, unknown=((1, "x"), (3, "y"), (4, "x")))).tolist() == [2, 4, 3, 5, 4]
    assert forms.vocab_size == 4


def test_numbering_leaves_the_text_as_it_was() -> None:
    text = ids(2, 1, unknown=((1, "x"),))
    Forms(["[PAD]", "[UNK]", "a"], 10).number(text)
    assert text.ids.tolist() == [2, 1]


def test_without_characters_forms_are_the_ids() -> None:
    text = ids(2, 1, 1, unknown=((1, "x"), (2, "y")))
    assert Forms(["[PAD]", "[UNK]", "a"]).number(text).tolist() == [2, 1, 1]
    assert Forms(["[PAD]", "[UNK]", "a"], affix_buckets=9).number(text).tolist() == [2, 3, 4]


def test_bags_are_the_rows_of_each_form_filled_up_with_what_no_table_has() -> None:
    forms = Forms(["[PAD]", "[UNK]", "cat", "unheard-of"], 1000)
    forms.number(ids(1, 1, unknown=((0, "é"), (1, ""))))
    bags = forms.ngrams().tolist()
    longest = len(pieces("unheard-of"))
    assert [len(bag) for bag in bags] == [longest] * 6
    # Padding and the unknown token have no characters, not those of "[PAD]".
    assert bags[:2] == [[1000] * longest] * 2
    for bag, spelling in zip(bags[2:], ["cat", "unheard-of", "é", ""], strict=True):
        rows = sorted(crc32(piece.encode()) % 1000 for piece in pieces(spelling))
        assert bag == rows + [1000] * (longest - len(rows))


def test_every_form_but_the_special_ones_has_nine_affix_rows() -> None:
    forms = Forms(["[PAD]", "[UNK]", "cat"], affix_buckets=1000)
    forms.number(ids(1, unknown=((0, "unheard-of"),)))
    expected = [[crc32(piece.encode()) % 1000 for piece in ends(spelling)] for spelling in ("cat", "unheard-of")]
    assert forms.affixes().tolist() == [[1000] * 9, [1000] * 9, *expected]


@pytest.mark.parametrize("level", ["words", "characters", "subwords", "tokens"])
def test_an_encoders_words_have_their_ids_as_forms(level: Any) -> None:
    encoder = encoder_of(level)
    forms = Forms(encoder.words(), 7)
    for text in encoded(encoder, TRAIN):
        assert text.unknown == ()
        np.testing.assert_array_equal(forms.number(text), text.ids)
    assert forms.vocab_size == encoder.vocab_size == len(forms.ngrams())


# One embedding, trained and served


@pytest.mark.parametrize("fields", [*TABLES, FEW_ROWS])
@pytest.mark.parametrize("level", ["words", "characters", "subwords", "tokens"])
def test_what_serves_gives_the_features_that_were_trained(level: Any, fields: dict[str, int]) -> None:
    encoder = encoder_of(level)
    config = config_of("text", vocab_size=encoder.vocab_size, **fields)
    texts = encoded(encoder, TEXTS)
    assert sum(len(text.unknown) for text in texts) > 5
    module, forms = module_of(config, encoder, texts, word_dropout=0.9)
    module.eval()
    with torch.inference_mode():
        features = module(padded(forms, more=3)).numpy()
        alone = [module(torch.from_numpy(row)[None])[0].numpy() for row in forms]
    weights = module.fold()
    embedder = TokenEmbedder(config, weights)
    for row, single, text in zip(features, alone, texts, strict=True):
        served = embedder.embed(text.ids, text.unknown)
        np.testing.assert_allclose(row[: len(text.ids)], served, rtol=0, atol=1e-5)
        np.testing.assert_allclose(single, served, rtol=0, atol=1e-5)
        np.testing.assert_allclose(embedded(config, weights, text), served, rtol=0, atol=1e-5)


def test_folding_adds_to_each_known_word_the_mean_of_its_characters_and_the_sum_of_its_affixes() -> None:
    encoder = encoder_of()
    config = config_of("text", vocab_size=encoder.vocab_size, **TABLES[-1])
    module, _ = module_of(config, encoder, [])
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    weights = module.fold()
    assert module.ngrams is not None
    assert module.affixes is not None
    ngrams = module.ngrams.weight.detach().double().numpy()
    affixes = module.affixes.weight.detach().double().numpy()
    for i, word in enumerate(encoder.words()):
        expected = before["words.weight"][i].double().numpy()
        if i > UNKNOWN_ID:
            expected = expected + ngrams[[crc32(piece.encode()) % 13 for piece in pieces(word)]].mean(axis=0)
            expected = expected + affixes[[crc32(piece.encode()) % 17 for piece in ends(word)]].sum(axis=0)
        np.testing.assert_allclose(weights["embedding.weight"][i], expected, rtol=0, atol=1e-5)
    np.testing.assert_array_equal(weights["ngrams.weight"], ngrams[:13].astype(np.float32))
    np.testing.assert_array_equal(weights["affixes.weight"], affixes[:17].astype(np.float32))
    np.testing.assert_array_equal(weights["pairs.weight"], before["pairs.weight"])
    assert {name: array.shape for name, array in weights.items()} == {
        "embedding.weight": (encoder.vocab_size, 3),
        "ngrams.weight": (13, 3),
        "affixes.weight": (17, 3),
        "pairs.weight": (11, 3),
    }
    assert all(array.dtype == np.float32 for array in weights.values())
    # What was folded is a copy: training can go on, and folding again gives the same.
    for array in weights.values():
        array[:] = 0
    assert all(torch.equal(tensor, before[name]) for name, tensor in module.state_dict().items())
    again = module.fold()
    assert all(again[name].any() for name in weights)


@pytest.mark.parametrize("fields", TABLES)
def test_only_tables_that_are_asked_for_are_folded(fields: dict[str, int]) -> None:
    encoder = encoder_of()
    module, _ = module_of(config_of("text", vocab_size=encoder.vocab_size, **fields), encoder, [])
    expected = {"embedding.weight"}
    expected |= {"ngrams.weight"} if "ngram_buckets" in fields else set()
    expected |= {"affixes.weight"} if "affix_buckets" in fields else set()
    expected |= {"pairs.weight"} if "pair_buckets" in fields else set()
    assert module.fold().keys() == expected


def test_a_vocabulary_without_a_word_is_no_obstacle() -> None:
    config = config_of("text", vocab_size=2, ngram_buckets=5)
    forms = Forms(["[PAD]", "[UNK]"], 5)
    module = TokenEmbedding(config, forms, 0.0).eval()
    with torch.inference_mode():
        features = module(torch.tensor([[1, 0]]))[0].numpy()
    np.testing.assert_array_equal(features, module.fold()["embedding.weight"][[1, 0]])


def test_tables_begin_small_and_all_their_rows_are_drawn() -> None:
    config = config_of("text", vocab_size=500, embedding_dim=8, ngram_buckets=300, affix_buckets=200, pair_buckets=400)
    words = ["[PAD]", "[UNK]", *(f"w{i}" for i in range(498))]
    torch.manual_seed(0)
    module = TokenEmbedding(config, Forms(words, 300, 200), 0.0)
    assert module.ngrams is not None
    assert module.affixes is not None
    assert module.pairs is not None
    for table, rows in ((module.words, 500), (module.ngrams, 300), (module.affixes, 200), (module.pairs, 400)):
        weight = table.weight.detach()[:rows]
        assert 0.0499 < weight.abs().max().item() <= 0.05
        assert weight.abs().sum(dim=1).min().item() > 0
        # The mean and deviation of a uniform draw, within four of their own deviations.
        assert abs(weight.mean().item()) < 4 * 0.05 / np.sqrt(3 * weight.numel())
        assert weight.std().item() == pytest.approx(0.05 / np.sqrt(3), rel=0.05)


# Gradients


def gradients(module: TokenEmbedding) -> dict[str, np.ndarray]:
    found = {}
    for name, parameter in module.named_parameters():
        assert parameter.grad is not None, name
        found[name.removesuffix(".weight")] = parameter.grad.numpy()
    return found


def test_each_table_gets_the_gradient_of_the_rows_that_were_read() -> None:
    encoder = encoder_of()
    config = config_of("text", vocab_size=encoder.vocab_size, **TABLES[-1])
    text = encoder.encode("the zyx the cat")
    module, [forms] = module_of(config, encoder, [text])
    module.train()
    # Of a sum the gradient of a row is how often it was read, in each of its E columns.
    module(torch.from_numpy(forms)[None]).sum().backward()
    found = gradients(module)
    expected = {
        "words": np.zeros(encoder.vocab_size),
        "ngrams": np.zeros(14),
        "affixes": np.zeros(18),
        "pairs": np.zeros(11),
    }
    previous = 0
    for current, spelling in zip(text.ids.tolist(), ["the", "zyx", "the", "cat"], strict=True):
        expected["words"][current] += 1
        expected["pairs"][(1_000_003 * previous + 8_191 * current) % (2**31 - 1) % 11] += 1
        parts = pieces(spelling)
        for piece in parts:
            expected["ngrams"][crc32(piece.encode()) % 13] += 1 / len(parts)
        for piece in ends(spelling):
            expected["affixes"][crc32(piece.encode()) % 17] += 1
        previous = current
    assert expected["words"][UNKNOWN_ID] == 1
    assert found.keys() == expected.keys()
    for name, counts in expected.items():
        np.testing.assert_allclose(found[name], np.repeat(counts[:, None], 3, axis=1), rtol=0, atol=1e-5)


@pytest.mark.parametrize("head", ["all", "step", "stem_branch", "skip"])
def test_what_stands_in_the_padding_is_never_trained(head: str) -> None:
    # Without dense layers, whose relu might stop the gradient of a whole sequence.
    config = config_of("text", head=head, vocab_size=9, bidirectional=True, dense_sizes=(), pair_buckets=1000)
    forms = Forms(["[PAD]", "[UNK]", *"abcdefg"], 0)
    torch.manual_seed(0)
    network = Network(config, forms, 0.0)
    logits = network(torch.tensor([[4, 5, 0, 0], [1, 2, 3, 4]]), torch.tensor([2, 4]))
    real = torch.tensor([[True, True, False, False], [True] * 4]) if head in PER_STEP else slice(None)
    logits[real].sum().backward()
    assert network.embedding is not None
    found = gradients(network.embedding)
    assert np.flatnonzero(np.abs(found["words"]).sum(axis=1)).tolist() == [1, 2, 3, 4, 5]
    read = [(0, 4), (4, 5), (0, 1), (1, 2), (2, 3), (3, 4)]
    expected = sorted({(1_000_003 * p + 8_191 * c) % 1000 for p, c in read})
    assert np.flatnonzero(np.abs(found["pairs"]).sum(axis=1)).tolist() == expected


# Word dropout


def dropped(module: TokenEmbedding, forms: np.ndarray) -> np.ndarray:
    with torch.no_grad():
        features: np.ndarray = module(torch.from_numpy(forms)).numpy()
    return features


@pytest.mark.parametrize("fields", TABLES)
def test_words_are_dropped_in_training_alone_and_then_read_as_unknown_ones(fields: dict[str, int]) -> None:
    config = config_of("text", vocab_size=9, **fields)
    words = ["[PAD]", "[UNK]", *"abcdefg"]
    forms = Forms(words, config.ngram_buckets, config.affix_buckets)
    torch.manual_seed(0)
    module = TokenEmbedding(config, forms, 0.25)
    for parameter in module.parameters():
        torch.nn.init.normal_(parameter)
    rows = np.random.default_rng(0).integers(2, 9, size=(60, 50))
    module.eval()
    np.testing.assert_array_equal(dropped(module, rows), dropped(module, rows))
    module.train()
    first, second = dropped(module, rows), dropped(module, rows)
    assert (first != second).any()
    # What a token can be: known or unknown, after a known or an unknown one; characters stay as they are.
    weights = {name: tensor.numpy() for name, tensor in module.state_dict().items()}

    def vector(token: int, heard: int, before: int) -> np.ndarray:
        total = weights["words.weight"][heard].astype(np.float64)
        if config.ngram_buckets:
            parts = [crc32(piece.encode()) % 13 for piece in pieces(words[token])]
            total = total + weights["ngrams.weight"][parts].mean(axis=0)
        if config.affix_buckets:
            parts = [crc32(piece.encode()) % 17 for piece in ends(words[token])]
            total = total + weights["affixes.weight"][parts].sum(axis=0)
        if config.pair_buckets:
            total = total + weights["pairs.weight"][(1_000_003 * before + 8_191 * heard) % (2**31 - 1) % 11]
        return total

    unknown = 0
    for row, features in zip(rows.tolist(), first, strict=True):
        before = 0
        for token, feature in zip(row, features, strict=True):
            heard = min((token, UNKNOWN_ID), key=lambda i: np.abs(vector(token, i, before) - feature).max())
            np.testing.assert_allclose(feature, vector(token, heard, before), rtol=0, atol=1e-5)
            unknown += heard == UNKNOWN_ID
            before = heard
    # A share of 3,000 draws stays within four of its standard deviations.
    assert abs(unknown / rows.size - 0.25) < 4 * np.sqrt(0.25 * 0.75 / rows.size)


def test_without_word_dropout_training_reads_what_serving_reads() -> None:
    encoder = encoder_of()
    config = config_of("text", vocab_size=encoder.vocab_size, **TABLES[-1])
    module, [forms] = module_of(config, encoder, [encoder.encode("the zyx sat on the unheard")])
    trained = dropped(module.train(), forms[None])
    np.testing.assert_array_equal(trained, dropped(module.eval(), forms[None]))
