"""deploy/compose.yaml as a whole: train, serve, take feedback, train again, change over."""

from __future__ import annotations

import secrets
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import yaml

from tests.deploy.conftest import Image
from tests.deploy.test_compose_file import COMPOSE, compose
from tests.deploy.test_image import is_ready
from tests.docker import Docker, debian
from tests.live import PATIENCE, free_port, wait_for

pytestmark = [pytest.mark.container, pytest.mark.slow, pytest.mark.timeout(3000)]

STAND_INS = Path(__file__).parent / "stand_ins"
WORDS = {"fruit": ["apple", "pear", "sweet", "juice"], "road": ["car", "wheel", "fast", "engine"]}
TINY = ("--epochs", "4", "--cells", "gru", "--set", "hidden_size=8", "--set", "dense_sizes=[8]", "--accelerator", "cpu")


@dataclass(frozen=True)
class Stack:
    """The stack of one project, told by compose."""

    environ: dict[str, str]
    port: int
    prometheus_port: int

    def __call__(self, *arguments: str, codes: tuple[int, ...] = (0,)) -> subprocess.CompletedProcess[str]:
        command = [*compose(), "--project-name", "gatewise-test", "--file", str(COMPOSE), *arguments]
        done = subprocess.run(command, env=self.environ, capture_output=True, text=True, timeout=1200)
        assert done.returncode in codes, f"{arguments}: {done.stdout[-2000:]}{done.stderr[-2000:]}"
        return done

    def ask(self, path: str, **body: Any) -> dict[str, Any]:
        answer = httpx.post(f"http://127.0.0.1:{self.port}{path}", json=body, timeout=PATIENCE)
        assert answer.status_code == 200, answer.text
        return dict(answer.json())

    def version(self) -> str:
        return str(self.ask("/predict", sequences=["a car"])["model"]["version"])


def rows(count: int, seed: int) -> list[tuple[str, str]]:
    random = np.random.default_rng(seed)
    labels = [str(label) for label in random.choice(list(WORDS), size=count)]
    return [(" ".join(random.choice(WORDS[label], size=3)), label) for label in labels]


def stand_in(docker: Docker, service: str, packages: str) -> None:
    """An image of Debian's own package under the name that the stack uses, where it cannot be pulled."""
    name = yaml.safe_load(COMPOSE.read_text())["services"][service]["image"]
    if docker.has("image", "inspect", name) or docker.has("pull", "--quiet", name):
        return
    docker("import", "-", f"gatewise-test-{service}", stdin=debian(service, packages), seconds=300)
    docker("build", "--file", STAND_INS / f"{service}.Dockerfile", "--tag", name, STAND_INS, seconds=300)


@pytest.fixture(scope="module")
def stack(docker: Docker, image: Image, training_image: Image, shared_tmp: Path) -> Iterator[Stack]:
    """Service, PostgreSQL and Prometheus with a model in production."""
    stand_in(docker, "postgres", "postgresql")
    stand_in(docker, "prometheus", "prometheus")
    data = shared_tmp / "data"
    data.mkdir()
    text = "text,label\n" + "".join(f"{text},{label}\n" for text, label in rows(300, 1))
    (data / "train.csv").write_text(text)
    ports = {"GATEWISE_PORT": free_port(), "PROMETHEUS_PORT": free_port()}
    environ = docker.environ | {name: str(port) for name, port in ports.items()}
    environ |= {"GATEWISE_IMAGE": image.name, "GATEWISE_TRAINING_IMAGE": training_image.name}
    environ |= {"POSTGRES_PASSWORD": secrets.token_hex(24), "GATEWISE_DATA": str(data)}
    found = Stack(environ, ports["GATEWISE_PORT"], ports["PROMETHEUS_PORT"])
    try:
        found("run", "--rm", "train", "/data/train.csv", "--name", "questions", *TINY)
        found("run", "--rm", "--entrypoint", "gatewise", "train", "models", "promote", "questions")
        found("up", "--detach", "service", "postgres", "prometheus")
        wait_for(lambda: is_ready(found.port), "the service to be ready", 4 * PATIENCE)
        yield found
    finally:
        found("down", "--volumes", "--remove-orphans")


def test_the_model_that_the_stack_trained_is_served(stack: Stack) -> None:
    answer = stack.ask("/predict", sequences=["apple pear juice", "car wheel fast"])
    assert [prediction["label"] for prediction in answer["predictions"]] == ["fruit", "road"]


def test_prometheus_scrapes_the_service_and_has_its_rules(stack: Stack) -> None:
    url = f"http://127.0.0.1:{stack.prometheus_port}/api/v1"

    def scraped() -> bool:
        result = httpx.get(f"{url}/query", params={"query": "gatewise_model_info == 1"}, timeout=PATIENCE).json()
        return len(result["data"]["result"]) == 1

    wait_for(scraped, "the first scrape", 2 * PATIENCE)
    [group] = httpx.get(f"{url}/rules", timeout=PATIENCE).json()["data"]["groups"]
    assert "GatewiseDown" in {rule["name"] for rule in group["rules"]}


def test_feedback_is_kept_in_postgresql(stack: Stack) -> None:
    assert stack.ask("/feedback", items=[{"sequence": "sweet pear", "label": "fruit"}])["stored"] == 1
    command = ("exec", "-T", "-e", f"PGPASSWORD={stack.environ['POSTGRES_PASSWORD']}", "postgres")
    tables = stack(*command, "psql", "-h", "127.0.0.1", "-U", "gatewise", "-At", "-c", r"\dt")
    assert "feedback" in tables.stdout


def test_the_nightly_retraining_promotes_and_the_service_changes_over(stack: Stack) -> None:
    helped = stack("run", "--rm", "retrain", "--help", codes=(0, 2))
    if helped.returncode:
        pytest.skip("this Gatewise has no `gatewise retrain`")
    before = stack.version()
    items = [{"sequence": text, "label": label} for text, label in rows(60, 2)]
    assert stack.ask("/feedback", items=items)["stored"] == 60
    stack("run", "--rm", "retrain", codes=(0, 7))
    promoted = stack("run", "--rm", "--entrypoint", "gatewise", "train", "models", "list").stdout
    assert promoted.count("questions") == 2
    wait_for(lambda: stack.version() != before, "the service to change over")
