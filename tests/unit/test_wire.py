"""Bytes become a message, or it is said what is wrong with them and where; never anything else."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.activity import decode_activity
from schemas.dead_letter import DeadLetter
from schemas.errors import BadMessage, Fault
from schemas.label import Label, LabelSource, decode_label
from schemas.transaction import Transaction, decode_transaction
from schemas.verdict import decode_alert, decode_verdict
from schemas.wire import MAX_AMOUNT, MAX_DEPTH, encode, microseconds
from tests.builders import a_dead_letter, a_label, a_transaction, an_activity
from tests.examples import examples

GOOD = encode(a_transaction(counterparty_id="bakery", attributes={"size": 1}))
GOOD_LABEL = encode(a_label(a_transaction(counterparty_id="bakery")))
DECODERS: dict[str, Callable[[bytes | None], msgspec.Struct]] = {
    "transaction": decode_transaction,
    "label": decode_label,
    "activity": decode_activity,
    "verdict": decode_verdict,
    "alert": decode_alert,
}


def with_field(name: str, value: Any, good: bytes = GOOD) -> bytes:
    return json.dumps(json.loads(good) | {name: value}).encode()


def without(name: str, good: bytes = GOOD) -> bytes:
    fields = json.loads(good)
    del fields[name]
    return json.dumps(fields).encode()


def with_raw(name: str, raw: bytes) -> bytes:
    """What no JSON library would write."""
    return with_field(name, "@@").replace(b'"@@"', raw)


def wrong_with(value: bytes | None, decode: Callable[[bytes | None], Any] = decode_transaction) -> BadMessage:
    with pytest.raises(BadMessage) as bad:
        decode(value)
    return bad.value


# The table of bad input: what is wrong, which fault it is, and what the detail must name.


@pytest.mark.parametrize(
    ("value", "fault", "named"),
    [
        (None, Fault.NULL_VALUE, "null"),
        (b"", Fault.NOT_JSON, "truncated"),
        (b"tomorrow", Fault.NOT_JSON, "byte 4"),
        (GOOD[:-1], Fault.NOT_JSON, "truncated"),
        (GOOD + b"}", Fault.NOT_JSON, "trailing"),
        (with_field("amount", "350")[:-1], Fault.NOT_JSON, "truncated"),
        (with_field("currency", "euro") + b"}", Fault.NOT_JSON, "trailing"),
        (b"{}" + GOOD, Fault.NOT_JSON, "trailing"),
        (b'"' + GOOD, Fault.NOT_JSON, "trailing"),
        (b"\xef\xbb\xbf" + GOOD, Fault.NOT_JSON, "byte 0"),
        (GOOD.decode().encode("utf-16"), Fault.INVALID_UTF8, "byte 0"),
        (b"\x00" * 1_000_000, Fault.NO_REGISTRY, "FRAUD_SCHEMA_REGISTRY_URL"),
        (b"[" * 1_000_000, Fault.NOT_JSON, f"deeper than {MAX_DEPTH}"),
        (b"[]", Fault.WRONG_TYPE, "Expected `object`, got `array`"),
        (b"null", Fault.WRONG_TYPE, "Expected `object`, got `null`"),
        (with_raw("account_id", b'"\xff"'), Fault.INVALID_UTF8, "byte "),
        (with_raw("of a newer producer", b'"\xc3\x28"'), Fault.INVALID_UTF8, "byte "),
        (with_raw("account_id", b'"\xed\xa0\x80"'), Fault.INVALID_UTF8, "byte "),
        (with_raw("account_id", b'"\\ud800"'), Fault.NOT_JSON, "surrogate"),
        (with_field("amount", "350"), Fault.WRONG_TYPE, "`$.amount`"),
        (with_field("amount", 3.5), Fault.WRONG_TYPE, "`$.amount`"),
        (with_field("amount", True), Fault.WRONG_TYPE, "`$.amount`"),
        (with_field("amount", None), Fault.WRONG_TYPE, "`$.amount`"),
        (with_raw("amount", b"NaN"), Fault.NOT_JSON, "byte "),
        (with_raw("amount", b"Infinity"), Fault.NOT_JSON, "byte "),
        (with_raw("amount", b"1e400"), Fault.OUT_OF_RANGE, "`$.amount`"),
        (with_raw("amount", b"9" * 5_000), Fault.OUT_OF_RANGE, "`$.amount`"),
        (with_field("amount", -1), Fault.OUT_OF_RANGE, "`$.amount`"),
        (with_field("amount", MAX_AMOUNT + 1), Fault.OUT_OF_RANGE, "`$.amount`"),
        (with_field("currency", "eur"), Fault.UNKNOWN_CURRENCY, "`$.currency`"),
        (with_field("currency", "EURO"), Fault.UNKNOWN_CURRENCY, "`$.currency`"),
        (with_field("currency", "EUR\n"), Fault.UNKNOWN_CURRENCY, "`$.currency`"),
        (with_field("currency", ""), Fault.UNKNOWN_CURRENCY, "`$.currency`"),
        (with_field("currency", 978), Fault.WRONG_TYPE, "`$.currency`"),
        (with_field("occurred_at", "2026-03-02T12:00:00"), Fault.TIME_WITHOUT_ZONE, "`$.occurred_at`"),
        (with_field("occurred_at", "2026-02-30T12:00:00Z"), Fault.WRONG_TYPE, "`$.occurred_at`"),
        (with_field("occurred_at", "2026-03-02T12:00:00+24:00"), Fault.WRONG_TYPE, "`$.occurred_at`"),
        (with_field("occurred_at", "yesterday"), Fault.WRONG_TYPE, "`$.occurred_at`"),
        (with_field("occurred_at", 1_772_452_800), Fault.WRONG_TYPE, "`$.occurred_at`"),
        (with_field("country", "BE\n"), Fault.OUT_OF_RANGE, "`$.country`"),
        (with_field("country", "Belgium"), Fault.OUT_OF_RANGE, "`$.country`"),
        (with_field("channel", "x" * 65), Fault.OUT_OF_RANGE, "`$.channel`"),
        (with_field("latitude", 90.5), Fault.OUT_OF_RANGE, "`$.latitude`"),
        (with_field("longitude", "3°"), Fault.WRONG_TYPE, "`$.longitude`"),
        (with_field("ip", "1" * 46), Fault.OUT_OF_RANGE, "`$.ip`"),
        (with_field("attributes", [1]), Fault.WRONG_TYPE, "`$.attributes`"),
        (with_field("latitude", "north"), Fault.WRONG_TYPE, "a number, null or empty text, got text - at `$.latitude`"),
        (with_field("attributes", "size"), Fault.WRONG_TYPE, "an object, null or empty text, got text - at `$.attr"),
        (with_field("attributes", {"tip": 1, "size": {"x": 1}}), Fault.WRONG_TYPE, '`$.attributes["size"]`'),
        (with_field("attributes", {"tip": None, "a b": [1]}), Fault.WRONG_TYPE, '`$.attributes["a b"]`'),
        (with_field("attributes", {"x" * 200: []}), Fault.WRONG_TYPE, f'`$.attributes["{"x" * 80}…"]`'),
        (with_raw("attributes", b'{"size":' + b"9" * 4_301 + b"}"), Fault.OUT_OF_RANGE, "`$.attributes"),
        (with_raw("attributes", b'{"size":-' + b"9" * 4_300 + b"}"), Fault.OUT_OF_RANGE, "`$.attributes"),
        (with_raw("attributes", b'{"size":' + b"9" * 20_000 + b"}"), Fault.OUT_OF_RANGE, "`$.attributes"),
        *((without(name), Fault.MISSING_FIELD, f"`{name}`") for name in ("transaction_id", "account_id", "amount")),
        *((without(name), Fault.MISSING_FIELD, f"`{name}`") for name in ("currency", "occurred_at")),
        *(
            (with_field(name, value), Fault.OUT_OF_RANGE, f"`$.{name}`")
            for name in ("transaction_id", "account_id", "counterparty_id", "device_id")
            for value in ("x" * 129, "é" * 65)
        ),
        *((with_field(name, ""), Fault.OUT_OF_RANGE, f"`$.{name}`") for name in ("transaction_id", "account_id")),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_transaction_is_named(value: bytes | None, fault: Fault, named: str) -> None:
    bad = wrong_with(value)

    assert (bad.fault, named in bad.detail) == (fault, True), bad.detail
    assert len(bad.detail) < 300


@pytest.mark.parametrize(
    ("value", "fault", "named"),
    [
        (None, Fault.NULL_VALUE, "null"),
        *((without(name, GOOD_LABEL), Fault.MISSING_FIELD, f"`{name}`") for name in ("label_id", "known_at", "source")),
        (with_field("is_fraud", 1, GOOD_LABEL), Fault.WRONG_TYPE, "`$.is_fraud`"),
        (with_field("known_at", "2026-03-02T12:00:00", GOOD_LABEL), Fault.TIME_WITHOUT_ZONE, "`$.known_at`"),
        (with_field("amount", -5, GOOD_LABEL), Fault.OUT_OF_RANGE, "`$.amount`"),
        *((with_field(name, "é" * 65, GOOD_LABEL), Fault.OUT_OF_RANGE, f"`$.{name}`") for name in ("label_id", "account_id")),
        *(
            (with_field("source", words, GOOD_LABEL), Fault.OUT_OF_RANGE, "`$.source`")
            for words in ("", "gossip", "timezone", "missing required field", "`$.currency` matching regex")
        ),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_label_is_named(value: bytes | None, fault: Fault, named: str) -> None:
    bad = wrong_with(value, decode_label)

    assert (bad.fault, named in bad.detail) == (fault, True), bad.detail


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("transaction", 2**64),
        ("account", -1),
        ("amount", 2**47),
        ("amount", -1),
        ("occurred_at", 2**63),
        ("known_at", -(2**63)),
        ("counterparty_id", "é" * 65),
    ],
)
def test_an_activity_that_no_profile_could_hold_is_refused(name: str, value: Any) -> None:
    bad = wrong_with(with_field(name, value, encode(an_activity())), decode_activity)

    assert (bad.fault, f"`$.{name}`" in bad.detail) == (Fault.OUT_OF_RANGE, True), bad.detail


# What is right.


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("2026-03-02T12:00:00Z", datetime(2026, 3, 2, 12, tzinfo=UTC)),
        ("2026-03-02t12:00:00z", datetime(2026, 3, 2, 12, tzinfo=UTC)),
        ("2026-03-02T12:00:00.000001+02:00", datetime(2026, 3, 2, 10, 0, 0, 1, tzinfo=UTC)),
        ("2026-03-02T12:00:00.1234567-00:30", datetime(2026, 3, 2, 12, 30, 0, 123_457, tzinfo=UTC)),
        ("0001-01-01T00:00:00+14:00", datetime(1, 1, 1, tzinfo=timezone(timedelta(hours=14)))),
        (
            "9999-12-31T23:59:59.999999-14:00",
            datetime(9999, 12, 31, 23, 59, 59, 999_999, timezone(timedelta(hours=-14))),
        ),
    ],
)
def test_a_time_is_a_moment_and_a_local_hour(written: str, meant: datetime) -> None:
    at = decode_transaction(with_field("occurred_at", written)).occurred_at

    assert at == meant
    assert at.hour == int(written[11:13])
    assert microseconds(at) == (meant - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)


OPTIONAL = [field.name for field in msgspec.structs.fields(Transaction) if not field.required]


@pytest.mark.parametrize("name", OPTIONAL)
@pytest.mark.parametrize("nothing", [None, ""])
def test_null_and_empty_text_are_missing_as_in_tables(name: str, nothing: str | None) -> None:
    missing = decode_transaction(without(name, with_field(name, None)))
    read = decode_transaction(with_field(name, nothing))

    assert read == missing
    assert encode(read) == encode(missing)
    assert not getattr(read, name)


def test_an_attribute_that_says_nothing_is_missing() -> None:
    with_gaps = with_field("attributes", {"a": None, "size": 1, "b": "", "zero": 0, "no": False, "c": 0.5})

    assert decode_transaction(with_gaps).attributes == {"size": 1, "zero": 0, "no": False, "c": 0.5}
    assert encode(decode_transaction(with_gaps)) == encode(
        decode_transaction(with_field("attributes", {"no": False, "c": 0.5, "zero": 0, "size": 1}))
    )


@pytest.mark.parametrize("nothing", [None, ""])
def test_so_it_is_in_labels(nothing: str | None) -> None:
    assert decode_label(with_field("counterparty_id", nothing, GOOD_LABEL)).counterparty_id is None
    assert wrong_with(with_field("label_id", nothing, GOOD_LABEL), decode_label).detail.endswith("`$.label_id`")


def test_what_else_is_wrong_is_said_and_not_what_is_empty() -> None:
    bad = wrong_with(json.dumps({"channel": ""} | json.loads(with_field("amount", -1))).encode())

    assert (bad.fault, bad.detail) == (Fault.OUT_OF_RANGE, "Expected `int` >= 0 - at `$.amount`")


def test_a_newer_producer_may_say_more() -> None:
    more = {"wallet": {"kind": "card", "tokens": [1, [2, {}]]}}

    assert decode_transaction(json.dumps(json.loads(GOOD) | more).encode()) == decode_transaction(GOOD)


def test_an_id_may_be_anything_of_up_to_128_bytes() -> None:
    for ident in ("x", "x" * 128, "é" * 64, "a\x00b", '"\\', " ", "💶" * 32):
        assert decode_transaction(with_field("account_id", ident)).account_id == ident


def test_an_amount_may_be_anything_up_to_ten_billion() -> None:
    assert [decode_transaction(with_field("amount", n)).amount for n in (0, MAX_AMOUNT)] == [0, MAX_AMOUNT]


# How deep a message may nest must not depend on who reads it: else it is judged here and a dead letter there.


def nested(depth: int) -> bytes:
    """With `depth` arrays and objects in one another, the message itself the outermost."""
    return with_raw("more", b"[" * (depth - 2) + b'{"[{":"\\"]"}' + b"]" * (depth - 2))


def read_from_below(frames: int, value: bytes) -> Transaction:
    return decode_transaction(value) if frames == 0 else read_from_below(frames - 1, value)


@pytest.mark.parametrize("frames", [0, 50, 500])
def test_how_deep_a_message_may_nest_depends_on_nobodys_stack(frames: int) -> None:
    for depth in (2, 3, MAX_DEPTH - 1, MAX_DEPTH):
        assert read_from_below(frames, nested(depth)).amount == 350
    for depth in (MAX_DEPTH + 1, MAX_DEPTH + 2, 900, 980, 100_000):
        with pytest.raises(BadMessage, match=f"deeper than {MAX_DEPTH}"):
            read_from_below(frames, nested(depth))


def test_brackets_side_by_side_or_in_text_are_no_depth() -> None:
    assert decode_transaction(with_field("more", [[{}] for _ in range(10_000)])).amount == 350
    assert decode_transaction(with_field("more", '[{"\\' * 10_000)).amount == 350


# Whatever comes.


def message_or_what_is_wrong(decode: Callable[[Any], Any], value: Any) -> Any:
    try:
        return decode(value)
    except BadMessage as bad:
        return bad


def only_bad(decode: Callable[[bytes | None], Any], value: bytes) -> None:
    message = message_or_what_is_wrong(decode, value)
    if isinstance(message, BadMessage):
        assert message.detail
        assert not value.isascii() or message.fault is not Fault.INVALID_UTF8
    else:
        again = encode(message)
        assert decode(again) == message
        assert encode(decode(again)) == again


scraps = st.sampled_from(
    [
        b"{",
        b"}",
        b"[",
        b"]",
        b'"',
        b"\\",
        b",",
        b":",
        b"null",
        b"1e9",
        b"-",
        b"0",
        b"\xff",
        b"\\ud800",
        b"\x00",
        b"9" * 400,
    ]
)


@pytest.mark.parametrize("kind", DECODERS)
def test_no_noise_raises_anything_but_bad_message(kind: str) -> None:
    @examples(150)
    @given(st.binary(max_size=200) | st.lists(scraps, max_size=60).map(b"".join))
    def noise(value: bytes) -> None:
        only_bad(DECODERS[kind], value)

    noise()


@examples(400)
@given(st.data())
def test_no_spoiled_message_raises_anything_but_bad_message(data: st.DataObject) -> None:
    kind, good = data.draw(
        st.sampled_from([("transaction", GOOD), ("label", GOOD_LABEL), ("activity", encode(an_activity()))])
    )
    value = good
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(value)))
        gone = data.draw(st.integers(0, 4))
        value = value[:at] + data.draw(scraps | st.binary(max_size=3)) + value[at + gone :]
    only_bad(DECODERS[kind], value)


ids = st.text(min_size=1, max_size=32).filter(lambda text: len(text.encode("utf-8", "surrogatepass")) <= 128).filter(
    lambda text: not any("\ud800" <= c <= "\udfff" for c in text)
)  # fmt: skip
zones = st.integers(-14 * 60, 14 * 60).map(lambda minutes: timezone(timedelta(minutes=minutes)))
times = st.datetimes(timezones=zones)
values = st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.booleans() | ids
transactions = st.builds(
    Transaction,
    transaction_id=ids,
    account_id=ids,
    counterparty_id=st.none() | ids,
    amount=st.integers(0, MAX_AMOUNT),
    currency=st.sampled_from(["EUR", "JPY"]),
    occurred_at=times,
    channel=st.none() | ids,
    country=st.none() | st.just("BE"),
    latitude=st.none() | st.floats(-90, 90),
    device_id=st.none() | ids,
    attributes=st.dictionaries(ids, values, max_size=3),
)
labels = st.builds(
    Label,
    label_id=ids,
    transaction_id=ids,
    account_id=ids,
    occurred_at=times,
    amount=st.integers(0, MAX_AMOUNT),
    is_fraud=st.booleans(),
    known_at=times,
    source=st.sampled_from(LabelSource),
    counterparty_id=st.none() | ids,
)


@examples(150)
@given(transactions | labels)
def test_what_is_written_is_read_and_written_again_the_same(message: Transaction | Label) -> None:
    written = encode(message)

    read = decode_transaction(written) if isinstance(message, Transaction) else decode_label(written)

    assert read == message
    assert encode(read) == written


@examples(50)
@given(st.dictionaries(ids, values, min_size=2, max_size=6), st.randoms())
def test_equal_messages_have_equal_bytes(attributes: dict[str, Any], random: Any) -> None:
    shuffled = list(attributes.items())
    random.shuffle(shuffled)

    assert encode(a_transaction(attributes=attributes)) == encode(a_transaction(attributes=dict(shuffled)))


# Dead letters.


@pytest.mark.parametrize("fault", Fault)
def test_a_dead_letters_headers_say_what_was_wrong_and_where(fault: Fault) -> None:
    letter = a_dead_letter(fault=fault, detail="ä" * 1_000)
    carried = [(name, value.encode() if isinstance(value, str) else value) for name, value in letter.headers()]

    assert DeadLetter.from_headers(carried) == letter
    assert dict(carried)["at"] == b"2026-03-02T12:00:00+00:00"
    assert dict(carried)["error"] == fault.value.encode()


def test_a_detail_without_end_is_cut() -> None:
    assert DeadLetter.from_headers(a_dead_letter(detail="x" * 5_000).headers()).detail == "x" * 1_000


@examples(100)
@given(
    st.none()
    | st.lists(
        st.tuples(
            st.sampled_from(["error", "detail", "topic", "partition", "offset", "attempt", "at", "traceparent"]),
            st.none() | st.binary(max_size=9) | st.sampled_from([b"bug", b"7", b"2026-03-02T12:00:00Z"]),
        ),
        max_size=8,
    )
)
def test_headers_that_are_no_dead_letters_are_refused(headers: list[tuple[str, bytes | None]] | None) -> None:
    letter = message_or_what_is_wrong(DeadLetter.from_headers, headers)

    if isinstance(letter, BadMessage):
        assert letter.fault is Fault.MISSING_FIELD
        assert letter.detail.startswith("not a dead letter's headers: ")
    else:
        said = dict(headers or ())
        assert letter.fault.encode() == said["error"]
        assert letter.at.isoformat().replace("+00:00", "Z").encode() == said["at"]
        assert DeadLetter.from_headers(letter.headers()) == letter


@pytest.mark.parametrize("number", [int("9" * 4_300), -int("9" * 4_299)])
def test_the_longest_integers_are_read_and_written_again(number: int) -> None:
    """Longer ones are dead letters: Python writes none."""
    transaction = a_transaction(attributes={"size": number})
    assert decode_transaction(encode(transaction)) == transaction
