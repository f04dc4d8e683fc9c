"""A log that loses its end, as after an unclean election or a power cut: the broker is killed, and its files are cut."""

from __future__ import annotations

import struct
from pathlib import Path

from deploy.local.stack import LocalStack
from schemas.topics import Topic
from tests.fleet.fleet import Fleet

_HEADER = struct.Struct(">qi")
"""Of a record batch: its first offset, and how many bytes follow."""
_LAST_OFFSET_DELTA = struct.Struct(">i")
_DELTA_AT = 23


def cut(fleet: Fleet, *places: tuple[Topic, int, int]) -> None:
    """Each (topic, partition number, offset) ends before the record batch that holds the offset, once the broker is back."""
    stack: LocalStack = fleet.stack
    stack.kill_kafka()
    try:
        data = stack.folder / "kafka" / "data"
        for topic, number, offset in places:
            _cut_files(data / f"{fleet.settings.topic(topic)}-{number}", offset)
        for checkpoint in data.glob("*-checkpoint"):  # what they say was flushed isn't there any more
            checkpoint.unlink()
    finally:
        stack.start_kafka()


def _cut_files(folder: Path, offset: int) -> None:
    (log,) = folder.glob("*.log")
    content = log.read_bytes()
    at = 0
    while at + _DELTA_AT + 4 <= len(content):
        first, length = _HEADER.unpack_from(content, at)
        if first + _LAST_OFFSET_DELTA.unpack_from(content, at + _DELTA_AT)[0] >= offset:
            break
        at += _HEADER.size + length
    assert at < len(content), f"{folder.name} can't be cut at {offset}"
    log.write_bytes(content[:at])
    for other in (
        *folder.glob("*.snapshot"),
        *folder.glob("*.index"),
        *folder.glob("*.timeindex"),
        *folder.glob("*.txnindex"),
    ):
        other.unlink()
