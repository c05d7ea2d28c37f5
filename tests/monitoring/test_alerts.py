"""The chart's alerts, judged by Prometheus' own promtool: each fires once, and each stays silent once."""

import re
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from tests.monitoring.programs import promtool
from tools.generate import CHART, ROOT

pytestmark = pytest.mark.cluster  # promtool is built as the cluster's programs are

ALERTS = CHART / "files" / "alerts.yaml"
CASES = Path(__file__).parent / "alerts_test.yaml"


def test_each_alert_fires_when_it_should_and_only_then() -> None:
    answer = promtool("test", "rules", str(CASES))
    assert answer.returncode == 0, answer.stdout + answer.stderr


def test_each_alert_has_a_case_that_fires_and_one_that_does_not() -> None:
    yaml = YAML(typ="safe")
    alerts = {rule["alert"] for group in yaml.load(ALERTS)["groups"] for rule in group["rules"]}
    checks = [check for test in yaml.load(CASES)["tests"] for check in test["alert_rule_test"]]
    assert {check["alertname"] for check in checks if check.get("exp_alerts")} == alerts
    assert {check["alertname"] for check in checks if not check.get("exp_alerts")} == alerts


def test_the_guide_tells_what_to_do_about_each_alert() -> None:
    rows = re.findall(r"^\| `(ModelGarden\w+)` \|", (ROOT / "docs" / "observability.md").read_text(), re.MULTILINE)
    assert rows == [rule["alert"] for group in YAML(typ="safe").load(ALERTS)["groups"] for rule in group["rules"]]


def test_the_rules_are_valid() -> None:
    answer = promtool("check", "rules", "--lint=all", "--lint-fatal", str(ALERTS))
    assert answer.returncode == 0, answer.stdout + answer.stderr
