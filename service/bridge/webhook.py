"""The webhook: each outcome as a CloudEvent, signed, and sent until the receiver takes it.

Sources: CloudEvents 1.0.2, JSON format, structured mode; standardwebhooks.com, specification 1.0.
"""

import base64
import binascii
import hashlib
import hmac
import json
import logging
import ssl
import threading
import time
from datetime import UTC, datetime
from typing import Any, Final

import httpx

from service.bridge.database import MAX_REMEMBERED, Database
from service.bridge.outcomes import Outcome, OutcomeKind
from service.client.exchange import open_http, root_cause, send
from service.client.loop_thread import LoopThread
from service.client.models import Synthesis
from service.client.retries import RetryPolicy, retry_after_s
from service.engine.worker_pool import attempt
from service.settings import BridgeSettings, ConfigurationError
from service.system.operator_files import read_secret

MAX_AGE_S: Final = 24 * 3600
"""Age at which a message is given up: that of the broker's session."""

_TYPES: Final[dict[OutcomeKind, str]] = {
    "face_drawn": "io.eye2face.face.drawn.v1",
    "eye_refused": "io.eye2face.face.refused.v1",
    "no_eye": "io.eye2face.face.refused.v1",
    "failed": "io.eye2face.face.failed.v1",
}
_ONE_TRY: Final = RetryPolicy(max_tries=1, deadline_s=15.0, backoff_s=1.0, max_backoff_s=60.0)
"""Of one attempt to send a message, and the backoff before the next."""

_MAX_RETRY_AFTER_S: Final = 3600.0
_MAX_ANSWER_BYTES: Final = 100_000
_CLOSE_S: Final = 2.0
_SECRET_PREFIX: Final = "whsec_"
_MIN_SECRET_BYTES: Final = 24

_log = logging.getLogger(__name__)


class Webhook:
    """Keeps each outcome in the database until the receiver has answered 2xx."""

    def __init__(
        self, settings: BridgeSettings, url: str, database: Database, verify: ssl.SSLContext | bool = True
    ) -> None:
        """`verify` is that of httpx.

        Raises:
            ConfigurationError: the secret cannot be used.
            InvalidParameter: the address is invalid.
        """
        self._settings, self._url, self._database = settings, url, database
        self._secret = read_signing_secret(settings)
        self._http = open_http(url, {}, timeout_s=_ONE_TRY.deadline_s, verify=verify)
        self._loop = LoopThread()
        self._wake = threading.Event()
        self._stopping = False
        self._num_failures = 0  # in a row
        self._thread = threading.Thread(target=self._deliver_all, name="webhook", daemon=True)

    def open(self) -> None:
        """Starts sending, first what an earlier bridge could not send."""
        self._make_all_due()
        self._thread.start()

    @property
    def num_waiting(self) -> int:
        """Messages that the receiver has not taken yet."""
        ((number,),) = self._database.execute("SELECT count(*) FROM outgoing WHERE body NOT NULL")
        return int(number)

    def send(self, outcome: Outcome) -> None:
        """Keeps the outcome until it is sent."""
        if (num_waiting := self.num_waiting) >= self._settings.max_waiting:
            _log.error("%d messages wait for the webhook; one more is dropped", num_waiting)
            return
        event = cloud_event(outcome, self._settings)
        self._database.execute(
            "INSERT OR IGNORE INTO outgoing (id, body, created_at, due_at) VALUES (?, ?, ?, ?)",
            *(event["id"], json.dumps(event).encode(), _now_s(), time.monotonic()),
        )
        self._wake.set()

    def close(self) -> None:
        """Ends what is being sent; the database keeps the others."""
        self._stopping = True
        self._wake.set()
        self._thread.join(_CLOSE_S)
        self._loop.close(self._http.aclose)
        self._thread.join()

    def _deliver_all(self) -> None:
        while not self._stopping:
            self._wake.clear()
            rows = self._database.execute(
                "SELECT id, body, created_at, num_tries, due_at FROM outgoing WHERE body NOT NULL "
                "ORDER BY due_at LIMIT 1"
            )
            wait_s = rows[0][-1] - time.monotonic() if rows else None
            if wait_s is None or wait_s > 0:
                self._wake.wait(wait_s)
            else:
                self._deliver(*rows[0][:-1])

    def _deliver(self, id: str, body: bytes, created_at: float, num_tries: int) -> None:
        answer, error = attempt(self._post, id, body)
        if error is not None:
            _log.error("sending to the webhook failed", exc_info=error)
        if answer is not None and answer.is_success:
            self._forget(id)
            if self._num_failures:
                self._num_failures = 0
                self._make_all_due()
        elif _now_s() - created_at > MAX_AGE_S:
            _log.error("%s is given up: the webhook did not take it for a day", id)
            self._forget(id)
        else:
            self._postpone(id, num_tries, answer)

    def _post(self, id: str, body: bytes) -> httpx.Response | None:
        """The answer of the receiver; None if there is none."""
        headers = signed_headers(id, body, self._secret, int(_now_s()))
        request = self._http.build_request("POST", self._url, content=body, headers=headers)
        answer, _ = self._loop.run(send, self._http, request, _ONE_TRY, max_bytes=_MAX_ANSWER_BYTES)
        if not isinstance(answer, httpx.Response):
            _log.warning("the webhook does not answer: %s", root_cause(answer))
            return None
        if answer.has_redirect_location:
            _log.warning(
                "the webhook answers %d and redirects to %s; redirects are not followed, set "
                "EYE2FACE_BRIDGE_WEBHOOK to where it leads",
                *(answer.status_code, answer.headers["location"][:200]),
            )
        elif not answer.is_success:
            _log.warning("the webhook answers %d to %s", answer.status_code, id)
        return answer

    def _postpone(self, id: str, num_tries: int, answer: httpx.Response | None) -> None:
        """Lets a message wait, or all of them if the receiver is down or overloaded."""
        is_down = (
            answer is None or answer.status_code == httpx.codes.TOO_MANY_REQUESTS or answer.is_server_error
        )
        wanted_s = min(_MAX_RETRY_AFTER_S, retry_after_s(answer.headers)) if answer is not None else 0.0
        self._num_failures += is_down
        backoff_s = _ONE_TRY.backoff_after_s(1 + (self._num_failures if is_down else num_tries))
        self._database.execute(
            "UPDATE outgoing SET due_at = ?, num_tries = num_tries + (id = ?) "
            "WHERE body NOT NULL AND (id = ? OR (? AND due_at < ?))",
            *(due := time.monotonic() + backoff_s + wanted_s, id, id, is_down, due),
        )

    def _make_all_due(self) -> None:
        self._database.execute("UPDATE outgoing SET due_at = ? WHERE body NOT NULL", time.monotonic())

    def _forget(self, id: str) -> None:
        """Empties a message; its ID stays, so that an event that comes again is not sent again."""
        self._database.execute("UPDATE outgoing SET body = NULL WHERE id = ?", id)
        self._database.execute(
            "DELETE FROM outgoing WHERE body IS NULL AND rowid <= "
            "(SELECT rowid FROM outgoing ORDER BY rowid DESC LIMIT 1 OFFSET ?)",
            MAX_REMEMBERED,
        )


def cloud_event(outcome: Outcome, settings: BridgeSettings) -> dict[str, Any]:
    """The CloudEvent of an outcome; equal events have equal IDs."""
    data = outcome.fields
    if settings.webhook_image and isinstance(outcome.result, Synthesis):
        data["image"] = base64.b64encode(outcome.result.faces[0].image).decode()
    return {
        "specversion": "1.0",
        "id": outcome.event.id,
        "source": f"/bridge/{settings.mqtt_client_id}/{outcome.event.camera}",
        "type": _TYPES[outcome.kind],
        "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
        "datacontenttype": "application/json",
        "data": data,
    }


def signed_headers(id: str, body: bytes, secret: bytes | None, timestamp: int) -> dict[str, str]:
    """The headers of a message; signed, if there is a secret."""
    headers = {
        "content-type": "application/cloudevents+json",
        "webhook-id": id,
        "webhook-timestamp": str(timestamp),
    }
    if secret is not None:
        digest = hmac.digest(secret, b"%b.%d.%b" % (id.encode(), timestamp, body), hashlib.sha256)
        headers["webhook-signature"] = f"v1,{base64.b64encode(digest).decode()}"
    return headers


def read_signing_secret(settings: BridgeSettings) -> bytes | None:
    """The secret in the settings' file; None without one.

    Raises:
        ConfigurationError: the file holds none.
    """
    text = read_secret(settings.webhook_secret_file)
    if text is None:
        return None
    try:
        secret = binascii.a2b_base64(text.removeprefix(_SECRET_PREFIX), strict_mode=True)
    except ValueError:
        secret = b""
    if len(secret) < _MIN_SECRET_BYTES:
        raise ConfigurationError(
            "EYE2FACE_BRIDGE_WEBHOOK_SECRET_FILE: the file must hold whsec_ and at least "
            f"{_MIN_SECRET_BYTES} bytes in base64, as `openssl rand -base64 32` prints them"
        )
    return secret


def _now_s() -> float:
    return datetime.now(UTC).timestamp()
