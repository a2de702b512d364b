"""Tells an MLflow server of a job: a run for each candidate, with its settings, its epochs and its final figures.

The server's own REST interface is five calls; its client would bring twenty packages for them.
Source: https://mlflow.org/docs/latest/api_reference/rest-api.html, version 2.0 of the interface.
"""

from __future__ import annotations

import base64
import json
import os
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from gatewise.artifact import Manifest
from gatewise.errors import InvalidConfig
from training.callbacks import Say
from training.config import TrainingConfig

_TIMEOUT_SECONDS = 10
# What the server takes in one call.
_METRICS, _PARAMS, _LONGEST = 1000, 100, 500


class Unreachable(Exception):
    """The server gave no answer, or one that it did not like; the message says which."""


@dataclass(frozen=True)
class Tracker:
    """One experiment on one server.

    Attributes:
        url: of the server.
        experiment: its id there.
    """

    url: str
    experiment: str

    @classmethod
    def open(cls, url: str, name: str) -> Tracker:
        """Find or make the experiment, before any training.

        Raises:
            InvalidConfig: there is no such server.
        """
        if urllib.parse.urlsplit(url).scheme not in ("http", "https"):
            raise InvalidConfig(f"mlflow: {url!r} is not the address of a server, such as http://127.0.0.1:5000")
        url = url.rstrip("/")
        try:
            found = _ask(url, f"experiments/search?max_results=1&filter={urllib.parse.quote(_named(name))}", None)
            if found.get("experiments"):
                return cls(url, found["experiments"][0]["experiment_id"])
            return cls(url, _ask(url, "experiments/create", {"name": name})["experiment_id"])
        except Unreachable as error:
            raise InvalidConfig(f"mlflow: {url}: {error}") from None

    def log(self, manifest: Manifest, configs: Mapping[str, TrainingConfig], say: Say) -> None:
        """Log a finished job. A server that is gone by then is said to be, and costs no model.

        Args:
            configs: what each candidate was trained with, by its name.
        """
        comparison = manifest.training["comparison"]
        try:
            for candidate in comparison["candidates"]:
                is_chosen = candidate["name"] == comparison["chosen"]
                self._log_run(manifest, candidate, configs[candidate["name"]], is_chosen=is_chosen)
        except Unreachable as error:
            say(f"MLflow was not told of it all: {self.url}: {error}")
        else:
            say(f"Tracked: {self.url}/#/experiments/{self.experiment}")

    def _log_run(
        self, manifest: Manifest, candidate: dict[str, Any], config: TrainingConfig, *, is_chosen: bool
    ) -> None:
        begun = int(1000 * datetime.fromisoformat(manifest.created_at).timestamp())
        tags = {"gatewise.chosen": str(is_chosen).lower(), "gatewise.data": manifest.data.get("fingerprint", "")}
        if is_chosen:
            tags["gatewise.digest"] = manifest.digest
        opened = {"experiment_id": self.experiment, "run_name": candidate["name"], "start_time": begun}
        run = self._tell("runs/create", {**opened, "tags": _pairs(tags)})["run"]["info"]["run_id"]
        params = _pairs({**config.model_dump(mode="json"), "cell": candidate["cell"], "seed": candidate["seed"]})
        for start in range(0, len(params), _PARAMS):
            self._tell("runs/log-batch", {"run_id": run, "params": params[start : start + _PARAMS]})
        metrics = [*_of_epochs(candidate, begun), *_of_candidate(candidate, begun)]
        if is_chosen:
            metrics += _of_splits(manifest, begun)
        for start in range(0, len(metrics), _METRICS):
            self._tell("runs/log-batch", {"run_id": run, "metrics": metrics[start : start + _METRICS]})
        self._tell("runs/update", {"run_id": run, "status": "FINISHED", "end_time": int(1000 * time.time())})

    def _tell(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        return _ask(self.url, path, body)


def _of_epochs(candidate: dict[str, Any], when: int) -> Iterator[dict[str, Any]]:
    for point in candidate["curve"]:
        for name, value in point.items():
            if name != "epoch":
                shown = name if name in ("train_loss", "valid_loss") else f"valid_{name}"
                yield {"key": shown, "value": value, "timestamp": when, "step": int(point["epoch"])}


def _of_candidate(candidate: dict[str, Any], when: int) -> Iterator[dict[str, Any]]:
    """What was measured of the artifact."""
    figures = {f"final_{name}": figure["value"] for name, figure in candidate["metrics"].items()}
    figures |= {name: candidate[name] for name in ("training_seconds", "parameters", "size_mb")}
    figures |= {f"latency_{name}": value for name, value in candidate["latency"].items()}
    for name, value in figures.items():
        if isinstance(value, int | float):
            yield {"key": name, "value": value, "timestamp": when, "step": 0}


def _of_splits(manifest: Manifest, when: int) -> Iterator[dict[str, Any]]:
    for split, figures in manifest.metrics.items():
        for name, value in figures.items():
            yield {"key": f"{split}/{name}", "value": value, "timestamp": when, "step": 0}


def _pairs(values: Mapping[str, Any]) -> list[dict[str, str]]:
    return [{"key": name, "value": str(value)[:_LONGEST]} for name, value in values.items()]


def _named(name: str) -> str:
    return f"name = '{name}'"


def _ask(url: str, path: str, body: dict[str, Any] | None) -> dict[str, Any]:
    """POST a body, or GET without one; the answer's JSON."""
    headers = {"Content-Type": "application/json", **_credentials()}
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(f"{url}/api/2.0/mlflow/{path}", data=data, headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=_TIMEOUT_SECONDS) as answer:
            found: dict[str, Any] = json.loads(answer.read() or b"{}")
    except urllib.error.HTTPError as error:
        with error:
            raise Unreachable(f"{error.code} {error.read()[:200].decode(errors='replace')}") from None
    except (OSError, ValueError) as error:
        raise Unreachable(f"no MLflow server answers there: {error}") from None
    return found


def _credentials() -> dict[str, str]:
    """What MLflow's own client sends, from the variables that it reads."""
    token, user = os.environ.get("MLFLOW_TRACKING_TOKEN"), os.environ.get("MLFLOW_TRACKING_USERNAME")
    if token:
        return {"Authorization": f"Bearer {token}"}
    if user:
        pair = f"{user}:{os.environ.get('MLFLOW_TRACKING_PASSWORD', '')}"
        return {"Authorization": f"Basic {base64.b64encode(pair.encode()).decode()}"}
    return {}
