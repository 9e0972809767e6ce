"""Verifies the marks of any picture: its signature, the watermark in its pixels, what its metadata say."""

import html
import re
from dataclasses import dataclass
from typing import Final, Literal, Self

from service.provenance.marking import PUBLIC_SECRET, open_secret
from service.provenance.signing import C2paReader, SignatureState
from service.provenance.watermark import THRESHOLD, WatermarkDetector
from service.settings import Settings
from service.vision.images import Image

Verdict = Literal["signed_here", "tampered", "bears_our_mark", "claims_to_be_synthetic", "nothing_found"]
"""From the strongest to the weakest; the first that is true."""

Confidence = Literal["none", "weak", "strong", "proof"]
"""weak: anybody could have made it so; strong: only by much effort; proof: only with the private key."""

_SIGNATURE_CONFIDENCES: Final[dict[SignatureState, Confidence]] = {"trusted": "proof", "invalid": "weak"}
"""Anybody can add a manifest that does not fit."""

_CLAIMS: Final = (
    b"digitalsourcetype/trainedAlgorithmicMedia",
    b"digitalsourcetype/compositeWithTrainedAlgorithmicMedia",
)
"""IPTC's terms, which C2PA uses too, anywhere in the file: no parser has to trust it."""

_LABEL_START: Final = b"AIGC"
_LABEL: Final = re.compile(rb"AIGC[^\0]{0,40}?Label(?:\"|&quot;)?\s*:\s*(?:\"|&quot;)?1")
"""China's label. Only so much is matched at once: a regular expression keeps all other threads waiting."""

_MAX_LABEL_BYTES: Final = 100
_MAX_LABELS: Final = 1000
_MAX_VALUE_BYTES: Final = 300

_Property = Literal["AISystemUsed", "CreateDate", "DocumentID"]


@dataclass(frozen=True, slots=True)
class SignatureLayer:
    """What a C2PA manifest proves."""

    state: SignatureState
    confidence: Confidence


@dataclass(frozen=True, slots=True)
class WatermarkLayer:
    """The best score of all trials, and the least that counts; seldom reached without a watermark."""

    found: bool
    score: float
    threshold: float
    false_alarm_probability: float
    confidence: Confidence


@dataclass(frozen=True, slots=True)
class MetadataLayer:
    """What the file says of itself."""

    says_synthetic: bool
    system: str | None
    created: str | None
    id: str | None
    confidence: Confidence


@dataclass(frozen=True, slots=True)
class Verification:
    """The verdict, and each layer that it rests on."""

    verdict: Verdict
    signature: SignatureLayer
    watermark: WatermarkLayer
    metadata: MetadataLayer


class Verifier:
    """Looks for the marks of one deployment; may be shared by threads."""

    def __init__(self, secret: bytes = PUBLIC_SECRET, manifests: C2paReader | None = None) -> None:
        self._manifests = manifests or C2paReader()
        self._detector = WatermarkDetector(secret)
        self._when_found: Confidence = "weak" if secret == PUBLIC_SECRET else "strong"

    @classmethod
    def open(cls, settings: Settings) -> Self:
        """With the deployment's secret and the certificates that it trusts.

        Raises:
            ConfigurationError: a file of them cannot be used.
        """
        return cls(open_secret(settings), C2paReader(settings.c2pa_trust_file))

    def verify(self, file: bytes, picture: Image) -> Verification:
        """The verdict on a file and the picture that was decoded from it, perhaps made smaller."""
        state = self._manifests.read(file)
        signature = SignatureLayer(state, _SIGNATURE_CONFIDENCES.get(state, "none"))
        seen = self._detector.find(picture)
        watermark = WatermarkLayer(
            seen.is_found, seen.score, THRESHOLD, seen.false_alarm_probability,
            confidence=self._when_found if seen.is_found else "none",
        )  # fmt: skip
        metadata = _read_claims(file)
        return Verification(_judge(signature, watermark, metadata), signature, watermark, metadata)


def _judge(signature: SignatureLayer, watermark: WatermarkLayer, metadata: MetadataLayer) -> Verdict:
    if signature.state == "trusted":
        return "signed_here"
    if signature.state == "invalid":
        return "tampered"
    if watermark.found:
        return "bears_our_mark"
    return "claims_to_be_synthetic" if metadata.says_synthetic else "nothing_found"


def _read_claims(file: bytes) -> MetadataLayer:
    if not (any(claim in file for claim in _CLAIMS) or _has_label(file)):
        return MetadataLayer(False, None, None, None, "none")
    return MetadataLayer(
        says_synthetic=True,
        system=_find_property(file, "AISystemUsed"),
        created=_find_property(file, "CreateDate"),
        id=_find_property(file, "DocumentID"),
        confidence="weak",
    )


def _has_label(file: bytes) -> bool:
    """Whether one of the first _MAX_LABELS beginnings of a label is one."""
    start = -1
    for _ in range(_MAX_LABELS):
        start = file.find(_LABEL_START, start + 1)
        if start < 0:
            return False
        if _LABEL.match(file, start, start + _MAX_LABEL_BYTES):
            return True
    return False


def _find_property(file: bytes, name: _Property) -> str | None:
    """The value of an XMP property, as an element or an attribute; the first in the file."""
    ends = [
        file.find(mark) + len(mark) for mark in (f":{name}>".encode(), f':{name}="'.encode()) if mark in file
    ]
    if not ends:
        return None
    value = re.split(rb'[<"\0]', file[min(ends) : min(ends) + _MAX_VALUE_BYTES])[0]
    return html.unescape(value.decode(errors="replace")) or None
