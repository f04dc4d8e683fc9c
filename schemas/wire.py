"""How a message becomes bytes and bytes a message: JSON, and what is wrong with bytes that are none."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, TypeVar

import msgspec

from schemas.errors import BadMessage, Fault

MAX_ID_BYTES = 128
MAX_AMOUNT = 10**12

Id = Annotated[str, msgspec.Meta(min_length=1, max_length=MAX_ID_BYTES, description="1 to 128 bytes of UTF-8")]
Amount = Annotated[int, msgspec.Meta(ge=0, le=MAX_AMOUNT, description="minor units of the currency (cents)")]
Currency = Annotated[str, msgspec.Meta(pattern="^[A-Z]{3}$", description="ISO 4217")]
Moment = Annotated[datetime, msgspec.Meta(tz=True, description="RFC 3339, with its offset from UTC")]

Message = TypeVar("Message", bound=msgspec.Struct)

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

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
    try:
        return decoder.decode(value)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadMessage(_fault_of(value, error), str(error)) from error


def _fault_of(value: bytes, error: Exception) -> Fault:  # noqa: PLR0911 - a table, read top to bottom
    text = str(error)
    if not isinstance(error, msgspec.ValidationError):
        try:
            value.decode()
        except UnicodeDecodeError:
            return Fault.INVALID_UTF8
        return Fault.NOT_JSON
    if "missing required field" in text:
        return Fault.MISSING_FIELD
    if "timezone" in text:
        return Fault.TIME_WITHOUT_ZONE
    if "`$.currency`" in text and "matching regex" in text:
        return Fault.UNKNOWN_CURRENCY
    if any(mark in text for mark in (">=", "<=", "length", "out of range", "matching regex", "Invalid enum")):
        return Fault.OUT_OF_RANGE
    return Fault.WRONG_TYPE
