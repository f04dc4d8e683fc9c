"""The validator that the spoiled messages are held against: right by itself, and of one mind with the worker's decoder."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given, settings

from features.accepting import Record, Rules
from schemas.errors import BadMessage, Fault
from schemas.partitioning import partition_of
from schemas.topics import LABELS, TRANSACTIONS
from tests.fleet.messages import Outgoing
from tests.poison.recipes import NOW, PARTITIONS, Cut, Double, Drop, Instead, Put, Recipe, Replace, recipes
from tests.poison.through import expected_of
from tests.poison.validator import Judgement, judge

RULES = Rules(partitions=PARTITIONS)
LONG = ('"' + "ü" * 65 + '"').encode()
"""An id of 130 bytes and 65 characters."""
ACCEPTED: frozenset[Fault] = frozenset()


def judged(one: Outgoing) -> Judgement:
    assert one.timestamp is not None
    return judge(one.topic.name, one.value, one.key, one.partition, one.timestamp)


def put(name: str, raw: str) -> Recipe:
    return Recipe("", structure=(Put(name, raw.encode()),))


@pytest.mark.parametrize(
    ("recipe", "faults"),
    [
        (Recipe("good"), ACCEPTED),
        (Recipe("good", LABELS), ACCEPTED),
        (Recipe("", null=True), {Fault.NULL_VALUE}),
        (Recipe("", bytewise=(Cut(100),)), {Fault.NOT_JSON}),
        (Recipe("", bytewise=(Instead(b"\0"),)), {Fault.NOT_AVRO}),
        (Recipe("", bytewise=(Instead(b"\0\0\0\1"),)), {Fault.NOT_AVRO}),
        (Recipe("", bytewise=(Instead(b"\0\0\0\0\1"),)), {Fault.NO_REGISTRY}),
        (Recipe("", bytewise=(Replace(0, 0, b"\0"),)), {Fault.NO_REGISTRY}),
        (Recipe("", key=b"another", bytewise=(Replace(0, 0, b"\0"),)), {Fault.NO_REGISTRY}),
        (put("u", '"\\ud800"'), {Fault.NOT_JSON}),
        (put("u", "NaN"), {Fault.NOT_JSON}),
        (put("u", "[" * 199 + "]" * 199), ACCEPTED),
        (put("u", "[" * 200 + "]" * 200), {Fault.NOT_JSON}),
        (put("u", '"' + "[" * 300 + '\\""'), ACCEPTED),
        (put("amount", "-0"), ACCEPTED),
        (put("amount", "1.0"), {Fault.WRONG_TYPE}),
        (put("amount", "1000000000001"), {Fault.OUT_OF_RANGE}),
        (put("latitude", "1e400"), {Fault.OUT_OF_RANGE}),
        (put("ip", "1e400"), {Fault.OUT_OF_RANGE, Fault.WRONG_TYPE}),
        (put("transaction_id", '"' + "ü" * 65 + '"'), {Fault.OUT_OF_RANGE}),
        (put("currency", '"QQQ"'), {Fault.UNKNOWN_CURRENCY}),
        (put("currency", '"eur"'), {Fault.UNKNOWN_CURRENCY}),
        (put("currency", "978"), {Fault.WRONG_TYPE}),
        (put("occurred_at", '"2025-03-01T12:00:00"'), {Fault.TIME_WITHOUT_ZONE}),
        (put("occurred_at", '"2025-02-29T12:00:00Z"'), {Fault.WRONG_TYPE}),
        (put("occurred_at", '"9999-12-31T23:59:59.9999999Z"'), {Fault.WRONG_TYPE}),
        (put("occurred_at", '"0001-01-01T00:00:00+23:59"'), {Fault.OUT_OF_RANGE}),
        (put("occurred_at", '"1970-01-01T00:00:00Z"'), {Fault.OUT_OF_RANGE}),
        (put("occurred_at", '"1990-01-01T00:00:00Z"'), ACCEPTED),
        (put("occurred_at", '"9999-12-31T23:59:59-23:59"'), {Fault.FROM_THE_FUTURE, Fault.OUT_OF_RANGE}),
        (Recipe("", LABELS, structure=(Put("known_at", b'"2001-01-01T00:00:00Z"'),)), {Fault.OUT_OF_RANGE}),
        (Recipe("", LABELS, structure=(Put("known_at", b'"2099-01-01T00:00:00Z"'),)), {Fault.FROM_THE_FUTURE}),
        (put("attributes", '{"a":null,"b":""}'), ACCEPTED),
        (put("attributes", '""'), ACCEPTED),
        (put("attributes", "null"), ACCEPTED),
        (put("attributes", '{"a":"' + "x" * 1_025 + '"}'), {Fault.OUT_OF_RANGE}),
        (put("attributes", '{"' + "x" * 129 + '":1}'), {Fault.OUT_OF_RANGE}),
        (put("channel", "null"), ACCEPTED),
        (put("channel", '""'), ACCEPTED),
        (put("latitude", '""'), ACCEPTED),
        (put("latitude", '"north"'), {Fault.WRONG_TYPE}),
        (put("amount", "-1"), {Fault.OUT_OF_RANGE}),
        (Recipe("", structure=(Drop("amount"),)), {Fault.MISSING_FIELD}),
        (Recipe("", structure=(Drop("amount"), Put("currency", b"1"))), {Fault.MISSING_FIELD, Fault.WRONG_TYPE}),
        (Recipe("", structure=(Double("amount", b"5", first=True),)), ACCEPTED),
        (Recipe("", structure=(Double("amount", b"true", first=True),)), {Fault.WRONG_TYPE}),
        (Recipe("", structure=(Double("transaction_id", LONG, first=False),)), {Fault.OUT_OF_RANGE}),
        (Recipe("", structure=(Double("transaction_id", LONG, first=True),)), ACCEPTED),
        (Recipe("", LABELS, structure=(Put("source", b'"gossip"'),)), {Fault.OUT_OF_RANGE}),
        (Recipe("", LABELS, structure=(Put("is_fraud", b"1"),)), {Fault.WRONG_TYPE}),
        (Recipe("", key=b"another"), {Fault.WRONG_KEY}),
        (Recipe("", key=None), {Fault.WRONG_KEY, Fault.WRONG_PARTITION}),
        (Recipe("", beside=1), {Fault.WRONG_PARTITION}),
        (Recipe("", ahead=-timedelta(hours=1, minutes=10)), ACCEPTED),
        (Recipe("", ahead=-timedelta(hours=1, minutes=10, seconds=1)), {Fault.FROM_THE_FUTURE}),
    ],
)  # fmt: skip
def test_the_rules(recipe: Recipe, faults: frozenset[Fault]) -> None:
    (one,) = recipe.cook(0)
    assert judged(one).faults == faults


@pytest.mark.parametrize(
    ("change", "answer"),
    [
        ((), (ACCEPTED, None)),
        ((Put("unheard of", b"1"),), (ACCEPTED, None)),
        ((Put("attributes", b'{"terminal":"a\\"b\\\\","tip":5e-1,"count":3,"fresh":true}'),), (ACCEPTED, None)),
        ((Put("attributes", b'{"terminal":"a\\"b\\\\","tip":0.5,"count":3.0,"fresh":true}'),), ({Fault.ID_REUSED}, None)),
        ((Put("transaction_id", b'"another"'),), (ACCEPTED, "another")),
        ((Put("amount", b"7"),), ({Fault.ID_REUSED}, None)),
        ((Put("amount", b"-7"),), ({Fault.OUT_OF_RANGE}, None)),
    ],
)  # fmt: skip
def test_what_is_sent_again_is_a_duplicate_only_if_it_says_the_same(change: Any, answer: Any) -> None:
    first, second = expected_of(Recipe("", structure=change, after=(Recipe(""),)), 0)
    assert (first.faults, first.verdict) == (ACCEPTED, "poison-0")
    assert (second.faults, second.verdict) == answer


@settings(max_examples=500, deadline=None)
@given(recipes)
def test_the_workers_decoder_is_of_the_same_mind(recipe: Recipe) -> None:
    """What disagrees is shrunk to the smallest recipe that does: of what a worker dead-letters wrongly, look here."""
    one = recipe.cook(0)[-1]
    right = judged(one).faults
    record = Record(one.partition, 0, round(NOW.timestamp() + recipe.ahead.total_seconds()) * 1000, one.key, one.value)
    accept = RULES.transaction if one.topic is TRANSACTIONS else RULES.label
    said: str | None = None
    try:
        accept(record, partition_of(one.key or b"", PARTITIONS))
    except BadMessage as bad:
        said = bad.fault
    assert said in right or (said is None and right == ACCEPTED), (said, right, one.value)
