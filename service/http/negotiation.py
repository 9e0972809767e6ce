"""Content negotiation: the offered media type that `Accept` prefers. Source: RFC 9110, section 12.5.1."""

from collections.abc import Sequence


def negotiate(accept: str | None, offers: Sequence[str]) -> str | None:
    """The offered media type of the highest quality, or None if none is acceptable.

    Of equal quality, the more specific range wins, then the earlier offer: `application/json, */*` gets JSON.
    No header, or an empty one, accepts anything.
    """
    if accept is None or not accept.strip():
        return offers[0]
    ranges = [each for each in map(_parse, accept.split(",")) if each is not None]
    best, chosen = (0.0, 0), None
    for offer in offers:
        patterns = ("*/*", f"{offer.partition('/')[0]}/*", offer)
        matches = [(patterns.index(name), quality) for name, quality in ranges if name in patterns]
        specificity, quality = max(matches, default=(0, 0.0))
        if quality > 0 and (chosen is None or (quality, specificity) > best):
            best, chosen = (quality, specificity), offer
    return chosen


def _parse(text: str) -> tuple[str, float] | None:
    """A media range and its quality, or None if it is invalid; parameters other than `q` are ignored."""
    name, *parameters = (part.strip().lower() for part in text.split(";"))
    quality = 1.0
    for parameter in parameters:
        key, _, value = parameter.partition("=")
        if key.strip() == "q":
            try:
                quality = float(value)
            except ValueError:
                return None
    return (name, quality) if 0.0 <= quality <= 1.0 else None  # also refuses nan
