"""Train and measure every set with both cells at several seeds, and comparators on the same splits.

    python -m benchmarks.accuracy --data FOLDER [run|report] [--sets trec,snips] [--seeds 3] [--cells lstm,gru]
                                  [--systems gatewise,tfidf-svm] [--ablation]

Each fit is a process of its own on one thread and leaves one record; a record that stands is not made again, so that
a run that was stopped goes on when it is started again. `report` writes results/README.md from the records there are.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from benchmarks.accuracy.ablation import PARTS, settings_without
from benchmarks.accuracy.comparators import COMPARATORS
from benchmarks.accuracy.fit import Job
from benchmarks.accuracy.records import GATEWISE, Key, Record, Records
from benchmarks.accuracy.report import write_report
from benchmarks.accuracy.sets import SETS
from benchmarks.environments import ROOT

RESULTS = Path(__file__).resolve().parent / "results"
# Quick to train, and one of each kind: texts, tags, series of unequal lengths, series of channels.
_ABLATION_SETS = "trec,snips_slots,JapaneseVowels,uci_har_subset"


def plan(sets: Sequence[str], systems: Sequence[str], cells: Sequence[str], seeds: int) -> Iterator[Key]:
    """The fits to make: every set with the first seed before any with the second."""
    for seed in range(seeds):
        for name in sets:
            for system in systems:
                if system == GATEWISE:
                    yield from (Key(name, system, cell, seed) for cell in cells)
                elif COMPARATORS[system].takes(SETS[name]) and not (COMPARATORS[system].once and seed):
                    yield Key(name, system, "", seed)


def ablated(records: Records, sets: Sequence[str], cells: Sequence[str], seeds: int) -> Iterator[tuple[Key, Any]]:
    """The fits without a part each, of the sets whose whole recipe has a record, with their settings."""
    for key in plan(sets, [GATEWISE], cells, seeds):
        whole = records.read(key)
        if whole is None:
            continue
        for part in PARTS:
            settings = settings_without(part, whole["configuration"], key.cell)
            if settings is not None:
                yield Key(key.set, GATEWISE, key.cell, key.seed, part.replace(" ", "-")), settings


class Runner:
    """Makes records that are not there yet."""

    def __init__(self, records: Records, data: Path, *, again: bool) -> None:
        self.records, self.data, self.again = records, data, again
        self.missing: dict[str, str] = {}
        self.failed: list[Key] = []

    def make(self, key: Key, settings: dict[str, Any] | None = None) -> None:
        """Fit, and keep the record, unless it stands already or the system cannot be had here."""
        if key.system in self.missing or (self.records.read(key) is not None and not self.again):
            return
        print(f"{key} ...", end=" ", flush=True)
        record = self._fit(Job(key, str(self.data), settings or {}))
        if record is None:
            self.failed.append(key)
        elif "not_installed" in record:
            self.missing[key.system] = record["not_installed"]
            print(f"left out: {record['not_installed']}", flush=True)
        else:
            self.records.write(key, record)
            print(in_words(record), flush=True)

    def _fit(self, job: Job) -> Record | None:
        with tempfile.TemporaryDirectory() as folder:
            path, log = Path(folder, "job.json"), Path(folder, "log.txt")
            path.write_text(job.to_json(), encoding="utf-8")
            with log.open("wb") as file:
                ran = subprocess.run(
                    [sys.executable, "-m", "benchmarks.accuracy.fit", str(path)],
                    cwd=ROOT,
                    # A second thread hardly helps a small recurrent network, and would take the time of another run.
                    env={**os.environ, "OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1"},
                    stdout=file,
                    stderr=subprocess.STDOUT,
                    check=False,
                )
            if ran.returncode:
                print(f"failed:\n{log.read_text(errors='replace')[-2000:]}", flush=True)
                return None
            record: Record = json.loads(path.with_name("record.json").read_text(encoding="utf-8"))
            return record


def in_words(record: Record) -> str:
    """A record for a line of the terminal."""
    if "skipped" in record:
        return f"left out: {record['skipped']}"
    told = []
    for split, metrics in record["metrics"].items():
        name = "span_f1" if "span_f1" in metrics else "accuracy"
        told.append(f"{split} {name} {100 * metrics[name]:.2f}")
    return f"{', '.join(told)}; {record['training_seconds'] / 60:.1f} min"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what is asked for and is not there yet, then write the report; 1 where a fit failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", nargs="?", default="run", choices=["run", "report"])
    parser.add_argument("--data", type=Path, help="the folder of the data sets")
    parser.add_argument("--sets", default="", help="names by commas; all, and with --ablation some quick ones")
    parser.add_argument("--seeds", type=int, default=3, help="how many, from 0")
    parser.add_argument("--cells", default="lstm,gru")
    parser.add_argument("--systems", default="", help="gatewise and comparators, by commas; all where not given")
    parser.add_argument("--ablation", action="store_true", help="leave out each part of the recipe in turn as well")
    parser.add_argument("--again", action="store_true", help="make records anew that stand already")
    parser.add_argument("--results", type=Path, default=RESULTS, help="where records and report are kept")
    args = parser.parse_args(arguments)
    every = [GATEWISE, *COMPARATORS]
    sets = _names(parser, "--sets", args.sets or (_ABLATION_SETS if args.ablation else ""), list(SETS))
    cells = _names(parser, "--cells", args.cells, ["lstm", "gru"])
    systems = _names(parser, "--systems", args.systems, every)
    records = Records(args.results)
    if args.what == "report":
        write_report(records, args.results)
        return 0
    if args.data is None or not args.data.is_dir():
        parser.error("--data: give the folder of the data sets")
    runner = Runner(records, args.data.resolve(), again=args.again)
    for key in plan(sets, systems, cells, args.seeds):
        runner.make(key)
    if args.ablation:
        for key, settings in ablated(records, sets, cells, args.seeds):
            runner.make(key, settings)
    write_report(records, args.results)
    for key in runner.failed:
        print(f"failed: {key}")
    return 1 if runner.failed else 0


def _names(parser: argparse.ArgumentParser, option: str, given: str, known: list[str]) -> list[str]:
    names = [name.strip() for name in given.split(",") if name.strip()] or known
    unknown = [name for name in names if name not in known]
    if unknown:
        parser.error(f"{option}: no {', '.join(unknown)}; there are {', '.join(known)}")
    return names


if __name__ == "__main__":
    sys.exit(main())
