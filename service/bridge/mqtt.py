"""The connection to the MQTT broker: reconnects, at-least-once delivery in, exactly-once delivery out.

A message in is acknowledged when its work is done, so that the broker redelivers it to a bridge that died. A
message out has QoS 2, whose handshake survives a lost connection. A broker that lost its session has
forgotten its half of the handshakes; messages that it had not confirmed are then published again, rather
twice than never.
"""

import logging
import math
import socket
import sys
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode
from paho.mqtt.subscribeoptions import SubscribeOptions

from service.access.tls import client_context
from service.errors import Eye2FaceError
from service.settings import BridgeSettings
from service.system.operator_files import read_secret

_SESSION_S: Final = 24 * 3600
"""Expiry of the broker's session: it queues events while the bridge is away."""

_KEEPALIVE_S: Final = 30
_MAX_RECONNECT_S: Final = 30
_CLOSE_TIMEOUT_S: Final = 2.0
_HEADER_BYTES: Final = 16
"""A packet's type, length, length of its topic, message id and properties."""

_POLL_S: Final = 0.2
"""Interval at which `publish` checks for a closed connection or a new session."""

_log = logging.getLogger(__name__)
_paho_log = _log.getChild("paho")
_paho_log.addFilter(lambda record: "is not connected" not in record.getMessage())  # `_failed` says why


@dataclass(frozen=True, slots=True)
class DeliveryTag:
    """Identifies a received message for its acknowledgement, on the connection that it came by."""

    mid: int
    qos: int
    connection: int


NO_TAG: Final = DeliveryTag(0, 0, 0)
"""That of an event that came by other ways; acknowledging it does nothing."""


@dataclass(frozen=True, slots=True)
class Publication:
    """A message to publish."""

    topic: str
    payload: bytes | str
    retain: bool = False


class ConnectionClosed(Eye2FaceError):
    """The connection was closed before the broker confirmed a message."""


class MqttConnection:
    """A connection that paho-mqtt keeps up; `on_message` runs in its thread and must not block."""

    def __init__(
        self,
        settings: BridgeSettings,
        subscriptions: Sequence[str],
        *,
        max_message_bytes: int,
        on_message: Callable[[mqtt.MQTTMessage, DeliveryTag], None],
        on_new_session: Callable[[], None],
    ) -> None:
        """`on_new_session` is called when the broker has lost our session, and perhaps retained messages."""
        self._host, self._port = settings.mqtt_host, settings.mqtt_port
        self._subscriptions = subscriptions
        self._max_message_bytes = max_message_bytes
        self._availability = f"{settings.topic}/available"
        self._on_message = on_message
        self._on_new_session = on_new_session
        self._lock = threading.Lock()
        self._online = False
        self._available = True
        self._connection = 0  # message ids are valid on one connection only
        self._session = 0
        self._max_sent_bytes = math.inf
        self._closing = threading.Event()
        self._client = mqtt.Client(
            CallbackAPIVersion.VERSION2, settings.mqtt_client_id, protocol=mqtt.MQTTv5, manual_ack=True
        )
        self._client.enable_logger(_paho_log)
        self._client.suppress_exceptions = True  # paho logs what a callback raises and reads on
        if settings.mqtt_tls:
            self._client.tls_set_context(client_context(settings.mqtt_ca_file))
        password = read_secret(settings.mqtt_password_file)
        if settings.mqtt_username is not None:
            self._client.username_pw_set(settings.mqtt_username, password)
        self._client.will_set(self._availability, "offline", qos=1, retain=True)
        self._client.reconnect_delay_set(1, _MAX_RECONNECT_S)
        self._client.on_socket_open = _set_nodelay
        self._client.on_connect = self._connected
        self._client.on_connect_fail = self._failed
        self._client.on_disconnect = self._disconnected
        self._client.on_message = self._received

    def open(self) -> None:
        """Starts connecting in the background, and reconnects whenever the connection is lost."""
        properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
        properties.SessionExpiryInterval = _SESSION_S
        properties.MaximumPacketSize = self._max_message_bytes  # the broker drops larger ones
        self._client.connect_async(
            self._host, self._port, _KEEPALIVE_S, clean_start=False, properties=properties
        )
        self._client.loop_start()

    def publish(self, message: Publication) -> None:
        """Publishes exactly once and blocks until the broker confirms, across reconnects.

        Raises:
            ConnectionClosed: `close` was called before.
            ValueError: the broker would close the connection at so long a message, and at each retry.
        """
        if len(message.topic) + len(message.payload) + _HEADER_BYTES > self._max_sent_bytes:
            raise ValueError(f"the broker takes at most {self._max_sent_bytes} bytes on {message.topic}")
        while True:
            with self._lock:
                session = self._session
                sent = self._client.publish(message.topic, message.payload, qos=2, retain=message.retain)
            if sent.rc == MQTTErrorCode.MQTT_ERR_NO_CONN:
                sent.rc = MQTTErrorCode.MQTT_ERR_SUCCESS  # paho queues it for the next connection
            while session == self._session and not sent.is_published():
                if self._closing.is_set():
                    raise ConnectionClosed
                sent.wait_for_publish(_POLL_S)
            if sent.is_published():
                return

    def publish_unconfirmed(self, topic: str, payload: bytes | str) -> None:
        """Publishes at most once, without blocking; for the MQTT thread, too."""
        self._client.publish(topic, payload, qos=0)

    def acknowledge(self, tag: DeliveryTag) -> None:
        """Acknowledges a message; one of an earlier connection is redelivered instead."""
        with self._lock:
            if tag.qos and self._online and tag.connection == self._connection:
                self._client.ack(tag.mid, tag.qos)

    def set_available(self, available: bool) -> None:
        """Publishes `online` or `offline` if that has changed, and after each reconnect."""
        if available != self._available:
            self._available = available
            self._publish_availability()

    def close(self) -> None:
        """Publishes `offline` and disconnects; unconfirmed messages are dropped."""
        if self._online:
            self._available = False
            offline = self._publish_availability()
            if offline.rc == MQTTErrorCode.MQTT_ERR_SUCCESS:
                offline.wait_for_publish(_CLOSE_TIMEOUT_S)
        self._closing.set()
        self._client.disconnect()
        self._client.loop_stop()

    def _connected(
        self, client: mqtt.Client, _: Any, flags: mqtt.ConnectFlags, reason: ReasonCode, properties: Any
    ) -> None:
        if reason.is_failure:
            about = "EYE2FACE_BRIDGE_MQTT_USERNAME and _PASSWORD_FILE"
            _log.error("the broker %s refuses the connection: %s; see %s", self._host, reason, about)
            return
        with self._lock:
            self._online, self._connection = True, self._connection + 1
            self._max_sent_bytes = getattr(properties, "MaximumPacketSize", math.inf)
            if not flags.session_present:
                client.drop_out_messages()  # `publish` sends them anew
                self._session += 1
        # `noLocal`: what the bridge publishes is never a picture to draw from.
        options = SubscribeOptions(qos=1, noLocal=True, retainHandling=SubscribeOptions.RETAIN_DO_NOT_SEND)
        if self._subscriptions:
            client.subscribe([(topic, options) for topic in self._subscriptions])
        self._publish_availability()
        if not flags.session_present:
            self._on_new_session()
        _log.info("connected to %s:%d", self._host, self._port)

    def _publish_availability(self) -> mqtt.MQTTMessageInfo:
        state = "online" if self._available else "offline"
        return self._client.publish(self._availability, state, qos=1, retain=True)

    def _failed(self, *_: Any) -> None:
        reason = sys.exception()  # paho calls this in its except clause
        about = f"{self._host}:{self._port} (EYE2FACE_BRIDGE_MQTT_HOST)"
        _log.warning("%s cannot be reached, trying again: %s", about, reason)

    def _disconnected(self, _: Any, __: Any, ___: Any, reason: ReasonCode, *____: Any) -> None:
        with self._lock:
            self._online = False
        if not self._closing.is_set():
            _log.warning("the connection to %s was lost: %s", self._host, reason)

    def _received(self, _: Any, __: Any, message: mqtt.MQTTMessage) -> None:
        self._on_message(message, DeliveryTag(message.mid, message.qos, self._connection))


def _set_nodelay(client: mqtt.Client, userdata: Any, connection: Any) -> None:
    """Disables Nagle's algorithm, which delays the small packets of a handshake by up to 40 ms each."""
    if isinstance(connection, socket.socket):
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
