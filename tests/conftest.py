"""What all tests share: a BentoML that keeps to itself, and the warnings of other projects' code."""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile

import pytest

# Before the first import of bentoml, which reads them then; and no store or setting of the person who runs the tests.
os.environ["BENTOML_DO_NOT_TRACK"] = "True"
os.environ["BENTOML_HOME"] = tempfile.mkdtemp(prefix="gatewise-tests-")
atexit.register(shutil.rmtree, os.environ["BENTOML_HOME"], ignore_errors=True)
for name in [name for name in os.environ if name.startswith("GATEWISE_")]:
    del os.environ[name]

# Each by its message and the library that it comes from; our own code's warnings stay errors.
THIRD_PARTY_WARNINGS = (
    "ignore:GitWildMatchPattern:DeprecationWarning",  # bentoml with pathspec 1.0
    "ignore:The `__get_pydantic_core_schema__` method:DeprecationWarning:_bentoml_sdk",  # bentoml with pydantic 2.11
    # bentoml.SyncHTTPClient: close() leaves its folder to the garbage collector
    "ignore:Implicitly cleaning up <TemporaryDirectory '[^']*bentoml-client-:ResourceWarning",
)


def pytest_configure(config: pytest.Config) -> None:
    """Add the filters after pyproject's `error`, so that they win over it."""
    for line in THIRD_PARTY_WARNINGS:
        config.addinivalue_line("filterwarnings", line)
