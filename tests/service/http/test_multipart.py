"""Multipart forms, taken apart at whatever places the network cuts them."""

import pytest

from service.errors import InvalidForm
from service.http.multipart import FormReader

TYPE = 'multipart/form-data; boundary="x"'
BODY = (
    b'--x\r\nContent-Disposition: form-data; name="image"; filename="p.jpg"\r\nA: b\r\n\r\n'
    b"\xff\xd8 \r\n--y \r\n-\r\n"
    b'\r\n--x\r\ncontent-disposition: form-data; name="caf\xc3\xa9"\r\n\r\nleft\r\n--x--\r\n'
)


@pytest.mark.parametrize("size", [1, 2, 3, 7, 50, 1000])
def test_a_form_is_the_same_however_it_is_cut(size: int) -> None:
    form = FormReader(TYPE)
    for start in range(0, len(BODY), size):
        form.write(BODY[start : start + size])
    picture, text = form.finish()
    assert (picture.name, picture.is_file, bytes(picture.data)) == (
        "image",
        True,
        b"\xff\xd8 \r\n--y \r\n-\r\n",
    )
    assert (text.name, text.is_file, bytes(text.data)) == ("café", False, b"left")


def test_a_part_without_a_name_has_an_empty_one() -> None:
    form = FormReader(TYPE)
    form.write(b"--x\r\nContent-Type: image/jpeg\r\n\r\nhello\r\n--x--\r\n")
    assert [part.name for part in form.finish()] == [""]


def test_a_form_may_be_empty() -> None:
    form = FormReader(TYPE)
    form.write(b"--x--\r\n")
    assert form.finish() == []


@pytest.mark.parametrize(
    "content_type", ["multipart/form-data", "multipart/form-data; boundary=", "; boundary"]
)
def test_a_form_without_a_boundary_is_refused(content_type: str) -> None:
    with pytest.raises(InvalidForm, match="names no boundary"):
        FormReader(content_type)


def test_a_boundary_that_is_too_long_is_refused() -> None:
    with pytest.raises(InvalidForm, match="boundary cannot be used"):
        FormReader("multipart/form-data; boundary=" + "x" * 1000)


@pytest.mark.parametrize(
    "body", [b"hello", b"--x hello", b"--x\r\n\xff: a\r\n\r\n", b"--x\r\n" + b"a: b\r\n" * 100]
)
def test_what_is_no_form_is_refused(body: bytes) -> None:
    with pytest.raises(InvalidForm, match="cannot be read"):
        FormReader(TYPE).write(body)


@pytest.mark.parametrize("end", [0, 3, 40, 120, len(BODY) - 4])
def test_a_form_that_is_cut_off_is_refused(end: int) -> None:
    form = FormReader(TYPE)
    form.write(BODY[:end])
    with pytest.raises(InvalidForm, match="last boundary"):
        form.finish()


def test_more_fields_than_anybody_needs_are_refused() -> None:
    form = FormReader(TYPE)
    with pytest.raises(InvalidForm, match="more than 16"):
        form.write(b"--x\r\na: b\r\n\r\nhello\r\n" * 100)
