"""Replicas that share one store."""

from __future__ import annotations

from pathlib import Path

import httpx

from tests.artifacts import TEXTS, make_text
from tests.live import PATIENCE, Server, serve, wait_for


def ask(server: Server, times: int) -> None:
    for _ in range(times):
        assert httpx.post(server.url + "/predict", json={"sequences": [TEXTS[0]]}, timeout=PATIENCE).status_code == 200


def test_each_replica_on_a_shared_store_keeps_its_own_metrics(tmp_path: Path) -> None:
    make_text(tmp_path / "model", hidden_size=4)
    (tmp_path / "first").mkdir()
    (tmp_path / "second").mkdir()
    store = {"BENTOML_HOME": tmp_path / "store"}
    with serve(tmp_path / "first", tmp_path / "model", **store) as first:
        ask(first, 3)
        wait_for(lambda: first.metrics().requests() == {200: 3}, "the first replica's count")
        with serve(tmp_path / "second", tmp_path / "model", **store) as second:
            ask(second, 5)
            wait_for(lambda: second.metrics().requests() == {200: 5}, "the second replica's count")
            assert first.metrics().requests() == {200: 3}
        ask(first, 1)
        wait_for(lambda: first.metrics().requests() == {200: 4}, "the first replica's count after the second's end")
