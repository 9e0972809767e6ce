"""The check of a request's head where there are no API keys: its `Host` is this machine.

A browser on the same machine reaches a loopback address for any page (cross-site requests), also by a name of
the page's site that leads here (DNS rebinding).
"""

import re
from collections.abc import Sequence
from typing import Final

from service.errors import NotLocal

_LOOPBACK: Final = re.compile(rb"(localhost|127(\.\d{1,3}){3}|\[::1\])(:\d*)?", re.IGNORECASE)
_HARMLESS_METHODS: Final = ("GET", "HEAD", "OPTIONS")
_ADVICE: Final = (
    "Others need API keys, or EYE2FACE_ALLOW_ANONYMOUS=true; pages of another site, EYE2FACE_CORS_ORIGINS."
)


def refuse_foreign(
    method: str,
    headers: Sequence[tuple[bytes, bytes]],
    *,
    allowed_origins: Sequence[str] = (),
    advice: str = _ADVICE,
) -> None:
    """Checks the head of a request; `advice` says in the error how an operator admits it.

    Raises:
        NotLocal: `Host` is no name of a loopback address, or a page of another site posts.
    """
    for name, host in headers:
        if name == b"host" and not _LOOPBACK.fullmatch(host):
            raise NotLocal(
                f"The Host is '{host[:80].decode('latin-1')}'; it must be localhost, 127.0.0.1 or [::1]. "
                f"{advice}"
            )
    if method not in _HARMLESS_METHODS and _is_cross_site(dict(headers), allowed_origins):
        raise NotLocal(f"A page of another site sent this. {advice}")


def _is_cross_site(headers: dict[bytes, bytes], allowed_origins: Sequence[str]) -> bool:
    origin = headers.get(b"origin")
    if origin is not None and ("*" in allowed_origins or origin.decode("latin-1") in allowed_origins):
        return False
    site = headers.get(b"sec-fetch-site")
    if site is not None:
        return site not in (b"same-origin", b"none")
    return origin is not None and origin.partition(b"://")[2] != headers.get(b"host")
