"""A real Prometheus scrapes the real service; dashboard, alerts and autoscaler find what they ask for."""

from __future__ import annotations

import contextlib
import json
import subprocess
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import yaml

from gatewise.artifact import DRIFT, restate
from gatewise.predictor import Predictor
from tests.artifacts import TEXTS, make_text
from tests.live import PATIENCE, free_port, serve, wait_for
from tests.programs import program

training_drift = pytest.importorskip("training.drift", reason="the training extra is not installed")
dataset = pytest.importorskip("training.dataset", reason="the training extra is not installed")

pytestmark = pytest.mark.slow

DEPLOY = Path(__file__).resolve().parents[2] / "deploy"
DASHBOARD = json.loads((DEPLOY / "grafana/dashboards/gatewise.json").read_text())
QUERIES = [(panel["title"], target["expr"]) for panel in DASHBOARD["panels"] for target in panel["targets"]]


class Prometheus:
    """A server that scrapes what it was told to."""

    def __init__(self, url: str) -> None:
        self._url = url

    def ask(self, query: str) -> list[dict[str, Any]]:
        answer = httpx.get(f"{self._url}/api/v1/query", params={"query": query}, timeout=PATIENCE).json()
        assert answer["status"] == "success", f"{query}: {answer.get('error')}"
        result: list[dict[str, Any]] = answer["data"]["result"]
        return result

    def has(self, query: str) -> bool:
        return bool(self.ask(query))

    def is_ready(self) -> bool:
        # It listens before its storage is open, and answers queries with 503 and a line of text until then.
        with contextlib.suppress(httpx.TransportError):
            return httpx.get(f"{self._url}/-/ready", timeout=PATIENCE).is_success
        return False


@contextlib.contextmanager
def prometheus(tmp: Path, target: str, **labels: str) -> Iterator[Prometheus]:
    """Our configuration, but for the target's address, the labels that a cluster would add, and a shorter interval."""
    config = yaml.safe_load((DEPLOY / "prometheus/prometheus.yaml").read_text())
    config["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
    config["rule_files"] = [str(DEPLOY / "prometheus" / name) for name in config["rule_files"]]
    [job] = config["scrape_configs"]
    job["static_configs"] = [{"targets": [target], "labels": labels}]
    (tmp / "prometheus.yaml").write_text(yaml.safe_dump(config))
    address = f"127.0.0.1:{free_port()}"
    options = {"config.file": tmp / "prometheus.yaml", "storage.tsdb.path": tmp / "data", "web.listen-address": address}
    with (tmp / "prometheus.log").open("wb") as log:
        process = subprocess.Popen(
            [program("prometheus", "prometheus"), *(f"--{name}={value}" for name, value in options.items())],
            stdout=log,
            stderr=log,
        )
    found = Prometheus(f"http://{address}")

    def is_ready() -> bool:
        assert process.poll() is None, (tmp / "prometheus.log").read_text()
        return found.is_ready()

    try:
        wait_for(is_ready, "Prometheus to be ready")
        yield found
    finally:
        process.terminate()
        process.wait(PATIENCE)


@pytest.fixture(scope="module")
def asked() -> Counter[str]:
    """How many requests were answered with each status."""
    return Counter()


@pytest.fixture(scope="module")
def scraped(asked: Counter[str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    """A Prometheus that has seen a service answer, well and badly, until there is something to say of drift."""
    program("prometheus", "prometheus")
    tmp = tmp_path_factory.mktemp("service")
    with (
        serve(tmp, watched_model(tmp)) as server,
        prometheus(tmp, f"127.0.0.1:{server.port}", namespace="default", pod="gatewise-0") as found,
    ):

        def has_drift() -> bool:
            for body in ({"sequences": [*TEXTS] * 4}, {"sequences": [1]}):
                asked[str(httpx.post(server.url + "/predict", json=body, timeout=PATIENCE).status_code)] += 1
            return found.has("gatewise_drift_psi")

        wait_for(has_drift, "drift", 2 * PATIENCE)
        counted = f'gatewise_http_requests_total{{route="/predict", status="422"}} == {asked["422"]}'
        wait_for(lambda: found.has(counted), "a scrape after the last answer")
        # A rate is of two scrapes at least.
        wait_for(lambda: found.has(f"count_over_time(({counted})[15s:1s]) >= 3"), "two more scrapes")
        yield found


def watched_model(tmp: Path) -> Path:
    """A model with something to hold what it is asked against."""
    make_text(tmp / "made", hidden_size=4)
    items = [*TEXTS] * 50
    rows = dataset.Dataset("text", "sequence", items, None, None, None, "rows", np.arange(len(items)))
    reference = training_drift.make_reference(Predictor.load(tmp / "made"), rows, rows)
    restate(tmp / "made", tmp / "model", files={DRIFT: reference.model_dump_json().encode()})
    return tmp / "model"


@pytest.mark.parametrize(("title", "query"), QUERIES, ids=[f"{title}: {query[:40]}" for title, query in QUERIES])
def test_every_query_of_the_dashboard_has_an_answer(scraped: Prometheus, title: str, query: str) -> None:
    assert scraped.ask(query.replace("$__rate_interval", "15s")), title


def test_the_dashboard_counts_the_requests_that_were_sent(scraped: Prometheus, asked: Counter[str]) -> None:
    counts = scraped.ask('sum by (status) (gatewise_http_requests_total{route="/predict"})')
    assert {one["metric"]["status"]: int(one["value"][1]) for one in counts} == asked


def test_the_dashboard_reads_the_datasource_that_is_provisioned() -> None:
    [source] = yaml.safe_load((DEPLOY / "grafana/provisioning/datasources/prometheus.yaml").read_text())["datasources"]
    assert {panel["datasource"]["uid"] for panel in DASHBOARD["panels"]} == {source["uid"]}
    host = source["url"].removeprefix("http://").partition(":")[0]
    assert host in yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"]


def test_every_metric_that_an_alert_names_is_one_of_the_service(scraped: Prometheus) -> None:
    # Each rule is valid on its own; that its metrics exist, only a service can show.
    names = {one["metric"]["__name__"] for one in scraped.ask('{__name__=~"gatewise_.+"}')} | {"up"}
    groups = yaml.safe_load((DEPLOY / "prometheus/alerts.yaml").read_text())["groups"]
    rules = [rule["expr"] for group in groups for rule in group["rules"]]
    words = {word for rule in rules for word in names if word in rule}
    assert len(words) == 9
    for rule in rules:
        assert any(word in rule for word in words), rule


def test_the_autoscalers_metric_is_the_wait_of_each_pod(scraped: Prometheus) -> None:
    [rule] = yaml.safe_load((DEPLOY / "prometheus/adapter-rules.yaml").read_text())["rules"]["custom"]
    query = (
        rule["metricsQuery"].replace("<<.GroupBy>>", "pod").replace("<<.Series>>", "gatewise_queue_wait_seconds_bucket")
    )
    [one] = scraped.ask(query.replace("<<.LabelMatchers>>", 'namespace="default",pod=~"gatewise-0"'))
    assert one["metric"] == {"pod": "gatewise-0"}
    assert 0 <= float(one["value"][1]) < PATIENCE
    assert scraped.ask(rule["seriesQuery"])


def test_the_autoscalers_metric_is_zero_where_nothing_waits(scraped: Prometheus) -> None:
    [rule] = yaml.safe_load((DEPLOY / "prometheus/adapter-rules.yaml").read_text())["rules"]["custom"]
    query = (
        rule["metricsQuery"].replace("<<.GroupBy>>", "pod").replace("<<.Series>>", "gatewise_queue_wait_seconds_bucket")
    )
    # An hour ago there was nothing, and half a second ago nothing new.
    still = query.replace("<<.LabelMatchers>>", 'pod="gatewise-0"').replace("[1m]", "[1s]")
    assert [one["value"][1] for one in scraped.ask(still)] == ["0"]
