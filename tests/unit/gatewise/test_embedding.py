"""The hashes against numbers worked out bit by bit, and the embedder against its definition, token by token."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gatewise.architecture import ModelConfig
from gatewise.embedding import TokenEmbedder, affix_rows, ngram_rows, pair_rows
from gatewise.text import UNKNOWN_ID, TokenIds
from tests.artifacts import Weights, config_of, crc32, embedded, ends, pieces, weights_of

ROOT = Path(__file__).parents[3]
TOKENS = st.text(st.characters(exclude_categories=["Cs"]), max_size=60)
TABLES = [
    {},
    {"ngram_buckets": 13},
    {"affix_buckets": 17},
    {"pair_buckets": 11},
    {"ngram_buckets": 13, "affix_buckets": 17, "pair_buckets": 11},
]
BIG = 2**31 - 1


# Character n-grams


def test_the_checksum_of_these_tests_is_the_published_one() -> None:
    assert crc32(b"123456789") == 0xCBF43926
    assert pieces("cat") == ["<ca", "<cat", "<cat>", "cat", "cat>", "at>"]


# The rows of models that are stored: another number here is another meaning of their tables.
@pytest.mark.parametrize(
    ("token", "buckets", "rows"),
    [
        ("cat", 1000, [239, 276, 524, 665, 679, 832]),
        ("cat", 1, [0] * 6),
        ("", 1000, [67]),
        ("é", 1000, [639]),
        ("你好", 32768, [2490, 8600, 26557]),
    ],
)
def test_the_rows_of_a_token_are_these_forever(token: str, buckets: int, rows: list[int]) -> None:
    assert ngram_rows(token, buckets).tolist() == rows


@given(TOKENS, st.integers(1, 70_000))
def test_a_token_has_a_row_for_each_of_its_pieces(token: str, buckets: int) -> None:
    rows = ngram_rows(token, buckets)
    assert rows.dtype == np.int64
    assert rows.tolist() == sorted(crc32(piece.encode()) % buckets for piece in pieces(token))
    assert len(rows) >= 1
    assert 0 <= rows.min() <= rows.max() < buckets


def test_a_token_counts_each_different_piece_once() -> None:
    # <aaaa>: <aa aaa aa>, <aaa aaaa aaa>, <aaaa aaaa>; a run that is longer has the same pieces, and aaaaa.
    assert len(ngram_rows("aaaa", 1 << 30)) == 8
    assert len(ngram_rows("aaaaa", 1 << 30)) == len(ngram_rows("a" * 39, 1 << 30)) == 9


def test_of_a_long_token_the_ends_alone_are_read() -> None:
    head, tail = "abcdefghijklmnopqrst", "0123456789ABCDEFGHIJ"
    whole = ngram_rows(head + tail, 1 << 30).tolist()
    assert len(whole) == 40 + 39 + 38
    for middle in ("x", "yz" * 500_000, "é" * 7):
        assert ngram_rows(head + middle + tail, 1 << 30).tolist() == whole
    assert ngram_rows(head + tail[:-1], 1 << 30).tolist() != whole


def test_the_rows_do_not_depend_on_the_process() -> None:
    # The pieces stand in a set, whose order another process changes with its hash seed.
    program = "from gatewise.embedding import ngram_rows; print(ngram_rows('unforgettable', 999).tolist())"
    told = []
    for seed in ("0", "1"):
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONHASHSEED": seed}
        command = [sys.executable, "-c", program]
        told.append(subprocess.run(command, env=environment, capture_output=True, check=True, timeout=60).stdout)
    assert told[0] == told[1]


# Affixes and shapes


@pytest.mark.parametrize(
    ("token", "expected"),
    [
        ("Running", ["0r", "1ru", "2run", "3g", "4ng", "5ing", "6ning", "7running", "8Xxx"]),
        ("1996-97", ["01", "119", "2199", "37", "497", "5-97", "66-97", "71996-97", "8dd-dd"]),
        ("U.S.", ["0u", "1u.", "2u.s", "3.", "4s.", "5.s.", "6u.s.", "7u.s.", "8X.X."]),
        ("ÉTÉ", ["0é", "1ét", "2été", "3é", "4té", "5été", "6été", "7été", "8XX"]),
        ("", ["0", "1", "2", "3", "4", "5", "6", "7", "8"]),
    ],
)
def test_a_token_begins_ends_and_looks_like_this_forever(token: str, expected: list[str]) -> None:
    assert ends(token) == expected
    assert affix_rows(token, 1 << 30).tolist() == [crc32(piece.encode()) % (1 << 30) for piece in expected]


@given(TOKENS, st.integers(1, 70_000))
def test_a_token_has_nine_rows_for_its_ends_its_whole_and_its_shape(token: str, buckets: int) -> None:
    rows = affix_rows(token, buckets)
    assert rows.dtype == np.int64
    assert rows.tolist() == [crc32(piece.encode()) % buckets for piece in ends(token)]


def test_the_shape_of_a_long_token_costs_no_more_than_that_of_a_short_one() -> None:
    long, short = affix_rows("a" * 40 + "1" * 10_000_000 + "zzzz", 999), affix_rows("a" * 40 + "zzzz", 999)
    assert long.tolist() == short.tolist()
    assert long[8] == affix_rows("aa", 999)[8]


# Pairs


def test_the_rows_of_pairs_are_these_forever() -> None:
    previous, current = np.array([0, 0, 7, 7, 123_456, BIG]), np.array([0, 7, 0, 7, 654_321, BIG])
    assert pair_rows(previous, current, 32_768).tolist() == [0, 24569, 20437, 12238, 23306, 0]
    assert pair_rows(previous, current, 1).tolist() == [0] * 6


@settings(deadline=None)
@given(
    pairs=st.lists(st.tuples(st.integers(0, BIG), st.integers(0, BIG)), min_size=1, max_size=30),
    buckets=st.integers(1, BIG),
)
def test_numpy_and_torch_give_the_rows_of_exact_arithmetic(pairs: list[tuple[int, int]], buckets: int) -> None:
    previous, current = (np.array(ids, dtype=np.int64) for ids in zip(*pairs, strict=True))
    rows = pair_rows(previous, current, buckets)
    exact = [(1_000_003 * p + 8_191 * c) % (2**31 - 1) % buckets for p, c in pairs]
    assert rows.dtype == np.int64
    assert rows.tolist() == exact
    theirs = pair_rows(torch.from_numpy(previous), torch.from_numpy(current), buckets)
    assert theirs.dtype == torch.int64
    assert theirs.tolist() == exact


@pytest.mark.parametrize("vocab_size", [50, 30_000, 5_000_000])
def test_a_batch_of_pairs_has_the_same_rows_in_numpy_and_torch(vocab_size: int) -> None:
    previous, current = np.random.default_rng(0).integers(0, vocab_size, size=(2, 64, 100))
    rows = pair_rows(previous, current, 32_768)
    np.testing.assert_array_equal(
        rows, pair_rows(torch.from_numpy(previous), torch.from_numpy(current), 32_768).numpy()
    )
    assert 0 <= rows.min() <= rows.max() < 32_768


def test_pairs_of_the_commonest_tokens_do_not_share_rows() -> None:
    ids = np.arange(100)  # ids are given by frequency
    rows = pair_rows(*np.meshgrid(ids, ids), 32_768)
    assert len(np.unique(rows)) == 100 * 100


# The embedder


def made(fields: dict[str, int], seed: int = 0) -> tuple[ModelConfig, Weights]:
    config = config_of("text", **fields)
    return config, weights_of(config, seed)


@pytest.mark.parametrize("fields", TABLES)
@settings(deadline=None, max_examples=50)
@given(
    tokens=st.lists(st.integers(0, 10).filter(lambda i: i != UNKNOWN_ID) | TOKENS, min_size=1, max_size=12),
)
def test_features_are_the_sums_that_the_format_states(fields: dict[str, int], tokens: list[int | str]) -> None:
    config, weights = made(fields)
    ids = np.array([token if isinstance(token, int) else UNKNOWN_ID for token in tokens], dtype=np.int64)
    unknown = tuple((t, token) for t, token in enumerate(tokens) if isinstance(token, str))
    features = TokenEmbedder(config, weights).embed(ids, unknown)
    assert features.dtype == np.float32
    np.testing.assert_allclose(features, embedded(config, weights, TokenIds(ids, unknown)), rtol=0, atol=1e-6)


def test_by_hand() -> None:
    config = config_of("text", vocab_size=4, embedding_dim=1, ngram_buckets=1000, pair_buckets=100)
    words = np.float32([[0], [10], [20], [30]])
    ngrams = np.zeros((1000, 1), dtype=np.float32)
    ngrams[[239, 276, 524, 665, 679, 832], 0] = [6, 12, 18, 24, 30, 36]  # the pieces of "cat"; their mean is 21
    pairs = np.arange(100, dtype=np.float32)[:, None] / 1000
    embedder = TokenEmbedder(config, {"embedding.weight": words, "ngrams.weight": ngrams, "pairs.weight": pairs})
    features = embedder.embed(np.array([3, 1, 2, 1]), ((1, "cat"),))
    # Pairs, each 1,000,003 a + 8,191 b: (0, 3) 24,573; (3, 1) 3,008,200; (1, 2) 1,016,385; (2, 1) 2,008,197.
    np.testing.assert_allclose(features[:, 0], [30.073, 31.0, 20.085, 10.097], rtol=0, atol=1e-5)


@pytest.mark.parametrize("fields", TABLES)
def test_a_token_depends_on_itself_and_the_one_before(fields: dict[str, int]) -> None:
    embedder = TokenEmbedder(*made(fields))
    whole = embedder.embed(np.array([4, 1, 7, 7, 5]), ((1, "unheard"),))
    later = embedder.embed(np.array([4, 1, 7, 2, 9]), ((1, "unheard"),))
    np.testing.assert_array_equal(whole[:3], later[:3])
    alone = embedder.embed(np.array([7]))
    assert np.array_equal(whole[3], whole[2]) == np.array_equal(alone[0], whole[2]) == ("pair_buckets" not in fields)


@pytest.mark.parametrize("fields", TABLES)
def test_the_spelling_of_an_unknown_token_counts_where_there_is_a_table_for_it(fields: dict[str, int]) -> None:
    embedder = TokenEmbedder(*made(fields))
    ids = np.array([UNKNOWN_ID, 3])
    vectors = [embedder.embed(ids, unknown) for unknown in ((), ((0, "zyx"),), ((0, "xyzzy"),))]
    different = len({vector[0].tobytes() for vector in vectors})
    assert different == (3 if {"ngram_buckets", "affix_buckets"} & fields.keys() else 1)
    assert len({vector[1].tobytes() for vector in vectors}) == 1


@pytest.mark.parametrize("fields", TABLES)
def test_embedding_leaves_weights_and_ids_as_they_were(fields: dict[str, int]) -> None:
    config, weights = made(fields)
    before = {name: array.copy() for name, array in weights.items()}
    ids = np.array([2, UNKNOWN_ID, 2, UNKNOWN_ID])
    embedder = TokenEmbedder(config, weights)
    first = embedder.embed(ids, ((1, "zyx"), (3, "xyz")))
    kept = first.copy()
    again = embedder.embed(ids, ((1, "zyx"), (3, "xyz")))
    np.testing.assert_array_equal(again, kept)
    first[:] = np.nan
    np.testing.assert_array_equal(again, kept)
    np.testing.assert_array_equal(ids, [2, UNKNOWN_ID, 2, UNKNOWN_ID])
    for name, array in before.items():
        np.testing.assert_array_equal(weights[name], array)


@pytest.mark.parametrize("fields", TABLES)
def test_weights_that_may_not_be_written_are_enough(fields: dict[str, int]) -> None:
    config, weights = made(fields)
    for array in weights.values():
        array.flags.writeable = False
    assert np.isfinite(TokenEmbedder(config, weights).embed(np.array([UNKNOWN_ID, 2]), ((0, "zyx"),))).all()
