"""What all tests of training share."""

from __future__ import annotations

import pytest

from training import callbacks


@pytest.fixture(autouse=True)
def _a_checkpoint_after_every_epoch(monkeypatch: pytest.MonkeyPatch) -> None:
    """Say after which epoch a run goes on, however slow the machine is at the moment."""
    monkeypatch.setattr(callbacks, "_LARGEST_SHARE", float("inf"))
