"""The chunks of a PNG or RIFF (WebP) file."""

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
