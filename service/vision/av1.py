"""The AV1 bitstream of a still picture: its size, and the parts that a decoder needs.

A decoder takes the size from here, not from the container, and decodes every frame that it is given: so there
must be one frame, of the size that the sequence header states. Source: AV1 bitstream specification, 5.3, 5.5
and 5.9.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from service.vision.chunks import read_leb128

_SEQUENCE_HEADER, _FRAME_HEADER, _TILE_GROUP, _FRAME = 1, 3, 4, 6
_MAX_OBUS: Final = 10_000
_CHOSEN_BY_FRAME: Final = 2
_KEY_FRAME: Final = 0


@dataclass(slots=True)
class _Sequence:
    """What the sequence header says of the frame header's bits before the flag that overrides its size."""

    is_reduced: bool
    width: int = 0
    height: int = 0
    frame_id_bits: int = 0
    screen_content_tools: int = _CHOSEN_BY_FRAME
    integer_mv: int = _CHOSEN_BY_FRAME


class _Bits:
    """A reader of big-endian bits."""

    def __init__(self, data: bytes) -> None:
        self._data = int.from_bytes(data)
        self._left = 8 * len(data)

    def read(self, number: int) -> int:
        self._left -= number
        if self._left < 0:
            raise ValueError("a header is cut off")
        return self._data >> self._left & ((1 << number) - 1)


_MAX_HEADER_BYTES: Final = 512
"""No sequence header is longer, nor the beginning of a frame header."""


def parse_still_picture(data: bytes) -> tuple[int, int, bytes]:
    """Width and height of the picture that a sample of AV1 holds, its sequence header and only frame.

    Raises:
        ValueError: it is broken, or holds other than one shown key frame of the stated size.
    """
    sequence: _Sequence | None = None
    num_frames, kept = 0, []
    for kind, start, content, end in _iterate_obus(data):
        head = data[content : min(end, content + _MAX_HEADER_BYTES)]
        if kind == _SEQUENCE_HEADER and sequence is None:
            sequence = _parse_sequence(_Bits(head))
        elif kind in (_FRAME, _FRAME_HEADER):
            if sequence is None:
                raise ValueError("a frame stands before the sequence header")
            _check_frame(_Bits(head), sequence)
            num_frames += 1
        elif kind != _TILE_GROUP:
            continue
        kept.append(data[start:end])
    if sequence is None or num_frames != 1:
        raise ValueError(f"it has {num_frames} frames, expected 1")
    return sequence.width, sequence.height, b"".join(kept)


def _iterate_obus(data: bytes) -> Iterator[tuple[int, int, int, int]]:
    """Type, start, start of the content, and end of each open bitstream unit."""
    start = 0
    for _ in range(_MAX_OBUS):
        if start >= len(data):
            return
        kind, has_extension, has_size = data[start] >> 3 & 15, data[start] & 4, data[start] & 2
        content, end = start + 1 + bool(has_extension), len(data)
        if has_size:
            size, content = read_leb128(data, content)
            end = content + size
        if end > len(data):
            raise ValueError("it is cut off")
        yield kind, start, content, end
        start = end
    raise ValueError(f"it has more than {_MAX_OBUS:,} units")


def _parse_sequence(bits: _Bits) -> _Sequence:
    bits.read(4)  # profile, still picture
    sequence = _Sequence(is_reduced=bool(bits.read(1)))
    if sequence.is_reduced:
        bits.read(5)
    else:
        _skip_operating_points(bits)
    width_bits, height_bits = bits.read(4) + 1, bits.read(4) + 1
    sequence.width, sequence.height = bits.read(width_bits) + 1, bits.read(height_bits) + 1
    if sequence.is_reduced:
        return sequence
    if bits.read(1):
        sequence.frame_id_bits = bits.read(4) + bits.read(3) + 3
    bits.read(7)  # block size, intra and inter tools
    if bits.read(1):  # order hints
        bits.read(2)
    sequence.screen_content_tools = _CHOSEN_BY_FRAME if bits.read(1) else bits.read(1)
    if sequence.screen_content_tools:
        sequence.integer_mv = _CHOSEN_BY_FRAME if bits.read(1) else bits.read(1)
    return sequence


def _skip_operating_points(bits: _Bits) -> None:
    if bits.read(1):
        raise ValueError("it has timing information, as videos do")
    has_delay = bits.read(1)
    for _ in range(bits.read(5) + 1):
        bits.read(12)
        if bits.read(5) > 7:  # level, then tier
            bits.read(1)
        if has_delay and bits.read(1):
            bits.read(4)


def _check_frame(bits: _Bits, sequence: _Sequence) -> None:
    """Raises ValueError: it is no shown key frame, or may have another size than the sequence states."""
    if sequence.is_reduced:
        return
    is_repeated, kind, is_shown = bits.read(1), bits.read(2), bits.read(1)
    if is_repeated or kind != _KEY_FRAME or not is_shown:
        raise ValueError("its frame is no shown key frame")
    bits.read(1)
    tools = sequence.screen_content_tools
    if (bits.read(1) if tools == _CHOSEN_BY_FRAME else tools) and sequence.integer_mv == _CHOSEN_BY_FRAME:
        bits.read(1)
    bits.read(sequence.frame_id_bits)
    if bits.read(1):
        raise ValueError("its frame has another size than its sequence")
