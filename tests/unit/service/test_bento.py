"""What goes into a Bento; that an image of it serves is shown in tests/deploy."""

from __future__ import annotations

from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path

import pytest

from gatewise.errors import MissingDependency
from gatewise.store import ModelVersion
from service import bento

CONSTRAINTS = Path(__file__).resolve().parents[3] / "constraints.txt"


def named(pins: set[str]) -> dict[str, str]:
    return {name.lower().replace("_", "-"): version for name, _, version in (pin.partition("==") for pin in pins)}


def test_its_packages_are_the_services_and_no_others() -> None:
    packages = named(bento.pinned("gatewise", bento.EXTRAS))
    assert {"bentoml", "onnxruntime", "uvicorn", "uvloop", "pydantic-core", "sqlalchemy", "psycopg-binary"} <= set(
        packages
    )
    assert not {"gatewise", "torch", "pytorch-lightning", "pytest", "ruff", "optuna"} & set(packages)


def test_its_packages_are_pinned_to_what_is_installed() -> None:
    packages = named(bento.pinned("gatewise", bento.EXTRAS))
    assert packages["onnxruntime"] == metadata.version("onnxruntime")
    constrained = named({line for line in CONSTRAINTS.read_text().splitlines() if "==" in line})
    assert set(packages) <= set(constrained)


def test_a_package_that_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metadata, "requires", lambda name: ["nowhere-to-be-found>=1"])
    with pytest.raises(MissingDependency, match=r"a Bento needs nowhere-to-be-found: pip install 'gatewise\[service"):
        bento.pinned("gatewise", bento.EXTRAS)


def test_what_bentoml_would_install_unasked_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    monkeypatch.setattr("shutil.which", lambda name: None)
    with pytest.raises(MissingDependency, match="pip install uv"):
        bento.build(ModelVersion("m", "v", Path(), datetime.now(UTC), 0, is_production=False, manifest={}))
