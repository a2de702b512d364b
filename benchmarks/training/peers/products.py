"""The matrix products of a fit and nothing else, in the largest pieces: a ceiling for a network of these sizes.

All steps of a batch are one product here; a recurrence must make them one after the other.
"""

import torch
from case import Meter, case_of_command

UNITS, DENSE, BATCH = 128, 64, 32


def main() -> None:
    """Multiply and measure."""
    torch.set_num_threads(1)
    case = case_of_command()
    steps, channels = case.train[0][0].shape
    gates = {"lstm": 4, "gru": 3}[case.cell]
    dtype = torch.bfloat16 if case.precision.startswith("bf16") else torch.float32
    # Inputs, of which so many need no gradient, and outputs of each layer.
    sizes = [(channels + UNITS, channels, gates * UNITS), (UNITS, 0, DENSE), (DENSE, 0, case.classes)]
    layers = [operands(BATCH * steps, *size, dtype) for size in sizes]
    meter = Meter()
    for _ in range(case.epochs):
        for rows in batches(len(case.train[0])):
            for inputs, weights, outputs, given in layers:
                x, gradient = inputs[: rows * steps], outputs[: rows * steps]
                x @ weights
                gradient @ weights[given:].T
                x.T @ gradient
        for rows in batches(len(case.held_out[0])):
            for inputs, weights, _outputs, _given in layers:
                inputs[: rows * steps] @ weights
        meter.epoch()
    meter.write(case, None, None)


def operands(rows, inputs, given, outputs, dtype):  # type: ignore[no-untyped-def]
    """Inputs, weights and outputs of a layer, and how many of its inputs are data."""
    shapes = (rows, inputs), (inputs, outputs), (rows, outputs)
    return *(torch.randn(shape, dtype=dtype) for shape in shapes), given


def batches(count):  # type: ignore[no-untyped-def]
    """Rows of each batch."""
    return [min(BATCH, count - start) for start in range(0, count, BATCH)]


if __name__ == "__main__":
    main()
