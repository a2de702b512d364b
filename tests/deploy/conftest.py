"""One Docker engine and one image of the service for all tests of this folder."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests import docker as containers
from tests.docker import Docker


@pytest.fixture(scope="session")
def docker() -> Iterator[Docker]:
    """An engine that has the base image."""
    with containers.engine() as engine, containers.wheelhouse() as wheels:
        containers.make_base(engine, wheels)
        yield engine


@dataclass(frozen=True)
class Image:
    """A built image."""

    name: str
    build_seconds: float


def built(docker: Docker, name: str, extras: str, *arguments: str) -> Image:
    """Build it as a person would; pip's flags for this machine come from the environment."""
    containers.fetch(extras)
    flags = os.environ.get("PIP_FLAGS")
    if flags and not docker.is_ours:
        arguments += ("--build-arg", f"PIP_FLAGS={flags}")
    return Image(name, containers.build(docker, name, *arguments))


@pytest.fixture(scope="session")
def image(docker: Docker) -> Image:
    """The service on the CPU."""
    return built(docker, "gatewise-test", "service,feedback", "--build-arg", "REVISION=tested")


@pytest.fixture(scope="session")
def training_image(docker: Docker) -> Image:
    """The training job."""
    return built(docker, "gatewise-test-training", "training,feedback", "--target", "training")


@pytest.fixture(scope="session")
def shared_tmp() -> Iterator[Path]:
    """A folder that a container's user, who is another, may read; pytest's own are closed to others."""
    import shutil
    import tempfile

    folder = Path(tempfile.mkdtemp(prefix="gatewise-shared-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)
