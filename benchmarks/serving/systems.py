"""The systems of the comparison: how each is installed, started, asked and stopped."""

from __future__ import annotations

import contextlib
import io
import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from benchmarks import environments
from benchmarks.serving.models import Case

HERE = Path(__file__).resolve().parent
ROOT = environments.ROOT
PEERS = HERE / "peers"
_FLOAT_TORCH = ["torch==2.13.0", "safetensors", "numpy"]
_ORT = ["onnxruntime", "numpy", "orjson"]


@dataclass(frozen=True)
class System:
    """One way to serve the model.

    Attributes:
        packages: of its own environment; empty for Gatewise, which runs in this one.
        command: after the environment's `bin`; "{port}" stands for the port.
        path: of the prediction route; body: one item to its JSON; reader: of `answers.READERS`.
        python: the interpreter that makes its environment, where this one does not do.
    """

    name: str
    command: list[str]
    path: str
    body: Callable[[Any], Any]
    reader: str
    packages: list[str] = field(default_factory=list)
    ready: str = "/"
    python: str = sys.executable


def _sequences(item: Any) -> Any:
    return {"sequences": [item]}


def _inputs(item: Any) -> Any:
    return {"inputs": [item]}


def _v2(item: Any) -> Any:
    flat = [value for step in item for value in step]
    tensor = {"name": "inputs", "shape": [1, len(item), len(item[0])], "datatype": "FP32", "data": flat}
    return {"inputs": [tensor]}


_SERVE = ["python", "-m", "gatewise.cli", "serve", "{model}", "--port", "{port}"]
GATEWISE = System("gatewise", _SERVE, "/predict", _sequences, "gatewise", ready="/readyz")
GATEWISE_2 = replace(GATEWISE, name="gatewise, 2 workers", command=[*_SERVE, "--workers", "2"])
ARRIVAL_ORDER = System(
    "gatewise, arrival order",
    ["python", "-m", "bentoml", "serve", "benchmarks.serving.peers.arrival_order:GatewiseService", "-p", "{port}"],
    *("/predict", _sequences, "gatewise"),
    ready="/readyz",
)
TIMED = System(
    "gatewise, timed",
    ["python", "-m", "bentoml", "serve", "benchmarks.serving.peers.timed:GatewiseService", "-p", "{port}"],
    *("/predict", _sequences, "gatewise"),
    ready="/readyz",
)
BARE = System("uvicorn alone", ["python", str(PEERS / "bare.py")], "/predict", _sequences, "plain")
PEER_SYSTEMS = [
    System(
        "Starlette + ONNX Runtime",
        ["python", str(PEERS / "starlette_ort.py")],
        *("/predict", _inputs, "plain"),
        packages=["starlette", "uvicorn", "uvloop", "httptools", *_ORT],
    ),
    System(
        "Triton (pytriton)",
        ["python", str(PEERS / "triton_ort.py")],
        *("/v2/models/peer/infer", _v2, "v2"),
        packages=["nvidia-pytriton", *_ORT],
        ready="/v2/models/peer/ready",
        # Its Python back end needs a libpython that a pyenv interpreter does not have.
        python="/usr/bin/python3",
    ),
    System(
        "MLServer",
        ["mlserver", "start", "{work}"],
        *("/v2/models/peer/infer", _v2, "v2"),
        packages=["mlserver", "uvloop<0.22", *_ORT],
        ready="/v2/models/peer/ready",
    ),
    System(
        "LitServe",
        ["python", str(PEERS / "litserve_torch.py")],
        *("/predict", _inputs, "plain"),
        packages=["litserve", *_FLOAT_TORCH],
        ready="/health",
    ),
    System(
        "FastAPI + torch",
        ["python", str(PEERS / "fastapi_torch.py")],
        *("/predict", _inputs, "plain"),
        packages=["fastapi", "uvicorn", "uvloop", "httptools", *_FLOAT_TORCH],
    ),
    System(
        "BentoML batching",
        ["bentoml", "serve", "bentoml_batching:Peer", "-p", "{port}", "--working-dir", str(PEERS)],
        *("/predict", _inputs, "bare"),
        packages=["bentoml==1.4.39", *_FLOAT_TORCH],
        ready="/readyz",
    ),
]


def install(system: System) -> Path:
    """Make the system's environment where it is not there yet; return its `bin`."""
    if not system.packages:
        return Path(sys.executable).parent
    return environments.install(system.name, system.packages, python=system.python)


class Server:
    """A running system, pinned to cores."""

    def __init__(self, system: System, case: Case, port: int, cores: set[int], work: Path) -> None:
        self.system, self.case, self.port = system, case, port
        binaries = install(system)
        mine = work / environments.slug(system.name)
        mine.mkdir(parents=True, exist_ok=True)
        _mlserver_settings(mine, port)
        names = {"port": str(port), "model": str(case.folder), "work": str(mine)}
        command = [part.format(**names) for part in system.command]
        command[0] = str(binaries / command[0])
        environ = {
            **os.environ,
            **{"BENCH_PORT": str(port), "BENCH_ONNX": str(case.folder / "model.onnx")},
            **{
                "BENCH_WEIGHTS": str(case.folder / "weights.safetensors"),
                "BENTOML_DO_NOT_TRACK": "True",
                "BENCH_WORK": str(mine),
            },
            **{"GATEWISE_MODEL": str(case.folder), "BENTOML_HOME": str(mine / "bentoml"), "OMP_NUM_THREADS": "1"},
            **{"PYTHONPATH": os.pathsep.join([str(ROOT), str(PEERS), str(mine)]), "MLSERVER_PARALLEL_WORKERS": "0"},
        }
        self.work = mine
        self._log = (mine / "log.txt").open("wb")
        started = time.perf_counter()
        self.process = subprocess.Popen(
            command,
            env=environ,
            cwd=mine,
            stdout=self._log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=lambda: os.sched_setaffinity(0, cores),
        )
        self._await_ready(mine / "log.txt")
        self.ready_seconds = time.perf_counter() - started

    def requests(self) -> list[tuple[bytes, list[float]]]:
        """Ready HTTP requests with the probabilities that they should bring."""
        return [
            (raw_request(self.system.path, orjson.dumps(self.system.body(item))), expected)
            for item, expected in zip(self.case.items, self.case.expected, strict=True)
        ]

    def array_requests(self, size: int) -> list[tuple[bytes, list[list[float]]]]:
        """Requests of so many series in one array each, with the probabilities of all."""
        made = []
        for start in range(0, len(self.case.items), size):
            file = io.BytesIO()
            np.save(file, np.array(self.case.items[start : start + size], dtype=np.float32))
            request = raw_request(self.system.path, file.getvalue(), "application/x-npy")
            made.append((request, self.case.expected[start : start + size]))
        return made

    def pids(self) -> list[int]:
        """The server's process and all that descend from it."""
        parents = {}
        for path in Path("/proc").iterdir():
            if path.name.isdigit():
                with contextlib.suppress(OSError):
                    parents[int(path.name)] = int((path / "stat").read_text().rpartition(")")[2].split()[1])
        found = [self.process.pid]
        for pid in found:
            found += [child for child, parent in parents.items() if parent == pid]
        return found

    def cpu_seconds(self) -> float:
        """CPU time of the whole process tree so far."""
        ticks = 0
        for pid in self.pids():
            try:
                fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            ticks += sum(map(int, fields[11:15]))
        return ticks / os.sysconf("SC_CLK_TCK")

    def resident_mb(self) -> list[int]:
        """Resident memory of each process, in MB, largest first."""
        sizes = []
        for pid in self.pids():
            try:
                sizes.append(int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE"))
            except OSError:
                continue
        return sorted((size // 1_000_000 for size in sizes), reverse=True)

    def stop(self) -> None:
        """End every process of it."""
        pids = self.pids()
        self.process.terminate()
        try:
            self.process.wait(15)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self._log.close()

    def _await_ready(self, log: Path) -> None:
        deadline = time.perf_counter() + 120
        while time.perf_counter() < deadline:
            if self.process.poll() is not None:
                raise SystemExit(f"{self.system.name} ended while it started:\n{log.read_text()[-3000:]}")
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{self.system.ready}", timeout=2):
                    return
            except urllib.error.HTTPError as error:
                if self.system.ready == "/" and error.code in (404, 405):
                    return
            except OSError:
                pass
            time.sleep(0.05)
        self.stop()
        raise SystemExit(f"{self.system.name} is not ready after two minutes:\n{log.read_text()[-3000:]}")


def raw_request(path: str, body: bytes, content_type: str = "application/json") -> bytes:
    """An HTTP/1.1 request as bytes."""
    lines = [
        f"POST {path} HTTP/1.1",
        "Host: 127.0.0.1",
        f"Content-Type: {content_type}",
        f"Content-Length: {len(body)}",
    ]
    return "\r\n".join([*lines, "", ""]).encode() + body


def _mlserver_settings(folder: Path, port: int) -> None:
    server = {"http_port": port, "grpc_port": port + 1, "metrics_port": port + 2, "parallel_workers": 0, "debug": False}
    model = {"name": "peer", "implementation": "mlserver_ort.Peer", "max_batch_size": 32, "max_batch_time": 0.002}
    (folder / "settings.json").write_text(json.dumps(server))
    (folder / "model-settings.json").write_text(json.dumps(model))
