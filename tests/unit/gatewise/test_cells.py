"""The cells against torch, against arithmetic done by hand, and against themselves."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch

from gatewise.architecture import ModelConfig
from gatewise.cells import (
    GRUCell,
    GRUState,
    LSTMCell,
    LSTMState,
    RecurrentCell,
    from_weights,
    run_cell,
    run_layers,
    sigmoid,
)
from gatewise.errors import ShapeMismatch

TOLERANCE = {np.dtype("float32"): 1e-6, np.dtype("float64"): 1e-12}
MODULES = {"lstm": torch.nn.LSTM, "gru": torch.nn.GRU}
BOTH_CELLS = pytest.mark.parametrize("cell", ["lstm", "gru"])
BOTH_PRECISIONS = pytest.mark.parametrize("dtype", [torch.float32, torch.float64])

B, T, C, H = 4, 9, 3, 5
LENGTHS = np.array([9, 1, 4, 7])


def module_of(cell: str, **options: Any) -> Any:
    torch.manual_seed(7)
    return MODULES[cell](C, H, batch_first=True, **options)


def weights_of(module: Any) -> dict[str, np.ndarray]:
    """The weights of a torch module by the names of `gatewise.architecture`."""
    weights = {}
    for name, value in module.named_parameters():
        part, layer = name.removesuffix("_reverse").rsplit("_l", 1)
        direction = "right_to_left" if name.endswith("_reverse") else "left_to_right"
        weights[f"recurrent.{layer}.{direction}.{part}_l0"] = value.detach().numpy()
    return weights


def cell_of(cell: str, module: Any, direction: str = "left_to_right") -> RecurrentCell[Any, Any]:
    return from_weights(cell, weights_of(module), f"recurrent.0.{direction}")  # type: ignore[arg-type]


def readings(dtype: torch.dtype = torch.float32, scale: float = 1.0) -> torch.Tensor:
    return scale * torch.randn(B, T, C, dtype=dtype, generator=torch.Generator().manual_seed(11))


def packed(module: Any, x: torch.Tensor) -> np.ndarray:
    sequence = torch.nn.utils.rnn.pack_padded_sequence(x, torch.from_numpy(LENGTHS), True, enforce_sorted=False)
    outputs, _ = torch.nn.utils.rnn.pad_packed_sequence(module(sequence)[0], True, total_length=T)
    return outputs.detach().numpy()


def random_gru(reset_after: bool, seed: int = 3) -> GRUCell:
    rng = np.random.default_rng(seed)
    W, U, b, d = (rng.normal(size=shape) for shape in [(3 * H, C), (3 * H, H), (3 * H,), (3 * H,)])
    return GRUCell(W, U, b, d, reset_after)


@BOTH_PRECISIONS
@BOTH_CELLS
def test_a_step_equals_the_step_of_torchs_own_cell(cell: str, dtype: torch.dtype) -> None:
    torch.manual_seed(5)
    module = {"lstm": torch.nn.LSTMCell, "gru": torch.nn.GRUCell}[cell](C, H, dtype=dtype)
    parts = [getattr(module, name).detach().numpy() for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")]
    x, h, c = torch.randn(B, C, dtype=dtype), torch.randn(B, H, dtype=dtype), torch.randn(B, H, dtype=dtype)
    with torch.no_grad():
        expected = module(x, (h, c)) if cell == "lstm" else (module(x, h),)
    ours: RecurrentCell[Any, Any] = LSTMCell(*parts) if cell == "lstm" else GRUCell(*parts)
    before = LSTMState(h.numpy(), c.numpy()) if cell == "lstm" else GRUState(h.numpy())
    after, gates = ours.step(x.numpy(), before)
    for ours_part, theirs in zip(after, expected, strict=True):
        np.testing.assert_allclose(ours_part, theirs.numpy(), rtol=0, atol=TOLERANCE[ours_part.dtype])
    assert after.h.dtype == parts[0].dtype
    assert {gate.dtype for gate in gates} == {parts[0].dtype}


@BOTH_PRECISIONS
@BOTH_CELLS
@pytest.mark.parametrize("num_layers", [1, 2, 3])
@pytest.mark.parametrize("bidirectional", [False, True])
def test_layers_equal_packed_torch_at_unequal_lengths(
    cell: str, dtype: torch.dtype, num_layers: int, bidirectional: bool
) -> None:
    module = module_of(cell, dtype=dtype, num_layers=num_layers, bidirectional=bidirectional)
    config = ModelConfig(
        kind="series", cell=cell, input_size=C, hidden_size=H, num_layers=num_layers, bidirectional=bidirectional,
        num_classes=2,
    )  # fmt: skip
    x = readings(dtype)
    layers = run_layers(config, weights_of(module), x.numpy(), LENGTHS)
    ours = np.concatenate([run.outputs for run in layers[-1].values()], axis=2)
    assert len(layers) == num_layers
    assert tuple(layers[0]) == config.directions
    np.testing.assert_allclose(ours, packed(module, x), rtol=0, atol=TOLERANCE[ours.dtype])


@BOTH_PRECISIONS
@BOTH_CELLS
def test_the_final_state_equals_torchs(cell: str, dtype: torch.dtype) -> None:
    module, x = module_of(cell, dtype=dtype), readings(dtype)
    with torch.no_grad():
        final = module(x)[1]
    run = run_cell(cell_of(cell, module), x.numpy(), np.full(B, T))
    for ours, theirs in zip(run.state, final if cell == "lstm" else (final,), strict=True):
        np.testing.assert_allclose(ours, theirs[0].numpy(), rtol=0, atol=TOLERANCE[ours.dtype])


def test_two_lstm_steps_worked_by_hand() -> None:
    # One channel, one unit. W = (i 1, f 2, g 1, o 0), U = (0, 0, 1, 0), b = (0, 0, 0, 1), d = 0; x = 1, then -1.
    # step 1, h = c = 0:
    #   i = sigma(1) = 0.7310586    f = sigma(2) = 0.8807971    g = tanh(1) = 0.7615942    o = sigma(1) = 0.7310586
    #   c = 0.8807971 * 0 + 0.7310586 * 0.7615942 = 0.5567699
    #   h = 0.7310586 * tanh(0.5567699) = 0.7310586 * 0.5055769 = 0.3696064
    # step 2:
    #   i = sigma(-1) = 0.2689414   f = sigma(-2) = 0.1192029   o = sigma(1) = 0.7310586
    #   g = tanh(-1 + 0.3696064) = tanh(-0.6303936) = -0.5583232
    #   c = 0.1192029 * 0.5567699 + 0.2689414 * -0.5583232 = 0.0663686 - 0.1501562 = -0.0837876
    #   h = 0.7310586 * tanh(-0.0837876) = 0.7310586 * -0.0835921 = -0.0611107
    cell = LSTMCell(
        weight_ih=np.array([[1.0], [2.0], [1.0], [0.0]]),
        weight_hh=np.array([[0.0], [0.0], [1.0], [0.0]]),
        bias_ih=np.array([0.0, 0.0, 0.0, 1.0]),
        bias_hh=np.zeros(4),
    )
    first, gates = cell.step(np.array([[1.0]]), cell.initial_state(1))
    np.testing.assert_allclose(np.ravel(gates), [0.7310586, 0.8807971, 0.7615942, 0.7310586], rtol=0, atol=1e-7)
    np.testing.assert_allclose(np.ravel(first), [0.3696064, 0.5567699], rtol=0, atol=1e-7)
    second, gates = cell.step(np.array([[-1.0]]), first)
    np.testing.assert_allclose(np.ravel(gates), [0.2689414, 0.1192029, -0.5583232, 0.7310586], rtol=0, atol=1e-7)
    np.testing.assert_allclose(np.ravel(second), [-0.0611107, -0.0837876], rtol=0, atol=1e-7)


@pytest.mark.parametrize(
    ("reset_after", "candidates", "outputs"),
    [
        # step 1: n = tanh(1 + 0.7310586 * (0 + 1)) = tanh(1.7310586) = 0.9391809
        #         h = 0.7310586 * 0.9391809 = 0.6865963
        # step 2: n = tanh(-1 + 0.2689414 * (0.6865963 + 1)) = tanh(-0.5464044) = -0.4978205
        #         h = 0.2689414 * -0.4978205 + 0.7310586 * 0.6865963 = -0.1338846 + 0.5019421 = 0.3680575
        (True, [0.9391809, -0.4978205], [0.6865963, 0.3680575]),
        # step 1: n = tanh(1 + 0.7310586 * 0 + 1) = tanh(2) = 0.9640276
        #         h = 0.7310586 * 0.9640276 = 0.7047606
        # step 2: n = tanh(-1 + 0.2689414 * 0.7047606 + 1) = tanh(0.1895393) = 0.1873017
        #         h = 0.2689414 * 0.1873017 + 0.7310586 * 0.7047606 = 0.0503732 + 0.5152213 = 0.5655945
        (False, [0.9640276, 0.1873017], [0.7047606, 0.5655945]),
    ],
)
def test_two_gru_steps_worked_by_hand_in_both_conventions(
    reset_after: bool, candidates: list[float], outputs: list[float]
) -> None:
    # One channel, one unit. W = (r 1, z -1, n 1), U = (0, 0, 1), b = 0, d = (0, 0, 1); x = 1, then -1.
    # step 1: r = sigma(1) = 0.7310586, z = sigma(-1) = 0.2689414, h before it 0; step 2: r 0.2689414, z 0.7310586.
    cell = GRUCell(
        weight_ih=np.array([[1.0], [-1.0], [1.0]]),
        weight_hh=np.array([[0.0], [0.0], [1.0]]),
        bias_ih=np.zeros(3),
        bias_hh=np.array([0.0, 0.0, 1.0]),
        reset_after=reset_after,
    )
    first, gates = cell.step(np.array([[1.0]]), cell.initial_state(1))
    np.testing.assert_allclose(np.ravel(gates), [0.7310586, 0.2689414, candidates[0]], rtol=0, atol=1e-7)
    np.testing.assert_allclose(np.ravel(first), outputs[0], rtol=0, atol=1e-7)
    second, gates = cell.step(np.array([[-1.0]]), first)
    np.testing.assert_allclose(np.ravel(gates), [0.2689414, 0.7310586, candidates[1]], rtol=0, atol=1e-7)
    np.testing.assert_allclose(np.ravel(second), outputs[1], rtol=0, atol=1e-7)


def test_reset_before_equals_its_formula_written_out_with_scalars() -> None:
    cell = random_gru(reset_after=False)
    rng = np.random.default_rng(4)
    x, h = rng.normal(size=C), rng.normal(size=H)
    W, U, b, d = cell.weight_ih, cell.weight_hh, cell.bias_ih, cell.bias_hh

    def preactivation(row: int, past: list[float]) -> float:
        from_x = math.fsum(W[row, k] * x[k] for k in range(C)) + b[row]
        return float(from_x + math.fsum(U[row, k] * past[k] for k in range(H)) + d[row])

    r = [1 / (1 + math.exp(-preactivation(j, list(h)))) for j in range(H)]
    z = [1 / (1 + math.exp(-preactivation(H + j, list(h)))) for j in range(H)]
    n = [math.tanh(preactivation(2 * H + j, [r[k] * h[k] for k in range(H)])) for j in range(H)]
    expected = [(1 - z[j]) * n[j] + z[j] * h[j] for j in range(H)]
    after, gates = cell.step(x[None], GRUState(h[None]))
    np.testing.assert_allclose(after.h[0], expected, rtol=0, atol=1e-12)
    np.testing.assert_allclose(np.stack([gate[0] for gate in gates]), [r, z, n], rtol=0, atol=1e-12)


def test_the_two_gru_conventions_are_different_functions() -> None:
    x, state = np.ones((1, C)), GRUState(np.ones((1, H)))
    after = random_gru(reset_after=True).step(x, state)[0].h
    before = random_gru(reset_after=False).step(x, state)[0].h
    assert np.abs(after - before).max() > 0.01


@BOTH_CELLS
def test_a_whole_sequence_equals_its_steps(cell: str) -> None:
    ours, x = cell_of(cell, module_of(cell)), readings().numpy()
    run = run_cell(ours, x, np.full(B, T))
    state = ours.initial_state(B)
    for t in range(T):
        state, gates = ours.step(x[:, t], state)
        np.testing.assert_array_equal(run.outputs[:, t], state.h)
        for whole, one in zip(run.gates, gates, strict=True):
            np.testing.assert_array_equal(whole[:, t], one)
    np.testing.assert_array_equal(np.stack(run.state), np.stack(state))


@BOTH_CELLS
@pytest.mark.parametrize("cut", [0, 1, 4, 9])
def test_chunks_with_the_state_carried_equal_the_whole(cell: str, cut: int) -> None:
    ours, x = cell_of(cell, module_of(cell)), readings().numpy()
    whole = run_cell(ours, x, LENGTHS)
    head = run_cell(ours, x[:, :cut], np.minimum(LENGTHS, cut))
    tail = run_cell(ours, x[:, cut:], np.maximum(LENGTHS - cut, 0), state=head.state)
    np.testing.assert_array_equal(np.concatenate([head.outputs, tail.outputs], axis=1), whole.outputs)
    np.testing.assert_array_equal(np.stack(tail.state), np.stack(whole.state))


@BOTH_CELLS
@pytest.mark.parametrize("reverse", [False, True])
def test_what_stands_in_the_padding_changes_nothing(cell: str, reverse: bool) -> None:
    ours, x = cell_of(cell, module_of(cell)), readings().numpy()
    clean = run_cell(ours, x, LENGTHS, reverse=reverse)
    x = x.copy()
    x[np.arange(T) >= LENGTHS[:, None]] = np.nan
    dirty = run_cell(ours, x, LENGTHS, reverse=reverse)
    np.testing.assert_array_equal(clean.outputs, dirty.outputs)
    np.testing.assert_array_equal(np.stack(clean.gates), np.stack(dirty.gates))
    np.testing.assert_array_equal(np.stack(clean.state), np.stack(dirty.state))


@BOTH_CELLS
@pytest.mark.parametrize("reverse", [False, True])
def test_outputs_and_gates_are_zero_past_the_length_and_the_state_is_that_of_the_last_step(
    cell: str, reverse: bool
) -> None:
    ours, x = cell_of(cell, module_of(cell)), readings().numpy()
    run = run_cell(ours, x, LENGTHS, reverse=reverse)
    padding = np.arange(T) >= LENGTHS[:, None]
    for values in (run.outputs, *run.gates):
        assert not values[padding].any()
        assert values[~padding].all()
    last = run.outputs[:, 0] if reverse else run.outputs[np.arange(B), LENGTHS - 1]
    np.testing.assert_array_equal(run.state.h, last)


@BOTH_CELLS
def test_reverse_is_the_forward_run_of_each_sequence_turned_round(cell: str) -> None:
    ours, x = cell_of(cell, module_of(cell)), readings().numpy()
    run = run_cell(ours, x, LENGTHS, reverse=True)
    for b, length in enumerate(LENGTHS):
        alone = run_cell(ours, x[b : b + 1, :length][:, ::-1], LENGTHS[b : b + 1])
        np.testing.assert_allclose(run.outputs[b, :length], alone.outputs[0, ::-1], rtol=0, atol=1e-6)
        for gate, alone_gate in zip(run.gates, alone.gates, strict=True):
            np.testing.assert_allclose(gate[b, :length], alone_gate[0, ::-1], rtol=0, atol=1e-6)


@BOTH_CELLS
@pytest.mark.parametrize("scale", [1.0, 1e4])
def test_gates_stay_in_their_ranges(cell: str, scale: float) -> None:
    ours, x = cell_of(cell, module_of(cell)), readings(scale=scale).numpy()
    gates = run_cell(ours, x, np.full(B, T)).gates._asdict()
    candidate = gates.pop("candidate")
    assert np.abs(candidate).max() <= 1
    assert candidate.min() < 0
    for gate in gates.values():
        assert gate.min() >= 0
        assert gate.max() <= 1


def test_the_sigmoid_neither_overflows_nor_leaves_its_range() -> None:
    for dtype in (np.float32, np.float64):
        x = np.array([-1e30, -800, -1, 0, 1, 800, 1e30], dtype=dtype)
        with np.errstate(all="raise"):
            y = sigmoid(x)
        assert y.dtype == dtype
        one = 1 / (1 + math.exp(-1))
        np.testing.assert_allclose(y, [0, 0, 1 - one, 0.5, one, 1, 1], rtol=0, atol=TOLERANCE[y.dtype])


@BOTH_CELLS
def test_a_wrong_shape_is_named_instead_of_broadcast(cell: str) -> None:
    ours = cell_of(cell, module_of(cell))
    with pytest.raises(ShapeMismatch, match=r"\(2, 4\), expected \(batch, 3\)"):
        ours.step(np.zeros((2, C + 1)), ours.initial_state(2))
    with pytest.raises(ShapeMismatch, match=r"x has shape \(3,\)"):
        ours.step(np.zeros(C), ours.initial_state(1))
    with pytest.raises(ShapeMismatch, match=r"state.h has shape \(1, 5\), expected \(2, 5\)"):
        ours.step(np.zeros((2, C)), ours.initial_state(1))
    with pytest.raises(ShapeMismatch, match="expected \\(batch, timesteps, channels\\)"):
        run_cell(ours, np.zeros((2, C)), np.array([1, 1]))
    with pytest.raises(ShapeMismatch, match="lengths have shape"):
        run_cell(ours, np.zeros((2, T, C)), np.array([1]))
    with pytest.raises(ShapeMismatch, match="from 1 to 10, and the inputs have 9"):
        run_cell(ours, np.zeros((2, T, C)), np.array([1, T + 1]))


def test_weights_that_do_not_fit_one_another_are_named() -> None:
    with pytest.raises(ShapeMismatch, match=r"weight_ih has shape \(20, 3\), expected \(15, 3\)"):
        GRUCell(np.zeros((4 * H, C)), np.zeros((3 * H, H)), np.zeros(3 * H), np.zeros(3 * H))
    with pytest.raises(ShapeMismatch, match="bias_hh"):
        LSTMCell(np.zeros((4 * H, C)), np.zeros((4 * H, H)), np.zeros(4 * H), np.zeros(H))
