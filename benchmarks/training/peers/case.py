"""What every system of the comparison shares: the data it reads and the meter it writes. Needs numpy alone."""

import json
import resource
import sys
import time
from pathlib import Path

import numpy as np


class Case:
    """The job of a process: its kind, cell, epochs and so on, and train and held-out arrays."""

    def __init__(self, path):  # type: ignore[no-untyped-def]
        job = json.loads(Path(path).read_text())
        self.kind, self.cell, self.epochs, self.seed = (job[k] for k in ("kind", "cell", "epochs", "seed"))
        self.precision, self.vocabulary, self.classes = (job[k] for k in ("precision", "vocabulary", "classes"))
        self.out = Path(job["out"])
        with np.load(job["arrays"]) as arrays:
            self.train, self.held_out = (self._part(arrays, name) for name in ("train", "held_out"))

    def _part(self, arrays, name):  # type: ignore[no-untyped-def]
        """Sequences (a list of (T,) ids or (T, C) readings) and labels."""
        inputs, lengths, labels = (arrays[f"{name}_{what}"] for what in ("inputs", "lengths", "labels"))
        if self.kind == "series":
            return list(inputs), labels
        return np.split(inputs, np.cumsum(lengths)[:-1]), labels


class Meter:
    """CPU time, user and system, of this process: of a fit, and by its epochs."""

    def __init__(self) -> None:
        self.before_mb = _peak_mb()
        self.start, self.ends = time.process_time(), []  # type: ignore[var-annotated]

    def epoch(self) -> None:
        """An epoch has ended."""
        self.ends.append(time.process_time())

    def write(self, case: Case, accuracy: float | None, parameters: int | None) -> None:
        """Leave the figures where the job says; the fit has ended. What learns nothing has neither of the last two."""
        end = time.process_time()
        figures = {
            "sequences": len(case.train[0]),
            "fit_cpu_seconds": end - self.start,
            "epoch_cpu_seconds": np.diff([self.start, *self.ends]).tolist(),
            "peak_mb": _peak_mb(),
            "before_mb": self.before_mb,
            "accuracy": accuracy if accuracy is None else float(accuracy),
            "parameters": parameters,
        }
        case.out.write_text(json.dumps(figures))


def _peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def case_of_command() -> Case:
    """The case that the command line names."""
    return Case(sys.argv[1])  # type: ignore[no-untyped-call]
