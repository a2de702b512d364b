"""The Deployment's pod, as kustomize renders it, run by podman."""

from __future__ import annotations

import copy
import os
import shutil
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import yaml

from gatewise.store import Store
from tests.deploy.conftest import Image
from tests.deploy.load import Load
from tests.deploy.manifests import KUBERNETES, Resource, render
from tests.deploy.test_image import is_ready
from tests.docker import Docker
from tests.live import PATIENCE, free_port, wait_for
from tests.programs import program

pytestmark = [pytest.mark.container, pytest.mark.slow, pytest.mark.timeout(1800)]

# Cgroups without systemd, and limits that any machine allows.
CONTAINERS = """
[containers]
default_ulimits = ["nofile=20000:20000", "nproc=32768:32768"]
[engine]
runtime = "runc"
cgroup_manager = "cgroupfs"
events_logger = "file"
[network]
network_backend = "netavark"
"""


class Podman:
    """Podman with everything that it keeps in one folder."""

    def __init__(self, folder: Path) -> None:
        (folder / "containers.conf").write_text(CONTAINERS)
        self._environ = os.environ | {"CONTAINERS_CONF": str(folder / "containers.conf")}
        places = ["--root", folder / "root", "--runroot", folder / "run", "--tmpdir", folder / "tmp"]
        self._command: list[str | Path] = [program("podman", "podman"), *places]
        for name in ("runc", "catatonit", "iptables"):
            program(name, f"{name} netavark aardvark-dns")

    def __call__(self, *arguments: str | Path) -> str:
        done = subprocess.run(
            [*self._command, *arguments], env=self._environ, capture_output=True, text=True, timeout=300
        )
        assert done.returncode == 0, f"podman {arguments[0]}: {done.stderr[-3000:]}"
        return done.stdout


def pod(port: int, image: str) -> tuple[Resource, Resource]:
    """The local overlay's Deployment and ConfigMap, with the pod's port open on this machine."""
    resources = {resource["kind"]: resource for resource in render(KUBERNETES / "overlays/local")}
    deployment = copy.deepcopy(resources["Deployment"])
    [container] = deployment["spec"]["template"]["spec"]["containers"]
    container["ports"][0] |= {"hostPort": port, "hostIP": "127.0.0.1"}
    container["image"] = image
    return deployment, resources["ConfigMap"]


@pytest.fixture(scope="module")
def podman(shared_tmp: Path) -> Iterator[Podman]:
    folder = shared_tmp / "podman"
    folder.mkdir()
    found = Podman(folder)
    if os.geteuid() != 0:
        pytest.skip("a pod's ports and volumes need root here")
    yield found
    found("system", "reset", "--force")
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def loaded(podman: Podman, docker: Docker, image: Image, shared_tmp: Path) -> str:
    """What podman calls the service's image."""
    docker("save", "--output", shared_tmp / "image.tar", image.name, seconds=300)
    said = podman("load", "--input", shared_tmp / "image.tar")
    (shared_tmp / "image.tar").unlink()
    return said.strip().rpartition(" ")[2]


def test_podman_runs_the_deployments_pod_with_a_model_from_the_store(
    podman: Podman, loaded: str, shared_tmp: Path, tmp_path: Path
) -> None:
    load = Load(shared_tmp / "pod-model")
    store = Store(tmp_path / "store")
    version = store.promote(store.add(load.folder, "questions").reference)
    podman("volume", "create", "gatewise-store")
    podman("volume", "import", "gatewise-store", packed(tmp_path / "store", tmp_path / "store.tar"))

    port = free_port()
    deployment, settings = pod(port, loaded)
    (tmp_path / "deployment.yaml").write_text(yaml.safe_dump(deployment))
    (tmp_path / "settings.yaml").write_text(yaml.safe_dump(settings))
    podman("kube", "play", "--configmap", tmp_path / "settings.yaml", tmp_path / "deployment.yaml")
    try:
        wait_for(lambda: is_ready(port), "the pod to be ready", 2 * PATIENCE)
        answer = httpx.post(f"http://127.0.0.1:{port}/predict", json={"sequences": load.texts}, timeout=PATIENCE).json()
        assert answer["model"] == {"name": "tiny", "version": version.version}
        labels = [prediction["label"] for prediction in answer["predictions"]]
        assert labels == [prediction.label for prediction in load.expected]
    finally:
        podman("kube", "down", tmp_path / "deployment.yaml")


def packed(folder: Path, file: Path) -> Path:
    """A volume's content, owned by the image's user, as `fsGroup` would have it."""

    def owned(entry: tarfile.TarInfo) -> tarfile.TarInfo:
        entry.uid = entry.gid = 10001
        return entry

    with tarfile.open(file, "w") as archive:
        archive.add(folder, ".", filter=owned)
    return file
