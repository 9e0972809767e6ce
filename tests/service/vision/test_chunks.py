"""Chunks of PNG and RIFF files are found, however they are damaged."""

import struct

from service.vision.chunks import iterate_chunks


def test_png_chunks_end_in_a_checksum() -> None:
    data = b"".join(struct.pack(">I4s", size, b"abcd") + bytes(size + 4) for size in (3, 0))
    found = list(iterate_chunks(data, 0, ">I4s", trailer=4, limit=9))
    assert found == [(b"abcd", 8, 11), (b"abcd", 23, 23)]


def test_riff_chunks_are_padded_to_even_length() -> None:
    data = b"".join(struct.pack("<4sI", b"abcd", size) + bytes(size + size % 2) for size in (3, 4))
    assert list(iterate_chunks(data, 0, "<4sI", trailer=0, limit=9)) == [(b"abcd", 8, 11), (b"abcd", 20, 24)]


def test_the_last_chunk_may_claim_more_than_there_is_and_no_more_than_the_limit_come() -> None:
    data = struct.pack(">I4s", 2**32 - 1, b"abcd") + bytes(9)
    assert list(iterate_chunks(data, 0, ">I4s", trailer=4, limit=9)) == [(b"abcd", 8, 2**32 + 7)]
    assert len(list(iterate_chunks(bytes(1200), 0, ">I4s", trailer=4, limit=50))) == 50
