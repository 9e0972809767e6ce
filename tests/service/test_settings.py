"""Settings: defaults, environment variables, and validation."""

import hashlib
import os
from pathlib import Path

import pytest
from pydantic import ValidationError
from pydantic_settings import BaseSettings

from service.settings import (
    BridgeSettings,
    ConfigurationError,
    Settings,
    warn_about_unknown_variables,
)

KEY_HASH = hashlib.sha256(b"open sesame").hexdigest()


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [each for each in os.environ if each.upper().startswith("EYE2FACE_")]:
        monkeypatch.delenv(name)


def test_the_defaults_are_safe() -> None:
    settings = Settings()
    assert settings.host == "127.0.0.1"
    assert settings.max_upload_bytes == 20_000_000
    assert settings.max_pixels == 50_000_000
    assert settings.api_keys == ()
    assert not settings.allow_anonymous


def test_every_setting_is_read_from_its_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    values = {
        "HOST": "0.0.0.0",
        "PORT": "9000",
        "MODEL": "/models/mine.onnx",
        "MODELS_DIR": "/models",
        "MODEL_WATCH_S": "5",
        "DEVICE": "cpu",
        "EYE_FINDER": "haar",
        "MIN_EYE_PX": "8",
        "MIN_EYE_LIGHT": "0",
        "MIN_EYE_SHARPNESS": "0.5",
        "MAX_UPLOAD_BYTES": "1000",
        "MAX_PIXELS": "2000",
        "NUM_THREADS": "3",
        "NUM_READERS": "2",
        "SANDBOX": "required",
        "MARKING": "off",
        "MARKING_SECRET_FILE": "/secrets/marking",
        "C2PA_CERT_FILE": "/c2pa.pem",
        "C2PA_KEY_FILE": "/c2pa.key",
        "C2PA_TRUST_FILE": "/roots.pem",
        "OPERATOR_NAME": "Museum",
        "OPERATOR_CONTACT": "faces@example.org",
        "VERIFY": "key",
        "MAX_VERIFICATIONS_PER_MINUTE": "6",
        "MAX_BATCH_PHOTOS": "5",
        "MAX_BATCH_BYTES": "6000",
        "MAX_PEOPLE": "4",
        "MAX_QUEUED": "7",
        "MAX_WAIT_MS": "500",
        "DEADLINE_MS": "2000.5",
        "UPLOAD_TIMEOUT_S": "5",
        "STOP_TIMEOUT_S": "0",
        "METRICS": "open",
        "API_KEYS": KEY_HASH,
        "API_KEYS_FILE": "/keys.txt",
        "TLS_CERT_FILE": "/tls.crt",
        "TLS_KEY_FILE": "/tls.key",
        "MAX_REQUESTS_PER_MINUTE": "60",
        "MAX_CONCURRENT_REQUESTS": "2",
        "TRUSTED_PROXIES": "10.0.0.1",
        "ALLOW_ANONYMOUS": "true",
        "DOCS": "false",
        "CORS_ORIGINS": "https://example.org, http://localhost:3000",
        "TRACING": "true",
        "LOG_LEVEL": "warning",
        "LOG_FORMAT": "json",
    }
    for name, value in values.items():
        monkeypatch.setenv(f"EYE2FACE_{name}", value)
    assert {name.upper() for name in Settings.model_fields} == set(values)
    assert Settings().model_dump() == {
        "host": "0.0.0.0",
        "port": 9000,
        "model": "/models/mine.onnx",
        "models_dir": Path("/models"),
        "model_watch_s": 5.0,
        "device": "cpu",
        "eye_finder": "haar",
        "min_eye_px": 8.0,
        "min_eye_light": 0.0,
        "min_eye_sharpness": 0.5,
        "max_upload_bytes": 1000,
        "max_pixels": 2000,
        "num_threads": 3,
        "num_readers": 2,
        "sandbox": "required",
        "marking": "off",
        "marking_secret_file": Path("/secrets/marking"),
        "c2pa_cert_file": Path("/c2pa.pem"),
        "c2pa_key_file": Path("/c2pa.key"),
        "c2pa_trust_file": Path("/roots.pem"),
        "operator_name": "Museum",
        "operator_contact": "faces@example.org",
        "verify": "key",
        "max_verifications_per_minute": 6,
        "max_batch_photos": 5,
        "max_batch_bytes": 6000,
        "max_people": 4,
        "max_queued": 7,
        "max_wait_ms": 500.0,
        "deadline_ms": 2000.5,
        "upload_timeout_s": 5.0,
        "stop_timeout_s": 0.0,
        "metrics": "open",
        "api_keys": (KEY_HASH,),
        "api_keys_file": Path("/keys.txt"),
        "tls_cert_file": Path("/tls.crt"),
        "tls_key_file": Path("/tls.key"),
        "max_requests_per_minute": 60,
        "max_concurrent_requests": 2,
        "trusted_proxies": "10.0.0.1",
        "allow_anonymous": True,
        "docs": False,
        "cors_origins": ("https://example.org", "http://localhost:3000"),
        "tracing": True,
        "log_level": "warning",
        "log_format": "json",
    }


@pytest.mark.parametrize("kind", [Settings, BridgeSettings])
def test_every_setting_has_a_description(kind: type[BaseSettings]) -> None:
    assert [name for name, field in kind.model_fields.items() if not field.description] == []


def test_settings_cannot_be_changed() -> None:
    with pytest.raises(ValidationError):
        Settings().port = 1  # type: ignore[misc]


@pytest.mark.parametrize(
    ("name", "value"),
    [("DEVICE", "tpu"), ("PORT", "70000"), ("MAX_PIXELS", "0"), ("NUM_THREADS", "-1"), ("LOG_LEVEL", "loud")],
)
def test_an_invalid_value_is_refused_and_names_the_setting(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(f"EYE2FACE_{name}", value)
    with pytest.raises(ValidationError, match=name.lower()):
        Settings()


SERVICE_LINKS = {
    "EYE2FACE_PORT": "tcp://10.0.0.7:80",
    "EYE2FACE_PORT_80_TCP": "tcp://10.0.0.7:80",
    "EYE2FACE_PORT_80_TCP_ADDR": "10.0.0.7",
    "EYE2FACE_PORT_80_TCP_PORT": "80",
    "EYE2FACE_PORT_80_TCP_PROTO": "tcp",
    "EYE2FACE_SERVICE_HOST": "10.0.0.7",
    "EYE2FACE_SERVICE_PORT": "80",
    "EYE2FACE_SERVICE_PORT_HTTP": "80",
    "EYE2FACE_BRIDGE_MQTT_PORT": "tcp://10.0.0.8:1883",
    "EYE2FACE_BRIDGE_HTTP_PORT": "tcp://10.0.0.9:8001",
    "EYE2FACE_BRIDGE_MQTT_SERVICE_HOST": "10.0.0.8",
}
"""Variables that Kubernetes sets in each pod beside Services named eye2face and eye2face-bridge-mqtt."""


def test_kubernetes_service_links_are_ignored(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for name, value in SERVICE_LINKS.items():
        monkeypatch.setenv(name, value)
    assert (Settings().port, BridgeSettings().mqtt_port, BridgeSettings().http_port) == (8000, 1883, 0)
    warn_about_unknown_variables()
    assert caplog.text == ""


def test_unknown_variables_are_logged_with_the_closest_name_and_without_their_value(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    known = {
        "eye2face_max_queued": "3", "EYE2FACE_BRIDGE_TOPIC": "faces", "EYE2FACE_BRIDGE_SERVICE": "http://x",
    }  # fmt: skip
    wrong = {"EYE2FACE_API_KEY": "open sesame", "EYE2FACE_BRIDGE_MQTT_HOSTS": "x", "EYE2FACE_COLOUR": "red"}
    for name, value in {**known, **wrong}.items():
        monkeypatch.setenv(name, value)
    warn_about_unknown_variables()
    assert [record.getMessage() for record in caplog.records] == [
        "EYE2FACE_API_KEY is not a setting and is ignored; did you mean EYE2FACE_API_KEYS?",
        "EYE2FACE_BRIDGE_MQTT_HOSTS is not a setting and is ignored; did you mean EYE2FACE_BRIDGE_MQTT_HOST?",
        "EYE2FACE_COLOUR is not a setting and is ignored",
    ]


def test_api_keys_are_split_at_commas(monkeypatch: pytest.MonkeyPatch) -> None:
    other = hashlib.sha256(b"other").hexdigest()
    monkeypatch.setenv("EYE2FACE_API_KEYS", f" {KEY_HASH.upper()}, {other},")
    assert Settings().api_keys == (KEY_HASH, other)


def test_an_unhashed_api_key_is_refused_and_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EYE2FACE_API_KEYS", f"{KEY_HASH},open sesame")
    with pytest.raises(ValidationError, match="entry 2 is not 64 hexadecimal digits") as caught:
        Settings()
    assert "sesame" not in str(caught.value)


def test_the_hash_of_an_empty_key_is_refused() -> None:
    with pytest.raises(ValidationError, match="hash of an empty key"):
        Settings(api_keys=(KEY_HASH, hashlib.sha256(b"").hexdigest()))


def test_a_tls_key_without_a_certificate_is_refused() -> None:
    with pytest.raises(ValidationError, match="without tls_cert_file"):
        Settings(tls_key_file="/tls.key")


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.8.8", "::1", "localhost"])
def test_loopback_needs_no_api_key(host: str) -> None:
    Settings(host=host).check_exposure()


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.0.7", "eye2face.example", ""])
def test_other_addresses_need_api_keys_or_allow_anonymous(host: str) -> None:
    with pytest.raises(ConfigurationError, match="EYE2FACE_API_KEYS"):
        Settings(host=host).check_exposure()
    Settings(host=host, api_keys=(KEY_HASH,)).check_exposure()
    Settings(host=host, allow_anonymous=True).check_exposure()


@pytest.mark.parametrize(
    "origin",
    ["example.org", "https://example.org/", "https://a.org/page", "null", "ftp://a.org", "https://u@a.org"],
)
def test_an_invalid_cors_origin_is_refused(origin: str) -> None:
    with pytest.raises(ValidationError, match="is not an origin"):
        Settings(cors_origins=("https://fine.example", origin))


def test_the_bridge_reads_its_own_prefix_and_splits_lists_at_commas(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EYE2FACE_BRIDGE_CAMERAS", " yard, porch ,")
    monkeypatch.setenv("EYE2FACE_BRIDGE_LABELS", "person,face")
    monkeypatch.setenv("EYE2FACE_BRIDGE_SOURCE", "pictures")
    monkeypatch.setenv("EYE2FACE_BRIDGE_PICTURE_TOPICS", "a/{camera}/b, {camera}-c")
    monkeypatch.setenv("EYE2FACE_PORT", "9")
    settings = BridgeSettings()
    assert settings.picture_topics == ("a/{camera}/b", "{camera}-c")
    assert settings.cameras == ("yard", "porch")
    assert settings.labels == ("person", "face")
    assert settings.mqtt_port == 1883


@pytest.mark.parametrize(
    "wrong",
    [
        {"labels": ""},
        {"labels": "person,+"},
        {"labels": "a/b"},
        {"topic": "eye2face/#"},
        {"topic": "/eye2face"},
        {"frigate_topic": ""},
        {"mqtt_client_id": "two words"},
        {"mqtt_host": ""},
        {"mqtt_ca_file": "/nowhere"},
        {"frigate": "frigate:5000"},
        {"service": "ftp://service"},
        {"num_workers": "0"},
        {"source": "both"},
        {"source": "snapshots", "zones": "yard"},
        {"source": "snapshots", "min_area": "1"},
        {"source": "snapshots", "when": "end"},
        {"source": "pictures"},
        {"source": "http", "http_port": "8001"},
        {"source": "http", "webhook": "http://a"},
        {"picture_topics": "a/{camera}"},
        {"source": "pictures", "picture_topics": "a/{camera}", "when": "end"},
        {"source": "pictures", "picture_topics": "a/b"},
        {"http_port": "8001", "http_host": "0.0.0.0"},
        {"http_port": "8001", "http_host": "bridge"},
        {"http_port": "70000"},
        {"webhook": "ftp://receiver"},
        {"webhook_secret_file": "/nowhere"},
        {"source": "pictures", "picture_topics": "a/{camera}/{camera}"},
        {"source": "pictures", "picture_topics": "a/{camera}/+"},
        {"source": "pictures", "picture_topics": "a/{camera}/#"},
        {"source": "pictures", "picture_topics": "a/{camera}/{label}"},
    ],
    ids=str,
)
def test_invalid_bridge_settings_are_refused(wrong: dict[str, str]) -> None:
    with pytest.raises(ValidationError):
        BridgeSettings.model_validate(wrong)


@pytest.mark.parametrize(
    "wrong", ["mqtt://broker", "mqtts://me:secret@broker:1883", "broker:1883", "[::1]", "broker/", "a b"]
)
def test_a_brokers_host_is_a_name_or_an_address_alone(wrong: str) -> None:
    for host in ("broker", "192.168.0.4", "::1", "fe80::1%eth0"):
        assert BridgeSettings(mqtt_host=host).mqtt_host == host
    with pytest.raises(ValidationError, match="its port is EYE2FACE_BRIDGE_MQTT_PORT") as caught:
        BridgeSettings(mqtt_host=wrong)
    assert "secret" not in str(caught.value)
