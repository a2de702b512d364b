"""Artifacts that the tests of the library share (who changes one copies it first), and databases."""

from __future__ import annotations

import secrets
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa
import torch

from gatewise.database import check_url
from tests.artifacts import Made, make_series, make_text
from tests.postgres import postgresql


@pytest.fixture(autouse=True, scope="session")
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def text_artifact(tmp_path_factory: pytest.TempPathFactory) -> Made:
    return make_text(tmp_path_factory.mktemp("text") / "artifact")


@pytest.fixture(scope="session")
def hashed_artifact(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """A text model that reads character n-grams of unknown words, and pairs of words."""
    return make_text(tmp_path_factory.mktemp("hashed") / "artifact", ngram_buckets=40, pair_buckets=23)


@pytest.fixture(scope="session")
def step_artifact(tmp_path_factory: pytest.TempPathFactory) -> Made:
    return make_text(
        tmp_path_factory.mktemp("step") / "artifact",
        head="step",
        cell="gru_reset_before",
        num_layers=2,
        ngram_buckets=40,
    )


@pytest.fixture(scope="session")
def series_artifact(tmp_path_factory: pytest.TempPathFactory) -> Made:
    return make_series(tmp_path_factory.mktemp("series") / "artifact")


@pytest.fixture(scope="session")
def convolved_artifact(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """A series model with a stem that makes one step of three, and a convolutional branch."""
    return make_series(
        tmp_path_factory.mktemp("convolved") / "artifact",
        stem_stride=3,
        stem_channels=6,
        branch_channels=(6, 4),
        branch_kernels=(5, 3),
        bidirectional=True,
    )


@pytest.fixture(scope="session")
def chain_artifact(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """A tagger whose head reads the tokens too, with a chain over its tags."""
    return make_text(tmp_path_factory.mktemp("chain") / "artifact", head="chain", ngram_buckets=40)


@pytest.fixture(scope="session")
def wide_artifact(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """A text model with a linear branch over n-grams of up to three words; it keeps four words of a text."""
    return make_text(
        tmp_path_factory.mktemp("wide") / "artifact", max_length=4, pair_buckets=23, wide_buckets=61, wide_order=3
    )


@pytest.fixture(scope="session")
def kernel_artifact(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """A series model with a linear branch over fixed kernels of two dilations."""
    return make_series(
        tmp_path_factory.mktemp("kernel") / "artifact", wide_dilations=(1, 3), wide_channels=2, wide_thresholds=2
    )


@pytest.fixture(params=["text", "hashed", "step", "series", "convolved", "chain", "wide", "kernel"])
def made(request: pytest.FixtureRequest) -> Made:
    """Each of them in turn."""
    artifact: Made = request.getfixturevalue(f"{request.param}_artifact")
    return artifact


@pytest.fixture
def copy_of(tmp_path: Path) -> Callable[[Made], Path]:
    """Copies an artifact's folder to where a test may harm it."""

    def copy(made: Made) -> Path:
        return Path(shutil.copytree(made.folder, tmp_path / "copy"))

    return copy


@pytest.fixture(scope="session")
def postgresql_server() -> Iterator[str]:
    with postgresql() as url:
        yield url


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """A database of its own for each test."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'deep' / 'feedback.db'}"
        return
    admin = sa.create_engine(check_url(request.getfixturevalue("postgresql_server")), isolation_level="AUTOCOMMIT")
    name = f"test_{secrets.token_hex(8)}"
    with admin.connect() as connection:
        connection.exec_driver_sql(f"CREATE DATABASE {name}")
    admin.dispose()
    yield check_url(request.getfixturevalue("postgresql_server")).set(database=name).render_as_string()
