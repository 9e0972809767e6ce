"""A multipart form taken apart while it comes in, all of it in memory; knows nothing of pictures or limits.

Starlette's own reader keeps files above 1 MB on disk, and leaves them open when the form is cut off.
"""

from dataclasses import dataclass, field
from typing import Final

from python_multipart import MultipartParser
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import parse_options_header

from service.errors import InvalidForm

MAX_PARTS: Final = 16


@dataclass(slots=True)
class Part:
    """One field of a form; a file is a field with a file name."""

    name: str = ""
    file_name: str | None = None
    data: bytearray = field(default_factory=bytearray)

    @property
    def is_file(self) -> bool:
        """Whether the field has a file name."""
        return self.file_name is not None


class FormReader:
    """Takes a form's bytes with `write` as they come, and gives its parts with `finish`."""

    def __init__(self, content_type: str, *, max_parts: int = MAX_PARTS) -> None:
        """Raises InvalidForm when the Content-Type names no boundary, or one that is too long."""
        self._parts: list[Part] = []
        self._max_parts = max_parts
        self._header_name = self._header_value = b""
        self._ended = False
        boundary = parse_options_header(content_type)[1].get(b"boundary")
        if not boundary:
            raise InvalidForm("The Content-Type names no boundary; let the HTTP client write this header.")
        try:
            self._parser = MultipartParser(
                boundary,
                {
                    "on_part_begin": self._begin_part,
                    "on_header_field": self._add_header_name,
                    "on_header_value": self._add_header_value,
                    "on_header_end": self._end_header,
                    "on_part_data": self._add_data,
                    "on_end": self._end,
                },
            )
        except FormParserError as error:
            raise InvalidForm(f"The form's boundary cannot be used: {error}.") from error

    def write(self, chunk: bytes) -> None:
        """Takes the next bytes of the body.

        Raises:
            InvalidForm: they do not follow the rules of multipart/form-data.
        """
        try:
            self._parser.write(chunk)
        except FormParserError as error:
            raise InvalidForm(f"The form cannot be read: {error}.") from error

    def finish(self) -> list[Part]:
        """The parts, in their order.

        Raises:
            InvalidForm: the form's last boundary did not come.
        """
        if not self._ended:
            raise InvalidForm("The form ends before its last boundary; send all of it.")
        return self._parts

    def _begin_part(self) -> None:
        if len(self._parts) == self._max_parts:
            raise InvalidForm(f"The form holds more than {self._max_parts} fields, and no more are taken.")
        self._parts.append(Part())

    def _add_header_name(self, data: bytes, start: int, end: int) -> None:
        self._header_name += data[start:end]

    def _add_header_value(self, data: bytes, start: int, end: int) -> None:
        self._header_value += data[start:end]

    def _end_header(self) -> None:
        if self._header_name.lower() == b"content-disposition":
            _, options = parse_options_header(self._header_value)
            self._parts[-1].name = options.get(b"name", b"").decode(errors="replace")
            if b"filename" in options:
                self._parts[-1].file_name = options[b"filename"].decode(errors="replace")
        self._header_name = self._header_value = b""

    def _add_data(self, data: bytes, start: int, end: int) -> None:
        self._parts[-1].data += memoryview(data)[start:end]

    def _end(self) -> None:
        self._ended = True
