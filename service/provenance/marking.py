"""Marks every face as synthetic: a watermark in its pixels, XMP metadata in its file, and if configured a
signed C2PA manifest.

The deployment's secret and the face decide which of the watermark's patterns it gets.

The metadata stand where readers of each format look: OpenCV can write XMP, but into places that readers
ignore. Nothing of the photo's own metadata comes here.
"""

import hmac
import json
import logging
import math
import struct
import uuid
import zlib
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final, Self
from xml.sax.saxutils import escape

import cv2
import numpy as np

from service import __version__
from service.inference.synthesizer import ModelInfo
from service.pipeline import Face
from service.provenance.signing import DIGITAL_SOURCE_TYPE, C2paSigner, describe_face, open_signer
from service.provenance.watermark import NUM_PATTERNS, add_watermark, pattern_signs
from service.settings import Settings
from service.system.operator_files import read_secret
from service.vision.images import FaceFormat, Image, encode

SYSTEM: Final = "eye2face"

PUBLIC_SECRET: Final = b"eye2face"
"""Without a secret of the deployment: whoever reads this can find, forge and remove its watermark."""

_LABEL: Final = "AI"

_log = logging.getLogger(__name__)


class Marker:
    """Encodes the faces of one model as files that are marked; may be shared by threads.

    The same face gets the same watermark and ID: faces drawn again from one photo show nothing new.
    """

    def __init__(
        self,
        model: ModelInfo,
        *,
        producer: str = SYSTEM,
        secret: bytes = PUBLIC_SECRET,
        has_watermark: bool = True,
        signer: C2paSigner | None = None,
    ) -> None:
        """`producer` answers for the faces; `secret` decides their watermark."""
        self._model = model
        self._signer = signer
        self._secret = secret
        self._signs = pattern_signs(secret) if has_watermark else None
        self._xmp = _xmp_template(model, producer)

    @property
    def is_signing(self) -> bool:
        """Whether faces get a signed manifest."""
        return self._signer is not None

    @classmethod
    def open(cls, settings: Settings, model: ModelInfo) -> Self:
        """The marker that the settings ask for.

        Raises:
            ConfigurationError: the file of the secret, of the certificate or of its key cannot be used.
        """
        if settings.marking == "off":
            _log.warning("EYE2FACE_MARKING=off: faces have no watermark, which laws may require")
        return cls(
            model,
            producer=settings.operator_name or SYSTEM,
            secret=open_secret(settings),
            has_watermark=settings.marking == "required",
            signer=open_signer(settings),
        )

    def encode(self, face: Face, format: FaceFormat, *, label: bool = False, guess: int | None = 0) -> bytes:
        """A guess as a file that is marked; with `label` also visibly, by the letters "AI" in a corner.

        Without `guess` the file shows all of them, row by row, each with its own watermark.

        Raises:
            SigningFailed: it cannot be signed.
        """
        guesses = face.guesses if guess is None else face.guesses[guess : guess + 1]
        faces = [_draw_label(each) if label else each for each in guesses]
        digests = [hmac.digest(self._secret, face.tobytes(), "sha256") for face in faces]
        digest = digests[0] if len(faces) == 1 else hmac.digest(self._secret, b"".join(digests), "sha256")
        now = datetime.now(UTC).isoformat(timespec="seconds")
        face_id = str(uuid.UUID(bytes=digest[:16], version=5))  # decided by the face and the secret
        xmp = self._xmp.replace(_TIME, now).replace(_ID, face_id).encode()
        if self._signs is not None:
            patterns = [self._signs[digest[-1] % NUM_PATTERNS] for digest in digests]
            faces = [*map(add_watermark, faces, patterns)]
        pixels = faces[0] if len(faces) == 1 else _arrange(faces)
        file = _add_xmp(encode(pixels, format), format, xmp, pixels.shape)
        if self._signer is None:
            return file
        manifest = describe_face(f"{SYSTEM} {self._model.name}", self._model.version, now)
        return self._signer.sign(file, format, manifest)


def open_secret(settings: Settings) -> bytes:
    """The deployment's secret; PUBLIC_SECRET if there is none.

    Raises:
        ConfigurationError: its file cannot be used.
    """
    return (read_secret(settings.marking_secret_file) or "").encode() or PUBLIC_SECRET


def _arrange(faces: Sequence[Image]) -> Image:
    """The faces in rows, as many as there are columns or one less; what is left of the last row is black."""
    num_columns = math.ceil(len(faces) ** 0.5)
    num_missing = -len(faces) % num_columns
    cells = [*faces, *[np.zeros_like(faces[0])] * num_missing]
    rows = [np.hstack(cells[start : start + num_columns]) for start in range(0, len(cells), num_columns)]
    return np.vstack(rows)


def _draw_label(pixels: Image) -> Image:
    """A copy of the face with white letters on a dark plate in its lower right corner."""
    height, width = pixels.shape[:2]
    scale = min(height, width) / 300
    (text_width, text_height), _ = cv2.getTextSize(_LABEL, cv2.FONT_HERSHEY_SIMPLEX, scale, 1)
    margin = max(1, text_height // 3)
    left, top = width - text_width - 2 * margin, height - text_height - 2 * margin
    labeled = pixels.copy()
    labeled[max(0, top) :, max(0, left) :] //= 4
    at = (left + margin, height - margin)
    return np.asarray(
        cv2.putText(labeled, _LABEL, at, cv2.FONT_HERSHEY_SIMPLEX, scale, (255, 255, 255), 1, cv2.LINE_AA),
        dtype=np.uint8,
    )


_TIME, _ID = "\0", "\x7f"
"""Where they go in the template: no name holds these characters, and JSON keeps the second."""


def _xmp_template(model: ModelInfo, producer: str) -> str:
    """The XMP packet but for its time and the face's ID.

    Sources: IPTC Photo Metadata 2025.1 for Iptc4xmpExt; GB 45438-2025, annex E, for TC260:AIGC.
    """
    label = {"Label": "1", "ContentProducer": producer, "ProduceID": _ID}
    label |= dict.fromkeys(("ReservedCode1", "ContentPropagator", "PropagateID", "ReservedCode2"), "")
    text = json.dumps(label, ensure_ascii=False, separators=(",", ":"))
    return (
        '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>'
        '<x:xmpmeta xmlns:x="adobe:ns:meta/">'
        '<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
        '<rdf:Description rdf:about="" xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/"'
        ' xmlns:xmp="http://ns.adobe.com/xap/1.0/" xmlns:xmpMM="http://ns.adobe.com/xap/1.0/mm/"'
        ' xmlns:TC260="http://www.tc260.org.cn/ns/AIGC/1.0/">'
        f"<Iptc4xmpExt:DigitalSourceType>{DIGITAL_SOURCE_TYPE}</Iptc4xmpExt:DigitalSourceType>"
        f"<Iptc4xmpExt:AISystemUsed>{SYSTEM} {escape(model.name)}</Iptc4xmpExt:AISystemUsed>"
        f"<Iptc4xmpExt:AISystemVersionUsed>{escape(model.version)}</Iptc4xmpExt:AISystemVersionUsed>"
        f"<xmp:CreatorTool>{SYSTEM} {__version__}</xmp:CreatorTool><xmp:CreateDate>{_TIME}</xmp:CreateDate>"
        f"<xmpMM:DocumentID>urn:uuid:{_ID}</xmpMM:DocumentID><TC260:AIGC>{escape(text)}</TC260:AIGC>"
        '</rdf:Description></rdf:RDF></x:xmpmeta><?xpacket end="w"?>'
    )


# Keyword, uncompressed, no language, no translation. Source: XMP part 3, 1.1.5.
_PNG_NAMED: Final = b"iTXt" + b"XML:com.adobe.xmp\0\0\0\0\0"
_PNG_HEADER_END: Final = 33  # signature and IHDR

# APP1 with its name. Source: XMP part 3, 1.1.3.
_JPEG_NAMED: Final = b"http://ns.adobe.com/xap/1.0/\0"


def _add_xmp(file: bytes, format: FaceFormat, xmp: bytes, shape: tuple[int, ...]) -> bytes:
    """The file, as OpenCV writes it, with the XMP packet; `shape` is the picture's."""
    if format == "png":
        chunk = _PNG_NAMED + xmp
        framed = struct.pack(">I", len(chunk) - 4) + chunk + struct.pack(">I", zlib.crc32(chunk))
        return file[:_PNG_HEADER_END] + framed + file[_PNG_HEADER_END:]
    if format == "jpeg":  # JFIF's APP0 must come first
        app0_end = 4 + int.from_bytes(file[4:6], "big") if file[2:4] == b"\xff\xe0" else 2
        segment = b"\xff\xe1" + struct.pack(">H", 2 + len(_JPEG_NAMED) + len(xmp)) + _JPEG_NAMED + xmp
        return file[:app0_end] + segment + file[app0_end:]
    # The simple layout has no place for metadata: VP8X with the flag for XMP, the picture, then XMP.
    # Source: WebP container specification, extended file format.
    assert file[12:15] == b"VP8" and file[15:16] != b"X", "OpenCV wrote an extended WebP"
    has_xmp, (height, width) = 0x04, shape[:2]
    extended = (
        struct.pack("<I", has_xmp) + (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    )
    return _riff(b"RIFF", b"WEBP" + _riff(b"VP8X", extended) + file[12:] + _riff(b"XMP ", xmp))


def _riff(name: bytes, content: bytes) -> bytes:
    return name + struct.pack("<I", len(content)) + content + bytes(len(content) % 2)
