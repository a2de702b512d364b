"""Drift over HTTP: what `GET /model` and `/metrics` of a real service say, and `gatewise drift --url` of it."""

from __future__ import annotations

import asyncio
import json
import math
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from click.testing import CliRunner, Result

from gatewise.artifact import DRIFT, restate
from gatewise.cli import main
from gatewise.drift import ENOUGH
from gatewise.predictor import Predictor
from service import app, drift, runtime
from tests.artifacts import make_series
from tests.live import PATIENCE, Metrics
from tests.unit.service.serving import lifespan

training_drift = pytest.importorskip("training.drift", reason="the training extra is not installed")
dataset = pytest.importorskip("training.dataset", reason="the training extra is not installed")


def series(rows: int, seed: int, shift: float = 0.0) -> list[list[list[float]]]:
    random = np.random.default_rng(seed)
    readings = [random.normal(size=(random.integers(4, 12), 2)) for _ in range(rows)]
    return [(one + np.array([shift, 0])).round(3).tolist() for one in readings]


@pytest.fixture(scope="module")
def artifact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("drift")
    made = make_series(folder / "made")
    items = series(500, 0)
    rows = dataset.Dataset("series", "sequence", items, None, None, None, "rows", np.arange(len(items)))
    reference = training_drift.make_reference(Predictor.load(made.folder), rows, rows)
    restate(made.folder, folder / "model", files={DRIFT: reference.model_dump_json().encode()})
    return folder / "model"


@asynccontextmanager
async def serving(model: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[httpx.AsyncClient]:
    monkeypatch.setenv("GATEWISE_MODEL", str(model))
    monkeypatch.setattr(runtime, "_METRICS_SECONDS", 0.01)
    monkeypatch.setattr(drift, "SAMPLE", 1_000)
    asgi = app.GatewiseService.to_asgi()
    transport = httpx.ASGITransport(app=asgi)
    async with lifespan(asgi), httpx.AsyncClient(transport=transport, base_url="http://service") as client:
        yield client


async def card_after(client: httpx.AsyncClient, sequences: int) -> dict[str, Any]:
    """The card once this many sequences are in the window."""
    async with asyncio.timeout(PATIENCE):
        while True:
            card: dict[str, Any] = (await client.get("/model")).json()
            if card["drift"]["sequences"] == sequences:
                return card
            await asyncio.sleep(0.01)


def test_the_card_and_the_metrics_tell_which_measure_moved(artifact: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def test() -> None:
        async with serving(artifact, monkeypatch) as client:
            before = (await client.get("/model")).json()
            assert before["drift"] == {"state": "unknown", "sequences": 0, "measures": {}}
            document = (await client.get("/docs.json")).json()
            # One request by each way that a request is answered: small and large.
            await client.post("/predict", json={"sequences": series(20, 1)})
            await client.post("/predict", json={"sequences": series(ENOUGH + 80, 2)})
            like = await card_after(client, ENOUGH + 100)
            assert like["drift"]["state"] == "none"
            await client.post("/predict", json={"sequences": series(600, 3, shift=2.0)})
            moved = await card_after(client, ENOUGH + 700)
            states = {name: one["state"] for name, one in moved["drift"]["measures"].items()}
            assert moved["drift"]["state"] == states["channel:price"] == "major"
            assert states["channel:volume"] == states["length"] == "none"
            metrics = Metrics((await client.get("/metrics")).text)
            told = {name: metrics[f'gatewise_drift_psi{{measure="{name}"}}'] for name in states}
            assert told == {name: one["psi"] for name, one in moved["drift"]["measures"].items()}
            for state in ("unknown", "none", "moderate", "major"):
                assert metrics[f'gatewise_drift_state{{state="{state}"}}'] == (state == "major")
            assert metrics["gatewise_drift_sequences"] == ENOUGH + 700
        schema = document["components"]["schemas"]["Model"]["properties"]["drift"]
        measure = schema["properties"]["measures"]["additionalProperties"]
        for card in (before, like, moved):
            assert set(schema["properties"]) == set(card["drift"])
            assert card["drift"]["state"] in schema["properties"]["state"]["enum"]
            assert all(set(measure["properties"]) == set(one) for one in card["drift"]["measures"].values())

    asyncio.run(test())


def test_a_model_without_a_reference_serves_and_tells_no_drift(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = make_series(tmp_path / "made")

    async def test() -> None:
        async with serving(made.folder, monkeypatch) as client:
            assert (await client.post("/predict", json={"sequences": series(3, 1)})).status_code == 200
            assert (await client.get("/model")).json()["drift"] is None
            metrics = Metrics((await client.get("/metrics")).text)
            assert metrics['gatewise_drift_state{state="unknown"}'] == 1

    asyncio.run(test())


def test_another_model_begins_with_an_empty_window(artifact: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def test() -> None:
        async with serving(artifact, monkeypatch) as client:
            await client.post("/predict", json={"sequences": series(ENOUGH, 3, shift=2.0)})
            await card_after(client, ENOUGH)
            assert app.runtime.settings is not None
            app.runtime.make_live(runtime.registry.load_live(app.runtime.settings))
            assert (await client.get("/model")).json()["drift"]["sequences"] == 0
            metrics = Metrics((await client.get("/metrics")).text)
            assert metrics['gatewise_drift_state{state="unknown"}'] == 1
            assert math.isnan(metrics['gatewise_drift_psi{measure="length"}'])

    asyncio.run(test())


# --- the command


def cli(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


@contextmanager
def page_of(card: dict[str, Any]) -> Iterator[str]:
    """A server that answers this card at every path."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(json.dumps(card).encode())

        def log_message(self, *arguments: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


def card_of(artifact: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    async def ask() -> dict[str, Any]:
        async with serving(artifact, monkeypatch) as client:
            await client.post("/predict", json={"sequences": series(600, 3, shift=2.0)})
            return await card_after(client, 600)

    return asyncio.run(ask())


def test_the_command_explains_a_running_service_and_only_suggests_a_retrain(
    artifact: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    card = card_of(artifact, monkeypatch)
    with page_of(card) as url:
        result = cli("drift", artifact, "--url", url, "--json", tmp_path / "f.json")
    assert result.exit_code == 0, result.output
    rows = [line for line in result.stdout.splitlines() if "channel:" in line or "length" in line]
    assert "channel:price" in rows[0]
    assert "major" in rows[0]
    assert " -> " in rows[0]
    assert "█" in rows[0]
    said = result.stdout.splitlines()
    assert said[-3:] == [
        f"major: 600 sequences against tiny:{card['version']}",
        "channel:price moved most; whether the answers are worse is for labels to tell",
        f"Next:    gatewise evaluate {artifact} LABELLED_FILE      or: gatewise train tiny.csv with recent rows",
    ]
    figures = json.loads((tmp_path / "f.json").read_text())
    assert {name: figures[name] for name in ("state", "sequences", "measures")} == card["drift"]
    assert set(figures["reference"]) == set(figures["measures"])


def test_the_command_finds_in_a_file_what_the_service_finds_in_requests(
    artifact: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recent, like = tmp_path / "recent.jsonl", tmp_path / "like.jsonl"
    recent.write_text("".join(json.dumps({"series": item}) + "\n" for item in series(600, 3, shift=2.0)))
    like.write_text("".join(json.dumps({"series": item}) + "\n" for item in series(600, 4)))
    result = cli("drift", artifact, recent, "--sequence", "series", "--json", tmp_path / "f.json")
    assert result.exit_code == 0, result.output
    found, card = json.loads((tmp_path / "f.json").read_text()), card_of(artifact, monkeypatch)
    for name, one in card["drift"]["measures"].items():
        assert found["measures"][name]["now"] == pytest.approx(one["now"], abs=2e-6)
    result = cli("drift", artifact, like, "--sequence", "series")
    assert (result.exit_code, result.stdout.splitlines()[-1][:4]) == (0, "none")


def test_what_the_command_cannot_do_it_says(artifact: Path, tmp_path: Path) -> None:
    made = make_series(tmp_path / "without")
    digest = Predictor.load(artifact).manifest.digest
    with page_of({"digest": "d", "name": "other", "version": "v9", "drift": None}) as url:
        other = cli("drift", artifact, "--url", url)
    with page_of({"digest": digest, "drift": None}) as url:
        silent = cli("drift", artifact, "--url", url)
    with page_of({"hello": 1}) as url:
        stranger = cli("drift", artifact, "--url", url)
    for result, code, said in (
        (cli("drift", artifact), 2, "give either a file of recent sequences or --url"),
        (cli("drift", artifact, "x.jsonl", "--url", "http://x"), 2, "give either a file"),
        (cli("drift", made.folder, "x.jsonl"), 4, "without drift statistics. They are of rows that training"),
        (cli("drift", artifact, "--url", "ftp://x"), 2, "does not begin with http://"),
        (
            cli("drift", artifact, "--url", "http://127.0.0.1:1"),
            2,
            "--url: no model answers at http://127.0.0.1:1/model",
        ),
        (other, 4, "serves other:v9, which is not this model; name that one"),
        (silent, 4, "serves a model without drift statistics"),
        (stranger, 2, "is it this Gatewise?"),
    ):
        assert (result.exit_code, said in result.stderr) == (code, True), result.stderr
