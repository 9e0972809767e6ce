"""API keys: whether a request carries one that the settings know. Only hashes are kept."""

import hashlib
import hmac
from collections.abc import Sequence
from dataclasses import dataclass

from service.errors import Unauthorized


@dataclass(frozen=True, slots=True)
class KeyRing:
    """The keys that open the service, as SHA-256 in hex; an empty ring opens to everybody."""

    hashes: Sequence[str]

    def check(self, *candidates: str | None) -> None:
        """Returns if one of the candidates is a key, or if none is asked for.

        Raises:
            Unauthorized: no candidate is a key of this ring.
        """
        if not self.hashes:
            return
        sent = [candidate for candidate in candidates if candidate]
        if any(self._holds(candidate) for candidate in sent):
            return
        found = "The key that was sent is not known." if sent else "No key was sent."
        raise Unauthorized(f"{found} Send Authorization: Bearer KEY or X-API-Key: KEY.")

    def _holds(self, candidate: str) -> bool:
        digest = hashlib.sha256(candidate.encode("latin-1")).hexdigest()  # the bytes of the header
        # Every hash is compared, each in constant time: how long it takes tells nothing of the keys.
        num_equal = sum(hmac.compare_digest(digest, known) for known in self.hashes)
        return num_equal > 0
