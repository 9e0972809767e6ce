"""TLS contexts of server and clients; the server reloads its certificate when the files change.

A handshake checks the files, at most once a second. Open connections keep the certificate they began with.
"""

import asyncio
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Final, NoReturn

from service.settings import ConfigurationError
from service.system.file_changes import FollowedFiles
from service.system.operator_files import read_operator_file

HANDSHAKE_TIMEOUT_S: Final = 10.0
"""As long as a request head may take; asyncio's default is 60 s."""

MAX_FILE_BYTES: Final = 4 << 20
"""Of a file in PEM: several times all certificates that a system trusts."""


def server_context(path: Path, key: Path | None = None) -> ssl.SSLContext:
    """A server context of a certificate chain in PEM and its private key, reloaded when the files change.

    Without `key` the private key is in the same file.

    Raises:
        ConfigurationError: a file cannot be read, or they do not hold a certificate and its key.
    """
    files = path, key or path
    newest = FollowedFiles("TLS certificate", partial(_open_context, *files), *files)

    def use_newest(handshake: ssl.SSLObject | ssl.SSLSocket, name: str | None, _: ssl.SSLContext) -> None:
        handshake.context = newest.value()

    context = newest.value()
    context.sni_callback = use_newest  # also called without SNI
    return context


@contextmanager
def tls_handshake_timeout(loop: asyncio.AbstractEventLoop) -> Iterator[None]:
    """Servers created inside use our handshake timeout; uvicorn has no setting for it."""
    create: Any = loop.create_server
    limits = {"ssl_handshake_timeout": HANDSHAKE_TIMEOUT_S}

    def create_limited(*given: Any, ssl: ssl.SSLContext | None = None, **options: Any) -> Any:
        return create(*given, ssl=ssl, **options, **(limits if ssl else {}))

    loop.create_server = create_limited  # type: ignore[method-assign, assignment]
    try:
        yield
    finally:
        del loop.create_server


def _open_context(path: Path, key: Path) -> ssl.SSLContext:
    """A server context for TLS 1.2 and 1.3, without client certificates."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    for each in (path, key):
        read_operator_file(each, MAX_FILE_BYTES)  # OpenSSL does not name a file that it cannot read
    try:
        context.load_cert_chain(path, key, password=_refuse_password)
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            raise ConfigurationError(
                f"the private key in {key} is not that of the certificate in {path}"
            ) from None
        raise ConfigurationError(
            f"{path} holds no certificate in PEM, or {key} not its private key ({error.reason or error})"
        ) from None
    return context


def client_context(path: Path | None) -> ssl.SSLContext:
    """A client context that trusts the certificates of a file, or those of the system.

    Raises:
        ConfigurationError: the file cannot be read, or holds none.
    """
    if path is not None:
        read_operator_file(path, MAX_FILE_BYTES)
    try:
        return ssl.create_default_context(cafile=path)
    except ssl.SSLError as error:
        raise ConfigurationError(f"{path} holds no certificates in PEM ({error.reason or error})") from None


def _refuse_password() -> NoReturn:
    """Without this, OpenSSL asks for the password at the terminal."""
    raise ConfigurationError(
        "the private key is encrypted; store it without a password, readable for its owner"
    )
