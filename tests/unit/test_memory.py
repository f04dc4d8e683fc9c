"""A worker recalls profiles bound to where it left them, and remembers them before anybody reads on."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from features.describing import Batch, Described, Describer, Needed, needed, read
from features.position import Keys, Offsets, Position
from schemas.errors import PositionMoved, StoreUnavailable
from schemas.marks import Marks
from schemas.partitioning import partition_of
from schemas.transaction import Transaction
from streaming import memory
from streaming.memory import Memory
from streaming.partition import Part
from tests.builders import RULES, a_label, a_transaction, an_activity, records
from tests.fakes import ForgetfulAnswers

ALICES = partition_of(b"alice", 4)
BAKERYS = partition_of(b"bakery", 4)
ELSEWHERE = next(f"shop-{n}" for n in range(99) if partition_of(f"shop-{n}".encode(), 4) not in {ALICES, BAKERYS})
NUMBER_ELSEWHERE = partition_of(ELSEWHERE.encode(), 4)
START = Offsets(0, 0, 0)


def a_part(number: int, *, written: bool = False, at: Offsets = START, epoch: str = "e1") -> Part:
    return Part(number, Position("f", epoch, "t", at), START, Marks(), Keys("", number), written)


@dataclass
class Worker:
    """That serves alice's and the bakery's numbers, and nobody else's."""

    store: ForgetfulAnswers = field(default_factory=ForgetfulAnswers)
    parts: dict[int, Part] = field(default_factory=lambda: {n: a_part(n) for n in {ALICES, BAKERYS}})

    def __post_init__(self) -> None:
        self.memory = Memory(self.store, "", RULES.partitions)
        self.describer = Describer(RULES)

    async def recall(self, batch: Batch) -> tuple[Needed, list[bytes | None], list[bytes | None]]:
        need = needed(batch, RULES.partitions)
        recalled = await self.memory.recall(need, self.parts)
        return need, recalled.accounts, recalled.counterparties

    async def settle(self, batch: Batch, after: Offsets) -> Described:
        """Recall, describe, remember."""
        need, accounts, counterparties = await self.recall(batch)
        described = self.describer.describe(batch, need, accounts, counterparties)
        await self.memory.remember(described, need, self.parts, dict.fromkeys(self.parts, after))
        return described


def paying(*counterparties: str | None, first: int = 0) -> Batch:
    transactions = [a_transaction(f"t-{first + n}", counterparty_id=name) for n, name in enumerate(counterparties)]
    return read(RULES, records(transactions, first))


async def test_what_one_batch_left_behind_the_next_one_finds() -> None:
    worker = Worker()
    first = await worker.settle(paying("bakery"), Offsets(1, 0, 0))
    await worker.settle(read(RULES, activity=records(first.activity)), Offsets(1, 0, 1))

    need, accounts, counterparties = await worker.recall(paying("bakery", first=1))

    assert accounts == [first.accounts["alice"]]
    assert counterparties[need.counterparties["bakery"]] is not None
    assert worker.parts[ALICES].position.next == Offsets(1, 0, 1)


async def test_every_number_moves_also_where_none_of_its_profiles_changed() -> None:
    worker = Worker()
    await worker.settle(paying(None), Offsets(1, 0, 0))

    for number in (ALICES, BAKERYS):
        assert worker.store.values[f"{{p{number}}}:position"] == b"f|e1|t|1,0,0"
        assert worker.parts[number].written


async def test_the_first_write_expects_to_find_no_position_and_the_next_one_its_own() -> None:
    worker = Worker()
    assert worker.parts[ALICES].expected == b""
    await worker.settle(paying(None), Offsets(1, 0, 0))
    assert worker.parts[ALICES].expected == b"f|e1|t|1,0,0"

    await worker.settle(paying(None, first=1), Offsets(2, 0, 0))


async def test_a_worker_that_was_overtaken_recalls_nothing_and_writes_nothing() -> None:
    worker = Worker()
    await worker.settle(paying(None), Offsets(1, 0, 0))
    worker.store.values[f"{{p{ALICES}}}:position"] = b"f|e1|t|5,0,0"

    with pytest.raises(PositionMoved):
        await worker.recall(paying(None, first=1))
    need = needed(paying(None, first=1), RULES.partitions)
    described = worker.describer.describe(paying(None, first=1), need, [None], [])
    with pytest.raises(PositionMoved):
        await worker.memory.remember(described, need, worker.parts, {ALICES: Offsets(2, 0, 0)})
    assert worker.parts[ALICES].position.next == Offsets(1, 0, 0)


async def test_a_store_that_was_wiped_is_noticed() -> None:
    worker = Worker()
    await worker.settle(paying(None), Offsets(1, 0, 0))
    worker.store.values.clear()

    with pytest.raises(PositionMoved):
        await worker.recall(paying(None, first=1))


async def test_a_write_whose_answer_was_lost_is_repeated_without_harm() -> None:
    worker = Worker(parts={ALICES: a_part(ALICES)})
    batch = read(RULES, records([a_transaction()]), labels=records([a_label()]))
    need = needed(batch, RULES.partitions)
    described = worker.describer.describe(batch, need, [None], [])
    worker.store.lost = 1

    with pytest.raises(StoreUnavailable):
        await worker.memory.remember(described, need, worker.parts, {ALICES: Offsets(1, 1, 0)})
    assert not worker.parts[ALICES].written  # as far as it knows
    await worker.memory.remember(described, need, worker.parts, {ALICES: Offsets(1, 1, 0)})

    _, accounts, _ = await worker.recall(paying(None, first=1))
    assert accounts == [described.accounts["alice"]]


async def test_profiles_of_another_epoch_are_never_seen() -> None:
    worker = Worker()
    await worker.settle(paying(None), Offsets(1, 0, 0))
    del worker.store.values[f"{{p{ALICES}}}:position"]
    worker.parts[ALICES] = a_part(ALICES, epoch="e2")

    _, accounts, _ = await worker.recall(paying(None, first=1))

    assert accounts == [None]


# Counterparties of numbers that other workers serve.


async def the_other_worker(store: ForgetfulAnswers, *, epoch: str = "e7") -> Worker:
    """Serves the other number, and has folded one activity."""
    other = Worker(store, {NUMBER_ELSEWHERE: a_part(NUMBER_ELSEWHERE, epoch=epoch)})
    await other.settle(read(RULES, activity=records([an_activity(counterparty_id=ELSEWHERE)], 40)), Offsets(0, 0, 41))
    return other


async def test_a_counterparty_elsewhere_is_recalled_as_it_is_there() -> None:
    worker = Worker()
    await the_other_worker(worker.store)

    described = await worker.settle(paying(ELSEWHERE), Offsets(1, 0, 0))

    assert described.folded_activity.tolist() == [40]
    assert not any(f"{{p{NUMBER_ELSEWHERE}}}" in key and ":a:" in key for key in worker.store.values)


async def test_its_epoch_is_asked_for_once_and_again_when_it_is_another() -> None:
    worker = Worker()
    await the_other_worker(worker.store)
    await worker.recall(paying(ELSEWHERE))
    asked = len(worker.store.asked)
    await worker.recall(paying(ELSEWHERE))
    assert len(worker.store.asked) == asked + 2  # one round: alice's number and the other one

    del worker.store.values[f"{{p{NUMBER_ELSEWHERE}}}:position"]
    other = Worker(worker.store, {NUMBER_ELSEWHERE: a_part(NUMBER_ELSEWHERE, epoch="e8")})
    activity = records([an_activity(counterparty_id=ELSEWHERE)], 50)
    await other.settle(read(RULES, activity=activity), Offsets(0, 0, 51))

    assert (await worker.settle(paying(ELSEWHERE), Offsets(1, 0, 0))).folded_activity.tolist() == [50]


async def test_a_counterparty_elsewhere_that_nobody_has_folded_yet_is_new() -> None:
    worker = Worker()

    assert (await worker.settle(paying(ELSEWHERE), Offsets(1, 0, 0))).folded_activity.tolist() == [-1]


@pytest.mark.parametrize("found", [None, b"f|e7|t|0,0,7", b"f|e9|t|0,0,7"])
async def test_a_number_elsewhere_that_lost_something_is_waited_for_but_not_for_ever(
    found: bytes | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker = Worker()
    await the_other_worker(worker.store)
    await worker.recall(paying(ELSEWHERE))
    position = f"{{p{NUMBER_ELSEWHERE}}}:position"
    before = worker.store.values.pop(position)
    if found is not None:
        worker.store.values[position] = found

    for _ in range(2):
        with pytest.raises(StoreUnavailable, match=f"partition {NUMBER_ELSEWHERE} is being rebuilt"):
            await worker.recall(paying(ELSEWHERE))
    monkeypatch.setattr(memory, "PATIENCE", 0.0)
    await worker.recall(paying(ELSEWHERE))
    worker.store.values[position] = before
    assert (await worker.settle(paying(ELSEWHERE), Offsets(1, 0, 0))).folded_activity.tolist() == [40]


async def test_a_position_elsewhere_that_can_be_read_by_nobody_is_no_position() -> None:
    worker = Worker()
    worker.store.values[f"{{p{NUMBER_ELSEWHERE}}}:position"] = b"what is this"

    with pytest.raises(PositionMoved):
        await worker.recall(paying(ELSEWHERE))


async def test_each_profile_stands_in_the_row_that_needs_it() -> None:
    """Accounts and counterparties of all numbers, asked for in one batch."""
    worker = Worker(parts={number: a_part(number) for number in range(4)})
    names = [f"name-{n}" for n in range(40)]
    everyone: list[Transaction] = [a_transaction(account_id=name, counterparty_id=name) for name in names]
    first = await worker.settle(read(RULES, records(everyone)), Offsets(40, 0, 0))
    second = await worker.settle(read(RULES, activity=records(first.activity)), Offsets(40, 0, 40))

    need, accounts, counterparties = await worker.recall(read(RULES, records(everyone[::-1])))

    assert {name: accounts[row] for name, row in need.accounts.items()} == first.accounts
    assert {name: counterparties[row] for name, row in need.counterparties.items()} == second.counterparties
