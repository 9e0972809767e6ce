"""docker compose: what .env makes of its files, held to the specification's schema and to the settings."""

import json
import os
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from compose_spec import PyCompose
from pydantic import ValidationError

from service.settings import BridgeSettings, ConfigurationError, Settings

ROOT = Path(__file__).parent.parent
EXAMPLE = (ROOT / ".env.example").read_text()
EVERYTHING = dict(re.findall(r"^#?([A-Z_0-9]+)=(.*)$", EXAMPLE, flags=re.M))
"""Every variable of .env.example, the ones that are commented out as well."""
AS_IT_STANDS = dict(re.findall(r"^([A-Z_0-9]+)=(.*)$", EXAMPLE, flags=re.M))
BRIDGE_PREFIX = str(BridgeSettings.model_config["env_prefix"])


def _compose(environ: dict[str, str], file: str = "docker-compose.yml") -> Any:
    """A file of Compose with its variables replaced, as Compose does.

    Source: docs.docker.com/reference/compose-file/interpolation.
    """

    def replace(found: re.Match[str]) -> str:
        name, sign, word = found.groups()
        value = environ.get(name, "")
        return (word if value else "") if sign == "+" else value or word

    read = json.dumps(yaml.safe_load((ROOT / file).read_text()))
    text = re.sub(r"\$\{(\w+):([-+])([^{}]*)\}", replace, read)
    assert "$" not in text
    return json.loads(text)


COMPOSE = _compose(AS_IT_STANDS)
SERVICES = COMPOSE["services"]
GPU = "docker-compose.gpu.yml"


def _settings(monkeypatch: pytest.MonkeyPatch, environ: dict[str, str], service: str) -> None:
    """Sets what a container of the service is given."""
    for name, value in (environ | _compose(environ)["services"][service]["environment"]).items():
        monkeypatch.setenv(name, value)


@pytest.mark.parametrize("environ", [{}, AS_IT_STANDS, EVERYTHING])
def test_compose_is_what_its_specification_allows(environ: dict[str, str]) -> None:
    # Merged keys (<<) are YAML's, and this parser takes host-gateway for a mistyped address.
    text = json.dumps(_compose(environ)).replace("host-gateway", "172.17.0.1")
    assert (PyCompose.from_json(text).services or {}).keys() == SERVICES.keys()
    with pytest.raises(ValueError, match="portz"):
        PyCompose.from_json(text.replace('"ports"', '"portz"'))
    assert PyCompose.from_json(json.dumps(_compose(environ, GPU)))


def test_the_sample_names_every_variable_of_compose_and_only_settings_beside() -> None:
    files = (ROOT / "docker-compose.yml").read_text() + (ROOT / GPU).read_text()
    ours = {f"EYE2FACE_{name}".upper() for name in Settings.model_fields}
    ours |= {f"{BRIDGE_PREFIX}{name}".upper() for name in BridgeSettings.model_fields}
    of_compose = {"COMPOSE_FILE", "COMPOSE_PROFILES"}
    assert set(re.findall(r"\$\{(\w+)", files)) - {"EYE2FACE_SANDBOX"} <= EVERYTHING.keys()
    assert EVERYTHING.keys() <= ours | of_compose | {"GPU_BUILD"}
    assert all((ROOT / file).exists() for file in EVERYTHING["COMPOSE_FILE"].split(":"))
    named = {
        *EVERYTHING["COMPOSE_PROFILES"].split(","),
        *re.findall(r"(?:^# |; )?(\w+): ", EXAMPLE, flags=re.M),
    }
    assert {"nvr", "bridge", "monitoring"} <= named


def test_without_a_file_of_settings_the_service_refuses_to_start(monkeypatch: pytest.MonkeyPatch) -> None:
    _settings(monkeypatch, {}, "eye2face")
    with pytest.raises(ConfigurationError, match="EYE2FACE_ALLOW_ANONYMOUS"):
        Settings().check_exposure()


def test_as_the_sample_stands_everybody_of_this_machine_may_come(monkeypatch: pytest.MonkeyPatch) -> None:
    _settings(monkeypatch, AS_IT_STANDS, "eye2face")
    settings = Settings()
    settings.check_exposure()
    assert settings.allow_anonymous
    assert (settings.host, settings.port, settings.sandbox) == ("0.0.0.0", 8000, "required")
    assert (settings.api_keys_file, settings.models_dir, settings.model) == (None, None, "synthesizer")
    assert SERVICES["eye2face"]["ports"] == ["127.0.0.1:8000:8000"]


def test_the_sample_configures_keys_port_and_model(monkeypatch: pytest.MonkeyPatch) -> None:
    _settings(monkeypatch, EVERYTHING | {"EYE2FACE_PORT": "9000"}, "eye2face")
    settings, compose = Settings(), _compose(EVERYTHING | {"EYE2FACE_PORT": "9000"})
    assert settings.api_keys_file == Path("/run/secrets/api_keys")
    assert compose["secrets"]["api_keys"]["file"] == EVERYTHING["EYE2FACE_API_KEYS_FILE"]
    assert (settings.host, settings.port, settings.model) == ("0.0.0.0", 8000, "mine")
    assert compose["services"]["eye2face"]["ports"] == ["0.0.0.0:9000:8000"]
    (models,) = compose["services"]["eye2face"]["volumes"]
    assert models == f"{EVERYTHING['EYE2FACE_MODELS_DIR']}:{settings.models_dir}:ro"


def test_the_bridge_takes_the_broker_of_compose_or_another(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    _settings(monkeypatch, AS_IT_STANDS, "bridge")
    own = BridgeSettings()
    assert (own.mqtt_host, own.service) == ("broker", "http://eye2face:8000")
    assert {own.mqtt_password_file, own.service_key_file, own.frigate_token_file} == {None}
    assert {own.api_keys_file, own.webhook_secret_file} == {None}
    _settings(monkeypatch, EVERYTHING, "bridge")
    secrets = {name: f"/run/secrets/{name}" for name in SERVICES["bridge"]["secrets"]}
    variables = {value: name for name, value in os.environ.items()}
    for name, mounted in secrets.items():
        (tmp_path / name).touch()
        monkeypatch.setenv(variables[mounted], str(tmp_path / name))
    other = BridgeSettings()
    assert (other.mqtt_host, other.mqtt_username) == ("192.168.0.4", "eye2face")
    files = (
        *(other.mqtt_password_file, other.service_key_file, other.frigate_token_file),
        *(other.api_keys_file, other.webhook_secret_file),
    )
    assert {file.name for file in files if file} == secrets.keys()
    assert SERVICES["bridge"]["depends_on"]["broker"]["required"] is False


def test_the_bridge_takes_pictures_over_http_with_keys_alone(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    _settings(monkeypatch, AS_IT_STANDS, "bridge")
    assert BridgeSettings().http_port == 0
    for host in ("127.0.0.1", "0.0.0.0"):
        told = AS_IT_STANDS | {"EYE2FACE_BRIDGE_HTTP_PORT": "9001", "EYE2FACE_BRIDGE_HTTP_HOST": host}
        _settings(monkeypatch, told, "bridge")
        assert _compose(told)["services"]["bridge"]["ports"] == [f"{host}:9001:8001"]
        with pytest.raises(ValidationError, match="EYE2FACE_BRIDGE_API_KEYS_FILE"):
            BridgeSettings()
    (tmp_path / "keys").touch()
    monkeypatch.setenv("EYE2FACE_BRIDGE_API_KEYS_FILE", str(tmp_path / "keys"))
    settings = BridgeSettings()
    assert (settings.http_host, settings.http_port) == ("0.0.0.0", 8001)


def test_the_memory_of_the_bridge_outlives_it(monkeypatch: pytest.MonkeyPatch) -> None:
    (volume,) = SERVICES["bridge"]["volumes"]
    folder = volume.partition(":")[2]
    _settings(monkeypatch, AS_IT_STANDS, "bridge")
    memory = BridgeSettings().memory_file
    assert memory is not None and memory.parent == Path(folder)
    assert f" {folder}\n" in (ROOT / "Dockerfile").read_text()


@pytest.mark.parametrize("name", SERVICES)
def test_compose_takes_every_right_away_and_bounds_what_is_left(name: str) -> None:
    one = SERVICES[name]
    assert one["read_only"] is True
    assert one["cap_drop"] == ["ALL"]
    assert one["security_opt"] == ["no-new-privileges:true"]
    assert one["restart"] == "unless-stopped"
    assert one["pids_limit"] > 0 and re.fullmatch(r"\d+[mg]", one["mem_limit"])
    assert all(port.startswith("127.0.0.1:") for port in one.get("ports", []))


def test_the_network_that_a_frigate_in_docker_joins_has_the_name_that_documents_give_it() -> None:
    text = (ROOT / "docs" / "bridge.md").read_text()
    (block,) = re.findall(r"```yaml\n(services:.*?)```", text, flags=re.S)
    assert yaml.safe_load(block)["networks"].keys() == {f"{COMPOSE['name']}_default"}


def test_compose_up_starts_the_service_and_nothing_else() -> None:
    profiles = {name: one.get("profiles", []) for name, one in SERVICES.items()}
    assert profiles == {
        "eye2face": [],
        "broker": ["nvr"],
        "bridge": ["nvr", "bridge"],
        "prometheus": ["monitoring"],
        "grafana": ["monitoring"],
    }


def test_the_gpu_changes_the_image_of_every_container_of_ours() -> None:
    changed = _compose({}, GPU)["services"]
    assert SERVICES["eye2face"]["build"]["target"] == "cpu"
    assert changed["eye2face"]["build"] == {"target": "gpu", "args": {"GPU": "gpu"}}
    other = _compose({"GPU_BUILD": EVERYTHING["GPU_BUILD"]}, GPU)["services"]["eye2face"]["build"]["args"][
        "GPU"
    ]
    assert all((ROOT / "requirements" / f"{build}.txt").exists() for build in ("gpu", other))
    ours = {name for name, one in SERVICES.items() if one["image"] == "eye2face:cpu"}
    assert {name: one["image"] for name, one in changed.items()} == dict.fromkeys(ours, "eye2face:gpu")


def test_what_compose_mounts_is_there_and_no_secret_is_in_it() -> None:
    volumes = [each for one in SERVICES.values() for each in one.get("volumes", [])]
    mounted = [each.split(":")[0] for each in volumes if each.startswith("./")]
    assert len(mounted) == 5 and all((ROOT / each).exists() for each in mounted)
    assert all(each.endswith(":ro") for each in volumes if each.startswith("./"))
    named = {each.split(":")[0] for each in volumes if not each.startswith("./")}
    assert named == set(COMPOSE["volumes"])
    files = {one["file"] for one in _compose(EVERYTHING)["secrets"].values()}
    assert all(file.startswith("./secrets/") for file in files) and len(files) == 7
    assert {"secrets/", ".env"} <= set((ROOT / ".gitignore").read_text().split("\n"))


def test_two_services_of_compose_never_want_the_same_port() -> None:
    ports = [port.rpartition(":")[0] for one in SERVICES.values() for port in one.get("ports", [])]
    assert len(ports) == len(set(ports))
