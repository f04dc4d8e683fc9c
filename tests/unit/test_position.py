"""A position says how far along the log profiles are, and is read as it was written."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from features.accepting import Rules
from features.position import Keys, Offsets, Position, new_epoch
from schemas.currencies import UNITS_PER_EURO, Rates
from tests.examples import examples

offsets = st.integers(0, 2**63 - 1)
words = st.text("0123456789abcdef", min_size=1, max_size=8)


@examples(50)
@given(words, words, words, offsets, offsets, offsets)
def test_a_position_is_read_as_it_was_written(
    form: str, epoch: str, topics: str, transactions: int, labels: int, activity: int
) -> None:
    position = Position(form, epoch, topics, Offsets(transactions, labels, activity))

    assert Position.parse(bytes(position)) == position


def test_a_position_in_the_store_looks_like_this() -> None:
    assert bytes(Position("f0", "e1", "70", Offsets(5, 6, 7))) == b"f0|e1|70|5,6,7"


@examples(100)
@given(st.binary(max_size=40) | st.from_regex(r"[a-f0-9|,]{0,30}", fullmatch=True).map(str.encode))
def test_what_is_no_position_is_refused(raw: bytes) -> None:
    try:
        position = Position.parse(raw)
    except ValueError:
        return
    assert raw.count(b"|") == 3
    assert Position.parse(bytes(position)) == position


def test_an_epoch_is_never_the_one_before() -> None:
    epochs = {new_epoch() for _ in range(200)}

    assert len(epochs) == 200
    assert all(re.fullmatch("[0-9a-f]{8}", epoch) for epoch in epochs)


def test_all_keys_of_a_partition_number_share_a_hash_tag_and_no_two_share_a_name() -> None:
    keys, other = Keys("bank-", 3), Keys("bank-", 33)
    names = [keys.position, keys.account("e1", "x"), keys.counterparty("e1", "x"), keys.account("e2", "x")]
    names += [other.position, other.account("e1", "x")]

    assert names[0] == "{bank-p3}:position"
    assert names[1] == "{bank-p3}:e1:a:x"
    assert names[2] == "{bank-p3}:e1:c:x"
    assert len(set(names)) == len(names)
    assert {name[: name.index("}")] for name in names} == {"{bank-p3", "{bank-p33"}


@pytest.mark.parametrize(
    "other",
    [
        Rules(partitions=8),
        Rules(future_tolerance=1),
        Rules(rates=Rates.of("USD")),
        Rules(rates=Rates.of("EUR", dict(UNITS_PER_EURO) | {"USD": "1.17"})),
    ],
)
def test_profiles_folded_by_other_rules_are_of_another_format(other: Rules) -> None:
    assert other.format() != Rules().format()
    assert Rules().format() == Rules().format()
