"""The service's image, built by a real Docker engine and run as a careful operator would."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from gatewise.store import Store
from tests.deploy.conftest import Image
from tests.deploy.load import Load, Outcomes
from tests.docker import BASE, ROOT, Docker
from tests.live import PATIENCE, TOLERANCE, soon, wait_for

pytestmark = [pytest.mark.container, pytest.mark.slow, pytest.mark.timeout(1800)]

CAREFUL = ("--read-only", "--tmpfs", "/tmp", "--cap-drop", "ALL", "--security-opt", "no-new-privileges")
# No request is late or refused, however slow the machine.
PATIENT = ("--env", "GATEWISE_TIMEOUT_SECONDS=600", "--env", "GATEWISE_QUEUE_SECONDS=3600")
MEGABYTE = 10**6


@pytest.fixture(scope="module")
def load(shared_tmp: Path) -> Load:
    return Load(shared_tmp / "model")


def published(load: Load, *more: str) -> tuple[str | Path, ...]:
    """Arguments of `docker run` for the service with the model mounted."""
    model = ("--volume", f"{load.folder}:/model:ro", "--env", "GATEWISE_MODEL=/model")
    return (*CAREFUL, *PATIENT, *model, "--publish", "127.0.0.1::3000", *more)


def port_of(docker: Docker, name: str) -> int:
    return int(docker("port", name, "3000").rpartition(":")[2])


def is_ready(port: int) -> bool:
    try:
        return httpx.get(f"http://127.0.0.1:{port}/readyz", timeout=5).status_code == 200
    except httpx.TransportError:
        return False


@pytest.fixture(scope="module")
def port(docker: Docker, image: Image, load: Load) -> Iterator[int]:
    """Where a container of the service answers."""
    with docker.container(*published(load), image.name, name="gatewise-test-service") as name:
        found = port_of(docker, name)
        wait_for(lambda: is_ready(found), "the container to be ready", 2 * PATIENCE)
        yield found


def test_predictions_over_the_published_port_are_the_offline_predictors(port: int, load: Load) -> None:
    answer = httpx.post(f"http://127.0.0.1:{port}/predict", json={"sequences": load.texts}, timeout=PATIENCE).json()
    for one, other in zip(answer["predictions"], load.expected, strict=True):
        assert one["label"] == other.label
        assert one["probabilities"] == pytest.approx(other.probabilities, abs=TOLERANCE)


def test_the_health_check_finds_it_healthy(docker: Docker, port: int) -> None:
    def health() -> bool:
        return bool(docker.inspect("gatewise-test-service")["State"]["Health"]["Status"] == "healthy")

    wait_for(health, "the health check", 2 * PATIENCE)


def test_the_service_says_which_engine_it_runs(docker: Docker, port: int) -> None:
    card = httpx.get(f"http://127.0.0.1:{port}/model", timeout=PATIENCE).json()
    assert (card["engine"], card["device"]) == ("onnx", "cpu")
    assert "is served by onnx on cpu" in docker.logs("gatewise-test-service")


def test_the_image_adds_at_most_300_megabytes_to_its_base(docker: Docker, image: Image) -> None:
    assert docker.size(image.name) - docker.size(BASE) <= 300 * MEGABYTE


def test_the_image_says_what_it_is(docker: Docker, image: Image) -> None:
    config = docker.inspect(image.name)["Config"]
    labels = {key.removeprefix("org.opencontainers.image."): value for key, value in config["Labels"].items()}
    assert labels["title"] == "gatewise-service"
    assert labels["licenses"] == "Apache-2.0"
    assert labels["revision"] == "tested"
    assert labels["base.name"] == BASE
    assert config["User"] == "10001:10001"
    assert config["StopSignal"] == "SIGTERM"


def test_the_image_has_no_compiler_no_torch_no_training_and_no_tests(docker: Docker, image: Image) -> None:
    script = """
import importlib.util, pathlib, shutil, sysconfig
site = pathlib.Path(sysconfig.get_path("purelib"))
print([name for name in ("gcc", "cc", "make", "git") if shutil.which(name)],
      [name for name in ("torch", "training", "pytest", "pytorch_lightning", "pip") if importlib.util.find_spec(name)],
      [str(path) for path in site.rglob("tests") if path.is_dir()])
"""
    found = docker("run", "--rm", *CAREFUL, "--entrypoint", "/opt/gatewise/bin/python", image.name, "-c", script)
    assert found == "[] [] []"


def test_a_container_without_a_model_ends_with_a_word(docker: Docker, image: Image) -> None:
    command = ["docker", "run", "--rm", *CAREFUL, image.name]
    done = subprocess.run(command, env=docker.environ, capture_output=True, text=True, timeout=PATIENCE)
    assert done.returncode == 4
    assert "the store is empty" in done.stderr


def test_sigterm_under_load_loses_nothing(docker: Docker, image: Image, load: Load) -> None:
    found: Outcomes = Counter()

    async def test(name: str) -> None:
        port = port_of(docker, name)
        await soon(lambda: is_ready(port), "the container to be ready", 2 * PATIENCE)
        stop = asyncio.Event()
        asking = asyncio.create_task(load.ask(port, 32, stop, found))
        await soon(lambda: found[200] > 1000 or asking.done(), "load")
        await asyncio.to_thread(docker, "kill", "--signal", "TERM", name)
        # Clients are told to go elsewhere with an answer; where there is only this one, that is the end.
        stop.set()
        await asyncio.wait_for(asking, PATIENCE)
        assert await asyncio.to_thread(docker, "wait", name) == "0"

    with docker.container(*published(load), image.name, name="gatewise-test-sigterm") as name:
        asyncio.run(test(name))
    assert set(found) <= {200, "closed with an answer"}, found


def test_make_image_puts_a_stored_model_inside_that_is_served(
    docker: Docker, image: Image, load: Load, tmp_path: Path
) -> None:
    reference = Store(tmp_path / "store").add(load.folder, "tiny").reference
    (tmp_path / "installed").touch()  # the packages are those of the tests
    variables = {
        "MODEL": reference,
        "SERVICE_IMAGE": "gatewise-test-made",
        "DOCKER_FLAGS": "--network host",
        "BIN": Path(sys.executable).parent,
        "INSTALLED": tmp_path / "installed",
    }
    if docker.is_ours:
        variables["PIP_FLAGS"] = ""
    done = subprocess.run(
        ["make", "image", *(f"{name}={value}" for name, value in variables.items())],
        env=docker.environ | {"BENTOML_HOME": str(tmp_path / "store"), "PYTHONPATH": str(ROOT)},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=1200,
    )
    assert done.returncode == 0, done.stderr[-3000:] + done.stdout[-1000:]
    arguments = (*CAREFUL, "--publish", "127.0.0.1::3000", f"gatewise-test-made-{reference}")
    with docker.container(*arguments, name="gatewise-test-made") as name:
        port = port_of(docker, name)
        wait_for(lambda: is_ready(port), "the container to be ready", 2 * PATIENCE)
        assert_answers(port, load)


def test_a_bento_becomes_an_image_that_serves_its_model(
    docker: Docker, image: Image, load: Load, tmp_path: Path
) -> None:
    environ = docker.environ | {"BENTOML_HOME": str(tmp_path), "BENTOML_DO_NOT_TRACK": "True", "PYTHONPATH": str(ROOT)}

    def run(*command: str) -> str:
        done = subprocess.run(
            [sys.executable, "-m", *command], env=environ, capture_output=True, text=True, timeout=900, cwd=ROOT
        )
        assert done.returncode == 0, done.stderr[-3000:] + done.stdout[-1000:]
        return done.stdout

    run("gatewise.cli", "models", "import", str(load.folder), "--name", "tiny")
    tag = run("gatewise.cli", "build", "tiny").split()[1]
    run("bentoml", "containerize", tag, "--image-tag", "gatewise-test-bento", "--opt", "network=host")
    with docker.container("--publish", "127.0.0.1::3000", "gatewise-test-bento", name="gatewise-test-bento") as name:
        port = port_of(docker, name)
        wait_for(lambda: is_ready(port), "the container to be ready", 2 * PATIENCE)
        assert_answers(port, load)


def assert_answers(port: int, load: Load) -> None:
    answer = httpx.post(f"http://127.0.0.1:{port}/predict", json={"sequences": load.texts[:5]}, timeout=PATIENCE)
    labels = [prediction["label"] for prediction in answer.json()["predictions"]]
    assert labels == [prediction.label for prediction in load.expected[:5]]
