"""What choosing by evidence gives, beside always an LSTM, always a GRU, and an oracle that knows the test score.

    python -m benchmarks.choice --data FOLDER [sets|adding|report] [--sets trec,snips] [--seeds 3]
                                [--lengths 100,200,400] [--rows 10000] [--epochs 20]

`sets` reads the records of benchmarks.accuracy, and trains where there is none yet. `adding` trains both cells on the
adding problem, where the range of the dependency decides. What was done is not done again; a run that was stopped goes
on when it is started again. Without either word both are done.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.accuracy.__main__ import RESULTS as ACCURACY
from benchmarks.accuracy.__main__ import Runner, plan
from benchmarks.accuracy.records import GATEWISE, Records
from benchmarks.accuracy.sets import SETS
from benchmarks.choice.adding import LENGTHS, POOLINGS, Task, run
from benchmarks.choice.report import write_report
from benchmarks.environments import ENVIRONMENTS
from benchmarks.machine import commit, describe

RESULTS = Path(__file__).resolve().parent / "results"


def main(arguments: Sequence[str] | None = None) -> int:
    """Do what is left to do, and write the report; 1 where a fit failed."""
    args = _arguments(arguments)
    records = Records(args.records)
    failed = 0
    if args.what in ("all", "sets"):
        if args.data is None or not args.data.is_dir():
            sys.exit("--data: give the folder of the data sets")
        runner = Runner(records, args.data.resolve(), again=False)
        for key in plan(_names(args.sets) or list(SETS), [GATEWISE], ["lstm", "gru"], args.seeds):
            runner.make(key)
        failed = len(runner.failed)
    if args.what in ("all", "adding"):
        for seed in range(args.seeds):
            for length in map(int, _names(args.lengths)):
                for pooling in POOLINGS:
                    _add(Task(length, pooling, seed, args.rows, args.epochs), args.results)
    write_report(records, read_rows(args.results), args.results)
    return 1 if failed else 0


def read_rows(folder: Path) -> list[dict[str, Any]]:
    """What was measured of the adding problem."""
    path = folder / "adding.jsonl"
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.exists() else []


def _add(task: Task, folder: Path) -> None:
    """Do a task that was not done yet, and keep what came of it."""
    if any(row["task"] == asdict(task) for row in read_rows(folder)):
        return
    print(f"adding T={task.length} {task.pooling} seed {task.seed}", flush=True)
    made = run(task, ENVIRONMENTS / "choice")
    row = {"task": asdict(task), **made, "commit": commit(), "machine": describe("torch", "onnxruntime")}
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "adding.jsonl").open("a", encoding="utf-8") as file:
        file.write(json.dumps(row) + "\n")


def _arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", nargs="?", default="all", choices=["all", "sets", "adding", "report"])
    parser.add_argument("--data", type=Path, help="the folder of the data sets")
    parser.add_argument("--sets", default="", help="names by commas; all where not given")
    parser.add_argument("--seeds", type=int, default=3, help="how many, from 0")
    parser.add_argument("--lengths", default=",".join(map(str, LENGTHS)), help="of the adding problem")
    parser.add_argument("--rows", type=int, default=10_000, help="to train on, of the adding problem")
    parser.add_argument("--epochs", type=int, default=20, help="of the adding problem")
    parser.add_argument("--records", type=Path, default=ACCURACY, help="where the records of benchmarks.accuracy are")
    parser.add_argument("--results", type=Path, default=RESULTS, help="where what is made here is kept")
    return parser.parse_args(arguments)


def _names(given: str) -> list[str]:
    return [name.strip() for name in given.split(",") if name.strip()]


if __name__ == "__main__":
    sys.exit(main())
