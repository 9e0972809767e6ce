"""The files for Kubernetes: put together by kustomize, held to Kubernetes' schemas and to our rules."""

import hashlib
import re
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from starlette.testclient import TestClient

from service import __version__
from service.http.app import create_app
from service.settings import Settings
from tests.fakes import tiny_model
from tests.real import require

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parent.parent
KUBERNETES = ROOT / "deploy" / "kubernetes"
KINDS = {
    "Deployment",
    "Service",
    "HorizontalPodAutoscaler",
    "PodDisruptionBudget",
    "NetworkPolicy",
}
INGRESS = {"Ingress", "NetworkPolicy eye2face-ingress"}
MONITORING = {"ServiceMonitor", "PrometheusRule"}
FLAVOURS = ["base", "gpu"]
OLDEST, NEWEST = "1.30", "1.37"
"""The sleep before the stop came with 1.30."""


@cache
def _built(flavour: str) -> dict[str, Any]:
    """Every object of a flavour by its kind, as kubectl would send it; one of another name by that, too."""
    done = subprocess.run(
        [require("kubectl"), "kustomize", str(KUBERNETES / flavour)],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    objects = [(each, each["metadata"]["name"]) for each in yaml.safe_load_all(done.stdout)]
    return {" ".join([each["kind"], name][: 1 + (name != "eye2face")]): each for each, name in objects}


def _pod(flavour: str) -> Any:
    return _built(flavour)["Deployment"]["spec"]["template"]


@pytest.mark.parametrize("version", [OLDEST, NEWEST])
@pytest.mark.parametrize("flavour", FLAVOURS)
def test_every_object_is_what_kubernetes_takes(flavour: str, version: str) -> None:
    built = _built(flavour)
    assert built.keys() == KINDS
    for each in built.values():
        kubernetes_validate.validate(each, version, strict=True)


@pytest.mark.parametrize("version", [OLDEST, NEWEST])
def test_the_overlay_holds_everything_and_names_the_image_once(version: str) -> None:
    built = _built("overlay")
    assert built.keys() == KINDS | INGRESS | MONITORING
    for name, each in built.items():
        if name not in MONITORING:
            kubernetes_validate.validate(each, version, strict=True)
        assert each["metadata"]["namespace"] == "eye2face"
    told = (KUBERNETES / "overlay" / "kustomization.yaml").read_text()
    (image,) = yaml.safe_load(told)["images"]
    (container,) = built["Deployment"]["spec"]["template"]["spec"]["containers"]
    assert container["image"] == f"{image['newName']}:{__version__}" and told.count(image["newName"]) == 1


def test_the_ingress_leads_to_the_service_and_may_reach_the_pods() -> None:
    built = _built("overlay")
    spec = built["Ingress"]["spec"]
    (rule,), (tls,) = spec["rules"], spec["tls"]
    assert tls["hosts"] == [rule["host"]]
    backend = rule["http"]["paths"][0]["backend"]["service"]
    ports = {port["name"] for port in built["Service"]["spec"]["ports"]}
    assert backend["name"] == built["Service"]["metadata"]["name"] and backend["port"]["name"] in ports
    body = built["Ingress"]["metadata"]["annotations"]["nginx.ingress.kubernetes.io/proxy-body-size"]
    assert int(body.removesuffix("m")) * 1_000_000 >= Settings().max_batch_bytes
    policy = built["NetworkPolicy eye2face-ingress"]["spec"]
    labels = built["Deployment"]["spec"]["template"]["metadata"]["labels"]
    assert policy["podSelector"]["matchLabels"].items() <= labels.items()
    assert policy["policyTypes"] == ["Ingress"], "what may leave is for the base to say"


def test_the_operator_of_prometheus_finds_the_service_and_its_alerts() -> None:
    built = _built("overlay")
    monitor = built["ServiceMonitor"]["spec"]
    (endpoint,) = monitor["endpoints"]
    service = built["Service"]
    assert monitor["selector"]["matchLabels"].items() <= service["metadata"]["labels"].items()
    assert endpoint["port"] in {port["name"] for port in service["spec"]["ports"]}
    assert built["PrometheusRule"]["spec"] == yaml.safe_load(
        (ROOT / "deploy" / "monitoring" / "alerts.yml").read_text()
    )


def test_the_adapter_serves_the_metric_that_the_autoscaler_asks_for() -> None:
    values = yaml.safe_load((KUBERNETES / "monitoring" / "prometheus-adapter.yaml").read_text())
    (rule,) = values["rules"]["custom"]
    (metric,) = _built("base")["HorizontalPodAutoscaler"]["spec"]["metrics"]
    assert re.fullmatch(rule["name"]["matches"], metric["pods"]["metric"]["name"])
    assert rule["seriesQuery"].startswith(metric["pods"]["metric"]["name"])


def test_the_schemas_refuse_what_kubernetes_would() -> None:
    wrong = _built("base")["Service"] | {"spec": {"portz": []}}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(wrong, NEWEST, strict=True)


@pytest.mark.parametrize("flavour", FLAVOURS)
def test_every_selector_means_our_pods_and_the_clients_selector_does_not(flavour: str) -> None:
    built, labels = _built(flavour), _pod(flavour)["metadata"]["labels"]
    selectors = [
        built["Service"]["spec"]["selector"],
        *(built[kind]["spec"]["selector"]["matchLabels"] for kind in ("Deployment", "PodDisruptionBudget")),
        built["NetworkPolicy"]["spec"]["podSelector"]["matchLabels"],
        *(
            each["labelSelector"]["matchLabels"]
            for each in _pod(flavour)["spec"]["topologySpreadConstraints"]
        ),
    ]
    assert all(selector and selector.items() <= labels.items() for selector in selectors)
    (clients, _), policy = (
        built["NetworkPolicy"]["spec"]["ingress"][0]["from"],
        built["NetworkPolicy"]["spec"],
    )
    assert clients["podSelector"]["matchLabels"] == {"eye2face-client": "true"}
    assert policy["egress"] == []


@pytest.mark.parametrize("flavour", FLAVOURS)
def test_a_pod_keeps_no_right_and_writes_nowhere(flavour: str) -> None:
    spec = _pod(flavour)["spec"]
    (container,) = spec["containers"]
    assert spec["securityContext"]["runAsNonRoot"] is True and spec["automountServiceAccountToken"] is False
    context = container["securityContext"]
    assert context["readOnlyRootFilesystem"] is True and context["allowPrivilegeEscalation"] is False
    assert context["capabilities"] == {"drop": ["ALL"]}
    assert {"cpu", "memory"} <= container["resources"]["limits"].keys()


@pytest.mark.parametrize("flavour", FLAVOURS)
def test_a_pod_names_only_settings_that_exist_and_asks_for_keys(flavour: str) -> None:
    (container,) = _pod(flavour)["spec"]["containers"]
    names = {each["name"] for each in container["env"]}
    assert names == {"EYE2FACE_API_KEYS_FILE", "EYE2FACE_METRICS", "EYE2FACE_SANDBOX"}
    assert {name.removeprefix("EYE2FACE_").lower() for name in names} <= set(Settings.model_fields)
    assert _pod(flavour)["spec"]["enableServiceLinks"] is False  # they would set EYE2FACE_PORT
    (keys,) = [each["value"] for each in container["env"] if each["name"] == "EYE2FACE_API_KEYS_FILE"]
    mounts = {each["name"]: each for each in container["volumeMounts"]}
    volumes = {each["name"]: each for each in _pod(flavour)["spec"]["volumes"]}
    assert mounts["keys"]["mountPath"] == str(Path(keys).parent) and "subPath" not in mounts["keys"]
    secret = volumes["keys"]["secret"]["secretName"]
    assert (
        f"create secret generic {secret} --from-file={Path(keys).name}="
        in (KUBERNETES / "README.md").read_text()
    )


def test_prometheus_reads_what_the_autoscaler_goes_by_and_needs_no_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pod = _pod("base")
    (container,) = pod["spec"]["containers"]
    for each in container["env"]:
        monkeypatch.setenv(each["name"], each["value"])
    (tmp_path / "api-keys").write_text(hashlib.sha256(b"key").hexdigest())
    monkeypatch.setenv("EYE2FACE_API_KEYS_FILE", str(tmp_path / "api-keys"))
    monkeypatch.setenv("EYE2FACE_MODEL", str(tiny_model(tmp_path / "tiny.onnx")))
    annotations = pod["metadata"]["annotations"]
    with TestClient(create_app(Settings(host="0.0.0.0"))) as client:
        assert client.post("/eyes").status_code == 401
        numbers = client.get(annotations.get("prometheus.io/path", "/metrics"))
    assert numbers.status_code == 200
    (metric,) = _built("base")["HorizontalPodAutoscaler"]["spec"]["metrics"]
    assert f"\n{metric['pods']['metric']['name']} 0.0\n" in numbers.text


@pytest.mark.parametrize("flavour", FLAVOURS)
def test_the_probes_ask_for_what_they_mean(flavour: str) -> None:
    (container,) = _pod(flavour)["spec"]["containers"]
    asked = {
        name: container[f"{name}Probe"]["httpGet"]["path"] for name in ("startup", "readiness", "liveness")
    }
    assert asked == {"startup": "/readyz", "readiness": "/readyz", "liveness": "/livez"}
    assert {container[f"{name}Probe"]["httpGet"]["port"] for name in asked} == {container["ports"][0]["name"]}


def test_only_the_gpu_flavour_wants_a_gpu() -> None:
    wanted = {
        flavour: (
            _pod(flavour)["spec"]["containers"][0]["image"],
            _pod(flavour)["spec"]["containers"][0]["resources"]["limits"].get("nvidia.com/gpu"),
        )
        for flavour in FLAVOURS
    }
    assert wanted == {
        "base": (f"eye2face:{__version__}", None),
        "gpu": (f"eye2face:{__version__}-cuda13", "1"),
    }
    assert [_pod(flavour)["spec"].get("runtimeClassName") for flavour in FLAVOURS] == [None, "nvidia"]


def test_the_autoscaler_goes_by_the_photos_that_wait_and_the_deployment_names_no_number() -> None:
    built = _built("base")
    (metric,) = built["HorizontalPodAutoscaler"]["spec"]["metrics"]
    assert metric["pods"]["metric"]["name"] == "eye2face_queue_depth"
    assert built["HorizontalPodAutoscaler"]["spec"]["scaleTargetRef"]["name"] == "eye2face"
    assert "replicas" not in built["Deployment"]["spec"]


@pytest.mark.parametrize("version", [OLDEST, NEWEST])
def test_the_rule_for_traces_that_the_readme_gives_is_one_that_kubernetes_takes(version: str) -> None:
    block = (KUBERNETES / "README.md").read_text().split("```yaml\n")[1].split("```")[0]
    policy = yaml.safe_load((KUBERNETES / "base" / "network-policy.yaml").read_text())
    assert policy["spec"]["egress"] == []
    policy["spec"] |= yaml.safe_load(block)
    assert [rule["ports"][0]["port"] for rule in policy["spec"]["egress"]] == [4318, 53]
    kubernetes_validate.validate(policy, version, strict=True)
