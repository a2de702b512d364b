"""The GRU layer against torch's own: states, every gradient, and where torch's own is used."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from gatewise.gru import GRU


def pair(inputs: int, size: int) -> tuple[GRU, nn.GRU]:
    torch.manual_seed(3)
    ours, theirs = GRU(inputs, size).double(), nn.GRU(inputs, size, batch_first=True).double()
    theirs.load_state_dict(ours.state_dict())
    return ours, theirs


def gradients(layer: nn.GRU, x: Tensor, weights: Tensor) -> dict[str, Tensor]:
    x = x.clone().requires_grad_()
    outputs, last = layer(x)
    ((outputs * weights).sum() + last.pow(2).sum()).backward()
    assert x.grad is not None
    return {"outputs": outputs, "last": last, "x": x.grad} | {
        name: parameter.grad for name, parameter in layer.named_parameters() if parameter.grad is not None
    }


@pytest.mark.parametrize(
    ("batch", "timesteps", "inputs", "size"), [(1, 1, 1, 1), (3, 7, 2, 5), (2, 40, 6, 3), (2, 32, 3, 4)]
)
def test_states_and_all_gradients_are_those_of_torch(batch: int, timesteps: int, inputs: int, size: int) -> None:
    ours, theirs = pair(inputs, size)
    x = 2 * torch.randn(batch, timesteps, inputs, dtype=torch.float64)
    weights = torch.randn(batch, timesteps, size, dtype=torch.float64)
    expected = gradients(theirs, x, weights)
    found = gradients(ours, x, weights)
    assert found.keys() == expected.keys()
    assert len(found) == 7
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=1e-10, atol=1e-12, msg=name)


def test_what_is_trained_is_what_answers_without_gradients() -> None:
    layer = GRU(4, 8)
    x = torch.randn(3, 20, 4)
    trained = layer(x)[0]
    with torch.no_grad():
        torch.testing.assert_close(trained.detach(), layer(x)[0], rtol=0, atol=1e-6)


def test_a_state_that_is_given_is_begun_with() -> None:
    ours, theirs = pair(2, 3)
    x, h = torch.randn(2, 4, 2, dtype=torch.float64), torch.randn(1, 2, 3, dtype=torch.float64)
    torch.testing.assert_close(ours(x, h), theirs(x, h))
    assert not torch.allclose(ours(x, h)[0], ours(x)[0])


def test_under_autocast_the_states_stay_of_32_bits() -> None:
    layer = GRU(4, 8)
    x = torch.randn(3, 20, 4)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        outputs = layer(x.bfloat16())[0]
    outputs.sum().backward()
    assert outputs.dtype == torch.float32
    assert layer.weight_hh_l0.grad is not None
    assert layer.weight_hh_l0.grad.dtype == torch.float32


def test_under_autocast_states_and_all_gradients_are_within_what_bf16_rounds() -> None:
    torch.manual_seed(3)
    layer = GRU(6, 16)
    x, weights = torch.randn(4, 50, 6), torch.randn(4, 50, 16)
    expected = gradients(layer, x, weights)
    layer.zero_grad(set_to_none=True)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = gradients(layer, x, weights)
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        # bf16 keeps 8 bits: each product is off by up to 2 ** -8 of itself, and their errors do not add up.
        assert (found[name] - value).norm() < 2**-6 * value.norm(), name
    assert not torch.equal(found["outputs"], expected["outputs"])


def test_autocast_to_fp16_keeps_all_of_32_bits() -> None:
    layer = GRU(4, 8)
    x = torch.randn(3, 20, 4)
    with torch.autocast("cpu", dtype=torch.float16):
        outputs = layer(x)[0]
    torch.testing.assert_close(outputs, layer(x)[0], rtol=0, atol=0)


def test_an_input_that_needs_no_gradient_gets_none_and_the_weights_get_theirs() -> None:
    layer = GRU(2, 3)
    x = torch.randn(2, 5, 2)
    layer(x)[0].sum().backward()
    assert x.grad is None
    assert all(parameter.grad is not None for parameter in layer.parameters())
