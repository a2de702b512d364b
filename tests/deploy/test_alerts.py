"""The alert rules say what they promise, on series made for them."""

from __future__ import annotations

import subprocess
from pathlib import Path

import yaml

from tests.programs import program

HERE = Path(__file__).parent
PROMETHEUS = HERE.parents[1] / "deploy/prometheus"


def promtool(*arguments: str | Path) -> str:
    command = [program("promtool", "prometheus"), *arguments]
    done = subprocess.run(command, cwd=HERE, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_configuration_and_rules_are_valid() -> None:
    assert "SUCCESS" in promtool("check", "config", PROMETHEUS / "prometheus.yaml")


def test_every_alert_fires_when_it_should_and_not_before() -> None:
    assert "SUCCESS" in promtool("test", "rules", "alerts_test.yaml")


def test_every_alert_is_tested() -> None:
    groups = yaml.safe_load((PROMETHEUS / "alerts.yaml").read_text())["groups"]
    alerts = {rule["alert"] for group in groups for rule in group["rules"]}
    tests = yaml.safe_load((HERE / "alerts_test.yaml").read_text())["tests"]
    checked = [one for test in tests for one in test["alert_rule_test"]]
    assert {one["alertname"] for one in checked if one["exp_alerts"]} == alerts
    assert {one["alertname"] for one in checked if not one["exp_alerts"]} == alerts
