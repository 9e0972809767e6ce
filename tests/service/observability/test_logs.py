import json
import logging
import sys

from service.observability.logs import JsonFormatter, logging_config, printable


def record(**fields: object) -> logging.LogRecord:
    made = logging.LogRecord("service.requests", logging.INFO, "f", 1, "said %s", ("so",), None)
    made.__dict__.update(fields)
    return made


def test_a_line_is_one_json_object_with_the_fields_of_a_request() -> None:
    text = JsonFormatter().format(record(request_id="abc", status=200, secret="not a field"))
    line = json.loads(text)
    assert "\n" not in text
    assert line.pop("time").endswith("Z")
    assert (line["level"], line["logger"], line["message"]) == ("info", "service.requests", "said so")
    assert set(line) == {"level", "logger", "message", "request_id", "status"}


def test_an_exception_stays_in_its_line() -> None:
    failed = record()
    try:
        raise ValueError("odd")
    except ValueError:
        failed.exc_info = sys.exc_info()
    text = JsonFormatter().format(failed)
    assert "\n" not in text and "ValueError: odd" in json.loads(text)["exception"]


def test_the_level_holds_for_all_loggers_and_the_format_is_chosen() -> None:
    assert logging_config("json", "warning")["root"]["level"] == "WARNING"
    assert logging_config("json", "info")["formatters"] != logging_config("plain", "info")["formatters"]


def test_what_cannot_be_printed_is_escaped() -> None:
    assert printable("a\tb\n") == "a\\tb\\n"
