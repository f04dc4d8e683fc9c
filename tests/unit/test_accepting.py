"""Which messages are accepted depends on the record alone: its bytes, its key, its partition, its own timestamp."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from features.accepting import Record, Rules
from features.describing import Batch, read
from features.settings import Settings
from schemas.currencies import Rates
from schemas.errors import BadMessage, Fault
from schemas.partitioning import partition_of
from schemas.wire import encode, microseconds
from tests.builders import (
    ID_KEY,
    NOON,
    RULES,
    Message,
    a_label,
    a_record,
    a_transaction,
    an_activity,
    key_of,
    records,
)
from tests.examples import examples

TOLERANCE = 600
NOON_MS = microseconds(NOON) // 1000
ONE_OF_EACH: list[Message] = [a_transaction(), a_label(), an_activity()]


def read_one(message: Message, record: Record, rules: Rules = RULES, *, told: bool = True) -> Batch:
    """The record on the topic of such messages."""
    topic = {"Transaction": "transactions", "Label": "labels", "CounterpartyActivity": "activity"}
    return read(rules, **{topic[type(message).__name__]: [(record, told)]})


def fault_of(message: Message, rules: Rules = RULES, **record: Any) -> tuple[Fault, str]:
    """Why it is a dead letter."""
    batch = read_one(message, a_record(message, **record), rules)
    assert len(batch) == 0
    (rejected,) = batch.rejected
    return rejected.fault, rejected.detail


@pytest.mark.parametrize("message", ONE_OF_EACH)
def test_a_message_in_its_place_is_accepted(message: Message) -> None:
    batch = read_one(message, a_record(message, 7))

    (taken,) = batch.transactions + batch.labels + batch.activity
    assert (taken.message, taken.record.offset, taken.told) == (message, 7, True)
    assert batch.rejected == []


@pytest.mark.parametrize("message", ONE_OF_EACH)
@pytest.mark.parametrize("key", [None, b"", b"bob", b"alic\xff", b"alice "])
def test_a_key_that_is_not_the_messages_own_is_wrong(message: Message, key: bytes | None) -> None:
    home = partition_of(key or b"", RULES.partitions)
    fault, detail = fault_of(message, key=key, partition=home)

    assert fault is Fault.WRONG_KEY
    assert ("`$.counterparty_id`" if message is ONE_OF_EACH[2] else "`$.account_id`") in detail


@pytest.mark.parametrize("message", ONE_OF_EACH)
def test_the_right_key_in_another_partition_is_wrong_and_says_which_is_right(message: Message) -> None:
    home = partition_of(key_of(message), RULES.partitions)
    for partition in set(range(RULES.partitions)) - {home}:
        fault, detail = fault_of(message, partition=partition)

        assert fault is Fault.WRONG_PARTITION
        assert f"lies in partition {partition} and belongs in {home}" in detail
        assert "murmur2_random" in detail


def test_how_many_partitions_there_are_decides_which_is_right() -> None:
    keys = [f"account-{n}" for n in range(40)]
    for partitions in (1, 3, 4, 12):
        rules = Rules(partitions=partitions)
        batch = read(
            rules,
            [
                (a_record(one, partition=partition_of(one.account_id.encode(), partitions)), True)
                for one in (a_transaction(account_id=key) for key in keys)
            ],
        )
        assert len(batch.transactions) == len(keys)


@pytest.mark.parametrize(
    ("ahead", "accepted"),
    [
        (timedelta(0), True),
        (timedelta(days=-10_000), True),  # however late, if it isn't before 1990
        (timedelta(seconds=TOLERANCE), True),
        (timedelta(seconds=TOLERANCE, microseconds=1), False),
        (timedelta(days=3_000), False),
    ],
)
def test_a_transaction_may_be_ten_minutes_ahead_of_its_record(ahead: timedelta, accepted: bool) -> None:
    transaction = a_transaction(occurred_at=NOON + ahead)
    if accepted:
        assert len(read_one(transaction, a_record(transaction, timestamp=NOON_MS))) == 1
        return
    fault, detail = fault_of(transaction, timestamp=NOON_MS)
    assert fault is Fault.FROM_THE_FUTURE
    assert "`$.occurred_at`" in detail


def test_how_far_ahead_is_a_setting() -> None:
    transaction = a_transaction(occurred_at=NOON + timedelta(seconds=5))

    assert fault_of(transaction, Rules(future_tolerance=4_999_999), timestamp=NOON_MS)[0] is Fault.FROM_THE_FUTURE
    assert read_one(
        transaction, a_record(transaction, timestamp=NOON_MS), Rules(future_tolerance=5_000_000)
    ).transactions


@pytest.mark.parametrize(
    "occurred_at",
    [
        "1970-01-01T00:00:00Z",
        "0001-01-01T00:00:00Z",
        "0001-01-01T00:00:00+14:00",
        "1989-12-31T23:59:59.999999Z",
        "1990-01-01T00:00:00+00:01",
    ],
)
@pytest.mark.parametrize("timestamp", [NOON_MS, 2**62])
def test_a_time_that_no_clock_tells_is_out_of_range(occurred_at: str, timestamp: int) -> None:
    for message in (a_transaction(), a_label()):
        value = encode(message).replace(b"2026-03-02T12:00:00Z", occurred_at.encode())
        fault, detail = fault_of(message, value=value, timestamp=timestamp + 86_400_000)

        assert fault is Fault.OUT_OF_RANGE
        assert "`$.occurred_at` is 19" in detail or "`$.occurred_at` is 0001" in detail
        assert "from 1990 until before 2100" in detail


@pytest.mark.parametrize("occurred_at", ["2100-01-01T00:00:00Z", "9999-12-31T23:59:59.999999-23:59"])
def test_a_time_after_all_is_out_of_range_whatever_the_records_timestamp_is(occurred_at: str) -> None:
    one = a_transaction()
    value = encode(one).replace(b"2026-03-02T12:00:00Z", occurred_at.encode())

    assert fault_of(one, value=value, timestamp=2**62)[0] is Fault.OUT_OF_RANGE
    assert fault_of(one, value=value, timestamp=NOON_MS)[0] is Fault.FROM_THE_FUTURE


@pytest.mark.parametrize("timestamp", [-1, 0])
def test_a_record_that_has_no_timestamp_is_older_than_any_payment(timestamp: int) -> None:
    for message in (a_transaction(), a_label()):
        assert fault_of(message, timestamp=timestamp)[0] is Fault.FROM_THE_FUTURE


@pytest.mark.parametrize("occurred_at", ["1990-01-01T00:00:00Z", "2099-12-31T23:59:59.999999Z"])
def test_the_first_and_the_last_time_are_accepted(occurred_at: str) -> None:
    one = a_transaction()
    value = encode(one).replace(b"2026-03-02T12:00:00Z", occurred_at.encode())

    assert len(read_one(one, a_record(one, value=value, timestamp=2**62))) == 1


@pytest.mark.parametrize(
    ("ahead", "accepted"),
    [(timedelta(seconds=TOLERANCE), True), (timedelta(seconds=TOLERANCE + 1), False), (timedelta(days=365), False)],
)
def test_a_label_is_not_known_before_it_is_published(ahead: timedelta, accepted: bool) -> None:
    """It would hold against every later one: nothing could correct it for so long."""
    label = a_label(known_at=NOON + ahead)
    if accepted:
        assert len(read_one(label, a_record(label, timestamp=NOON_MS))) == 1
        return
    fault, detail = fault_of(label, timestamp=NOON_MS)
    assert fault is Fault.FROM_THE_FUTURE
    assert "`$.known_at`" in detail
    assert "FRAUD_FUTURE_TOLERANCE" in detail


def test_a_past_may_be_loaded_years_later() -> None:
    label = a_label(known_at=NOON + timedelta(days=30))

    assert len(read_one(label, a_record(label, timestamp=NOON_MS + 10 * 365 * 86_400_000))) == 1


@pytest.mark.parametrize(
    ("after", "accepted"), [(timedelta(0), True), (timedelta(microseconds=-1), False), (timedelta(hours=-12), False)]
)
def test_a_label_is_known_no_earlier_than_its_transaction_occurred(after: timedelta, accepted: bool) -> None:
    label = a_label(known_at=NOON + after)
    if accepted:
        assert len(read_one(label, a_record(label))) == 1
        return
    fault, detail = fault_of(label, timestamp=NOON_MS)
    assert fault is Fault.OUT_OF_RANGE
    assert "`$.known_at`" in detail
    assert "before `$.occurred_at`" in detail


def test_attributes_have_bounds_that_are_generous_and_the_dead_letter_says_which_was_passed() -> None:
    most = {f"{n:0128}": "x" * 1_024 for n in range(1_000)}
    assert len(read_one(a_transaction(), a_record(a_transaction(attributes=most)))) == 1
    for attributes, bound in (
        (most | {"one more": 1}, "holds 1,001, at most 1,000 are accepted (FRAUD_MOST_ATTRIBUTES)"),
        ({"x" * 129: 1}, "has 129 characters, at most 128 are accepted (FRAUD_LONGEST_ATTRIBUTE_NAME)"),
        (
            {"note": "x" * 1_025},
            "['note']` has 1,025 characters, at most 1,024 are accepted (FRAUD_LONGEST_ATTRIBUTE_TEXT)",
        ),
    ):
        fault, detail = fault_of(a_transaction(attributes=attributes))
        assert fault is Fault.OUT_OF_RANGE
        assert "`$.attributes" in detail
        assert bound in detail
        assert len(detail) < 300


def test_the_bounds_of_attributes_are_settings_and_part_of_the_format() -> None:
    two = Settings(most_attributes=2, longest_attribute_name=3, longest_attribute_text=4, id_key=ID_KEY).rules()
    for attributes in ({"a": 1, "b": 2, "c": 3}, {"four": 1}, {"abc": "fives"}):
        assert fault_of(a_transaction(attributes=attributes), two)[0] is Fault.OUT_OF_RANGE
    edge = a_transaction(attributes={"abc": "four", "n": 10**9})

    assert len(read_one(edge, a_record(edge), two)) == 1
    formats = {
        Settings(**{name: 77}, id_key=ID_KEY).rules().format()  # type: ignore[arg-type]
        for name in ("most_attributes", "longest_attribute_name", "longest_attribute_text")
    }
    assert len(formats | {RULES.format()}) == 4


def test_a_currency_without_a_rate_is_unknown_and_says_which_setting_would_make_it_known() -> None:
    fault, detail = fault_of(a_transaction(currency="XTS"))

    assert fault is Fault.UNKNOWN_CURRENCY
    assert "`$.currency` is 'XTS'" in detail
    assert "FRAUD_RATES__XTS" in detail
    known = Rules(rates=Rates.of("EUR", {"EUR": "1", "XTS": "2"}))
    assert read_one(a_transaction(), a_record(a_transaction(currency="XTS")), known).transactions


def test_of_several_things_that_are_wrong_the_first_on_the_way_is_said() -> None:
    """Bytes, then key, then partition, then content: whoever mends one hears of the next."""
    bad = a_transaction(currency="XTS", occurred_at=NOON + timedelta(days=9))
    wrong_place = (partition_of(b"bob", 4) + 1) % 4

    assert fault_of(bad, key=b"bob", partition=wrong_place, value=b"{}")[0] is Fault.MISSING_FIELD
    assert fault_of(bad, key=b"bob", partition=wrong_place)[0] is Fault.WRONG_KEY


def test_a_bad_message_spoils_no_other_and_is_said_once() -> None:
    good = records([a_transaction(f"t-{n}", account_id=f"account-{n}") for n in range(5)])
    noise = Record(0, 9, NOON_MS, b"k", b"\xff")
    batch = read(RULES, [*good[:2], (noise, True), *good[2:], (noise, False)])

    assert [taken.message.transaction_id for taken in batch.transactions] == [f"t-{n}" for n in range(5)]
    assert [rejected.record for rejected in batch.rejected] == [noise]


def test_a_message_told_before_is_read_and_rejected_in_silence() -> None:
    batch = read(RULES, records([a_transaction()], told=False), [(Record(0, 0, 0, None, None), False)])

    assert [taken.told for taken in batch.transactions] == [False]
    assert batch.rejected == []


@examples(150)
@given(
    value=st.sampled_from([encode(one) for one in ONE_OF_EACH]) | st.binary(max_size=50) | st.none(),
    key=st.sampled_from([b"alice", b"bakery", None]) | st.binary(max_size=200),
    partition=st.integers(0, 3),
    timestamp=st.sampled_from([-1, 0, NOON_MS, 2**62]),
)
def test_no_record_raises_anything_but_bad_message(
    value: bytes | None, key: bytes | None, partition: int, timestamp: int
) -> None:
    record = Record(partition, 0, timestamp, key, value)
    for accept in (RULES.transaction, RULES.label, RULES.activity):
        outcomes = []
        for _ in range(2):
            try:
                outcomes.append(repr(accept(record, partition_of(key or b"", 4))))
            except BadMessage as bad:
                outcomes.append(str(bad))
        assert outcomes[0] == outcomes[1]
