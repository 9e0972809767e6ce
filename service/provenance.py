"""Provenance: every face is encoded here, with XMP metadata that declares it AI-generated.

The metadata is IPTC's DigitalSourceType, where readers of each format look for it: OpenCV can write XMP, but
into places that readers ignore. Nothing of the photo's own metadata comes here.
"""

import struct
import zlib

from service.pipeline import Face
from service.vision.images import FaceFormat, encode

DIGITAL_SOURCE_TYPE = "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"
"""Created by a trained model. Source: IPTC NewsCodes, Digital Source Type."""

_XMP = (
    '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>'
    '<x:xmpmeta xmlns:x="adobe:ns:meta/">'
    '<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
    '<rdf:Description rdf:about="" xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/">'
    f"<Iptc4xmpExt:DigitalSourceType>{DIGITAL_SOURCE_TYPE}</Iptc4xmpExt:DigitalSourceType>"
    '</rdf:Description></rdf:RDF></x:xmpmeta><?xpacket end="w"?>'
).encode()


# Keyword, uncompressed, no language, no translation. Source: XMP part 3, 1.1.5.
_PNG_CHUNK = b"iTXt" + b"XML:com.adobe.xmp\0\0\0\0\0" + _XMP
_PNG_XMP = struct.pack(">I", len(_PNG_CHUNK) - 4) + _PNG_CHUNK + struct.pack(">I", zlib.crc32(_PNG_CHUNK))
_PNG_HEADER_END = 33  # signature and IHDR

# APP1 with its name. Source: XMP part 3, 1.1.3.
_JPEG_NAMED = b"http://ns.adobe.com/xap/1.0/\0" + _XMP
_JPEG_XMP = b"\xff\xe1" + struct.pack(">H", 2 + len(_JPEG_NAMED)) + _JPEG_NAMED


def encode_synthetic(face: Face, format: FaceFormat) -> bytes:
    """The face as a file whose metadata says that it is synthetic."""
    file = encode(face.pixels, format)
    if format == "png":
        return file[:_PNG_HEADER_END] + _PNG_XMP + file[_PNG_HEADER_END:]
    if format == "jpeg":  # JFIF's APP0 must come first
        app0_end = 4 + int.from_bytes(file[4:6], "big") if file[2:4] == b"\xff\xe0" else 2
        return file[:app0_end] + _JPEG_XMP + file[app0_end:]
    height, width = face.pixels.shape[:2]
    return _add_xmp_to_webp(file, width, height)


def _add_xmp_to_webp(file: bytes, width: int, height: int) -> bytes:
    # The simple layout has no place for metadata: VP8X with the flag for XMP, the picture, then XMP.
    # Source: WebP container specification, extended file format.
    assert file[12:15] == b"VP8" and file[15:16] != b"X", "OpenCV wrote an extended WebP"
    has_xmp = 0x04
    extended = (
        struct.pack("<I", has_xmp) + (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    )
    content = b"WEBP" + _riff(b"VP8X", extended) + file[12:] + _riff(b"XMP ", _XMP)
    return _riff(b"RIFF", content)


def _riff(name: bytes, content: bytes) -> bytes:
    return name + struct.pack("<I", len(content)) + content + bytes(len(content) % 2)
