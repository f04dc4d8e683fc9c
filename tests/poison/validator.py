"""What must become of a message, by the rules as they are written down: slow, plain, and nothing of the worker's own decoder.

The rules are README's table of bad input and the fields' ranges in schemas/json.  Where a message has several faults,
each is a right answer; but what is no JSON is that, whatever else is wrong with it, and what begins with a zero is Avro.

Two liberties that schemas/json doesn't grant to producers are known, and are accepted: in a time a space for the T (RFC 3339
mentions it), and an offset without its colon.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from schemas.currencies import DEFAULT_RATES
from schemas.errors import Fault
from schemas.partitioning import partition_of

DEEPEST = 200
LONGEST_ID = 128
LARGEST_AMOUNT = 10**12
MOST_DIGITS = 4_300
"""And a sign, of an integer in the attributes: Python reads no longer ones."""
FUTURE = timedelta(minutes=10)
EARLIEST, LATEST = datetime(1990, 1, 1, tzinfo=UTC), datetime(2100, 1, 1, tzinfo=UTC)
MOST_ATTRIBUTES, LONGEST_NAME, LONGEST_TEXT = 1_000, 128, 1_024
SOURCES = ("chargeback", "analyst", "rule", "simulation")
_MOMENT = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)[Tt ](\d\d):(\d\d):(\d\d)(?:\.(\d+))?(?:([Zz])|([+-])([01]\d|2[0-3]):?([0-5]\d))?", re.ASCII
)

Fields = dict[str, Any]
Faults = frozenset[Fault]


@dataclass(frozen=True)
class Judgement:
    """`faults`: each a right answer; none: it is accepted, and `content` is what it says."""

    faults: Faults
    content: Fields | None = None


class _Wrong(Exception):
    def __init__(self, fault: Fault) -> None:
        self.fault = fault


@dataclass(frozen=True)
class _Number:
    """As it is written."""

    text: str

    @property
    def whole(self) -> bool:
        return not set(self.text) & set(".eE")

    @property
    def beyond(self) -> bool:
        """No double is as large: out of range, where text or a truth should stand as well."""
        return math.isinf(float(self.text))


@dataclass(frozen=True)
class _Object:
    """All its members, doubled ones too."""

    members: list[tuple[str, Any]]


def judge(
    kind: str, value: bytes | None, key: bytes | None, partition: int, timestamp: datetime, partitions: int = 4
) -> Judgement:
    """Of one message on `transactions` or `labels` (`kind`), wherever it lies, by itself."""
    try:
        text = _decoded(value)
    except _Wrong as wrong:
        return Judgement(frozenset({wrong.fault}))
    if _depth(text) > DEEPEST:
        return Judgement(frozenset({Fault.NOT_JSON}))
    try:
        read = json.loads(
            text, parse_int=_Number, parse_float=_Number, parse_constant=_no_constant, object_pairs_hook=_Object
        )
        json.dumps(_strings(read), ensure_ascii=False).encode()  # half a surrogate is no text
    except ValueError:
        return Judgement(frozenset({Fault.NOT_JSON}))
    faults, content = _fields(FIELDS[kind], REQUIRED[kind], read)
    if faults:
        return Judgement(frozenset(faults))
    account = content["account_id"].encode()
    if key != account:
        faults.add(Fault.WRONG_KEY)
    if key is None or partition != partition_of(key, partitions):
        faults.add(Fault.WRONG_PARTITION)
    faults |= _of_a_transaction(content) if kind == "transactions" else _of_a_label(content)
    for at in (content[name] for name in ("occurred_at", "known_at") if name in content):
        if at - timestamp > FUTURE:
            faults.add(Fault.FROM_THE_FUTURE)
        if not timedelta(0) <= at - EARLIEST < LATEST - EARLIEST:
            faults.add(Fault.OUT_OF_RANGE)
    return Judgement(frozenset(faults), None if faults else content)


def _of_a_label(content: Fields) -> set[Fault]:
    return {Fault.OUT_OF_RANGE} if content["known_at"] - content["occurred_at"] < timedelta(0) else set()


def _of_a_transaction(content: Fields) -> set[Fault]:
    attributes = content.get("attributes", {})
    texts = [value for value in attributes.values() if isinstance(value, str)]
    beyond = (
        len(attributes) > MOST_ATTRIBUTES
        or max(map(len, attributes), default=0) > LONGEST_NAME
        or max(map(len, texts), default=0) > LONGEST_TEXT
    )
    unknown = content["currency"] not in DEFAULT_RATES.factors
    return ({Fault.OUT_OF_RANGE} if beyond else set()) | ({Fault.UNKNOWN_CURRENCY} if unknown else set())


def _decoded(value: bytes | None) -> str:
    if value is None:
        raise _Wrong(Fault.NULL_VALUE)
    if value[:1] == b"\0":  # Avro's, the schema's id in the four bytes behind it; and no registry is set
        raise _Wrong(Fault.NO_REGISTRY if len(value) >= 5 else Fault.NOT_AVRO)
    try:
        return value.decode("utf-8", "strict")
    except UnicodeDecodeError:
        raise _Wrong(Fault.INVALID_UTF8) from None


def _depth(text: str) -> int:
    """How deep arrays and objects nest, outside of strings."""
    depth = deepest = 0
    within = escaped = False
    for character in text:
        if within:
            if escaped:
                escaped = False
            elif character == "\\":
                escaped = True
            elif character == '"':
                within = False
        elif character == '"':
            within = True
        elif character in "[{":
            depth += 1
            deepest = max(deepest, depth)
        elif character in "]}":
            depth -= 1
    return deepest


def _no_constant(name: str) -> None:
    raise ValueError(f"JSON has no {name}")


def _strings(read: Any) -> list[Any]:
    """All text in it, names too."""
    if isinstance(read, _Object):
        return [part for name, value in read.members for part in (name, *_strings(value))]
    if isinstance(read, list):
        return [part for value in read for part in _strings(value)]
    return [read] if isinstance(read, str) else []


def _fields(rules: dict[str, Callable[[Any], Any]], required: set[str], read: Any) -> tuple[set[Fault], Fields]:
    """Of a member that comes twice both must be right, and the last holds; unknown ones are ignored.

    Only of the id that holds the bytes are counted: of one that is written over, the characters.
    """
    if not isinstance(read, _Object):
        return {Fault.WRONG_TYPE} | _beyond(read), {}
    faults = set[Fault]()
    content: Fields = {}
    for name, value in read.members:
        if name in rules:
            faults |= _beyond(value)
            try:
                content[name] = rules[name](value)
            except _Wrong as wrong:
                faults.add(wrong.fault)
                content[name] = None
    for name, value in content.items():
        if rules[name] in (_id, _id_or_null) and value is not None and len(value.encode()) > LONGEST_ID:
            faults.add(Fault.OUT_OF_RANGE)
    if required - content.keys():
        faults.add(Fault.MISSING_FIELD)
    return faults, {
        name: value for name, value in content.items() if value is not None and (name != "attributes" or value)
    }


def _beyond(value: Any) -> set[Fault]:
    return {Fault.OUT_OF_RANGE} if isinstance(value, _Number) and value.beyond else set()


def _text(value: Any, least: int, most: int) -> str:
    if not isinstance(value, str):
        raise _Wrong(Fault.WRONG_TYPE)
    if not least <= len(value) <= most:
        raise _Wrong(Fault.OUT_OF_RANGE)
    return value


def _id(value: Any) -> str:
    return _text(value, 1, LONGEST_ID)


def _id_or_null(value: Any) -> str | None:
    return None if value is None or value == "" else _id(value)


def _amount(value: Any) -> int:
    if not isinstance(value, _Number):
        raise _Wrong(Fault.WRONG_TYPE)
    if not value.whole:
        raise _Wrong(Fault.WRONG_TYPE)
    if len(value.text) > 20 or not 0 <= int(value.text) <= LARGEST_AMOUNT:
        raise _Wrong(Fault.OUT_OF_RANGE)
    return int(value.text)


def _currency(value: Any) -> str:
    if not isinstance(value, str):
        raise _Wrong(Fault.WRONG_TYPE)
    if not re.fullmatch("[A-Z]{3}", value):
        raise _Wrong(Fault.UNKNOWN_CURRENCY)
    return value


def _country(value: Any) -> str:
    if not re.fullmatch("[A-Z]{2}", _text(value, 0, 1 << 20)):
        raise _Wrong(Fault.OUT_OF_RANGE)
    return str(value)


def _moment(value: Any) -> datetime:
    if not isinstance(value, str) or not (match := _MOMENT.fullmatch(value)):
        raise _Wrong(Fault.WRONG_TYPE)
    *clock, fraction, zulu, sign, hours, minutes = match.groups()
    offset = timedelta(hours=int(hours or 0), minutes=int(minutes or 0)) * (-1 if sign == "-" else 1)
    try:
        # To the nearest microsecond.
        past = timedelta(microseconds=(int(f"{fraction or '0':0<7.7}") + 5) // 10)
        local = datetime(*(int(part) for part in clock), tzinfo=UTC) + past  # type: ignore[misc, arg-type]
    except (ValueError, OverflowError):
        raise _Wrong(Fault.WRONG_TYPE) from None
    if not (zulu or sign):
        raise _Wrong(Fault.TIME_WITHOUT_ZONE)
    return _Moment.at(local, offset)


class _Moment(datetime):
    """A local time and its offset, both of which two equal messages share; it may lie before the year 1 in UTC."""

    offset: timedelta

    @classmethod
    def at(cls, local: datetime, offset: timedelta) -> _Moment:
        moment = cls.fromisoformat(local.isoformat())
        moment.offset = offset
        return moment

    def __sub__(self, other: Any) -> Any:
        return super().__sub__(other) - self.offset + (other.offset if isinstance(other, _Moment) else timedelta(0))

    def __eq__(self, other: object) -> bool:
        return super().__eq__(other) and isinstance(other, _Moment) and self.offset == other.offset

    __hash__ = datetime.__hash__


def _degrees(most: int) -> Callable[[Any], float]:
    def within(value: Any) -> float:
        if not isinstance(value, _Number):
            raise _Wrong(Fault.WRONG_TYPE)
        if not -most <= float(value.text) <= most:
            raise _Wrong(Fault.OUT_OF_RANGE)
        return float(value.text)

    return within


def _attributes(value: Any) -> Fields:
    if not isinstance(value, _Object):
        raise _Wrong(Fault.WRONG_TYPE)
    found: Fields = {}
    for name, one in value.members:
        if isinstance(one, list | _Object):
            raise _Wrong(Fault.WRONG_TYPE)
        if isinstance(one, _Number):
            if len(one.text) > MOST_DIGITS if one.whole else one.beyond:
                raise _Wrong(Fault.OUT_OF_RANGE)
            found[name] = ("whole", int(one.text)) if one.whole else ("fraction", repr(float(one.text)))
        else:
            found[name] = one
    return {name: one for name, one in found.items() if one is not None and one != ""}


def _flag(value: Any) -> bool:
    if not isinstance(value, bool):
        raise _Wrong(Fault.WRONG_TYPE)
    return value


def _source(value: Any) -> str:
    if not isinstance(value, str):
        raise _Wrong(Fault.WRONG_TYPE)
    if value not in SOURCES:
        raise _Wrong(Fault.OUT_OF_RANGE)
    return value


def _or_null(rule: Callable[[Any], Any]) -> Callable[[Any], Any]:
    return lambda value: None if value is None or value == "" else rule(value)


def _word(most: int) -> Callable[[Any], str]:
    return lambda value: _text(value, 1, most)


FIELDS: dict[str, dict[str, Callable[[Any], Any]]] = {
    "transactions": {
        "transaction_id": _id,
        "account_id": _id,
        "amount": _amount,
        "currency": _currency,
        "occurred_at": _moment,
        "counterparty_id": _id_or_null,
        "channel": _or_null(_word(64)),
        "category": _or_null(_word(64)),
        "country": _or_null(_country),
        "latitude": _or_null(_degrees(90)),
        "longitude": _or_null(_degrees(180)),
        "device_id": _id_or_null,
        "ip": _or_null(_word(45)),
        "attributes": _or_null(_attributes),
    },
    "labels": {
        "label_id": _id,
        "transaction_id": _id,
        "account_id": _id,
        "occurred_at": _moment,
        "amount": _amount,
        "is_fraud": _flag,
        "known_at": _moment,
        "source": _source,
        "counterparty_id": _id_or_null,
    },
}
REQUIRED = {
    "transactions": {"transaction_id", "account_id", "amount", "currency", "occurred_at"},
    "labels": FIELDS["labels"].keys() - {"counterparty_id"},
}
