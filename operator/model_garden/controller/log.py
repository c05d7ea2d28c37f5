"""Log lines, as text or JSON, each with the job it is about."""

from __future__ import annotations

import json
import logging
import sys
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # __main__ reads this module first, and pydantic takes long to load
    from model_garden.builders.settings import Settings

about: ContextVar[str] = ContextVar("about", default="-")
"""``namespace/name`` of the TrainingJob that a task works on."""


def set_up(settings: Settings) -> None:
    """Send all log lines to stdout. kopf's own are kept to warnings: it writes one a watch event."""
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(_formatter(settings.log_format))
    logging.basicConfig(level=settings.log_level, handlers=[handler], force=True)
    for noisy in ("kopf", "aiohttp", "asyncio"):
        logging.getLogger(noisy).setLevel(logging.WARNING)


def line(message: str, log_format: str | None) -> str:
    """A message as a log line, without the ``logging`` that ``set_up`` configures."""
    record = {"name": __name__, "levelno": logging.INFO, "levelname": "INFO", "msg": message}
    return _formatter(log_format).format(logging.makeLogRecord(record))


def _formatter(log_format: str | None) -> logging.Formatter:
    return JsonFormatter() if log_format == "json" else TextFormatter()


def _time(record: logging.LogRecord) -> str:
    return datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


class TextFormatter(logging.Formatter):
    """``time level namespace/name message``."""

    def format(self, record: logging.LogRecord) -> str:
        """One line, and a traceback below it where there is one.

        Other lines are indented, and characters that do not print are escaped, so that no text of a job looks like a
        line of the operator or commands a terminal.
        """
        text = record.getMessage()
        if record.exc_info:
            text = f"{text}\n{self.formatException(record.exc_info)}"
        message = "\n  ".join(map(_printable, text.splitlines()))
        return f"{_time(record)} {record.levelname:<7} {about.get()} {message}"


def _printable(line: str) -> str:
    if line.isprintable():
        return line
    return "".join(one if one.isprintable() else one.encode("unicode_escape").decode() for one in line)


class JsonFormatter(logging.Formatter):
    """One JSON object a line: time, level, logger, message; namespace and job, and exception, where there is one."""

    def format(self, record: logging.LogRecord) -> str:
        """One line."""
        namespace, _, job = about.get().partition("/")
        line = {"time": _time(record), "level": record.levelname, "logger": record.name}
        if job:
            line |= {"namespace": namespace, "job": job}
        line["message"] = record.getMessage()
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line)
