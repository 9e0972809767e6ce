"""Home Assistant's MQTT discovery: for each camera an image entity and an event entity.

Source: home-assistant.io/integrations, mqtt, image.mqtt and event.mqtt.
"""

import json
from typing import Any, get_args

from service import __version__
from service.bridge.mqtt import Publication
from service.bridge.outcomes import OutcomeKind
from service.settings import BridgeSettings


def discovery_messages(settings: BridgeSettings, camera: str) -> list[Publication]:
    """The last face of a camera as an image, and what comes of its events."""
    base = f"{settings.topic}/{camera}"
    image = {
        "image_topic": f"{base}/image",
        "content_type": f"image/{settings.format}",
        "json_attributes_topic": f"{base}/result",
        "icon": "mdi:face-man-shimmer-outline",
    }
    event = {
        "state_topic": f"{base}/event",
        "event_types": get_args(OutcomeKind),
        "icon": "mdi:eye-outline",
    }
    return [
        _discovery_message(settings, camera, "image", "face", "synthetic face", image),
        _discovery_message(settings, camera, "event", "event", "eye event", event),
    ]


def _discovery_message(
    settings: BridgeSettings, camera: str, component: str, id: str, name: str, own: dict[str, Any]
) -> Publication:
    node = settings.topic.replace("/", "_")
    slug = f"{node}_{camera}_{name}".lower().replace("-", "_").replace(" ", "_")
    config = own | {
        "name": f"{camera} {name}",
        "unique_id": f"{node}_{camera}_{id}",
        "default_entity_id": f"{component}.{slug}",
        "availability_topic": f"{settings.topic}/available",
        "device": {
            "identifiers": [node],
            "name": "eye2face",
            "model": "Synthetic faces, identifying nobody",
            "sw_version": __version__,
            "configuration_url": settings.service,
        },
        "origin": {"name": "eye2face", "sw_version": __version__},
    }
    topic = f"{settings.home_assistant_topic}/{component}/{node}/{camera}/config"
    return Publication(topic, json.dumps(config), retain=True)
