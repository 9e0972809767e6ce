"""Logging configuration: plain lines or JSON lines, with a request's fields; never pixels or keys."""

import json
import logging
import time
from typing import Any, Final, Literal

_FIELDS: Final = ("request_id", "method", "path", "status", "code", "ms", "client", "key", "trace_id")
"""Fields of a request that a record may hold, given as `extra`."""


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
