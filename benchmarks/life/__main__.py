"""python -m benchmarks.life --data FOLDER [--only trec] [--out docs/life] [--work FOLDER]"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from benchmarks.environments import ROOT
from benchmarks.life.report import read_weeks, write_report, write_week
from benchmarks.life.week import live
from benchmarks.life.world import make_world
from benchmarks.machine import commit, describe

SETS = ("trec", "PenDigits")


def main() -> None:
    """Live a week with each data set, and write the tables and plots."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.life", description=__doc__)
    parser.add_argument(
        "--data", type=Path, required=True, help="folder of the data sets, as benchmarks.accuracy has it"
    )
    parser.add_argument("--only", choices=SETS, help="one data set; the others' records stay")
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "life", help="folder of records, tables and plots")
    parser.add_argument("--work", type=Path, help="folder for stores and runs; a temporary one if not given")
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="gatewise-life-") as temporary:
        for name in [given.only] if given.only else SETS:
            work = (given.work or Path(temporary)) / name
            evenings = live(name, make_world(name, given.data), work)
            machine = describe("torch", "onnxruntime", "bentoml") | {"commit": commit()}
            write_week(given.out, name, evenings, machine)
    write_report(given.out, read_weeks(given.out, SETS))


if __name__ == "__main__":
    main()
