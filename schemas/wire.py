"""How a message becomes bytes and bytes a message: JSON, and what is wrong with bytes that are none."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Annotated, TypeVar

import msgspec

from schemas.errors import BadMessage, Fault

MAX_ID_BYTES = 128
MAX_AMOUNT = 10**12
MAX_DEPTH = 200
"""Of arrays and objects in a message.  The decoder's own limit is what is left of the interpreter's stack: a message that
one caller could read would be a dead letter to another."""

Id = Annotated[str, msgspec.Meta(min_length=1, max_length=MAX_ID_BYTES, description="1 to 128 bytes of UTF-8")]
Amount = Annotated[int, msgspec.Meta(ge=0, le=MAX_AMOUNT, description="minor units of the currency (cents)")]
Currency = Annotated[str, msgspec.Meta(pattern="^[A-Z]{3}$", min_length=3, max_length=3, description="ISO 4217")]
_RFC_3339 = (
    "^[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt][0-9]{2}:[0-9]{2}:[0-9]{2}([.][0-9]+)?([Zz]|[+-]([01][0-9]|2[0-3]):[0-5][0-9])$"
)
Moment = Annotated[
    datetime,
    msgspec.Meta(tz=True, description="RFC 3339, with its offset from UTC", extra_json_schema={"pattern": _RFC_3339}),
]

Message = TypeVar("Message", bound=msgspec.Struct)

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

_any_json = msgspec.json.Decoder(msgspec.Raw)
"""Reads through, and keeps nothing."""
_encoder = msgspec.json.Encoder(order="deterministic")
encode = _encoder.encode
"""A message's canonical bytes: the same for equal messages, whatever order their attributes came in."""


def microseconds(moment: datetime) -> int:
    """Microseconds since 1970 UTC, exactly.

    >>> microseconds(datetime(1970, 1, 2, tzinfo=UTC))
    86400000000
    """
    age = moment - EPOCH
    return (age.days * 86_400 + age.seconds) * 1_000_000 + age.microseconds


def check_ids(message: msgspec.Struct, *names: str) -> None:
    """Raises BadMessage where one of these ids is longer than 128 bytes (the pattern of the type counts characters)."""
    for name in names:
        value = getattr(message, name)
        if value is not None and not value.isascii() and len(value.encode()) > MAX_ID_BYTES:
            raise BadMessage(Fault.OUT_OF_RANGE, f"`$.{name}` is {len(value.encode())} bytes, at most {MAX_ID_BYTES}")


def decode(decoder: msgspec.json.Decoder[Message], value: bytes | None) -> Message:
    """The message in `value`.

    Raises BadMessage, naming what is wrong and where.
    """
    if value is None:
        raise BadMessage(Fault.NULL_VALUE, "the value is null (a tombstone); a message in JSON is expected")
    if not value.isascii():
        _check_utf8(value)  # the decoder looks only at what it keeps
    if len(value) > 2 * MAX_DEPTH and nests_deeper(value, MAX_DEPTH):
        raise BadMessage(Fault.NOT_JSON, f"arrays and objects nest deeper than {MAX_DEPTH}")
    try:
        try:
            return decoder.decode(value)
        except msgspec.ValidationError as error:
            # The decoder stops at the first field that is wrong; what breaks off behind it is no JSON all the same.
            _any_json.decode(value)
            raise BadMessage(_fault_of(error), str(error)) from error
    except msgspec.DecodeError as error:
        raise BadMessage(Fault.NOT_JSON, str(error)) from error


def _check_utf8(value: bytes) -> None:
    try:
        value.decode()
    except UnicodeDecodeError as error:
        raise BadMessage(Fault.INVALID_UTF8, f"byte {error.start} is no UTF-8: {error.reason}") from error


_STRING = re.compile(rb'"(?:[^"\\]++|\\.)*+"', re.DOTALL)
_AS_ARRAYS = bytes.maketrans(b"{}", b"[]")
_NO_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))


def nests_deeper(value: bytes, most: int) -> bool:
    """Whether arrays and objects of this JSON lie more than `most` deep within each other."""
    if value.count(b"[") + value.count(b"{") <= most:
        return False
    depth = 0
    for bracket in _STRING.sub(b"", value).translate(_AS_ARRAYS, _NO_BRACKETS):
        depth += 1 if bracket == ord("[") else -1
        if depth > most:
            return True
    return False


def _fault_of(error: msgspec.ValidationError) -> Fault:
    text = str(error)
    if text.startswith("Invalid enum value"):  # the only one that quotes the message: it may say anything
        return Fault.OUT_OF_RANGE
    if "missing required field" in text:
        return Fault.MISSING_FIELD
    if "timezone" in text:
        return Fault.TIME_WITHOUT_ZONE
    if "`$.currency`" in text and ("matching regex" in text or "length" in text):
        return Fault.UNKNOWN_CURRENCY
    if any(mark in text for mark in (">=", "<=", "length", "out of range", "matching regex")):
        return Fault.OUT_OF_RANGE
    return Fault.WRONG_TYPE
