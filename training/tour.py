"""The demonstration: train on real data, serve the model, ask it over HTTP."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from gatewise.artifact import jsonable
from gatewise.errors import GatewiseError
from gatewise.ports import check_port
from training.callbacks import Say
from training.demo import write_series_demo, write_text_demo
from training.job import run
from training.plan import JobOptions, JobResult
from training.readers import read

_QUESTIONS = 3
_START_SECONDS = 60.0


def run_demo(data: str, *, port: int, exits: bool, say: Say) -> None:
    """Train, serve and ask.

    Args:
        data: `text` (which language is a name in) or `series` (which of nine speakers said a vowel).
        exits: stop after the predictions instead of serving on.
    """
    check_port("127.0.0.1", port)
    with tempfile.TemporaryDirectory(prefix="gatewise-demo-") as folder:
        source = (write_text_demo if data == "text" else write_series_demo)(Path(folder) / f"demo-{data}")
        # A demonstration has three minutes on two slow cores: less training than the recipe would take for the text.
        settings = {"epochs": 4, "refit": False} if data == "text" else {}
        options = JobOptions(data=str(source), name=f"demo-{data}", run_dir=Path(folder) / "runs", settings=settings)
        result = run(options, say=say)
        items, labels = _questions(data, source)
    with _served(result, port) as url:
        answers = _ask(url, items)
        say(f"\nPOST {url}/predict")
        for item, label, answer in zip(items, labels, answers["predictions"], strict=True):
            shown = repr(item) if isinstance(item, str) else f"a series of {len(item)} steps x {len(item[0])} channels"
            say(f"  {shown}: {answer['label']} (confidence {answer['confidence']:.2f}; labelled {label})")
        body = json.dumps({"sequences": [_short(items[0])]}, ensure_ascii=False)
        say("\nTry it:")
        say(f"  curl -s {url}/predict -H 'content-type: application/json' -d '{body}'")
        if not exits:
            say(f"\nServing {result.name}:{result.version} until Ctrl-C. The model stays: gatewise models list")
            _wait()
    say(f"\nNext:    gatewise serve {result.name}      or train on your own: gatewise train DATA")


def _questions(data: str, source: Path) -> tuple[list[Any], list[str]]:
    """Some items with their labels; of the series demo, out of its test file."""
    rows = read(source if data == "text" else source / "test.ts")
    assert rows.labels is not None
    chosen = np.random.default_rng(7).choice(len(rows), size=_QUESTIONS, replace=False)
    return [jsonable(rows.items[i]) for i in chosen], [rows.labels[i] for i in chosen]


def _short(item: Any) -> Any:
    """An item that fits on a command line: of a series its first steps, with three decimals."""
    return item if isinstance(item, str) else [[round(value, 3) for value in step] for step in item[:7]]


@contextmanager
def _served(result: JobResult, port: int) -> Iterator[str]:
    """The service in a process of its own, once it is ready; stopped at the end."""
    command = [sys.executable, "-m", "gatewise.cli", "serve", f"{result.name}:{result.version}", "--port", str(port)]
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
        url = f"http://127.0.0.1:{port}"
        try:
            _await_ready(process, url, log)
            yield url
        finally:
            process.terminate()
            process.wait(timeout=30)


def _await_ready(process: subprocess.Popen[bytes], url: str, log: Any) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        try:
            with urllib.request.urlopen(f"{url}/readyz", timeout=5):
                return
        except OSError:
            time.sleep(0.2)
    log.seek(0)
    output = log.read().decode(errors="replace")[-2000:]
    raise GatewiseError(f"the service did not start on {url}; it said:\n{output}")


def _ask(url: str, items: list[Any]) -> Any:
    body = json.dumps({"sequences": items}).encode()
    request = urllib.request.Request(f"{url}/predict", body, {"content-type": "application/json"})
    with urllib.request.urlopen(request, timeout=30) as response:
        return json.loads(response.read())


def _wait() -> None:
    try:
        while True:
            time.sleep(3600)
    except KeyboardInterrupt:
        return
