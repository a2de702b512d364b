"""What is told to a server that takes everything, and what is said where there is none; tests/e2e has a real MLflow."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from gatewise.artifact import Manifest, read_manifest
from gatewise.errors import InvalidConfig
from tests.artifacts import make_series
from training.config import TrainingConfig
from training.tracking import Tracker

CANDIDATE = {
    "name": "gru",
    "cell": "gru",
    "seed": 3,
    "metrics": {"accuracy": {"value": 0.5}},
    "training_seconds": None,
    "parameters": 10,
    "size_mb": 0.5,
    "latency": {"engine": "onnx", "single_ms": 0.25, "step_ms": None},
    "curve": [{"epoch": 1, "train_loss": 2.0, "accuracy": 0.4}, {"epoch": 2, "train_loss": 1.0, "accuracy": 0.5}],
}


class Server(HTTPServer):
    """Notes what it is told."""

    told: list[tuple[str, Any, str | None]]
    experiments: list[dict[str, str]]
    is_broken = False


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        self._answer(None)

    def do_POST(self) -> None:
        self._answer(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))

    def _answer(self, body: Any) -> None:
        path = self.path.removeprefix("/api/2.0/mlflow/").partition("?")[0]
        self.server.told.append((path, body, self.headers["Authorization"]))
        found = {
            "experiments/search": {"experiments": self.server.experiments},
            "experiments/create": {"experiment_id": "7"},
            "runs/create": {"run": {"info": {"run_id": "r"}}},
        }
        self.send_response(500 if self.server.is_broken else 200)
        self.end_headers()
        self.wfile.write(json.dumps(found.get(path, {})).encode())

    def log_message(self, *arguments: Any) -> None:
        """Say nothing."""


@pytest.fixture
def server() -> Iterator[Server]:
    with Server(("127.0.0.1", 0), Handler) as found:
        found.told, found.experiments = [], []
        thread = threading.Thread(target=found.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield found
        found.shutdown()
        thread.join()


def url_of(server: Server) -> str:
    return f"http://127.0.0.1:{server.server_port}/"


@pytest.fixture
def manifest(tmp_path: Path) -> Manifest:
    made = read_manifest(make_series(tmp_path / "artifact").folder)
    training = {"comparison": {"chosen": "gru", "candidates": [CANDIDATE]}}
    return made.model_copy(update={"training": training, "metrics": {"test": {"accuracy": 0.75}}})


def test_a_job_is_told_with_its_settings_epochs_and_figures(server: Server, manifest: Manifest) -> None:
    said: list[str] = []
    Tracker.open(url_of(server), "vowels").log(manifest, {"gru": TrainingConfig(epochs=2)}, said.append)
    paths = [path for path, *_ in server.told]
    assert paths[:3] == ["experiments/search", "experiments/create", "runs/create"]
    assert paths[-1] == "runs/update"
    bodies = [body for path, body, _ in server.told if path == "runs/log-batch"]
    params = {pair["key"]: pair["value"] for body in bodies for pair in body.get("params", [])}
    assert (params["epochs"], params["cell"], params["seed"]) == ("2", "gru", "3")
    metrics = {(point["key"], point["step"]): point["value"] for body in bodies for point in body.get("metrics", [])}
    assert metrics == {
        ("train_loss", 1): 2.0,
        ("train_loss", 2): 1.0,
        ("valid_accuracy", 1): 0.4,
        ("valid_accuracy", 2): 0.5,
        ("final_accuracy", 0): 0.5,
        ("parameters", 0): 10,
        ("size_mb", 0): 0.5,
        ("latency_single_ms", 0): 0.25,
        ("test/accuracy", 0): 0.75,
    }
    assert said == [f"Tracked: {url_of(server)}#/experiments/7"]


def test_an_experiment_that_is_there_is_used(server: Server) -> None:
    server.experiments = [{"experiment_id": "3"}]
    assert Tracker.open(url_of(server), "vowels").experiment == "3"
    assert [path for path, *_ in server.told] == ["experiments/search"]


@pytest.mark.parametrize(
    ("variables", "sent"),
    [
        ({}, None),
        ({"MLFLOW_TRACKING_TOKEN": "t"}, "Bearer t"),
        ({"MLFLOW_TRACKING_USERNAME": "u", "MLFLOW_TRACKING_PASSWORD": "p"}, "Basic dTpw"),
    ],
)
def test_the_credentials_are_those_of_mlflows_own_client(
    server: Server, monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], sent: str | None
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    Tracker.open(url_of(server), "vowels")
    assert [authorization for *_, authorization in server.told] == [sent, sent]


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("mlruns", "mlflow: 'mlruns' is not the address of a server"),
        ("http://127.0.0.1:1", "mlflow: http://127.0.0.1:1: no MLflow server answers there"),
    ],
)
def test_a_server_that_is_not_there_is_told_before_any_training(url: str, message: str) -> None:
    with pytest.raises(InvalidConfig, match=message):
        Tracker.open(url, "vowels")


def test_a_server_that_is_gone_by_the_end_costs_no_model(server: Server, manifest: Manifest) -> None:
    tracker = Tracker.open(url_of(server), "vowels")
    server.is_broken = True
    said: list[str] = []
    tracker.log(manifest, {"gru": TrainingConfig()}, said.append)
    assert len(said) == 1
    assert said[0].startswith("MLflow was not told of it all: http://127.0.0.1:")
    assert ": 500 " in said[0]
