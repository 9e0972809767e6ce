"""The line to the MQTT broker: it comes back when it breaks, and knows what was handed over and what was not.

Messages come in at least once: they are acknowledged when their work is done, so that the broker gives them
again to a bridge that died. Messages go out exactly once (QoS 2): the handshakes of both sides survive a lost
connection. A broker that comes back without its sessions has forgotten its half of them; what it had not
confirmed is then sent anew, once more rather than never.
"""

import logging
import socket
import ssl
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

_SESSION_S: Final = 24 * 3600
"""So long the broker keeps what comes while the bridge is away."""

_KEEPALIVE_S: Final = 30
_MAX_RECONNECT_S: Final = 30
_FAREWELL_S: Final = 2.0
_LOOK_UP_S: Final = 0.2
"""So often a message that waits looks whether the line was closed, or the broker forgot it."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class DeliveryTag:
    """What goes back to the broker when a message's work is done; without it the message comes again."""

    mid: int
    qos: int
    connection: int


@dataclass(frozen=True, slots=True)
class Message:
    """One message that came in."""

    topic: str
    payload: bytes
    retained: bool
    tag: DeliveryTag


@dataclass(frozen=True, slots=True)
class MqttOptions:
    """Where the broker is, who we are to it, and what we want of it."""

    host: str
    port: int
    trust: ssl.SSLContext | None
    """What the broker's certificate is checked by; None: no TLS."""
    client_id: str
    username: str | None
    password: str | None
    subscriptions: Sequence[str]
    max_message_bytes: int
    availability: str
    """The topic that says `online`, and `offline` when we are gone."""


class ConnectionClosed(Exception):
    """The line was closed while a message waited to be handed over."""


class MqttConnection:
    """The line itself. `on_message` runs in the line's own thread: while it works, nothing more is read."""

    def __init__(
        self, access: MqttOptions, on_message: Callable[[Message], None], on_new_session: Callable[[], None]
    ) -> None:
        """`on_new_session`: the broker knows nothing of earlier, retained messages perhaps included."""
        self._options = access
        self._on_message = on_message
        self._on_new_session = on_new_session
        self._lock = threading.Lock()
        self._online = False
        self._connection = 0  # counted, because a message's number means something on its own one only
        self._session = 0
        self._closing = threading.Event()
        self._client = mqtt.Client(
            CallbackAPIVersion.VERSION2, client_id=access.client_id, protocol=mqtt.MQTTv5, manual_ack=True
        )
        if access.trust is not None:
            self._client.tls_set_context(access.trust)
        if access.username is not None:
            self._client.username_pw_set(access.username, access.password)
        self._client.will_set(access.availability, "offline", qos=1, retain=True)
        self._client.reconnect_delay_set(1, _MAX_RECONNECT_S)
        self._client.on_socket_open = _send_at_once
        self._client.on_connect = self._connected
        self._client.on_connect_fail = self._failed
        self._client.on_disconnect = self._disconnected
        self._client.on_message = self._received

    def open(self) -> None:
        """Connects, now or as soon as the broker is there, and again whenever the line breaks."""
        wishes = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
        wishes.SessionExpiryInterval = _SESSION_S
        wishes.MaximumPacketSize = self._options.max_message_bytes  # larger ones stay with the broker
        self._client.connect_async(
            self._options.host, self._options.port, _KEEPALIVE_S, clean_start=False, properties=wishes
        )
        self._client.loop_start()

    def publish(self, topic: str, payload: bytes | str, *, retain: bool = False) -> None:
        """Returns when the broker has the message, once, however often the line breaks until then.

        Raises:
            ConnectionClosed: the line was closed before.
        """
        while True:
            with self._lock:
                session = self._session
                handed = self._client.publish(topic, payload, qos=2, retain=retain)
            if handed.rc == MQTTErrorCode.MQTT_ERR_NO_CONN:
                handed.rc = MQTTErrorCode.MQTT_ERR_SUCCESS  # it is kept, and goes out with the next line
            while session == self._session and not handed.is_published():
                if self._closing.is_set():
                    raise ConnectionClosed
                handed.wait_for_publish(_LOOK_UP_S)
            if handed.is_published():
                return

    def publish_unconfirmed(self, topic: str, payload: bytes | str) -> None:
        """Publishes what may get lost, without waiting; for the line's own thread too."""
        self._client.publish(topic, payload, qos=0)

    def acknowledge(self, tag: DeliveryTag) -> None:
        """Tells the broker that it need not give the message again; one of an earlier line it will."""
        with self._lock:
            if tag.qos and self._online and tag.connection == self._connection:
                self._client.ack(tag.mid, tag.qos)

    def close(self) -> None:
        """Says goodbye; what was not handed over by now stays unsent."""
        if self._online:
            farewell = self._client.publish(self._options.availability, "offline", qos=1, retain=True)
            if farewell.rc == MQTTErrorCode.MQTT_ERR_SUCCESS:
                farewell.wait_for_publish(_FAREWELL_S)
        self._closing.set()
        self._client.disconnect()
        self._client.loop_stop()

    def _connected(
        self,
        client: mqtt.Client,
        userdata: Any,
        flags: mqtt.ConnectFlags,
        reason: ReasonCode,
        properties: Properties | None,
    ) -> None:
        if reason.is_failure:
            _log.error("the broker %s refuses: %s", self._options.host, reason)
            return
        with self._lock:
            self._online, self._connection = True, self._connection + 1
            if not flags.session_present:
                client.drop_out_messages()  # `publish` sends them anew
                self._session += 1
        options = SubscribeOptions(qos=1, retainHandling=SubscribeOptions.RETAIN_DO_NOT_SEND)
        client.subscribe([(topic, options) for topic in self._options.subscriptions])
        client.publish(self._options.availability, "online", qos=1, retain=True)
        if not flags.session_present:
            self._on_new_session()
        _log.info("connected to %s:%d", self._options.host, self._options.port)

    def _failed(self, client: mqtt.Client, userdata: Any) -> None:
        reason = sys.exception()  # paho calls this where it caught it
        _log.warning("%s:%d cannot be reached: %s", self._options.host, self._options.port, reason)

    def _disconnected(
        self,
        client: mqtt.Client,
        userdata: Any,
        flags: mqtt.DisconnectFlags,
        reason: ReasonCode,
        properties: Properties | None,
    ) -> None:
        with self._lock:
            self._online = False
        if not self._closing.is_set():
            _log.warning("the line to %s broke: %s", self._options.host, reason)

    def _received(self, client: mqtt.Client, userdata: Any, message: mqtt.MQTTMessage) -> None:
        try:
            topic = message.topic
        except UnicodeDecodeError:  # none that we subscribe to
            client.ack(message.mid, message.qos)
            return
        tag = DeliveryTag(message.mid, message.qos, self._connection)
        self._on_message(Message(topic, bytes(message.payload), message.retain, tag))


def _send_at_once(client: mqtt.Client, userdata: Any, line: Any) -> None:
    """A handshake is a few small packets; the kernel would hold some back, up to 40 ms each (Nagle)."""
    if isinstance(line, socket.socket):
        line.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
