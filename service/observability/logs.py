"""Logging configuration: plain lines or JSON lines, with a request's fields; never pixels or keys."""

import json
import logging
import os
import sys
import threading
import time
from typing import Any, Final, Literal

_FIELDS: Final = ("request_id", "method", "path", "status", "code", "ms", "client", "key", "trace_id")
"""Fields of a request that a record may hold, given as `extra`."""


_native_log = logging.getLogger("stderr")


def logging_config(log_format: Literal["plain", "json"], level: str) -> dict[str, Any]:
    """The configuration for `logging.config.dictConfig`; uvicorn's loggers follow it too."""
    plain = {"format": "%(asctime)s %(levelname)s %(name)s: %(message)s"}
    chosen = {"()": JsonFormatter} if log_format == "json" else plain
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {"chosen": chosen},
        "handlers": {
            "stderr": {"class": "logging.StreamHandler", "formatter": "chosen", "stream": "ext://sys.stderr"}
        },
        "root": {"handlers": ["stderr"], "level": level.upper()},
        # httpx and asyncio log each of their steps at the level debug.
        "loggers": {"asyncio": {"level": "WARNING"}, "httpx": {"level": "WARNING"}},
    }


def log_native_lines() -> None:
    """Makes log records of the lines that C libraries write to standard error, such as libjpeg's warnings."""
    own = sys.stderr
    if own is not sys.__stderr__ or own is None:  # somebody else's, or closed
        return
    sys.stderr = os.fdopen(os.dup(2), "w", buffering=1, encoding=own.encoding, errors=own.errors)
    readable, writable = os.pipe()
    os.set_blocking(writable, False)  # what the log is too slow for is lost, and holds nobody up
    os.dup2(writable, 2)
    os.close(writable)
    threading.Thread(target=_log_lines, args=(readable,), name="stderr", daemon=True).start()


def _log_lines(readable: int) -> None:
    with open(readable, errors="backslashreplace") as lines:
        for line in lines:
            _native_log.info("%s", line.rstrip())


def printable(text: str) -> str:
    """The text with escapes in the place of line breaks and of whatever else cannot be printed."""
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in text)


class JsonFormatter(logging.Formatter):
    """One JSON object a line: time, level, logger, message, and a request's fields."""

    def format(self, record: logging.LogRecord) -> str:
        """The record as a line."""
        line: dict[str, Any] = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
            + f".{record.msecs:03.0f}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        line |= {name: getattr(record, name) for name in _FIELDS if hasattr(record, name)}
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False)
