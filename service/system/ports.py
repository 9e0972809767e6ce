"""TCP ports to listen on."""

import socket

from service.settings import ConfigurationError


def open_port(host: str, port: int, *, settings: str) -> socket.socket:
    """A socket that listens; `settings` are the names of those that choose its address.

    Raises:
        ConfigurationError: the address cannot be listened on.
    """
    try:
        return socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    except OSError as error:
        raise ConfigurationError(
            f"cannot listen on {host}, port {port}: {error.strerror}. Stop the other program, or choose "
            f"another address with {settings}."
        ) from error
