"""A Bento: service and model in one folder, which `bentoml serve` runs and `bentoml containerize` makes an image of.

Its image is leaner than the one that BentoML makes by itself: every package at the version installed here, from wheels,
and so neither compilers nor git.
"""

from __future__ import annotations

import importlib.util
import shutil
import tempfile
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any, cast

import bentoml
import orjson
from bentoml.images import Image
from packaging.requirements import Requirement

import gatewise
import service
from gatewise.errors import MissingDependency
from gatewise.store import ModelVersion
from service.app import GatewiseService

EXTRAS = ("service", "feedback")
BASE_IMAGE = "python:3.11-slim"


def build(model: ModelVersion) -> str:
    """Make the Bento of a stored model in BentoML's store; return its tag.

    Raises:
        MissingDependency: a package that its image needs is not installed here.
    """
    if importlib.util.find_spec("uv") is None and shutil.which("uv") is None:
        raise MissingDependency("BentoML builds with uv, and would install it unasked: pip install uv")
    cast(Any, GatewiseService).image = _image()
    with tempfile.TemporaryDirectory() as folder:
        for package in (gatewise, service):
            source = Path(str(package.__file__)).parent
            shutil.copytree(source, Path(folder) / source.name, ignore=shutil.ignore_patterns("__pycache__"))
        (Path(folder) / "bentofile.yaml").write_bytes(orjson.dumps(_bentofile(model)))  # JSON is YAML
        bento = bentoml.bentos.build_bentofile(str(Path(folder) / "bentofile.yaml"), build_ctx=folder)
    return str(bento.tag)


def _bentofile(model: ModelVersion) -> dict[str, Any]:
    variables = {"GATEWISE_MODEL": model.reference, "OMP_NUM_THREADS": "1", "BENTOML_DO_NOT_TRACK": "True"}
    return {
        "service": "service.app:GatewiseService",
        "labels": {"model": model.name, "version": model.version},
        "models": [model.reference],
        "envs": [{"name": name, "value": value} for name, value in variables.items()],
    }


def _image() -> Image:
    # A distribution that BentoML does not know gets no build tools.
    image = Image(base_image=BASE_IMAGE, distro="wheels only", python_version="3.11", lock_python_packages=False)
    image.python_packages(*sorted(pinned("gatewise", EXTRAS)))
    # Where the store looks for models; those of the Bento come there with its files. The others BentoML makes at its
    # start, and could not where the root is read-only.
    return image.run("cd $BENTOML_HOME && mkdir bentos envs tmp && ln -s $BENTO_PATH/models models")


def pinned(distribution: str, extras: tuple[str, ...] = ()) -> set[str]:
    """Every package that a distribution needs, as `name==version`, without itself."""
    found: set[str] = set()
    done: set[tuple[str, tuple[str, ...]]] = set()
    asked = {(distribution, extras)}
    while asked:
        done.add(one := asked.pop())
        for requirement in _requirements(*one):
            found.add(f"{requirement.name}=={_version(requirement.name)}")
            asked |= {(requirement.name, tuple(sorted(requirement.extras)))} - done
    return found


def _version(name: str) -> str:
    try:
        return metadata.version(name).partition("+")[0]
    except metadata.PackageNotFoundError:
        raise MissingDependency(f"a Bento needs {name}: pip install 'gatewise[{','.join(EXTRAS)}]'") from None


def _requirements(name: str, extras: tuple[str, ...]) -> Iterator[Requirement]:
    for line in metadata.requires(name) or ():
        requirement = Requirement(line)
        if requirement.marker is None or any(requirement.marker.evaluate({"extra": one}) for one in ("", *extras)):
            yield requirement
