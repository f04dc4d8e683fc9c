"""The names of ids and contents in profiles: they are in every store, and can't change without a new format."""

from __future__ import annotations

from datetime import timedelta, timezone

from features.hashing import hash32, hash64
from schemas.wire import encode
from tests.builders import NOON, a_transaction


def test_an_ids_name_is_the_xxh3_of_its_utf8() -> None:
    assert hash64("") == 0x2D06800538D394C2
    assert hash64("acct-000001") == 0x4C515AA7224ECCB7
    assert hash64("é") == 0xF7940A006CF10CB3


def test_a_contents_name_is_its_lower_half() -> None:
    assert hash32(b"acct-000001") == 0x224ECCB7


def test_whatever_is_said_otherwise_of_a_transaction_is_another_content() -> None:
    contents = [
        a_transaction(),
        a_transaction(amount=351),
        a_transaction(currency="USD"),
        a_transaction(occurred_at=NOON + timedelta(microseconds=1)),
        a_transaction(occurred_at=NOON.astimezone(timezone(timedelta(hours=1)))),  # the same moment, another local hour
        a_transaction(counterparty_id="bakery"),
        a_transaction(attributes={"size": 1}),
        a_transaction(attributes={"size": True}),
        a_transaction(attributes={"size": "1"}),
    ]

    assert len({hash32(encode(one)) for one in contents}) == len(contents)


def test_the_order_in_which_attributes_came_is_no_content() -> None:
    assert encode(a_transaction(attributes={"a": 1, "b": 2})) == encode(a_transaction(attributes={"b": 2, "a": 1}))
