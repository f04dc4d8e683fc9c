"""The names of ids and contents in profiles: they are in every store, and can't change without a new format."""

from __future__ import annotations

from datetime import timedelta, timezone

import pytest

from features.hash_keys import KEY_DIGITS, PUBLIC, HashKey, HashKeys
from schemas.wire import encode
from tests.builders import ID_KEY, NOON, a_transaction

KEYS = HashKeys.of(ID_KEY)
PUBLISHED = (
    (0, 0x726FDB47DD0E0E31),
    (1, 0x74F839C593DC67FD),
    (7, 0xAB0200F58B01D137),
    (8, 0x93F5F5799A932462),
    (15, 0xA129CA6149BE45E5),
    (63, 0x958A324CEB064572),
)
"""By Aumasson and Bernstein, of 0, 1, 2, … so many bytes long, by the key 0, 1, 2, … 15."""


def test_the_hash_is_siphash_2_4_as_published() -> None:
    key = HashKey(0x0706050403020100, 0x0F0E0D0C0B0A0908)

    found = key.hashes([bytes(range(length)) for length, _ in PUBLISHED])

    assert found.tolist() == [expected for _, expected in PUBLISHED]


def test_text_is_hashed_as_its_utf8_wherever_it_stands_in_a_batch() -> None:
    names = ["acct-000001", "", "カフェ-7", "é"]

    assert KEYS.ids.hashes_of_text(names).tolist() == [KEYS.ids.hash_of_text(name) for name in names]
    assert KEYS.ids.hashes_of_text(names[:2]).tolist() == KEYS.ids.hashes([b"acct-000001", b""]).tolist()
    assert KEYS.ids.hashes_of_text([]).tolist() == []


def test_another_secret_calls_everything_by_other_names() -> None:
    other = HashKeys.of(ID_KEY.replace("0", "1"))

    assert KEYS.fingerprint != other.fingerprint
    for mine, theirs in zip(KEYS[1:], other[1:], strict=True):
        assert mine.hash_of_text("acct-000001") != theirs.hash_of_text("acct-000001")


def test_what_an_id_is_called_as_one_thing_says_nothing_of_what_it_is_called_as_another() -> None:
    named = {key.hash_of_text("acct-000001") for key in (KEYS.ids, KEYS.contents, KEYS.names, KEYS.accounts)}

    assert len(named) == 4


def test_the_names_of_one_secret_never_change() -> None:
    assert KEYS.fingerprint == "1d6fd895"
    assert [f"{key.hash_of_text('acct-000001'):016x}" for key in (KEYS.ids, KEYS.accounts)] == [
        "361416734f210fbe",
        "8dc7b962ccedc1c2",
    ]
    assert HashKeys.of(ID_KEY.upper()) == KEYS


@pytest.mark.parametrize("secret", ["", "0" * (KEY_DIGITS - 1), "0" * (KEY_DIGITS + 1), "g" * KEY_DIGITS, " " + ID_KEY])
def test_what_is_no_key_is_refused_without_being_quoted(secret: str) -> None:
    with pytest.raises(ValueError, match=f"it must be {KEY_DIGITS} hex digits") as refused:
        HashKeys.of(secret)

    assert not secret or secret not in str(refused.value)


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

    assert len(set(PUBLIC.contents.hashes([encode(one) for one in contents]).tolist())) == len(contents)


def test_the_order_in_which_attributes_came_is_no_content() -> None:
    assert encode(a_transaction(attributes={"a": 1, "b": 2})) == encode(a_transaction(attributes={"b": 2, "a": 1}))
