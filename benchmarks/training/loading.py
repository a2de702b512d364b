"""A million short texts: read from a CSV file, then encoded. `python -m benchmarks.training.loading JOB.json`."""

from __future__ import annotations

import csv
import json
import os
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from training.config import TrainingConfig
from training.preparing import encode, fit_encoder, label_order, make_forms
from training.readers import read

_WORDS = 20_000
_LETTERS = np.array(list("abcdefghijklmnopqrstuvwxyz"))
_SAMPLED_EVERY = 20_000
Figures = dict[str, float]


def short_texts(count: int, seed: int = 0) -> Iterator[tuple[str, str]]:
    """Yield texts of 3 to 20 words, by Zipf's law, with capitals and stops, and their labels."""
    rng = np.random.default_rng(seed)
    words = ["".join(rng.choice(_LETTERS, size=int(size))) for size in rng.integers(2, 10, size=_WORDS)]
    lengths = np.clip(rng.lognormal(2.1, 0.5, size=count), 3, 20).astype(int)
    ranks = np.floor(_WORDS ** rng.random(int(lengths.sum()))).astype(int) - 1
    start = 0
    for i, length in enumerate(lengths.tolist()):
        chosen = [words[rank] for rank in ranks[start : start + length]]
        start += length
        yield f"{' '.join(chosen).capitalize()} .", str(i % 4)


def measure(count: int, folder: Path) -> dict[str, Figures]:
    """Figures of reading and of encoding, one after another."""
    path = folder / "texts.csv"
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["text", "label"])
        writer.writerows(short_texts(count))
    found: dict[str, Figures] = {"read": {}, "encode one by one": {}, "encode and hold": {}}
    with _measured(found["read"], count):
        data = read(path)
    # Beyond this many texts the vocabulary hardly changes; fitting it is not what is measured.
    encoder = fit_encoder(data.take(range(min(count, 100_000))), TrainingConfig(vocab_size=_WORDS // 2))
    with _measured(found["encode one by one"], count):
        found["encode one by one"]["growth_mb"] = _grown_while(encoder, data.items)
    forms = make_forms(encoder, TrainingConfig(ngram_buckets=32_768))
    before = _resident_mb()
    with _measured(found["encode and hold"], count):
        rows = encode(data, encoder, label_order(data), forms)
    found["encode and hold"]["bytes_a_text"] = (_resident_mb() - before) * 2**20 / count
    found["encode and hold"]["tokens"] = float(rows.lengths.sum())
    return found


def _grown_while(encoder: object, items: Sequence[str]) -> float:
    """Encode every item and keep none; how many MB the process grew by after the first tenth."""
    start, most = 0.0, 0.0
    for i, _ in enumerate(encoder.encode_each(items)):  # type: ignore[attr-defined]
        if i % _SAMPLED_EVERY == 0:
            resident = _resident_mb()
            if i <= len(items) // 10:
                start = resident
            most = max(most, resident - start)
    return most


@contextmanager
def _measured(figures: Figures, count: int) -> Iterator[None]:
    wall, cpu = time.perf_counter(), time.process_time()
    yield
    figures["cpu_seconds"] = time.process_time() - cpu
    figures["seconds"] = time.perf_counter() - wall
    figures["texts_per_cpu_second"] = count / figures["cpu_seconds"]
    figures["resident_mb"] = _resident_mb()


def _resident_mb() -> float:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


def main() -> None:
    """Measure as the job says and write the figures."""
    job = json.loads(Path(sys.argv[1]).read_text())
    with tempfile.TemporaryDirectory() as folder:
        Path(job["out"]).write_text(json.dumps(measure(job["texts"], Path(folder))))


if __name__ == "__main__":
    main()
