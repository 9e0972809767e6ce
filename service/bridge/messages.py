"""JSON messages of the bridge: results, errors and Home Assistant's MQTT discovery; no identities."""

import hashlib
import json
from dataclasses import asdict
from typing import Any

from service.bridge.mqtt import Publication
from service.bridge.sources import CameraEvent
from service.client.models import Synthesis
from service.errors import Eye2FaceError
from service.settings import BridgeSettings


def result_message(event: CameraEvent, synthesis: Synthesis, timings_ms: dict[str, float]) -> str:
    """The result beside a face: its event, eye, model, timings and the SHA-256 of its image."""
    face = synthesis.faces[0]
    return json.dumps(
        _event_fields(event)
        | {name: value for name, value in asdict(face).items() if name != "image"}
        | {
            "sha256": hashlib.sha256(face.image).hexdigest(),
            "model": asdict(synthesis.model),
            "device": synthesis.device,
            "timings_ms": timings_ms,
            "request_id": synthesis.request_id,
            "synthetic": True,
            "not_for_identification": True,
        }
    )


def error_message(error: Eye2FaceError, event: CameraEvent | None = None) -> str:
    """The error in place of a face, with `code`, `title` and `detail` as in the service's problems."""
    problem = {"code": error.code, "title": error.title, "detail": str(error)}
    if error.request_id:
        problem["request_id"] = error.request_id
    return json.dumps((_event_fields(event) if event else {}) | problem)


def discovery_message(settings: BridgeSettings, camera: str) -> Publication:
    """Home Assistant's MQTT discovery: an image entity of a camera's last face.

    Source: home-assistant.io/integrations/image.mqtt.
    """
    node, base = settings.topic.replace("/", "_"), f"{settings.topic}/{camera}"
    config = {
        "name": f"{camera} synthetic face",
        "unique_id": f"{node}_{camera}_face",
        "image_topic": f"{base}/image",
        "content_type": f"image/{settings.format}",
        "json_attributes_topic": f"{base}/result",
        "availability_topic": f"{settings.topic}/available",
        "icon": "mdi:face-man-shimmer-outline",
        "device": {"identifiers": [node], "name": "eye2face", "model": "Synthetic faces, identifying nobody"},
    }
    topic = f"{settings.home_assistant_topic}/image/{node}/{camera}/config"
    return Publication(topic, json.dumps(config), retain=True)


def _event_fields(event: CameraEvent) -> dict[str, Any]:
    return {
        "event_id": event.event_id,
        "camera": event.camera,
        "label": event.label,
        "zones": event.zones,
        "source_topic": event.source_topic,
    }
