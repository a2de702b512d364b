"""Where the workers of one server share the files of their metrics."""

from __future__ import annotations

import atexit
import shutil
import tempfile

from bentoml._internal.configuration.containers import BentoMLContainer


def use_own_folder() -> None:
    """Take a folder that no other server has, until this process ends.

    BentoML's own, which nothing public can move, is in BENTOML_HOME. Replicas that share a store would count into each
    other's files there, and each that starts would delete those of all.
    """
    folder = tempfile.mkdtemp(prefix="gatewise-metrics-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    BentoMLContainer.prometheus_multiproc_dir.set(folder)
