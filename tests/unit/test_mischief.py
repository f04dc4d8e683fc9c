"""What is planted gets what was planned for it, as far as a message alone can tell."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import polars as pl
import pytest

from loadgen.mischief import DUPLICATE, KINDS, Mischief, Planted, expected, plan
from loadgen.simulate import World, simulate
from schemas.currencies import UNITS_PER_EURO
from schemas.encoding import encode_transactions
from schemas.errors import BadMessage, Fault
from schemas.partitioning import partition_of
from schemas.transaction import decode_transaction

NOON = datetime(2025, 3, 1, 12, 0, tzinfo=UTC)
SEEN_BY_THE_WORKER_ONLY = {Fault.UNKNOWN_CURRENCY, Fault.WRONG_KEY, Fault.WRONG_PARTITION, Fault.FROM_THE_FUTURE}
SEEN_BY_THE_WORKER_ONLY |= {Fault.ID_REUSED}


@pytest.fixture(scope="module")
def transactions() -> pl.DataFrame:
    world = World(start=NOON, end=NOON + timedelta(days=2), accounts=200, counterparties=60, per_day=2_000)
    return simulate(world).transactions


@pytest.fixture(scope="module")
def planted(transactions: pl.DataFrame) -> list[Planted]:
    return plan(Mischief(malformed=0.05, duplicates=0.03), transactions)


def test_one_seed_makes_one_plan(transactions: pl.DataFrame, planted: list[Planted]) -> None:
    assert plan(Mischief(malformed=0.05, duplicates=0.03), transactions) == planted
    assert plan(Mischief(malformed=0.05, duplicates=0.03, seed=2), transactions) != planted


def test_the_shares_are_kept_and_every_kind_occurs(transactions: pl.DataFrame, planted: list[Planted]) -> None:
    kinds = [each.kind for each in planted]

    assert kinds.count(DUPLICATE) == round(0.03 * transactions.height)
    assert len(kinds) - kinds.count(DUPLICATE) == round(0.05 * transactions.height)
    assert set(kinds) == {*KINDS, DUPLICATE}
    assert sum(expected(planted).values()) == len(planted)
    assert [each.after for each in planted] == sorted(each.after for each in planted)


def test_a_message_that_can_be_told_to_be_bad_is_bad_in_the_planned_way(planted: list[Planted]) -> None:
    for each in planted:
        if each.planned == DUPLICATE or each.planned in SEEN_BY_THE_WORKER_ONLY:
            assert decode_transaction(each.value).transaction_id == each.transaction_id
            continue
        with pytest.raises(BadMessage) as error:
            decode_transaction(each.value)
        assert error.value.fault == each.planned, each.kind


def test_what_only_the_worker_can_tell_is_otherwise_a_good_message(planted: list[Planted]) -> None:
    by_fault = {each.planned: each for each in planted if each.planned in SEEN_BY_THE_WORKER_ONLY}
    decoded = {fault: decode_transaction(each.value) for fault, each in by_fault.items()}

    assert decoded[Fault.UNKNOWN_CURRENCY].currency not in UNITS_PER_EURO
    assert decoded[Fault.FROM_THE_FUTURE].occurred_at > datetime.now(UTC) + timedelta(days=3_650)
    assert by_fault[Fault.WRONG_KEY].key != decoded[Fault.WRONG_KEY].account_id.encode()
    assert by_fault[Fault.WRONG_PARTITION].wrong_partition
    assert by_fault[Fault.WRONG_PARTITION].key == decoded[Fault.WRONG_PARTITION].account_id.encode()
    assert [each for each in planted if each.wrong_partition and each.planned != Fault.WRONG_PARTITION] == []


def test_duplicates_and_reused_ids_follow_soon_after_what_they_repeat(
    transactions: pl.DataFrame, planted: list[Planted]
) -> None:
    encoded = encode_transactions(transactions)
    where = {name: index for index, name in enumerate(transactions["transaction_id"])}
    repeats = [each for each in planted if each.planned in (DUPLICATE, Fault.ID_REUSED)]

    for each in repeats:
        first = where[each.transaction_id]
        assert first <= each.after < first + 40
        assert each.key == encoded.keys[first]
        assert (each.value == encoded.values[first]) == (each.planned == DUPLICATE)
        original, again = decode_transaction(encoded.values[first]), decode_transaction(each.value)
        assert (original.transaction_id, original.account_id) == (again.transaction_id, again.account_id)
    assert len({each.transaction_id for each in repeats}) == len(repeats)


def test_nothing_else_takes_the_id_of_a_transaction(transactions: pl.DataFrame, planted: list[Planted]) -> None:
    own = {each.transaction_id for each in planted if each.planned not in (DUPLICATE, Fault.ID_REUSED)}

    assert not own & set(transactions["transaction_id"])


def test_a_key_that_is_wrong_may_still_lie_in_any_partition(planted: list[Planted]) -> None:
    keys = [each.key for each in planted if each.planned == Fault.WRONG_KEY and each.key]

    assert len({partition_of(key, 4) for key in keys}) > 1


def test_no_share_no_mischief(transactions: pl.DataFrame) -> None:
    assert plan(Mischief(), transactions) == []
    with pytest.raises(ValueError, match="shares"):
        Mischief(malformed=-0.1)
