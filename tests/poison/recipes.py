"""How a message is spoiled: by its structure, by its bytes, by where it is put.  Drawn by hypothesis, cooked with a number.

A recipe doesn't name a message: number n is spoiled from transaction n of account n, so that what is accepted in spite of
all meets nothing of the others' but their counterparties.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import cycle, islice
from random import Random
from typing import Any

from hypothesis import HealthCheck as Check
from hypothesis import Phase, given, seed, settings
from hypothesis import strategies as st

from schemas.partitioning import partition_of
from schemas.topics import LABELS, TRANSACTIONS, Topic
from tests.fleet.messages import Outgoing

PARTITIONS = 4
NOW = datetime.now(UTC).replace(microsecond=0)
"""Of the records; their transactions are of an hour before."""
LARGEST = (1 << 20) - 400
"""Bytes of a value that the topics still take."""

Members = list[tuple[bytes, bytes]]
"""Of a JSON object: names and values, as they are written."""


def members_of(topic: Topic, number: int) -> Members:
    """A good message with every field."""
    occurred = NOW - timedelta(hours=1, seconds=number % 600)
    fields: dict[str, Any] = {
        "transaction_id": f"poison-{number}",
        "account_id": f"victim-{number}",
        "counterparty_id": f"shop-{number % 50}",
        "amount": 1_250 + number % 1_000,
        "occurred_at": occurred.isoformat(),
    }
    if topic is TRANSACTIONS:
        fields |= {
            "currency": "EUR",
            "channel": "card",
            "category": "café [{",
            "country": "BE",
            "latitude": 50.85,
            "longitude": -4,
            "device_id": "dévice",
            "ip": "192.0.2.1",
            "attributes": {"terminal": "a\"b\\", "tip": 0.5, "count": 3, "fresh": True},
        }  # fmt: skip
    else:
        fields |= {"label_id": f"label-{number}", "is_fraud": True, "known_at": NOW.isoformat(), "source": "analyst"}
    return [(_json(name), _json(value)) for name, value in fields.items()]


def _json(value: object) -> bytes:
    return json.dumps(value, ensure_ascii=False).encode()


def written(members: Members) -> bytes:
    return b"{" + b",".join(name + b":" + value for name, value in members) + b"}"


@dataclass(frozen=True)
class Put:
    """Another value in place of a field's, or a field that wasn't there."""

    name: str
    raw: bytes

    def __call__(self, members: Members) -> Members:
        name = _json(self.name)
        if all(name != other for other, _ in members):
            return [*members, (name, self.raw)]
        return [(other, self.raw if other == name else value) for other, value in members]


@dataclass(frozen=True)
class Drop:
    """One field less."""

    name: str

    def __call__(self, members: Members) -> Members:
        return [(name, value) for name, value in members if name != _json(self.name)]


@dataclass(frozen=True)
class Double:
    """A field once more, before or behind all others."""

    name: str
    raw: bytes | None
    """None: with its own value."""
    first: bool

    def __call__(self, members: Members) -> Members:
        own = [value for name, value in members if name == _json(self.name)]
        more = [(_json(self.name), self.raw if self.raw is not None else (own or [b"null"])[0])]
        return more + members if self.first else members + more


@dataclass(frozen=True)
class Flip:
    """Some bits of a byte."""

    at: int
    mask: int

    def __call__(self, value: bytes) -> bytes:
        at = self.at % max(len(value), 1)
        return value[:at] + bytes(byte ^ self.mask for byte in value[at : at + 1]) + value[at + 1 :]


@dataclass(frozen=True)
class Cut:
    """All from a place on."""

    at: int

    def __call__(self, value: bytes) -> bytes:
        return value[: self.at % (len(value) + 1)]


@dataclass(frozen=True)
class Replace:
    """Some bytes by others; `length` 0: put in, `by` nothing: taken out."""

    at: int
    length: int
    by: bytes

    def __call__(self, value: bytes) -> bytes:
        at = self.at % (len(value) + 1)
        return value[:at] + self.by + value[at + self.length :]


@dataclass(frozen=True)
class Splice:
    """The head of this and the tail of another."""

    at: int
    other_at: int
    other: int

    def __call__(self, value: bytes) -> bytes:
        other = written(members_of((TRANSACTIONS, LABELS)[self.other], 0))
        return value[: self.at % (len(value) + 1)] + other[self.other_at % (len(other) + 1) :]


@dataclass(frozen=True)
class Again:
    """A part of it, or all, once more behind it."""

    begin: int
    between: bytes

    def __call__(self, value: bytes) -> bytes:
        return value + self.between + value[self.begin % (len(value) + 1) :]


@dataclass(frozen=True)
class Instead:
    """Something else altogether."""

    value: bytes

    def __call__(self, _value: bytes) -> bytes:
        return self.value


@dataclass(frozen=True)
class Swell:
    """As long as `size`, by what a parser must pass over."""

    size: int
    how: str

    def __call__(self, value: bytes) -> bytes:
        room = max(min(self.size, LARGEST) - len(value) - 20, 0)
        if self.how == "noise":
            return value + b"\x00" * room
        if self.how == "white space":
            return value[:1] + b" \t\n\r" * (room // 4) + value[1:]
        return value[:-1] + SWELLINGS[self.how](room) + b"}"


SWELLINGS: dict[str, Callable[[int], bytes]] = {
    "text": lambda room: b',"u":"' + b"x\\u00e9\\\\" * (room // 9) + b'"',
    "array": lambda room: b',"u":[' + b"1e400," * (room // 6) + b"0]",
    "shallow arrays": lambda room: b',"u":[' + b"[[[]]]," * (room // 7) + b"0]",
    "deep arrays": lambda room: b',"u":' + b"[" * (room // 2) + b"]" * (room // 2),
    "the same field": lambda room: b',"amount":1' * (room // 11),
}
"""Further members of the object, some `room` bytes of them."""
SWELLS = ("noise", "white space", *SWELLINGS)
Structural = Put | Drop | Double
Bytewise = Flip | Cut | Replace | Splice | Again | Instead | Swell


@dataclass(frozen=True)
class Recipe:
    """What is done to a good message."""

    fault: str
    """What kind of breakage, for the summary."""
    topic: Topic = TRANSACTIONS
    structure: tuple[Structural, ...] = ()
    bytewise: tuple[Bytewise, ...] = ()
    null: bool = False
    key: Callable[[bytes], bytes | None] | bytes | None = field(default=lambda key: key)
    beside: int = 0
    """Partitions away from the right one."""
    ahead: timedelta = timedelta(0)
    """Of the record's timestamp against that of the others."""
    after: tuple[Recipe, ...] = ()
    """Sent before it, of the same number."""

    def cook(self, number: int) -> list[Outgoing]:
        """The messages, the last of which is this."""
        members = members_of(self.topic, number)
        for change in self.structure:
            members = change(members)
        value = written(members)
        for bite in self.bytewise:
            value = bite(value)
        own = f"victim-{number}".encode()
        key = self.key(own) if callable(self.key) else self.key
        home = partition_of(own if key is None else key, PARTITIONS)
        mine = Outgoing(
            value=None if self.null else value[:LARGEST],
            key=key,
            topic=self.topic,
            partition=(home + self.beside) % PARTITIONS,
            timestamp=NOW + self.ahead,
        )
        return [*(message for one in self.after for message in one.cook(number)), mine]


# What is drawn.

PLACES = st.integers(0, 4_000)
KNOWN = {topic.name: [json.loads(name) for name, _ in members_of(topic, 0)] for topic in (TRANSACTIONS, LABELS)}
_TOPICS = st.sampled_from([TRANSACTIONS, TRANSACTIONS, TRANSACTIONS, LABELS])
_NUMBERS = (
    "0", "-0", "-1", "1", "1.0", "0.1", "-0.0", "1e2", "1E+2", "10e-1", "1e400", "-1e400", "1e-400", "5e-324",
    "1.7976931348623157e308", "1.7976931348623159e308", "9007199254740993", "1000000000000", "1000000000001",
    "9223372036854775807", "9223372036854775808", "18446744073709551615", "18446744073709551616", "-9223372036854775809",
    "01", "+1", ".5", "1.", "1e", "1e+", "-", "--1", "0x10", "1_000", "1,5", "90", "90.00000000000000001", "90.1", "-180",
    "9" * 400, "9" * 4_300, "9" * 4_301, "-" + "9" * 4_300, "0." + "0" * 500 + "1", "1" + "0" * 400 + "e-400",
)  # fmt: skip
_CONSTANTS = ("NaN", "-NaN", "Infinity", "-Infinity", "nan", "inf", "undefined", "None", "True", "nul", "tru", "falsee")
_TEXTS = (
    '""', '" "', '"\\u0000"', '"\\ud800"', '"\\udc00\\ud800"', '"\\ud83d\\ude00"', '"\\ud83d\\u0041"', '"\\x41"', '"\\u12"',
    '"\\u00"', '"\\"', "''", '"\x00"', '"\t"', '"\n"', '"\x7f"', '"\u2028\u2029"', '"\u202eabc"', '"\ufeffa"', '"\ufffe"',
    '"a\u0301"', '"\U0001f9d1\u200d\U0001f9b0"', '"\u0130\u1e9e"', '"' + "ü" * 64 + '"', '"' + "ü" * 65 + '"',
    '"' + "x" * 128 + '"', '"' + "x" * 129 + '"', '"' + "\U0001f600" * 32 + '"', '"' + "\U0001f600" * 64 + '"',
    '"' + "\U0001f600" * 65 + '"', '"' + "\\u00fc" * 65 + '"', '"\\/\\b\\f\\n\\r\\t\\""', '"EUR"', '"eur"', '"QQQ"', '"XAU"',
    '"EUR\\n"', '"USD"', '"JPY"', '"BE\\n"', '"be"', '"chargeback"', '"Chargeback"', '"missing required field"',
    '"$.currency matching regex"', '"timezone"',
)  # fmt: skip
_TIMES = (
    "2025-03-01T12:00:00Z", "2025-03-01t12:00:00z", "2025-03-01 12:00:00Z", "2025-03-01T12:00:00", "2025-03-01T12:00Z",
    "2025-03-01", "12:00:00Z", "yesterday", "1740830400", "2025-02-29T12:00:00Z", "2024-02-29T12:00:00Z",
    "2025-13-01T12:00:00Z", "2025-03-01T24:00:00Z", "2025-03-01T12:00:60Z", "2025-03-01T12:00:00+0100",
    "2025-03-01T12:00:00+01", "2025-03-01T12:00:00+24:00", "2025-03-01T12:00:00+23:59", "2025-03-01T12:00:00-00:00",
    "2025-03-01T12:00:00+01:60", "2025-03-01T12:00:00.123456789Z", "2025-03-01T23:59:59.9999999Z", "2025-03-01T12:00:00.Z",
    "2025-03-01T12:00:00,5Z", "0000-01-01T00:00:00Z", "0001-01-01T00:00:00Z", "0001-01-01T00:00:00+23:59",
    "1969-12-31T23:59:59.999999Z", "9999-12-31T23:59:59Z", "9999-12-31T23:59:59.9999999Z", "9999-12-31T23:59:59-23:59",
    "20250301T120000Z", "2025-W09-6T12:00:00Z", "+2025-03-01T12:00:00Z", "2025-03-01T12:00:00 Z", " 2025-03-01T12:00:00Z",
    "２０２５-03-01T12:00:00Z", "2025-03-01T12:00:00−01:00", "2025-03-01T12:00:00." + "1" * 60 + "Z",
)  # fmt: skip


def _encoded(texts: tuple[str, ...]) -> list[bytes]:
    return [text.encode("utf-8") for text in texts]


def _nested(depth: int, how: int) -> bytes:
    opening, closing = ((b"[", b"]"), (b'{"":', b"}"), (b'[{"a[":', b"}]"))[how]
    return opening * depth + b"0" + closing * depth


_numbers = st.sampled_from(_encoded(_NUMBERS)) | st.integers().map(lambda n: b"%d" % n)
_texts = (
    st.sampled_from(_encoded(_TEXTS)) | st.text().map(_json) | st.text().map(lambda text: json.dumps(text).encode())
)
_times = st.sampled_from([_json(time) for time in _TIMES]) | st.datetimes().map(
    lambda time: _json(time.isoformat() + "Z")
)
_others = st.sampled_from(
    [b"null", b"true", b"false", b"[]", b"{}", b"[1]", b'{"a":1}', b"[[]]", b'{"a":{"b":[]}}', b"", b"{", b"]"]
)
_odd = st.one_of(_numbers, _texts, _times, _others)
_nestings = st.builds(_nested, st.integers(1, 400) | st.sampled_from([198, 199, 200, 201, 5_000]), st.integers(0, 2))
_unclosed = st.builds(
    lambda depth, mark: mark * depth, st.integers(1, 500) | st.just(5_000), st.sampled_from([b"[", b'{"":', b"{"])
)
_MARKS = (b"{", b"}", b"[", b"]", b'"', b"\\", b",", b":", b"\n", b"//", b"/**/", b"NaN", b"null")
_BYTES = (b"\x00", b"\xff", b"\xef\xbb\xbf", b"\xed\xa0\x80", b"\xc0\x80", b"\xf4\x90\x80\x80", b"\xc2\xa0")
_scraps = st.binary(min_size=1, max_size=8) | st.sampled_from([*_MARKS, *_BYTES])


_magic = st.builds(
    Replace, st.just(0), st.integers(0, 6), st.binary(max_size=8).map(lambda id_: b"\0" + id_)
) | st.builds(Instead, st.binary(max_size=8).map(lambda rest: b"\0" + rest))
"""Before a message or over its beginning, and messages of little more than that."""


def _of(topic: Topic, *extra: str) -> st.SearchStrategy[str]:
    return st.sampled_from([*KNOWN[topic.name], *extra])


@st.composite
def _spoiled(
    draw: st.DrawFn, fault: str, change: Callable[[Topic], st.SearchStrategy[Structural]], most: int = 2
) -> Recipe:
    topic = draw(_TOPICS)
    return Recipe(fault, topic, structure=tuple(draw(st.lists(change(topic), min_size=1, max_size=most))))


def _bitten(fault: str, bite: st.SearchStrategy[Any], most: int = 1) -> st.SearchStrategy[Recipe]:
    bites = st.lists(bite, min_size=1, max_size=most).map(tuple)
    return st.builds(lambda topic, some: Recipe(fault, topic, bytewise=some), _TOPICS, bites)


def _put(values: st.SearchStrategy[bytes], *extra: str) -> Callable[[Topic], st.SearchStrategy[Structural]]:
    return lambda topic: st.builds(Put, _of(topic, *extra), values)


_nests = st.sampled_from(["u", "unheard of", "attributes", "amount"])
_numeric = st.sampled_from(["amount", "latitude", "longitude"])
_moments = {TRANSACTIONS.name: st.just("occurred_at"), LABELS.name: st.sampled_from(["occurred_at", "known_at"])}
_attributes = st.lists(st.tuples(_texts, _numbers | _texts | _others), max_size=3).map(
    lambda members: b"{" + b",".join(name + b":" + value for name, value in members) + b"}"
)
_keys = st.one_of(
    st.none(),
    st.binary(max_size=40),
    st.sampled_from([b"", b"\xff\xfe", b"victim-0 ", b"VICTIM-0", b"\xc3\xa9", b"e\xcc\x81", b"k" * 10_000]),
)
_changes = st.sampled_from(
    [
        (),
        (Put("unheard of", b"1"),),
        (Put("amount", b"1249"),),
        (Put("currency", b'"USD"'),),
        (Drop("ip"),),
        (Put("latitude", b"50.850"),),
        (Put("attributes", b'{"count":3.0}'),),
        (Put("occurred_at", b'"2025-03-01T12:00:00Z"'),),
        (Put("amount", b"-1"),),
    ]
)

FAULTS: dict[str, st.SearchStrategy[Recipe]] = {
    "bits flipped": _bitten("bits flipped", st.builds(Flip, PLACES, st.integers(1, 255)), 4),
    "cut short": _bitten("cut short", st.builds(Cut, PLACES)),
    "bytes taken out": _bitten("bytes taken out", st.builds(Replace, PLACES, st.integers(1, 30), st.just(b"")), 2),
    "bytes put in": _bitten("bytes put in", st.builds(Replace, PLACES, st.just(0), _scraps), 2),
    "bytes replaced": _bitten("bytes replaced", st.builds(Replace, PLACES, st.integers(1, 8), _scraps), 3),
    "spliced": _bitten("spliced", st.builds(Splice, PLACES, PLACES, st.integers(0, 1))),
    "said again": _bitten("said again", st.builds(Again, PLACES, st.sampled_from([b"", b"\n", b",", b" "]))),
    "magic byte": _bitten("magic byte", _magic),
    "noise": _bitten("noise", st.builds(Instead, st.binary(max_size=200) | _odd)),
    "odd value": _spoiled("odd value", _put(_odd)),
    "odd number": _spoiled("odd number", lambda _: st.builds(Put, _numeric, _numbers)),
    "no number": _spoiled("no number", lambda _: st.builds(Put, _numeric, st.sampled_from(_encoded(_CONSTANTS)))),
    "odd text": _spoiled("odd text", _put(_texts)),
    "odd time": _spoiled("odd time", lambda topic: st.builds(Put, _moments[topic.name], _times)),
    "odd attributes": _spoiled("odd attributes", lambda _: st.builds(Put, st.just("attributes"), _attributes)),
    "missing field": _spoiled("missing field", lambda topic: st.builds(Drop, _of(topic))),
    "field doubled": _spoiled(
        "field doubled", lambda topic: st.builds(Double, _of(topic), st.none() | _odd, st.booleans())
    ),
    "unknown field": _spoiled("unknown field", lambda _: st.builds(Put, st.just("u"), _odd)),
    "nested": _spoiled("nested", lambda _: st.builds(Put, _nests, _nestings), 1),
    "unclosed": _spoiled("unclosed", lambda _: st.builds(Put, _nests, _unclosed), 1),
    "wrong key": st.builds(lambda topic, key: Recipe("wrong key", topic, key=key), _TOPICS, _keys),
    "wrong partition": st.builds(
        lambda topic, beside: Recipe("wrong partition", topic, beside=beside), _TOPICS, st.integers(1, 3)
    ),
    "null value": st.builds(
        lambda topic, beside: Recipe("null value", topic, null=True, beside=beside), _TOPICS, st.integers(0, 3)
    ),
    "from the future": st.builds(
        lambda seconds: Recipe("from the future", ahead=-timedelta(hours=1) + timedelta(seconds=seconds)),
        st.integers(-1_300, -1) | st.integers(-1_000_000, 10),
    ),
    "very long": st.builds(
        lambda topic, size, how: Recipe("very long", topic, bytewise=(Swell(int(10**size), how),)),
        _TOPICS,
        st.floats(3, 5),
        st.sampled_from(SWELLS),
    ),
    "sent again, changed": st.builds(
        lambda change: Recipe("sent again, changed", structure=change, after=(Recipe("sent again, changed"),)), _changes
    ),
    "several": st.builds(
        lambda topic, puts, bites, beside: Recipe("several", topic, structure=tuple(puts), bytewise=tuple(bites), beside=beside),
        _TOPICS,
        st.lists(st.builds(Put, st.sampled_from(KNOWN[TRANSACTIONS.name]), _odd), max_size=3),
        st.lists(st.builds(Flip, PLACES, st.integers(1, 255)) | st.builds(Cut, PLACES), max_size=2),
        st.sampled_from([0, 0, 1]),
    ),
}  # fmt: skip

LONGEST = "as long as it gets"
_longest = st.builds(
    lambda topic, how: Recipe(LONGEST, topic, bytewise=(Swell(LARGEST, how),)),
    _TOPICS,
    st.sampled_from(SWELLS),
)
recipes: st.SearchStrategy[Recipe] = st.one_of(*FAULTS.values())
AT_ONCE = 20
"""Recipes that make one of hypothesis' examples: it is its examples that take their time."""


def draw_many(count: int, number: int, longest: int = 0) -> list[Recipe]:
    """Of each fault equally many, and `longest` messages as long as they get; the same for the same seed `number`."""
    share = -(-count // len(FAULTS))
    many = [recipe for fault in FAULTS.values() for recipe in _drawn(fault, share, number)]
    Random(number).shuffle(many)
    many[count:] = []
    if longest:
        many[:: count // longest] = _drawn(_longest, len(many[:: count // longest]), number)
    return many


def _drawn(fault: st.SearchStrategy[Recipe], count: int, number: int) -> list[Recipe]:
    drawn: list[Recipe] = []

    @seed(number)
    @settings(
        max_examples=-(-count // AT_ONCE), phases=[Phase.generate], database=None, deadline=None,
        suppress_health_check=list(Check),
    )  # fmt: skip
    @given(st.lists(fault, min_size=AT_ONCE, max_size=AT_ONCE))
    def collect(some: list[Recipe]) -> None:
        drawn.extend(some)

    collect()
    return list(islice(cycle(drawn), count))
