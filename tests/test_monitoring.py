"""The files for Prometheus and Grafana: checked by promtool, and against the service's metrics."""

import json
import re
import subprocess
from pathlib import Path

import pytest
import yaml

from tests.real import require

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parent.parent
MONITORING = ROOT / "deploy" / "monitoring"
ALERTS = yaml.safe_load((MONITORING / "alerts.yml").read_text())["groups"][0]["rules"]
DASHBOARD = json.loads((MONITORING / "grafana/dashboards/eye2face.json").read_text())


@pytest.mark.parametrize(
    "check",
    ["check config prometheus.yml", "check rules alerts.yml", "test rules alerts_test.yml"],
)
def test_prometheus_takes_its_files_and_raises_each_alert_in_time(check: str) -> None:
    done = subprocess.run(
        [require("promtool"), *check.split()], cwd=MONITORING, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_alert_is_tried_for_coming_and_for_staying_away() -> None:
    tried = (MONITORING / "alerts_test.yml").read_text()
    for alert in ALERTS:
        assert f"alertname: {alert['alert']}," in tried and f'alertname="{alert["alert"]}"' in tried
        assert {"summary", "description"} == set(alert["annotations"])


def test_all_that_is_asked_for_is_counted_by_the_service() -> None:
    metrics = pytest.importorskip("service.observability.metrics", reason="the service counts nothing yet")
    queries = [target["expr"] for panel in DASHBOARD["panels"] for target in panel["targets"]]
    asked = set(re.findall(r"eye2face_\w+", " ".join([*queries, *(alert["expr"] for alert in ALERTS)])))
    sources = "".join(path.read_text() for path in (ROOT / "service").rglob("*.py"))
    shown = {f"eye2face_{name}" for name in re.findall(r'add_gauge\(\s*"(\w+)"', sources)}
    counted = {family.name for family in metrics.Metrics().registry.collect()} | shown
    assert {re.sub(r"_(total|bucket|sum|count|info)$", "", name) for name in asked} <= counted


def test_the_dashboard_is_provisioned_where_compose_mounts_it() -> None:
    provisioned = yaml.safe_load((MONITORING / "grafana/provisioning/dashboards/eye2face.yml").read_text())
    source = yaml.safe_load((MONITORING / "grafana/provisioning/datasources/prometheus.yml").read_text())
    mounts = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]["grafana"]["volumes"]
    assert (
        f"./deploy/monitoring/grafana/dashboards:{provisioned['providers'][0]['options']['path']}:ro"
        in mounts
    )
    uids = {panel["datasource"]["uid"] for panel in DASHBOARD["panels"]}
    assert uids == {source["datasources"][0]["uid"]}
