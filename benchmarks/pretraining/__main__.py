"""Train with 100, 1,000 and all labels: with labels alone, after pretraining on the train sequences, with word vectors.

    python -m benchmarks.pretraining --data FOLDER [--embeddings FILE] [--sets trec,uci_har_subset] [--seeds 1,2,3]

FOLDER holds a folder for each set, with a train and a test file. A job is given the labelled rows alone and takes its
validation rows from them, as a user's would; the unlabelled file is every sequence of the train file. The test file is
scored once, by the job, on the artifact that it made. What was done before is not done again.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

import training
from benchmarks.pretraining.report import write_report
from training.dataset import Dataset
from training.files import find_files
from training.readers import read

HERE = Path(__file__).parent
_WORK = HERE.parents[1] / ".bench" / "pretraining"
_SETS = ("trec", "uci_har_subset")
_LABELS = ("100", "1000", "all")
# One cell is enough for what is asked here, and all of them would answer alike.
_CELL = "lstm"


@dataclass(frozen=True)
class Case:
    """One job: a set, how many labels it is given, what else, and the seed of both the choice of rows and the job."""

    data: str
    labels: str
    given: str
    seed: int


def main() -> None:
    """Do what is left to do, and write the table."""
    arguments = _arguments()
    os.environ["BENTOML_HOME"] = str(_WORK / "home")
    os.environ.setdefault("BENTOML_DO_NOT_TRACK", "True")
    results = HERE / "results" / "results.jsonl"
    results.parent.mkdir(exist_ok=True)
    done = [json.loads(line) for line in results.read_text().splitlines()] if results.exists() else []
    for case in _cases(arguments):
        if any(all(row[name] == value for name, value in vars(case).items()) for row in done):
            continue
        row = vars(case) | _run(case, arguments)
        done.append(row)
        with results.open("a") as file:
            file.write(json.dumps(row) + "\n")
        print(json.dumps(row), flush=True)
        write_report(done, results.parent)
    write_report(done, results.parent)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="where the sets are, a folder each")
    parser.add_argument("--embeddings", type=Path, help="word vectors for the sets of texts")
    parser.add_argument("--sets", default=",".join(_SETS))
    parser.add_argument("--given", default="labels,unlabelled,vectors", help="of labels, unlabelled, vectors, both")
    parser.add_argument("--labels", default=",".join(_LABELS))
    parser.add_argument("--seeds", default="1,2,3")
    return parser.parse_args()


def _cases(arguments: argparse.Namespace) -> Iterator[Case]:
    """All cases, a whole seed after another, so that what is there of a run that was cut off can be compared."""
    for seed in arguments.seeds.split(","):
        for data in arguments.sets.split(","):
            for labels in arguments.labels.split(","):
                for given in _givens(arguments, data):
                    yield Case(data, labels, given, int(seed))


def _givens(arguments: argparse.Namespace, data: str) -> list[str]:
    is_text = read(find_files(arguments.data / data, valid=None, test=None).train).kind == "text"
    possible = ["labels", "unlabelled"] + (["vectors", "both"] if arguments.embeddings and is_text else [])
    return [given for given in arguments.given.split(",") if given in possible]


def _run(case: Case, arguments: argparse.Namespace) -> dict[str, Any]:
    files = find_files(arguments.data / case.data, valid=None, test=None)
    assert files.test is not None
    work = _WORK / f"{case.data}-{case.labels}-{case.given}-{case.seed}"
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    whole = read(files.train)
    rows = _chosen(whole, None if case.labels == "all" else int(case.labels), case.seed)
    labelled = _write(work / "labelled", whole.take(rows))
    prior: dict[str, Any] = {}
    if case.given in ("unlabelled", "both"):
        prior["unlabelled"] = _write(work / "unlabelled", _without_labels(whole))
    if case.given in ("vectors", "both"):
        prior["embeddings"] = arguments.embeddings
    started = time.process_time()
    result = training.fit(
        labelled, test=files.test, name=case.data.replace("_", "-"), run_dir=work, cells=_CELL, seed=case.seed, **prior
    )
    seconds = time.process_time() - started
    figures = {"rows": len(rows), "accuracy": result.metrics["test"]["accuracy"], "cpu_seconds": round(seconds)}
    shutil.rmtree(work)
    return figures


def _chosen(data: Dataset, count: int | None, seed: int) -> list[int]:
    """Rows in like shares of the classes, two of each at least; all where no number is given."""
    if count is None:
        return list(range(len(data)))
    assert data.labels is not None
    rng = np.random.default_rng(seed)
    by_label: dict[str, list[int]] = {}
    for i in rng.permutation(len(data)):
        by_label.setdefault(data.labels[i], []).append(int(i))
    shares = {label: max(2, round(count * len(rows) / len(data))) for label, rows in by_label.items()}
    return sorted(i for label, rows in by_label.items() for i in rows[: shares[label]])


def _without_labels(data: Dataset) -> Dataset:
    return Dataset(data.kind, data.task, data.items, None, data.channels, None, data.source, data.rows)


def _write(path: Path, data: Dataset) -> Path:
    if data.kind == "text":
        path = path.with_suffix(".csv")
        columns = [data.items] + ([data.labels] if data.labels else [])
        with path.open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["text", "label"][: len(columns)])
            writer.writerows(zip(*columns, strict=True))
        return path
    path = path.with_suffix(".parquet")
    table = {"series": [item.tolist() for item in data.items]} | ({"label": data.labels} if data.labels else {})
    pq.write_table(pa.table(table), path)
    return path


if __name__ == "__main__":
    main()
