"""A job tracked by a real MLflow server on loopback, read back by MLflow's own client.

MLflow is installed into an environment of this test alone: it wants older packages than are pinned here.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.test_train_and_predict import TINY, done, write_text

pytestmark = [pytest.mark.network, pytest.mark.slow, pytest.mark.timeout(1200)]

# argv: the server's address
READ = """
import json, sys
from mlflow import MlflowClient
client = MlflowClient(sys.argv[1])
[experiment] = [each for each in client.search_experiments() if each.name == "tracked"]
found = {}
for run in client.search_runs([experiment.experiment_id], "params.seed = '1'"):
    history = [point.value for point in client.get_metric_history(run.info.run_id, "train_loss")]
    found[run.info.run_name] = {
        "params": run.data.params, "metrics": run.data.metrics, "tags": run.data.tags,
        "status": run.info.status, "train_loss": history,
    }
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> str:
    """An interpreter that has MLflow."""
    folder = tmp_path_factory.mktemp("mlflow")
    subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
    own = str(folder / "bin" / "python")
    install = [own, "-m", "pip", "install", "--quiet", "--only-binary", ":all:", "mlflow>=3"]
    ran = subprocess.run(install, capture_output=True, text=True, timeout=900, check=False)
    if ran.returncode:
        pytest.skip(f"MLflow cannot be installed here: {ran.stderr.strip().splitlines()[-1:]}")
    return own


@pytest.fixture(scope="module")
def server(python: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a server."""
    folder = tmp_path_factory.mktemp("server")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    command = [python, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    command += ["--backend-store-uri", f"sqlite:///{folder / 'mlflow.db'}", "--artifacts-destination", str(folder)]
    with (folder / "log.txt").open("wb") as log:
        process = subprocess.Popen(command, cwd=folder, stdout=log, stderr=log, start_new_session=True)
    try:
        url = f"http://127.0.0.1:{port}"
        deadline = time.monotonic() + 180
        while not answers(url):
            assert process.poll() is None, (folder / "log.txt").read_text()
            assert time.monotonic() < deadline, (folder / "log.txt").read_text()
            time.sleep(0.5)
        yield url
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGTERM)
        process.wait(120)


def answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{url}/health", timeout=5):
            return True
    except OSError:
        return False


def test_a_server_holds_settings_epochs_and_figures_of_each_candidate(
    python: str, server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BENTOML_HOME", str(tmp_path / "home"))
    write_text(tmp_path / "train.csv", seed=0, rows=200)
    common = ["train", tmp_path / "train.csv", "--name", "tracked", "--run-dir", tmp_path / "runs", *TINY]
    for seed in (0, 1):  # the second job finds the experiment of the first
        said = done(*common, "--epochs", 3, "--mlflow", server, "--seed", seed)
        assert f"Tracked: {server}/#/experiments/" in said
    [saved] = (line for line in said.splitlines() if line.startswith("Saved "))
    artifact = Path(saved.split(" in ")[1])
    manifest = json.loads((artifact / "manifest.json").read_text())
    read = subprocess.run([python, "-c", READ, server], capture_output=True, text=True, check=True, timeout=120)
    found = json.loads(read.stdout.splitlines()[-1])
    assert set(found) == {"lstm", "gru"}
    comparison = manifest["training"]["comparison"]
    for candidate in comparison["candidates"]:
        run = found[candidate["name"]]
        assert run["status"] == "FINISHED"
        assert (run["params"]["hidden_size"], run["params"]["cell"]) == ("8", candidate["cell"])
        assert run["train_loss"] == pytest.approx([point["train_loss"] for point in candidate["curve"]])
        assert run["metrics"]["final_accuracy"] == pytest.approx(candidate["metrics"]["accuracy"]["value"])
        assert run["metrics"]["size_mb"] == pytest.approx(candidate["size_mb"])
    chosen = found[comparison["chosen"]]
    assert chosen["tags"]["gatewise.digest"] == manifest["digest"]
    assert chosen["metrics"]["test/accuracy"] == pytest.approx(manifest["metrics"]["test"]["accuracy"])
