"""deploy/compose.yaml is valid, and nothing in it runs with a secret that is missing or known."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from gatewise.errors import InvalidConfig
from tests.programs import program

ROOT = Path(__file__).resolve().parents[2]
COMPOSE = ROOT / "deploy/compose.yaml"


def compose() -> list[str]:
    """Docker's own plugin where it is installed, else Debian's docker-compose."""
    docker = shutil.which("docker")
    if docker and subprocess.run([docker, "compose", "version"], capture_output=True).returncode == 0:
        return [docker, "compose"]
    return [program("docker-compose", "docker-compose")]


def config(**variables: str) -> subprocess.CompletedProcess[str]:
    environ = {name: value for name, value in os.environ.items() if name != "POSTGRES_PASSWORD"} | variables
    command = [*compose(), "--file", str(COMPOSE), "config"]
    return subprocess.run(command, env=environ, capture_output=True, text=True, timeout=60)


@pytest.fixture(scope="module")
def resolved() -> dict[str, Any]:
    done = config(POSTGRES_PASSWORD="a4f1c0ffee")
    assert done.returncode == 0, done.stderr
    services: dict[str, Any] = yaml.safe_load(done.stdout)["services"]
    return services


def test_the_file_is_valid(resolved: dict[str, Any]) -> None:
    assert {"service", "postgres", "prometheus", "grafana"} <= set(resolved)


@pytest.mark.parametrize("variables", [{}, {"POSTGRES_PASSWORD": ""}])
def test_a_password_that_is_missing_or_empty_is_refused(variables: dict[str, str]) -> None:
    done = config(**variables)
    assert done.returncode != 0
    assert "choose a password" in done.stderr


def test_a_password_that_everybody_tries_first_is_refused_by_the_service() -> None:
    database = pytest.importorskip("gatewise.database")
    services = yaml.safe_load(config(POSTGRES_PASSWORD="postgres").stdout)["services"]
    url = services["service"]["environment"]["GATEWISE_DATABASE"]
    with pytest.raises(InvalidConfig, match="everybody tries first"):
        database.check_url(url)


def test_every_port_is_open_on_loopback_only() -> None:
    services = yaml.safe_load(COMPOSE.read_text())["services"]
    ports = [port for service in services.values() for port in service.get("ports", [])]
    assert len(ports) == 3
    assert all(port.startswith("127.0.0.1:") for port in ports)


def test_service_and_trainings_share_store_and_database_and_can_do_no_more_than_they_must() -> None:
    services = yaml.safe_load(COMPOSE.read_text())["services"]
    for name in ("service", "train", "retrain"):
        assert "store:/store" in services[name]["volumes"]
        assert services[name]["read_only"] is True
        assert services[name]["cap_drop"] == ["ALL"]
    databases = {services[name]["environment"]["GATEWISE_DATABASE"] for name in ("service", "retrain")}
    assert len(databases) == 1
    assert {services[name]["profiles"][0] for name in ("train", "retrain")} == {"training"}


def test_every_file_that_is_mounted_exists() -> None:
    services = yaml.safe_load(COMPOSE.read_text())["services"]
    sources = [volume.partition(":")[0] for service in services.values() for volume in service.get("volumes", [])]
    mounted = [source for source in sources if source.startswith("./")]
    assert len(mounted) == 3
    assert all((COMPOSE.parent / source).exists() for source in mounted)
