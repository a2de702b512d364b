"""Where a model comes from: its data, the machine and the packages, and the command that makes it again."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import shlex
from collections import Counter
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import torch

from training.analysis import quantiles
from training.dataset import Dataset
from training.plan import JobOptions, Prepared
from training.report.contents import DataFacts, SplitFacts
from training.splits import conflicting, item_key

_PACKAGES = ("gatewise", "torch", "pytorch-lightning", "onnxruntime", "numpy", "bentoml")


def describe_data(prepared: Prepared, notes: list[str]) -> DataFacts:
    """Describe the splits.

    Args:
        notes: what reading and dividing the data told.
    """
    splits = prepared.splits
    keys = {name: [item_key(item) for item in part.items] for name, part in splits.parts().items()}
    in_train = {"valid": splits.valid_in_train, "test": splits.test_in_train}
    return DataFacts(
        fingerprint=prepared.fingerprint,
        splits={
            name: _split(part, len(part) - len(set(keys[name])), in_train.get(name))
            for name, part in splits.parts().items()
        },
        conflicts=conflicting(splits.train, keys["train"]),
        notes=notes,
    )


def _split(part: Dataset, repeats: int, in_train: np.ndarray[Any, np.dtype[np.bool_]] | None) -> SplitFacts:
    assert part.labels is not None
    labels = part.labels if part.task == "sequence" else chain.from_iterable(part.labels)
    return SplitFacts(
        file=Path(part.source).name,
        rows=len(part),
        lengths=quantiles([len(item) for item in part.items]),
        classes=dict(Counter(labels).most_common()),
        repeats=repeats,
        in_train=0 if in_train is None else int(in_train.sum()),
    )


def describe_environment() -> dict[str, str]:
    """Versions and machine, without its name."""
    cuda = torch.cuda.get_device_name() if torch.cuda.is_available() else "none"
    return {
        "python": platform.python_version(),
        **{name: importlib.metadata.version(name) for name in _PACKAGES},
        "system": f"{platform.system()} {platform.machine()}",
        "processor": _processor(),
        "cores": str(os.cpu_count()),
        "gpu": cuda,
    }


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text(errors="replace").splitlines() if cpuinfo.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or "unknown"


def command_of(options: JobOptions) -> str:
    """The command line of a job; files by name, since folders are private."""
    if options.recipe and options.name:
        settings = [word for name, value in options.settings.items() for word in _setting(name, value)]
        return shlex.join(["gatewise", "retrain", options.name, *settings])
    return shlex.join(["gatewise", "train", *_arguments(options)])


def _arguments(options: JobOptions) -> Iterator[str]:
    yield Path(options.data).resolve().name
    for name in ("valid", "test", "embeddings", "unlabelled"):
        path = getattr(options, name)
        if path:
            yield from (f"--{name}", Path(path).name)
    for name, value in options.reading:
        if value is not None:
            yield from (f"--{name.replace('_', '-')}", ",".join(value) if isinstance(value, tuple) else str(value))
    if options.name:
        yield from ("--name", options.name)
    for name, value in options.settings.items():
        yield from _setting(name, value)
    if options.max_seconds:
        yield from ("--max-time", f"{options.max_seconds:g}s")


def _setting(name: str, value: Any) -> Iterator[str]:
    if value is not None:
        # What JSON writes of a list, a boolean or a number, TOML reads; a word needs no quotes.
        yield from ("--set", f"{name}={value if isinstance(value, str) else json.dumps(value)}")
