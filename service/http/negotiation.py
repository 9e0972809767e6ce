"""Content negotiation: the offered media type that `Accept` prefers. Source: RFC 9110, section 12.5.1."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class _MediaRange:
    type: str
    subtype: str
    quality: float

    def specificity(self, media_type: str) -> int:
        """2: the type itself, 1: its family (image/*), 0: */*, -1: no match."""
        family, _, subtype = media_type.partition("/")
        if (self.type, self.subtype) == (family, subtype):
            return 2
        if (self.type, self.subtype) == (family, "*"):
            return 1
        return 0 if (self.type, self.subtype) == ("*", "*") else -1


def negotiate(accept: str | None, offers: Sequence[str]) -> str | None:
    """The offered media type of the highest quality, or None if none is acceptable.

    Of equal quality, the more specific range wins, then the earlier offer: `application/json, */*` gets JSON.
    No header, or an empty one, accepts anything.
    """
    if accept is None or not accept.strip():
        return offers[0]
    ranges = [each for each in map(_parse, accept.split(",")) if each is not None]
    best: tuple[float, int] = (0.0, -1)
    chosen = None
    for offer in offers:
        exactness, quality = max(
            ((each.specificity(offer), each.quality) for each in ranges), default=(-1, 0.0)
        )
        if exactness >= 0 and quality > 0 and (quality, exactness) > best:
            best, chosen = (quality, exactness), offer
    return chosen


def _parse(text: str) -> _MediaRange | None:
    """One media range, or None if it is invalid; parameters other than `q` are ignored."""
    name, *parameters = (part.strip().lower() for part in text.split(";"))
    type_, slash, subtype = name.partition("/")
    if not slash or not type_ or not subtype:
        return None
    quality = 1.0
    for parameter in parameters:
        key, _, value = parameter.partition("=")
        if key.strip() == "q":
            try:
                quality = float(value)
            except ValueError:
                return None
            if not 0.0 <= quality <= 1.0:  # also nan
                return None
    return _MediaRange(type_, subtype, quality)
