"""The structure of a JPEG file: its frame, its scans, and where the picture ends.

Only segments are parsed, no pixels. What follows the picture (the video of a motion photo, the other pictures
of a panorama, any trailer) is never looked at. Source: ITU-T T.81, annex B.
"""

import random
import re
import struct
from dataclasses import dataclass, field
from typing import Final

from service.errors import ImageCorrupt, UnsupportedFormat
from service.vision.exif import read_orientation

MAX_SEGMENTS: Final = 50_000
"""Segments that are parsed, in about 50 ms. Cameras write under 300, but 20 MB hold millions."""

MAX_SCANS: Final = 100
"""Scans of one picture. Encoders write about 10; a small file of thousands takes minutes to decode."""

MAX_SCANNED_PIXELS: Final = 1_000_000_000
"""Pixels times scans, since every scan visits every block: 20 scans of 50 million pixels."""

# Without fill bytes, stuffed zeros and restart markers, which stand inside scans.
_MARKER = re.compile(rb"\xff([\x01-\xcf\xd8-\xfe])")
_RESTART = re.compile(rb"\xff[\xd0-\xd7]")
_TEM, _SOI, _EOI, _SOS, _DRI, _APP1 = 0x01, 0xD8, 0xD9, 0xDA, 0xDD, 0xE1
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC} | {0xF7}
_PROGRESSIVE = 0xC2
_EXIF_PREFIX_BYTES: Final = 6
_TAKEN: Final = -1

_UNREAD_KINDS: dict[int, str] = {
    **dict.fromkeys((0xC3, 0xCB), "a lossless JPEG"),
    **dict.fromkeys((0xC5, 0xC6, 0xC7, 0xCD, 0xCE, 0xCF, 0xDE), "a hierarchical JPEG"),
    **dict.fromkeys((0xC9, 0xCA), "a JPEG with arithmetic coding"),
    0xF7: "JPEG-LS",
}

_ALL_COEFFICIENTS: Final = 2**64 - 1

_END: Final = b"\xff\xd9"

# libjpeg reads up to 8 bytes ahead. All ones is no Huffman code, so these complete no block that is missing.
_READ_AHEAD: Final = b"\xff\0" * 8

_NOISE: Final = random.Random(0).randbytes(256).replace(b"\xff", b"\x5a")


@dataclass(slots=True)
class Jpeg:
    """What the segments of one picture say."""

    width: int = 0
    height: int = 0
    orientation: int | None = None
    is_progressive: bool = False
    names: bytes = b""
    """Of each component; some encoders give several the same one."""
    blocks: list[tuple[int, int]] = field(default_factory=list)
    """Of each component, which are numbered from here on: blocks across and down in one MCU."""
    sent: dict[int, int] = field(default_factory=dict)
    """Of each component: its coefficients, as bits, that some scan holds."""
    finished: dict[int, int] = field(default_factory=dict)
    """Those that a scan holds to the last bit."""
    scan_ends: list[int] = field(default_factory=list)
    ends_in_refinement: bool = False
    """Whether the last scan adds one bit to coefficients that have all others."""
    restart_interval: int = 0
    has_end: bool = False
    may_be_cut_short: bool = False
    """Whether a scan may lack rows. A file that is cut off ends in no refinement of the last bit."""
    tail: bytes = _END
    """What has to follow the last scan, so that OpenCV fails if the only one lacks more than 8 bytes.

    It fails where libjpeg wants more bytes, but draws gray where libjpeg meets the end marker early.
    """

    @property
    def has_several_scans(self) -> bool:
        """Whether the decoder needs them all before it has the first pixel."""
        return self.is_progressive or len(self.scan_ends) != 1

    @property
    def is_finished(self) -> bool:
        """Whether the scans hold every coefficient to its last bit."""
        return all(self.finished.get(each) == _ALL_COEFFICIENTS for each in range(len(self.blocks)))

    def probing_bytes(self, data: bytes) -> bytes:
        """The same picture with noise after each scan, which only a scan that is cut short reads."""
        parts, begin = [], 0
        for end in self.scan_ends:
            parts += [data[begin:end], _NOISE]
            begin = end
        return b"".join([*parts, _END])


def parse_jpeg(data: bytes) -> Jpeg:
    """The segments of the first picture.

    Raises:
        UnsupportedFormat: a kind of JPEG that OpenCV does not read.
        ImageCorrupt: cut off before the picture's end, or broken.
    """
    jpeg = Jpeg()
    position = 2
    for _ in range(MAX_SEGMENTS):
        found = _MARKER.search(data, position)
        if found is None:
            break
        marker, start = found[1][0], found.end() + 2
        if marker in (_EOI, _SOI):  # a second beginning: another picture follows one without an end
            jpeg.has_end = marker == _EOI
            break
        if marker == _TEM:
            position = found.end()
            continue
        length = int.from_bytes(data[found.end() : start])
        position = found.end() + length
        if length < 2 or position > len(data):
            break
        _read_segment(jpeg, marker, data[start:position])
        if marker == _SOS:
            _read_scan(jpeg, data, start, position)
            position = jpeg.scan_ends[-1]
            if not jpeg.has_several_scans and len(jpeg.sent) == len(jpeg.blocks):
                break  # the picture needs no other
    else:
        raise _corrupt(f"it has more than {MAX_SEGMENTS:,} segments")
    _check(jpeg)
    if not jpeg.has_several_scans:
        jpeg.tail = _READ_AHEAD
    elif not (jpeg.has_end and jpeg.is_finished and jpeg.ends_in_refinement):
        jpeg.may_be_cut_short = True
    return jpeg


def _corrupt(what: str) -> ImageCorrupt:
    return ImageCorrupt(f"The file begins like a JPEG, but {what}. Send an undamaged file.")


def _read_segment(jpeg: Jpeg, marker: int, content: bytes) -> None:
    if marker in _UNREAD_KINDS:
        raise _unsupported(_UNREAD_KINDS[marker])
    if marker in _FRAMES:
        _read_frame(jpeg, content)
        jpeg.is_progressive = marker == _PROGRESSIVE
    elif marker == _APP1 and jpeg.orientation is None and content.startswith(b"Exif\0"):
        if len(content) > _EXIF_PREFIX_BYTES:  # as Chromium: one of nothing does not count
            jpeg.orientation = read_orientation(content[_EXIF_PREFIX_BYTES:])
    elif marker == _DRI:
        jpeg.restart_interval = int.from_bytes(content[:2])


def _unsupported(kind: str) -> UnsupportedFormat:
    return UnsupportedFormat(
        f"The file is {kind}, which is not read here. Convert it to a usual JPEG, PNG, WebP or BMP."
    )


def _read_frame(jpeg: Jpeg, content: bytes) -> None:
    if jpeg.blocks or len(content) < 6 or len(content) < 6 + 3 * content[5]:
        raise _corrupt("its frame header is broken")
    precision, jpeg.height, jpeg.width, num_components = struct.unpack_from(">BHHB", content)
    if precision != 8:
        raise _unsupported(f"a JPEG of {precision} bits")
    if num_components not in (1, 3, 4):
        raise _unsupported(f"a JPEG of {num_components} components")
    if jpeg.width and not jpeg.height:
        raise _unsupported("a JPEG whose height follows its first scan")
    end = 6 + 3 * num_components
    jpeg.names = content[6:end:3]
    jpeg.blocks = [(sampling >> 4, sampling & 15) for sampling in content[7:end:3]]


def _read_scan_header(jpeg: Jpeg, content: bytes) -> list[int]:
    """Notes what the scan holds; the numbers of its components."""
    num_components = content[0] if content else 0
    names = list(jpeg.names)
    components = list[int]()
    for name in content[1 : 1 + 2 * num_components : 2]:
        if name not in names:
            raise _corrupt("its scan header is broken")
        components.append(names.index(name))
        names[components[-1]] = _TAKEN
    if not components or len(content) < 4 + 2 * num_components:
        raise _corrupt("its scan header is broken")
    first, last, approximation = content[1 + 2 * num_components : 4 + 2 * num_components]
    coefficients = _ALL_COEFFICIENTS
    if jpeg.is_progressive:
        jpeg.ends_in_refinement = first > 0 and approximation >> 4 > 0
        coefficients = (2 << min(last, 63)) - (1 << min(first, 63))
    for each in components:
        jpeg.sent[each] = jpeg.sent.get(each, 0) | coefficients
        if not approximation & 15:
            jpeg.finished[each] = jpeg.finished.get(each, 0) | coefficients
    return components


def _read_scan(jpeg: Jpeg, data: bytes, header: int, start: int) -> None:
    """Notes what the scan holds and where it ends."""
    components = _read_scan_header(jpeg, data[header:start])
    found = _MARKER.search(data, start)
    end = found.start() if found else len(data)
    if data[end - 1] == 0xFF:  # fill bytes, or half a marker
        end = start + len(data[start:end].rstrip(b"\xff"))
    restarts = _RESTART.finditer(data, start, end)
    if jpeg.restart_interval:
        for number in range((_num_mcus(jpeg, components) - 1) // jpeg.restart_interval):
            restart = next(restarts, None)
            if restart is None or restart[0][1] != 0xD0 + number % 8:
                raise _corrupt("parts between its restart markers are missing")
    if surplus := next(restarts, None):  # the decoder takes nothing that follows it
        end = surplus.start()
    jpeg.scan_ends.append(end)
    if len(jpeg.scan_ends) > MAX_SCANS:
        raise _corrupt(f"it has more than {MAX_SCANS} scans")
    if len(jpeg.scan_ends) * jpeg.width * jpeg.height > MAX_SCANNED_PIXELS:
        raise _corrupt(f"its {len(jpeg.scan_ends)} scans hold more than {MAX_SCANNED_PIXELS:,} pixels")


def _num_mcus(jpeg: Jpeg, components: list[int]) -> int:
    """MCUs of a scan; one component alone has MCUs of one block."""
    most_across = max(1, *(across for across, _ in jpeg.blocks))
    most_down = max(1, *(down for _, down in jpeg.blocks))
    if len(components) > 1:
        return _ceil_div(jpeg.width, 8 * most_across) * _ceil_div(jpeg.height, 8 * most_down)
    across, down = jpeg.blocks[components[0]]
    columns = _ceil_div(jpeg.width * across, 8 * most_across)
    return columns * _ceil_div(jpeg.height * down, 8 * most_down)


def _ceil_div(number: int, divisor: int) -> int:
    return -(-number // divisor)


def _check(jpeg: Jpeg) -> None:
    """Raises ImageCorrupt if a scan is missing."""
    if not jpeg.blocks:
        raise _corrupt("it is cut off before the picture's size")
    if not all(jpeg.sent.get(each, 0) & 1 for each in range(len(jpeg.blocks))):
        raise _corrupt("it is cut off before its pixels")
    if not (jpeg.has_end or jpeg.is_finished):
        raise _corrupt("it is cut off between its scans")
