"""fastText (Joulin et al. 2016), in an environment of its own: its wheel is of numpy 1."""

from __future__ import annotations

import json
import re
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

from benchmarks import environments
from benchmarks.accuracy.comparators.interface import Answered, Comparator, texts
from benchmarks.accuracy.comparators.linear_text import WORD
from training.dataset import Dataset

_PACKAGES = ("fasttext-wheel==0.9.2", "numpy==1.26.4")
_PEER = Path(__file__).parents[1] / "peers" / "fasttext_peer.py"
_WORD = re.compile(WORD)


def _answer(train: Dataset, valid: Dataset, parts: Sequence[Dataset], seed: int) -> Answered:
    binaries = environments.install("fasttext", _PACKAGES, check="import fasttext")
    assert train.labels is not None
    assert valid.labels is not None
    labels = sorted(set(train.labels))
    index = {label: k for k, label in enumerate(labels)}
    task = {
        "train": _lines(train),
        "labels": [index[label] for label in train.labels],
        "valid": _lines(valid),
        "valid_labels": [index.get(label, -1) for label in valid.labels],
        "parts": [_lines(part) for part in parts],
    }
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "task.json")
        path.write_text(json.dumps(task))
        subprocess.run([str(binaries / "python"), str(_PEER), str(path)], check=True)
        found = json.loads(path.with_name("answers.json").read_text())
    return Answered([[labels[k] for k in part] for part in found["parts"]], found["parameters"], found["choice"])


def _lines(data: Dataset) -> list[str]:
    return [" ".join(_WORD.findall(text.lower())) for text in data.items]


FASTTEXT = Comparator("fasttext", _answer, takes=texts, once=True)
