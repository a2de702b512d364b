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
from tests.deploy.manifests import KUBERNETES, pod_specs, render
from tests.deploy.test_compose_file import COMPOSE, compose
from tests.deploy.test_image import CAREFUL, MEGABYTE, is_ready
from tests.docker import BASE, Docker, debian
from tests.live import PATIENCE, free_port, wait_for

pytestmark = [pytest.mark.container, pytest.mark.slow, pytest.mark.timeout(3000)]

PROJECT = "gatewise-test"
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
        command = [*compose(), "--project-name", PROJECT, "--file", str(COMPOSE), *arguments]
        done = subprocess.run(command, env=self.environ, capture_output=True, text=True, timeout=1200)
        assert done.returncode in codes, f"{arguments}: {done.stdout[-2000:]}{done.stderr[-2000:]}"
        return done

    def ask(self, path: str, **body: Any) -> dict[str, Any]:
        answer = httpx.post(f"http://127.0.0.1:{self.port}{path}", json=body, timeout=PATIENCE)
        assert answer.status_code == 200, answer.text
        return dict(answer.json())

    def version(self) -> str:
        return str(self.ask("/predict", sequences=["a car"])["model"]["version"])

    def started(self, docker: Docker) -> str:
        """When the service's container began."""
        container = self("ps", "--quiet", "service").stdout.strip()
        return str(docker.inspect(container)["State"]["StartedAt"])


def rows(count: int, seed: int, words: int = 3) -> list[tuple[str, str]]:
    random = np.random.default_rng(seed)
    labels = [str(label) for label in random.choice(list(WORDS), size=count)]
    return [(" ".join(random.choice(WORDS[label], size=words)), label) for label in labels]


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
    data.chmod(0o777)  # as `fsGroup` would have it: jobs keep their folders there
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


def test_the_training_image_adds_at_most_1175_megabytes_to_its_base(docker: Docker, training_image: Image) -> None:
    # The real slim Python has 125 MB: together 1.3 GB.
    assert docker.size(training_image.name) - docker.size(BASE) <= 1175 * MEGABYTE


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


def test_the_nightly_jobs_container_promotes_and_the_service_changes_over_without_a_restart(
    stack: Stack, docker: Docker, training_image: Image
) -> None:
    before, started = stack.version(), stack.started(docker)
    items = [{"sequence": text, "label": label} for text, label in rows(60, 2, words=4)]
    assert stack.ask("/feedback", items=items)["stored"] == 60
    said = run_as_job(docker, stack, training_image, "CronJob/gatewise-retrain")
    wait_for(lambda: stack.version() != before, f"the service to change over, after {said}")
    versions = stack("run", "--rm", "-T", "--entrypoint", "gatewise", "train", "models", "list").stdout
    assert [version in versions for version in (before, stack.version())] == [True, True]
    assert stack.started(docker) == started


def test_the_next_retraining_says_that_nothing_new_came(stack: Stack) -> None:
    stack("run", "--rm", "retrain", codes=(6,))


def run_as_job(docker: Docker, stack: Stack, image: Image, workload: str) -> str:
    """Run the container of a Job's pod with the stack's store, data and database; return what it said."""
    [container] = pod_specs(render(KUBERNETES / "overlays/production"))[workload]["containers"]
    database = f"postgresql://gatewise:{stack.environ['POSTGRES_PASSWORD']}@postgres/gatewise"
    values = {"NAME": "questions", "GATEWISE_DATABASE": database}
    variables = [variable for variable in container["env"] if variable["name"] != "GATEWISE_STORE"]
    sources = {"store": f"{PROJECT}_store", "data": stack.environ["GATEWISE_DATA"]}
    mounts = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
    entrypoint, *arguments = container["command"] + container["args"]
    return docker(
        *("run", "--rm", "--network", f"{PROJECT}_default", *CAREFUL),
        *(word for variable in variables for word in ("--env", f"{variable['name']}={values[variable['name']]}")),
        *(word for name, source in sources.items() for word in ("--volume", f"{source}:{mounts[name]}")),
        *("--entrypoint", entrypoint, image.name, *arguments),
        seconds=1200,
    )
