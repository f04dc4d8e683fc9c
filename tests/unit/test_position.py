"""A position says how far along the log profiles are, and is read as it was written."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from features.accepting import Rules
from features.hash_keys import HashKeys
from features.position import Keys, Last, Offsets, Position, Resumption, TopicIds, new_epoch
from schemas.currencies import UNITS_PER_EURO, Rates
from schemas.marks import Landmark
from tests.builders import ID_KEY
from tests.examples import examples

offsets = st.integers(0, 2**63 - 1)
words = st.text("0123456789abcdef", min_size=1, max_size=8)
offset_triples = st.builds(Offsets, offsets, offsets, offsets)
records = st.none() | st.builds(Landmark, offsets, offsets, words)
positions = st.builds(
    Position,
    words,
    words,
    st.builds(TopicIds, words, words, words),
    offset_triples,
    st.builds(Last, records, records, records),
    st.none() | st.builds(Resumption, offset_triples, words),
)


@examples(50)
@given(positions)
def test_a_position_is_read_as_it_was_written(position: Position) -> None:
    assert Position.parse(bytes(position)) == position


def test_a_position_in_the_store_looks_like_this() -> None:
    topics = TopicIds("IDt", "IDl", "IDa")
    begun = Position("f0", "e1", topics, Offsets(0, 0, 0))
    moved = begun.moved(Offsets(5, 6, 0), {0: Landmark(4, 1_700_000_000_123, "00ff"), 1: Landmark(5, 9, "0a")})

    assert bytes(begun) == b"f0|e1|IDt,IDl,IDa|0,0,0|,,|"
    assert bytes(moved) == b"f0|e1|IDt,IDl,IDa|5,6,0|4:1700000000123:00ff,5:9:0a,|"
    assert (
        bytes(begun._replace(resumption=Resumption(Offsets(3, 2, 1), "abcd")))
        == b"f0|e1|IDt,IDl,IDa|0,0,0|,,|abcd:3,2,1"
    )


def test_what_did_not_move_keeps_its_last_record() -> None:
    begun = Position("f0", "e1", TopicIds(), Offsets(5, 0, 0), Last(transactions=Landmark(4, 1, "00ff")))

    assert begun.moved(Offsets(5, 1, 0), {1: Landmark(0, 2, "0a")}).last == Last(
        Landmark(4, 1, "00ff"), Landmark(0, 2, "0a")
    )


@examples(100)
@given(st.binary(max_size=40) | st.from_regex(r"[a-f0-9|,:]{0,40}", fullmatch=True).map(str.encode))
def test_what_is_no_position_is_refused(raw: bytes) -> None:
    try:
        position = Position.parse(raw)
    except ValueError:
        return
    assert raw.count(b"|") == 5
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
        Rules(keys=HashKeys.of(ID_KEY)),
        Rules(rates=Rates.of("USD")),
        Rules(rates=Rates.of("EUR", dict(UNITS_PER_EURO) | {"USD": "1.17"})),
    ],
)
def test_profiles_folded_by_other_rules_are_of_another_format(other: Rules) -> None:
    assert other.format() != Rules().format()
    assert Rules().format() == Rules().format()
