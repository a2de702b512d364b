"""The matrix products of a fit and nothing else, each in its fastest form: no network of this size trains faster.

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
    shapes = [(channels + UNITS, gates * UNITS), (UNITS, DENSE), (DENSE, case.classes)]
    dtype = torch.bfloat16 if case.precision.startswith("bf16") else torch.float32
    layers = [tuple(torch.randn(shape, dtype=dtype) for shape in operands(BATCH * steps, *io)) for io in shapes]
    meter = Meter()
    for _ in range(case.epochs):
        for _ in range(len(case.train[0]) // BATCH):
            for inputs, weights, outputs in layers:
                inputs @ weights
                outputs @ weights.T
                inputs.T @ outputs
        for _ in range(len(case.held_out[0]) // BATCH):
            for inputs, weights, _outputs in layers:
                inputs @ weights
        meter.epoch()
    meter.write(case, None, None)


def operands(rows, inputs, outputs):  # type: ignore[no-untyped-def]
    """Shapes of a layer's inputs, weights and outputs."""
    return (rows, inputs), (inputs, outputs), (rows, outputs)


if __name__ == "__main__":
    main()
