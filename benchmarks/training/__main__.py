"""Train the documented network with every system, in turn and in one run; load a million texts.

    python -m benchmarks.training [cells|text|overhead|loading|all] [--rounds 3] [--systems gatewise,keras]

Each system runs in its own process on one core with one thread. Systems are interleaved: every round, with data and
first weights of its own, runs each of them once, so that a slow minute of the machine hits all alike. What counts is
CPU time, user and system, of the fit alone.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.environments import ROOT, NotInstalled
from benchmarks.machine import commit, describe
from benchmarks.training.cases import SERIES_CLASSES, TEXT_CLASSES, VOCABULARY, write
from benchmarks.training.report import write_report
from benchmarks.training.systems import BARE_LOOP, GATEWISE, PEERS, SYSTEMS, System

RESULTS = Path(__file__).resolve().parent / "results"
_CLASSES = {"series": SERIES_CLASSES, "text": TEXT_CLASSES}
Row = dict[str, Any]


@dataclass(frozen=True)
class Bench:
    """Runs systems on one core.

    Attributes:
        work: a folder for cases and figures.
        rows: train sequences of a case; a tenth of them is held out beside.
    """

    work: Path
    rounds: int
    rows: int
    epochs: int
    cells: Sequence[str]

    def compare(self, kind: str, systems: Sequence[System]) -> dict[str, dict[str, list[Row]]]:
        """Figures by cell and system, a row for each round."""
        arrays = self.work / f"{kind}.npz"
        ready = _ready([system for system in systems if kind in system.kinds])
        found: dict[str, dict[str, list[Row]]] = {cell: {each.name: [] for each in ready} for cell in self.cells}
        for round_ in range(self.rounds):
            write(arrays, kind, self.rows, max(self.rows // 10, 1), seed=round_)
            for cell in self.cells:
                for system, python in ready.items():
                    job = {
                        **{"arrays": str(arrays), "kind": kind, "cell": cell, "epochs": self.epochs, "seed": round_},
                        **{"vocabulary": VOCABULARY, "classes": _CLASSES[kind], "precision": system.precision},
                    }
                    row = self._run([str(python), str(PEERS / system.script)], job)
                    found[cell][system.name].append(row)
                    rate = row["sequences"] * self.epochs / row["fit_cpu_seconds"]
                    told = f"{rate:8.1f} sequences a CPU-second  {row['peak_mb']:.0f} MB"
                    told += "" if row["accuracy"] is None else f"  accuracy {row['accuracy']:.3f}"
                    print(f"{round_ + 1} {kind} {cell.upper()} {system.name:<16} {told}", flush=True)
        return found

    def loading(self, texts: int) -> list[Row]:
        """Figures of reading and encoding, a row for each round."""
        found = []
        for round_ in range(self.rounds):
            row = self._run([sys.executable, "-m", "benchmarks.training.loading"], {"texts": texts})
            told = ", ".join(f"{name} {figures['texts_per_cpu_second']:,.0f}" for name, figures in row.items())
            print(f"{round_ + 1} texts a CPU-second: {told}", flush=True)
            found.append(row)
        return found

    def _run(self, command: list[str], job: Row) -> Row:
        path, out = self.work / "job.json", self.work / "figures.json"
        out.unlink(missing_ok=True)
        path.write_text(json.dumps({**job, "out": str(out)}))
        threads = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS")
        core = sorted(os.sched_getaffinity(0))[0]
        ran = subprocess.run(
            [*command, str(path)],
            cwd=ROOT,
            env={**os.environ, **dict.fromkeys(threads, "1"), "PYTHONPATH": str(ROOT)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            preexec_fn=lambda: os.sched_setaffinity(0, {core}),
            check=False,
        )
        if ran.returncode:
            raise SystemExit(f"{' '.join(command)} failed:\n{ran.stdout.decode(errors='replace')[-3000:]}")
        row: Row = json.loads(out.read_text())
        return row


def _ready(systems: Sequence[System]) -> dict[System, Path]:
    """The systems that can run here, with their interpreters; the others are named with what stands against them."""
    found = {}
    for system in systems:
        if system.lacks():
            print(f"{system.name} is left out: {system.lacks()}", flush=True)
            continue
        try:
            found[system] = system.python()
        except NotInstalled as reason:
            print(f"{system.name} is left out: {reason}", flush=True)
    return found


def main() -> None:
    """Run the parts asked for; each writes its results beside this file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    choices = ["cells", "text", "overhead", "loading", "all"]
    parser.add_argument("part", nargs="?", default="all", choices=choices)
    parser.add_argument("--systems", default="", help="parts of names, by commas; all where not given")
    parser.add_argument("--cells", default="lstm,gru")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--rows", type=int, default=2000, help="train sequences of a case")
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--texts", type=int, default=1_000_000, help="of the loading part")
    parser.add_argument("--no-save", action="store_true", help="print only")
    args = parser.parse_args()
    wanted = [name.strip().lower() for name in args.systems.split(",") if name.strip()]
    systems = [s for s in SYSTEMS if not wanted or any(name in s.name.lower() for name in wanted)]
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(Path(folder), args.rounds, args.rows, args.epochs, args.cells.split(","))
        parts = {
            "cells": lambda: bench.compare("series", systems),
            "text": lambda: bench.compare("text", systems),
            "overhead": lambda: {kind: bench.compare(kind, [GATEWISE, BARE_LOOP]) for kind in ("series", "text")},
            "loading": lambda: bench.loading(args.texts),
        }
        for name, part in parts.items():
            if args.part in (name, "all"):
                shape = {"rounds": args.rounds, "rows": args.rows, "epochs": args.epochs, "texts": args.texts}
                result = {"machine": describe("torch", "pytorch-lightning", "numpy"), "commit": commit()}
                result |= {"shape": shape, "rows": part()}
                if not args.no_save:
                    RESULTS.mkdir(exist_ok=True)
                    (RESULTS / f"{name}.json").write_text(json.dumps(result, indent=1))
    if not args.no_save:
        write_report(RESULTS)


if __name__ == "__main__":
    main()
