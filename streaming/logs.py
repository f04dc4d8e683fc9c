"""A log line, for people or for a program."""

from __future__ import annotations

import json
import logging
import sys

from schemas import masking


def write_log(level: str, *, as_json: bool) -> None:
    """Everything that is logged goes to standard error, a line each, and shows what may be shown."""
    masking.guard_traces()
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_JsonLine() if as_json else _Line())
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)


class _Line(masking.Lines):
    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - logging calls it so
        return f"{self.formatTime(record)} {record.levelname.lower()} {record.name}: {record.getMessage()}"


class _JsonLine(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        line = {
            "at": self.formatTime(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": masking.text(record.getMessage()),
        }
        if record.exc_info is not None:
            line["trace"] = masking.text(self.formatException(record.exc_info))
        return json.dumps(line)
