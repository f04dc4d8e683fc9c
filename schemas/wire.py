"""How a message becomes bytes and bytes a message: JSON, and what is wrong with bytes that are none."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime
from types import UnionType
from typing import Annotated, Any, Generic, TypeVar, Union, get_args, get_origin, get_type_hints

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
EARLIEST, LATEST = datetime(1990, 1, 1, tzinfo=UTC), datetime(2100, 1, 1, tzinfo=UTC)
"""A payment before or after these is a clock that was never set, or a time in another unit."""

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
    return _decode(decoder.decode, value)


class LenientDecoder(Generic[Message]):
    """Reads messages of producers: what may be absent may also be null or empty text, and so may the values of a map.

    Nothing of this is left in the message: one that says so and one that says nothing are equal.
    """

    def __init__(self, kind: type[Message]) -> None:
        self._kind = kind
        self._strict = msgspec.json.Decoder(kind)
        self.written = msgspec.defstruct(kind.__name__, _written_fields(kind), kw_only=True, omit_defaults=True)
        """The type that is read, for schemas of what producers may write."""
        self._lenient = msgspec.json.Decoder(self.written)

    def decode(self, value: bytes | None) -> Message:
        """As `decode` below."""
        return _decode(self._read, value)

    def _read(self, value: bytes) -> Message:
        try:
            return self._strict.decode(value)
        except msgspec.ValidationError:
            written = self._lenient.decode(value)
        said = {name: _without_gaps(one) for name, one in msgspec.structs.asdict(written).items()}
        return self._kind(**{name: one for name, one in said.items() if not _is_gap(one)})


def _is_gap(value: object) -> bool:
    return value is None or value == ""


def _without_gaps(value: Any) -> Any:
    return {name: one for name, one in value.items() if not _is_gap(one)} if isinstance(value, dict) else value


_NO_TEXT = Annotated[str, msgspec.Meta(max_length=0)]


def _written_fields(kind: type[msgspec.Struct]) -> list[Any]:
    hints = get_type_hints(kind, include_extras=True)
    return [
        (field.name, hints[field.name]) if field.required else (field.name, _or_empty(hints[field.name]), None)
        for field in msgspec.structs.fields(kind)
    ]


def _or_empty(hint: Any) -> Any:
    """The type with which null and empty text pass too."""
    parts = get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)
    parts = tuple(one for one in parts if one is not type(None))
    texts = [one for one in parts if one is str or (get_origin(one) is Annotated and get_args(one)[0] is str)]
    maps = [one for one in parts if get_origin(one) is dict]
    others = [one for one in parts if one not in texts and one not in maps]
    mended = [_or_no_text(one) for one in texts] or [_NO_TEXT]
    mended += [dict[get_args(one)[0], _or_empty(get_args(one)[1])] for one in maps]  # type: ignore[misc]
    whole: Any = Union[(*others, *mended, None)]
    return whole


def _or_no_text(hint: Any) -> Any:
    if hint is str:
        return str
    bounds = [one for one in hint.__metadata__ if isinstance(one, msgspec.Meta)]
    pattern = next((one.pattern for one in bounds if one.pattern), None)
    return Annotated[
        str,
        msgspec.Meta(
            pattern=f"^$|{pattern}" if pattern else None,
            max_length=next((one.max_length for one in bounds if one.max_length is not None), None),
            description=next((one.description for one in bounds if one.description), None),
        ),
    ]


def _decode(read: Callable[[bytes], Message], value: bytes | None) -> Message:
    if value is None:
        raise BadMessage(Fault.NULL_VALUE, "the value is null (a tombstone); a message in JSON is expected")
    if not value.isascii():
        _check_utf8(value)  # the decoder looks only at what it keeps
    if len(value) > 2 * MAX_DEPTH and nests_deeper(value, MAX_DEPTH):
        raise BadMessage(Fault.NOT_JSON, f"arrays and objects nest deeper than {MAX_DEPTH}")
    try:
        try:
            return read(value)
        except msgspec.ValidationError as error:
            # The decoder stops at the first field that is wrong; what breaks off behind it is no JSON all the same.
            _any_json.decode(value)
            raise _bad(error, value) from error
    except msgspec.DecodeError as error:
        raise BadMessage(Fault.NOT_JSON, str(error)) from error


def _bad(error: msgspec.ValidationError, value: bytes) -> BadMessage:
    said = str(error)
    fault = _fault_of(said)
    if _EMPTY_ONLY in said:  # any other text is what isn't expected there
        wanted = "an object" if "`$.attributes`" in said else "a number"
        fault, said = Fault.WRONG_TYPE, said.replace(_EMPTY_ONLY, f"Expected {wanted}, null or empty text, got text")
    if _SOMEWHERE in said and (name := _which(value)) is not None:
        said = said.replace(_SOMEWHERE, f"`$.attributes[{name}]")
    return BadMessage(fault, said)


_EMPTY_ONLY = "Expected `str` of length <= 0"
_SOMEWHERE = "`$.attributes[...]"
_MOST_SHOWN = 80


class _Attributes(msgspec.Struct):
    attributes: dict[str, msgspec.Raw]


_attributes = msgspec.json.Decoder(_Attributes)
_attribute = msgspec.json.Decoder(float | int | bool | str | None)


def _which(value: bytes) -> str | None:
    """The first attribute that can't be read; None where it was written over by another of its name."""
    try:
        found = _attributes.decode(value).attributes
    except msgspec.DecodeError:
        return None
    for name, raw in found.items():
        try:
            _attribute.decode(raw)
        except msgspec.DecodeError:
            return msgspec.json.encode(name if len(name) <= _MOST_SHOWN else f"{name[:_MOST_SHOWN]}…").decode()
    return None


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


def _fault_of(text: str) -> Fault:
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
