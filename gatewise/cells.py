"""LSTM and GRU, one timestep at a time, equation by equation.

This is what Gatewise means by a recurrent layer. It answers with every gate, so streams and explanations run it as it
stands, and every faster path (torch, ONNX Runtime) is held to it by the tests.

Notation: x input, h hidden state, c cell state, W weights on x, U weights on h, b and d their biases, * elementwise,
sigma the logistic function. B batch, T timesteps, C channels, H hidden, D directions.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Generic, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from gatewise.architecture import RIGHT_TO_LEFT, Cell, ModelConfig
from gatewise.errors import ShapeMismatch

Array = NDArray[Any]


class LSTMState(NamedTuple):
    """What an LSTM remembers, each (B, H)."""

    h: Array
    c: Array


class LSTMGates(NamedTuple):
    """An LSTM's gates, (B, H) for one step, (B, T, H) for a run; the candidate in (-1, 1), the others in (0, 1)."""

    input_gate: Array
    forget_gate: Array
    candidate: Array
    output_gate: Array


class GRUState(NamedTuple):
    """What a GRU remembers, (B, H)."""

    h: Array


class GRUGates(NamedTuple):
    """A GRU's gates, (B, H) for one step, (B, T, H) for a run; the candidate in (-1, 1), the others in (0, 1)."""

    reset_gate: Array
    update_gate: Array
    candidate: Array


State = TypeVar("State", bound=LSTMState | GRUState)
Gates = TypeVar("Gates", bound=LSTMGates | GRUGates)


@dataclass(frozen=True, eq=False)
class RecurrentCell(ABC, Generic[State, Gates]):
    """The weights of one layer in one direction, in torch's layout: gates stacked by rows.

    Attributes:
        weight_ih: W, (gates * H, C). Its dtype is the dtype of every answer.
        weight_hh: U, (gates * H, H).
        bias_ih: b, (gates * H,).
        bias_hh: d, (gates * H,).
    Raises:
        ShapeMismatch: the four do not fit one another.
    """

    weight_ih: Array
    weight_hh: Array
    bias_ih: Array
    bias_hh: Array

    gate_count: ClassVar[int]
    gates_type: ClassVar[type[Any]]

    def __post_init__(self) -> None:
        rows = self.gate_count * self.hidden_size
        expected: dict[str, tuple[int, ...]] = {
            "weight_ih": (rows, self.input_size),
            "weight_hh": (rows, self.hidden_size),
            "bias_ih": (rows,),
            "bias_hh": (rows,),
        }
        for name, shape in expected.items():
            if getattr(self, name).shape != shape:
                raise ShapeMismatch(f"{name} has shape {getattr(self, name).shape}, expected {shape}")

    @property
    def input_size(self) -> int:
        """C."""
        return int(self.weight_ih.shape[-1])

    @property
    def hidden_size(self) -> int:
        """H."""
        return int(self.weight_hh.shape[-1])

    @abstractmethod
    def initial_state(self, batch: int) -> State:
        """Return the state before the first step: zeros."""

    @abstractmethod
    def step(self, x: Array, state: State) -> tuple[State, Gates]:
        """Advance one timestep."""

    def _checked(self, x: Array, state: State) -> Array:
        """Return x in the weights' dtype; numpy would broadcast some wrong shapes without a word."""
        if x.ndim != 2 or x.shape[1] != self.input_size:
            raise ShapeMismatch(f"x has shape {x.shape}, expected (batch, {self.input_size})")
        for name, part in zip(state._fields, state, strict=True):
            if part.shape != (len(x), self.hidden_size):
                raise ShapeMismatch(f"state.{name} has shape {part.shape}, expected {(len(x), self.hidden_size)}")
        return x.astype(self.weight_ih.dtype, copy=False)

    def _zeros(self, batch: int) -> Array:
        return np.zeros((batch, self.hidden_size), dtype=self.weight_ih.dtype)


@dataclass(frozen=True, eq=False)
class LSTMCell(RecurrentCell[LSTMState, LSTMGates]):
    """Long short-term memory; rows of the weights in the order i, f, g, o."""

    gate_count = 4
    gates_type = LSTMGates

    def initial_state(self, batch: int) -> LSTMState:
        """Return the state before the first step: zeros."""
        return LSTMState(self._zeros(batch), self._zeros(batch))

    def step(self, x: Array, state: LSTMState) -> tuple[LSTMState, LSTMGates]:
        """Advance one timestep.

            i = sigma(W_i x + b_i + U_i h + d_i)        how much of the candidate enters
            f = sigma(W_f x + b_f + U_f h + d_f)        how much of the memory stays
            g =  tanh(W_g x + b_g + U_g h + d_g)        the candidate
            o = sigma(W_o x + b_o + U_o h + d_o)        how much of the memory shows
            c' = f * c + i * g
            h' = o * tanh(c')

        Args:
            x: encoded input, (B, C).
            state: (h, c), each (B, H), as the previous step returned it.
        Returns:
            the new state, and the gates of this step, each (B, H).
        Raises:
            ShapeMismatch: x does not have the channels that the weights expect, or the state is another batch's.
        Source: Hochreiter & Schmidhuber 1997, Gers et al. 2000; gate order i, f, g, o as torch.nn.LSTM.
        """
        x = self._checked(x, state)
        h, c = state
        stacked = x @ self.weight_ih.T + self.bias_ih + h @ self.weight_hh.T + self.bias_hh
        i, f, g, o = np.split(stacked, 4, axis=1)
        i, f, g, o = sigmoid(i), sigmoid(f), np.tanh(g), sigmoid(o)
        c = f * c + i * g
        h = o * np.tanh(c)
        return LSTMState(h, c), LSTMGates(i, f, g, o)


@dataclass(frozen=True, eq=False)
class GRUCell(RecurrentCell[GRUState, GRUGates]):
    """Gated recurrent unit; rows of the weights in the order r, z, n.

    Attributes:
        reset_after: where the reset gate acts: True multiplies it in after the recurrent matrix, False before it.
    """

    reset_after: bool = True

    gate_count = 3
    gates_type = GRUGates

    def initial_state(self, batch: int) -> GRUState:
        """Return the state before the first step: zeros."""
        return GRUState(self._zeros(batch))

    def step(self, x: Array, state: GRUState) -> tuple[GRUState, GRUGates]:
        """Advance one timestep.

            r = sigma(W_r x + b_r + U_r h + d_r)        how much of the past the candidate sees
            z = sigma(W_z x + b_z + U_z h + d_z)        how much of the past stays
            n = tanh(W_n x + b_n + r * (U_n h + d_n))   the candidate, reset_after
            n = tanh(W_n x + b_n + U_n (r * h) + d_n)   the candidate, not reset_after
            h' = (1 - z) * n + z * h

        Args:
            x: encoded input, (B, C).
            state: (h,), (B, H), as the previous step returned it.
        Returns:
            the new state, and the gates of this step, each (B, H).
        Raises:
            ShapeMismatch: x does not have the channels that the weights expect, or the state is another batch's.
        Source: Cho et al. 2014 (reset before; its first version, cuDNN, torch.nn.GRU and Keras by default: after).
            z keeps the old state, as in Cho et al., torch and Keras; Chung et al. 2014 let it admit the new one.
        """
        x = self._checked(x, state)
        (h,) = state
        x_r, x_z, x_n = np.split(x @ self.weight_ih.T + self.bias_ih, 3, axis=1)
        U_r, U_z, U_n = self.weight_hh.reshape(3, self.hidden_size, self.hidden_size)
        d_r, d_z, d_n = self.bias_hh.reshape(3, self.hidden_size)
        r = sigmoid(x_r + h @ U_r.T + d_r)
        z = sigmoid(x_z + h @ U_z.T + d_z)
        past = r * (h @ U_n.T + d_n) if self.reset_after else (r * h) @ U_n.T + d_n
        n = np.tanh(x_n + past)
        h = (1 - z) * n + z * h
        return GRUState(h), GRUGates(r, z, n)


def sigmoid(x: Array) -> Array:
    """Return the logistic function of x; written by tanh because exp(-x) overflows."""
    return 0.5 * np.tanh(0.5 * x) + 0.5


def from_weights(
    cell: Cell, weights: Mapping[str, Array], prefix: str, reset_after: bool = True
) -> RecurrentCell[Any, Any]:
    """Return the cell whose weights are named `prefix`.weight_ih_l0 and so on.

    Args:
        prefix: a layer and direction of `gatewise.architecture`, such as "recurrent.0.left_to_right".
        reset_after: the GRU's convention; means nothing for an LSTM.
    """
    W, U = weights[f"{prefix}.weight_ih_l0"], weights[f"{prefix}.weight_hh_l0"]
    b, d = weights[f"{prefix}.bias_ih_l0"], weights[f"{prefix}.bias_hh_l0"]
    return LSTMCell(W, U, b, d) if cell == "lstm" else GRUCell(W, U, b, d, reset_after)


class CellRun(NamedTuple, Generic[State, Gates]):
    """One layer in one direction over a batch.

    Attributes:
        outputs: h of every timestep, (B, T, H), in the order of the inputs; zero beyond a sequence's length.
        state: the state after each sequence's own last step.
        gates: the gates of every timestep, each (B, T, H), in the order of the inputs; zero beyond a sequence's length.
    """

    outputs: Array
    state: State
    gates: Gates


def run_cell(
    cell: RecurrentCell[State, Gates],
    inputs: Array,
    lengths: Array,
    state: State | None = None,
    reverse: bool = False,
) -> CellRun[State, Gates]:
    """Run whole sequences, step by step.

    Args:
        inputs: right-padded, (B, T, C).
        lengths: real timesteps of each sequence, (B,), from 0 to T.
        state: where to begin, as an earlier run returned it; zeros when None.
        reverse: begin each sequence at its own last step.
    Raises:
        ShapeMismatch: inputs, lengths and state do not fit the weights or one another.
    """
    inputs, lengths = np.asarray(inputs), np.asarray(lengths)
    _check_run(inputs, lengths)
    B, T, _ = inputs.shape
    if reverse:
        inputs = _backwards(inputs, lengths)
    if state is None:
        state = cell.initial_state(B)
    history = np.zeros((1 + cell.gate_count, B, T, cell.hidden_size), dtype=cell.weight_ih.dtype)
    for t in range(T):
        after, gates = cell.step(inputs[:, t], state)
        is_real = t < lengths
        state = type(state)(*(np.where(is_real[:, None], new, old) for new, old in zip(after, state, strict=True)))
        for values, value in zip(history, (after.h, *gates), strict=True):
            values[is_real, t] = value[is_real]
    outputs, *stacked = (_backwards(values, lengths) for values in history) if reverse else history
    return CellRun(outputs, state, cell.gates_type(*stacked))


def run_layers(
    config: ModelConfig, weights: Mapping[str, Array], features: Array, lengths: Array
) -> list[dict[str, CellRun[Any, Any]]]:
    """Run every recurrent layer of a model; each reads the outputs of all directions of the one below.

    Args:
        weights: by the names of `gatewise.architecture`.
        features: embedded tokens or encoded readings, (B, T, C).
        lengths: real timesteps of each sequence, (B,).
    Returns:
        for each layer, from the first, its run in each direction by name.
    """
    layers: list[dict[str, CellRun[Any, Any]]] = []
    for layer in range(config.num_layers):
        runs = {}
        for direction in config.directions:
            cell = from_weights(config.cell, weights, f"recurrent.{layer}.{direction}", config.reset_after)
            runs[direction] = run_cell(cell, features, lengths, reverse=direction == RIGHT_TO_LEFT)
        features = np.concatenate([run.outputs for run in runs.values()], axis=2)
        layers.append(runs)
    return layers


def _backwards(values: Array, lengths: Array) -> Array:
    """Return (B, T, ...) with each sequence turned round within its own length; twice gives it back."""
    B, T = values.shape[:2]
    t, lengths = np.arange(T), lengths[:, None]
    turned: Array = values[np.arange(B)[:, None], np.where(t < lengths, lengths - 1 - t, t)]
    return turned


def _check_run(inputs: Array, lengths: Array) -> None:
    if inputs.ndim != 3:
        raise ShapeMismatch(f"inputs have shape {inputs.shape}, expected (batch, timesteps, channels)")
    B, T, _ = inputs.shape
    if lengths.shape != (B,):
        raise ShapeMismatch(f"lengths have shape {lengths.shape}, expected ({B},)")
    if B and (lengths.min() < 0 or lengths.max() > T):
        raise ShapeMismatch(f"lengths run from {lengths.min()} to {lengths.max()}, and the inputs have {T} timesteps")
