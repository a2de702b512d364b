"""The only padding in the project."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatewise.batch import collate


def test_ids_are_padded_on_the_right_with_zeros() -> None:
    batch = collate([np.array([4, 5]), np.array([6]), np.array([7, 8, 9])])
    assert batch.inputs.tolist() == [[4, 5, 0], [6, 0, 0], [7, 8, 9]]
    assert batch.lengths.tolist() == [2, 1, 3]
    assert batch.mask.tolist() == [[True, True, False], [True, False, False], [True, True, True]]
    assert (batch.inputs.dtype, batch.lengths.dtype) == (np.int64, np.int64)


def test_readings_are_padded_in_time_and_never_across_channels() -> None:
    batch = collate([np.array([[1, 2]], dtype=np.float32), np.array([[3, 4], [5, 6]], dtype=np.float32)])
    assert batch.inputs.tolist() == [[[1, 2], [0, 0]], [[3, 4], [5, 6]]]
    assert batch.inputs.dtype == np.float32
    assert batch.mask.tolist() == [[True, False], [True, True]]


def test_one_sequence_needs_no_padding_and_all_real_steps() -> None:
    batch = collate([np.array([3, 1, 2])])
    assert batch.inputs.tolist() == [[3, 1, 2]]
    assert batch.lengths.tolist() == [3]
    assert batch.lengths.dtype == np.int64
    assert batch.mask.all()


@given(lengths=st.lists(st.integers(1, 20), min_size=1, max_size=8), channels=st.sampled_from([None, 1, 3]))
def test_every_sequence_is_found_again_under_its_mask(lengths: list[int], channels: int | None) -> None:
    random = np.random.default_rng(sum(lengths))
    shapes = [(length,) if channels is None else (length, channels) for length in lengths]
    sequences = [random.normal(size=shape).astype(np.float32) for shape in shapes]
    before = [sequence.copy() for sequence in sequences]
    batch = collate(sequences)
    assert batch.inputs.shape == (len(lengths), max(lengths), *shapes[0][1:])
    for row, mask, sequence in zip(batch.inputs, batch.mask, before, strict=True):
        np.testing.assert_array_equal(row[mask], sequence)
        assert not row[~mask].any()
    for sequence, same in zip(sequences, before, strict=True):
        np.testing.assert_array_equal(sequence, same)


def test_sequences_of_other_channels_do_not_go_into_one_batch() -> None:
    with pytest.raises(ValueError, match="broadcast"):
        collate([np.zeros((2, 3), dtype=np.float32), np.zeros((2, 2), dtype=np.float32)])
