"""Lives a week: a service that answers and takes labels, and each night a retraining behind the gate."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import httpx
import orjson

import gatewise
from benchmarks.environments import ROOT
from benchmarks.life.world import Day, World, write
from gatewise.artifact import jsonable
from gatewise.predictor import Predictor
from gatewise.store import Store
from training.dataset import Dataset

# Smaller and shorter than the recipe would have it, so that fourteen retrainings take minutes.
SETTINGS = {"trec": ("hidden_size=64", "epochs=8"), "PenDigits": ("hidden_size=64", "epochs=10")}
_PIECE = 200
_PATIENCE_SECONDS = 120.0
# A service that follows its pointer by itself is there by then; another one is started again.
_FOLLOWS_SECONDS = 10.0


@dataclass(frozen=True)
class Evening:
    """What a day came to.

    Attributes:
        live, never: accuracy on the day's rows of the model that answered them, and of the first one.
        live_test, never_test: the same on all test rows, as they would have come that day.
        drift: as `gatewise drift` says of the day's rows and the model that answered them.
        result: what became of the night's retraining.
    """

    day: int
    rows: int
    has_drifted: bool
    version: str
    live: float
    never: float
    live_test: float
    never_test: float
    drift: str
    result: str
    reason: str
    retrain_seconds: float


def live(name: str, world: World, work: Path) -> list[Evening]:
    """Live the week in a folder of its own, where store, database and runs are."""
    work.mkdir(parents=True, exist_ok=True)
    os.environ |= {"BENTOML_HOME": str(work / "home"), "BENTOML_DO_NOT_TRACK": "True"}
    model = name.lower()
    write(world.known, work / "known.jsonl")
    write(world.test, work / "test.jsonl")
    settings = [word for setting in SETTINGS.get(name, ()) for word in ("--set", setting)]
    command("train", "known.jsonl", "--test", "test.jsonl", "--name", model, *settings, work=work)
    first = Store().promote(model)
    never = gatewise.load(first.reference)
    return [_live_day(model, day, never, work) for day in world.days]


def _live_day(model: str, day: Day, never: Predictor, work: Path) -> Evening:
    current = gatewise.load(f"{model}:production")
    with _service(model, work) as client:
        _wait_for_version(client, current.version)
        answers = _ask(client, day.rows)
        _report(client, day)
    drift = _drift(model, day, work)
    started = time.monotonic()
    code = command("retrain", model, "--promote", "auto", work=work)
    seconds = time.monotonic() - started
    noted = Store().noted(model, Store().get(model).version, "gate") or {}
    evening = Evening(
        day=day.number,
        rows=len(day.rows),
        has_drifted=day.has_drifted,
        version=current.version,
        live=_share(answers, day.rows),
        never=_accuracy(never, day.rows),
        live_test=_accuracy(current, day.test),
        never_test=_accuracy(never, day.test),
        drift=drift,
        result={0: "promoted", 7: "refused"}.get(code, f"exit {code}"),
        reason=str(noted.get("reason", "")),
        retrain_seconds=seconds,
    )
    print(orjson.dumps(asdict(evening)).decode(), flush=True)
    return evening


def _drift(model: str, day: Day, work: Path) -> str:
    """How far the day's sequences are from those that the model of the day was made of."""
    write(day.rows, work / "day.jsonl")
    command("drift", f"{model}:production", "day.jsonl", "--json", "drift.json", work=work)
    state: str = orjson.loads((work / "drift.json").read_bytes())["state"]
    return state


def command(*arguments: str, work: Path) -> int:
    """Run `gatewise`; its exit code. What it says is in log.txt."""
    with (work / "log.txt").open("ab") as log:
        line = [sys.executable, "-m", "gatewise.cli", *arguments]
        return subprocess.run(line, cwd=work, env=_environment(), stdout=log, stderr=log, check=False).returncode


def _environment() -> dict[str, str]:
    return os.environ | {"PYTHONPATH": str(ROOT)}


@contextmanager
def _service(model: str, work: Path) -> Iterator[httpx.Client]:
    port = str(_free_port())
    line = [sys.executable, "-m", "gatewise.cli", "serve", f"{model}:production", "--port", port]
    with (work / "service.txt").open("ab") as log:
        process = subprocess.Popen(line, cwd=work, env=_environment(), stdout=log, stderr=log)
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=_PATIENCE_SECONDS) as client:
            _wait_until_ready(client, process)
            yield client
    finally:
        process.terminate()
        process.wait(_PATIENCE_SECONDS)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _wait_until_ready(client: httpx.Client, process: subprocess.Popen[bytes]) -> None:
    until = time.monotonic() + _PATIENCE_SECONDS
    while time.monotonic() < until and process.poll() is None:
        try:
            if client.get("/readyz").status_code == 200:
                return
        except httpx.TransportError:
            time.sleep(0.2)
    raise RuntimeError("the service did not start; see service.txt")


def _wait_for_version(client: httpx.Client, version: str) -> None:
    until = time.monotonic() + _FOLLOWS_SECONDS
    while (found := client.get("/model").json()["version"]) != version:
        if time.monotonic() > until:
            raise RuntimeError(f"the service serves {found} where {version} is production")
        time.sleep(0.1)


def _ask(client: httpx.Client, rows: Dataset) -> list[str]:
    labels: list[str] = []
    for piece in _pieces(rows.items):
        answer = client.post("/predict", json={"sequences": [jsonable(item) for item in piece]})
        labels += [one["label"] for one in answer.raise_for_status().json()["predictions"]]
    return labels


def _report(client: httpx.Client, day: Day) -> None:
    pairs = list(zip(day.rows.items, day.reported, strict=True))
    for number, piece in enumerate(_pieces(pairs)):
        items = [{"sequence": jsonable(item), "label": label} for item, label in piece]
        key = f"day-{day.number}-{number}"
        client.post("/feedback", json={"items": items, "source": "life", "key": key}).raise_for_status()


def _pieces(values: Sequence[Any]) -> Iterator[Sequence[Any]]:
    for start in range(0, len(values), _PIECE):
        yield values[start : start + _PIECE]


def _accuracy(predictor: Predictor, rows: Dataset) -> float:
    return _share([answer.label for answer in predictor.predict(rows.items)], rows)


def _share(answers: Sequence[str], rows: Dataset) -> float:
    assert rows.labels is not None
    return sum(a == b for a, b in zip(answers, rows.labels, strict=True)) / len(rows)
