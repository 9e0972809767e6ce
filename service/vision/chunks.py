"""Parts of binary files: the chunks of PNG and RIFF (WebP), and numbers in LEB128."""

import struct
from collections.abc import Iterator


def iterate_chunks(
    data: bytes, position: int, layout: str, *, trailer: int, limit: int
) -> Iterator[tuple[bytes, int, int]]:
    """Name, first byte and end of each chunk, of PNG or RIFF by the layout of its head.

    The end of the last one may lie beyond the data.
    """
    for _ in range(limit):
        if position + 8 > len(data):
            return
        first, second = struct.unpack_from(layout, data, position)
        name, length = (first, second) if isinstance(first, bytes) else (second, first)
        end = position + 8 + length
        yield name, position + 8, end
        position = end + (trailer or length % 2)  # PNG: a checksum; RIFF: padding to even length


def read_leb128(data: bytes | memoryview, start: int) -> tuple[int, int]:
    """A number of 7 bits a byte, the lowest first, and where it ends.

    Raises:
        ValueError: it is cut off, or has more than 10 bytes, those of 64 bits.
    """
    value = 0
    for index, byte in enumerate(data[start : start + 10]):
        value |= (byte & 127) << 7 * index
        if byte < 128:
            return value, start + index + 1
    raise ValueError("a length is broken")
