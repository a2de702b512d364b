"""torch's GRU layer, trained faster on a CPU.

torch has a fused LSTM for CPUs, and runs a GRU as a dozen small operations a step, each recorded for the way back. Here
the way back is written out, with the same operations on memory that is there already.

B batch, T timesteps, F features, H hidden. The parts of a step lie side by side, (B, 4H): what is recalled of the state
for the candidate (q), the reset and the update gate (r, z), the candidate (n). The first three read the state and the
last three the input, so that each way through a matrix is one product.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

# Steps that are prepared at once, so few that a core's own cache still holds them when their turn comes.
_CHUNK = 16


class GRU(nn.GRU):
    """One layer of `torch.nn.GRU`, batch first, from a zero state; the same parameters, the same function."""

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__(input_size, hidden_size, batch_first=True)

    def forward(self, x: Tensor, h: Tensor | None = None) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        """Run (B, T, F); return the outputs (B, T, H) and the last state (1, B, H)."""
        if h is not None or x.device.type != "cpu" or not torch.is_grad_enabled() or x.shape[1] == 0:
            outputs, last = super().forward(x, h)
            return outputs, last
        weights = (self.weight_ih_l0, self.weight_hh_l0, self.bias_ih_l0, self.bias_hh_l0)
        is_short = torch.is_autocast_enabled("cpu") and torch.get_autocast_dtype("cpu") == torch.bfloat16
        states: Tensor = _Recurrence.apply(x.transpose(0, 1), *weights, is_short)  # type: ignore[no-untyped-call]
        return states.transpose(0, 1), states[-1:]


class _Recurrence(torch.autograd.Function):
    """(T, B, F) to the states (T, B, H).

    r, z = sigmoid(W x + U h + b); q = Q h + c; n = tanh(V x + v + r q); h' = n + z (h - n).

    Source: Cho et al. 2014, the reset gate after the matrix as in cuDNN; its gradient as worked out from these lines.
    """

    @staticmethod
    # Of 16 bits the states would lose what the update gate keeps over many steps.
    @torch.amp.custom_fwd(device_type="cpu", cast_inputs=torch.float32)  # type: ignore[untyped-decorator]
    def forward(ctx: Any, x: Tensor, w_ih: Tensor, w_hh: Tensor, b_ih: Tensor, b_hh: Tensor, is_short: bool) -> Tensor:
        timesteps, batch, _ = x.shape
        size = w_hh.shape[1]
        # Products over all steps at once take bf16 where autocast asks for it. A single step's is too small to gain.
        inputs = x.to(torch.bfloat16 if is_short else x.dtype).reshape(timesteps * batch, -1)
        w_in, w_state = w_ih.to(inputs.dtype).t(), _recalled_first(w_hh).t()
        bias = torch.cat([b_ih[: 2 * size] + b_hh[: 2 * size], b_ih[2 * size :]])
        parts = x.new_empty(timesteps, batch, 4 * size)
        given = parts.flatten(0, 1)[:, size:]
        states = x.new_empty(timesteps + 1, batch, size)
        h = states[0].zero_()
        for start in range(0, timesteps, _CHUNK):
            stop = start + _CHUNK
            rows = slice(start * batch, stop * batch)
            if is_short:
                torch.add(inputs[rows] @ w_in, bias, out=given[rows])
            else:
                torch.addmm(bias, inputs[rows], w_in, out=given[rows])
            part = parts[start:stop]
            q, r, z, n = part.chunk(4, dim=2)
            q.copy_(b_hh[2 * size :])
            steps = (part[..., : 3 * size], part[..., size : 3 * size], q, r, z, n, states[1:][start:stop])
            # numpy's tanh takes a sixth of torch's time.
            for (qrz, rz, q_, r_, z_, n_, after), n_array in zip(_steps(*steps), n.numpy(), strict=True):
                qrz.addmm_(h, w_state)
                rz.sigmoid_()
                n_.addcmul_(r_, q_)
                np.tanh(n_array, out=n_array)
                h = torch.lerp(n_, h, z_, out=after)
        ctx.save_for_backward(inputs, w_ih, w_hh, parts, states)
        return states[1:]

    @staticmethod
    @torch.amp.custom_bwd(device_type="cpu")  # type: ignore[untyped-decorator]
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        inputs, w_ih, w_hh, parts, states = ctx.saved_tensors
        timesteps, batch, size = gradient.shape
        w_state = _recalled_first(w_hh)
        kept, one, other = parts.new_empty(3, min(_CHUNK, timesteps), batch, size)
        dh = torch.zeros_like(gradient[0])
        for start in reversed(range(0, timesteps, _CHUNK)):
            part, given = parts[start : start + _CHUNK], gradient[start : start + _CHUNK]
            _to_slopes(part, states[start : start + len(part)], *(room[: len(part)] for room in (kept, one, other)))
            steps = (given, part.unflatten(2, (4, size)), part[..., : 3 * size], kept[: len(part)])
            # Times the state's gradient, the slopes become gradients where they stand.
            for given_, all_parts, qrz, z in reversed(list(_steps(*steps))):
                dh.add_(given_)
                all_parts.mul_(dh[:, None])
                dh.mul_(z).addmm_(qrz, w_state)
        d_parts = parts.flatten(0, 1)
        d_bias = d_parts.sum(0)
        d_parts = d_parts.to(inputs.dtype)
        d_given = d_parts[:, size:]
        d_w_state = d_parts[:, : 3 * size].t() @ states[:-1].flatten(0, 1).to(inputs.dtype)
        return (
            (d_given @ w_ih.to(inputs.dtype)).view(timesteps, batch, -1) if ctx.needs_input_grad[0] else None,
            # Of few features the product the other way round takes six times as long.
            (inputs.t() @ d_given).t(),
            _recalled_last(d_w_state),
            d_bias[size:],
            _recalled_last(d_bias[: 3 * size]),
            None,
        )


def _steps(*parts: Tensor) -> zip[tuple[Tensor, ...]]:
    """The steps of (T, ...) tensors, together."""
    return zip(*(part.unbind(0) for part in parts), strict=True)


def _to_slopes(part: Tensor, before: Tensor, z_kept: Tensor, one: Tensor, other: Tensor) -> None:
    """Put in the place of each part of some steps the slope of the next state by what goes into it; keep z.

    Args:
        part: (steps, B, 4H).
        before: the state before each step, (steps, B, H).
        z_kept, one, other: room of that shape; the first for z.
    """
    q, r, z, n = part.chunk(4, dim=2)
    # A slope times that of its sigmoid or tanh, by what these gave, in one pass.
    through_sigmoid, through_tanh = torch.ops.aten.sigmoid_backward, torch.ops.aten.tanh_backward
    z_kept.copy_(z)
    through_sigmoid(torch.sub(before, n, out=one), z, grad_input=z)
    through_tanh(torch.sub(1, z_kept, out=other), n, grad_input=n)
    torch.mul(q, n, out=one)
    torch.mul(r, n, out=q)
    through_sigmoid(one, r, grad_input=r)


def _recalled_first(weights: Tensor) -> Tensor:
    """Weights by the state in torch's order, (r, z, q), as (q, r, z)."""
    return weights.roll(len(weights) // 3, 0)


def _recalled_last(weights: Tensor) -> Tensor:
    """The other way."""
    return weights.roll(-(len(weights) // 3), 0)
