"""The documented preset as `gatewise train` fits a cell: Lightning, checkpoints, best weights and all."""

import tempfile
from pathlib import Path

import ours
from case import Meter, case_of_command

from training.fitting import fit


def main() -> None:
    """Fit and measure."""
    case = case_of_command()
    train, held_out = ours.rows(case.train), ours.rows(case.held_out)
    meter = Meter()

    def say(line: str) -> None:
        if " epoch " in line:
            meter.epoch()

    with tempfile.TemporaryDirectory() as folder:
        model, config, forms = ours.model(case), ours.configuration(case), ours.forms(case)
        candidate = fit(model, config, train, held_out, ours.labels(case), forms, Path(folder), say=say)
        parameters = sum(array.size for array in candidate.weights.values())
        meter.write(case, candidate.epochs[-1]["valid_accuracy"], parameters)


if __name__ == "__main__":
    main()
