from __future__ import annotations

import numpy as np
import pytest

from gatewise.content import Sequence, pack, sha256_of, unpack

SERIES = np.array([[1.5, np.nan], [-3e38, 1e-30]], dtype=np.float32)


@pytest.mark.parametrize("sequence", ["", "How far ?\0", "é" * 1000, [], ["a", "", "b c"]])
def test_a_text_or_tokens_come_back_as_they_were(sequence: Sequence) -> None:
    packed = pack(sequence)
    assert unpack(packed.form, packed.channels, packed.data) == sequence


def test_a_series_comes_back_as_it_was_with_its_missing_readings() -> None:
    packed = pack(SERIES)
    back = unpack(packed.form, packed.channels, packed.data)
    assert isinstance(back, np.ndarray)
    assert back.dtype == np.float32
    np.testing.assert_array_equal(back, SERIES)
    back[0, 0] = 2.0  # it is a reader's own


def test_equal_sequences_have_one_hash_whichever_their_bytes() -> None:
    other_nan = SERIES.copy()
    other_nan.view(np.uint32)[0, 1] = 0x7FC00001
    assert np.isnan(other_nan[0, 1])
    assert pack(other_nan).sha256 == pack(SERIES).sha256
    assert pack(np.array([[-0.0]], np.float32)).sha256 == pack(np.array([[0.0]], np.float32)).sha256
    assert pack(SERIES.astype(">f4")).sha256 == pack(SERIES).sha256
    assert pack(np.asfortranarray(SERIES)).sha256 == pack(SERIES).sha256


def test_unlike_sequences_have_unlike_hashes() -> None:
    flat = np.arange(6, dtype=np.float32)
    unlike = [
        "a b",
        "a  b",
        ["a", "b"],
        ["a b"],
        '["a","b"]',
        "",
        [],
        flat[:, None],
        flat.reshape(3, 2),
        flat.reshape(2, 3),
    ]
    assert len({pack(sequence).sha256 for sequence in unlike}) == len(unlike)


def test_a_long_text_is_stored_in_fewer_bytes() -> None:
    assert len(pack("a hundred words " * 100).data) < 100


def test_the_hash_alone_is_that_of_the_packed_sequence() -> None:
    for sequence in ("text", ["a", "b"], np.array([[1.0, np.nan]], dtype=np.float32)):
        assert sha256_of(sequence) == pack(sequence).sha256
