"""torch's GRU layer, trained faster on a CPU.

torch has a fused LSTM for CPUs, and runs a GRU as a dozen small operations a step, each recorded for the way back. Here
the way back is written out, with the same operations on memory that is there already.

B batch, T timesteps, F features, H hidden. G = 2H: the reset and the update gate side by side, as torch has them.
"""

from __future__ import annotations

import itertools
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional


class GRU(nn.GRU):
    """One layer of `torch.nn.GRU`, batch first, from a zero state; the same parameters, the same function."""

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__(input_size, hidden_size, batch_first=True)

    def forward(self, x: Tensor, h: Tensor | None = None) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        """Run (B, T, F); return the outputs (B, T, H) and the last state (1, B, H)."""
        if h is not None or x.is_cuda or not torch.is_grad_enabled() or x.shape[1] == 0:
            outputs, last = super().forward(x, h)
            return outputs, last
        weights = (self.weight_ih_l0, self.weight_hh_l0, self.bias_ih_l0, self.bias_hh_l0)
        states: Tensor = _Recurrence.apply(x.transpose(0, 1), *weights)  # type: ignore[no-untyped-call]
        return states.transpose(0, 1), states[-1:]


class _Recurrence(torch.autograd.Function):
    """(T, B, F) to the states (T, B, H).

    r, z = sigmoid(W x + U h + b); n = tanh(V x + v + r (Q h + q)); h' = n + z (h - n).

    Source: Cho et al. 2014, the reset gate after the matrix as in cuDNN; its gradient as worked out from these lines.
    """

    @staticmethod
    # Of 16 bits the states would lose what the update gate keeps over many steps.
    @torch.amp.custom_fwd(device_type="cpu", cast_inputs=torch.float32)  # type: ignore[untyped-decorator]
    def forward(ctx: Any, x: Tensor, w_ih: Tensor, w_hh: Tensor, b_ih: Tensor, b_hh: Tensor) -> Tensor:
        size = w_hh.shape[1]
        split = 2 * size
        gates = functional.linear(x, w_ih[:split], b_ih[:split] + b_hh[:split])
        # tanh(a) = 2 sigmoid(2 a) - 1, and torch's sigmoid takes a quarter of its tanh's time.
        candidate = functional.linear(x, 2 * w_ih[split:], 2 * b_ih[split:])
        u, q, q_bias = w_hh[:split].t(), 2 * w_hh[split:].t(), 2 * b_hh[split:]
        recalled = torch.empty_like(candidate)
        states = x.new_empty(len(x) + 1, x.shape[1], size)
        states[0] = 0
        steps = (gates, gates[..., :size], gates[..., size:], candidate, recalled)
        pairs = itertools.pairwise(states.unbind(0))
        for both, r, z, n, qh, (h, after) in zip(*(part.unbind(0) for part in steps), pairs, strict=True):
            both.addmm_(h, u).sigmoid_()
            torch.addmm(q_bias, h, q, out=qh)
            n.addcmul_(r, qh).sigmoid_().mul_(2).sub_(1)
            torch.lerp(n, h, z, out=after)
        ctx.save_for_backward(x, w_ih, w_hh, gates, candidate, recalled, states)
        return states[1:]

    @staticmethod
    @torch.amp.custom_bwd(device_type="cpu")  # type: ignore[untyped-decorator]
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, w_ih, w_hh, gates, n, recalled, states = ctx.saved_tensors
        size = w_hh.shape[1]
        split = 2 * size
        r, z, before = gates[..., :size], gates[..., size:], states[:-1]
        # Slopes of the next state by what goes into each gate, of r by what goes into the candidate; all steps at once.
        d_gates = torch.addcmul(gates, gates, gates, value=-1)
        d_r, d_z = d_gates[..., :size], d_gates[..., size:]
        d_r.mul_(recalled.mul_(0.5))
        d_z.mul_(torch.sub(before, n, out=recalled))
        d_n = n.square_().neg_().add_(1).mul_(torch.sub(1, z, out=recalled))
        u, q = w_hh[:split], w_hh[split:]
        dh = torch.zeros_like(gradient[0])
        steps = (gradient, d_gates, d_r, d_z, d_n, r, z)
        # The slopes become gradients where they stand, and so does r: that of Q h + q.
        for given, g_both, g_r, g_z, g_n, r_, z_ in zip(*(part.unbind(0)[::-1] for part in steps), strict=True):
            dh.add_(given)
            g_z.mul_(dh)
            g_n.mul_(dh)
            g_r.mul_(g_n)
            r_.mul_(g_n)
            dh.mul_(z_).addmm_(g_both, u).addmm_(r_, q)
        d_both, d_n, d_qh = d_gates.flatten(0, 1), d_n.flatten(0, 1), gates.flatten(0, 1)[:, :size]
        inputs, h = x.reshape(-1, x.shape[2]), before.flatten(0, 1)
        d_bias = d_both.sum(0)
        return (
            (d_both @ w_ih[:split]).addmm_(d_n, w_ih[split:]).view(x.shape) if ctx.needs_input_grad[0] else None,
            torch.cat([d_both.t() @ inputs, d_n.t() @ inputs]),
            torch.cat([d_both.t() @ h, d_qh.t() @ h]),
            torch.cat([d_bias, d_n.sum(0)]),
            torch.cat([d_bias, d_qh.sum(0)]),
        )
