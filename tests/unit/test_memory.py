"""A worker recalls profiles bound to where it left them, and remembers them before anybody reads on."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pytest

from features.catalogue import OF_THE_COUNTERPARTY
from features.describing import Batch, Described, Describer, Needed, needed, read
from features.position import Keys, Last, Offsets, Position, TopicIds
from schemas.errors import CounterpartiesBehind, PositionMoved, StoreUnavailable
from schemas.marks import Marks, Trace
from schemas.partitioning import partition_of
from schemas.transaction import Transaction
from streaming import memory
from streaming.committed import told_of
from streaming.memory import Memory, Recalled
from streaming.partition import Part
from tests.builders import RULES, a_label, a_transaction, an_activity, records
from tests.fakes import CommittedInAList, ForgetfulAnswers

ALICES = partition_of(b"alice", 4)
BAKERYS = partition_of(b"bakery", 4)
ELSEWHERE = next(f"shop-{n}" for n in range(99) if partition_of(f"shop-{n}".encode(), 4) not in {ALICES, BAKERYS})
NUMBER_ELSEWHERE = partition_of(ELSEWHERE.encode(), 4)
START = Offsets(0, 0, 0)
TOPICS = TopicIds("t", "l", "a")


def a_part(number: int, *, written: bool = False, at: Offsets = START, epoch: str = "e1") -> Part:
    return Part(number, Position("f", epoch, TOPICS, at), START, Marks(), Last(), Keys("", number), written)


@dataclass
class Worker:
    """That serves alice's and the bakery's numbers, and nobody else's."""

    store: ForgetfulAnswers = field(default_factory=ForgetfulAnswers)
    parts: dict[int, Part] = field(default_factory=lambda: {n: a_part(n) for n in {ALICES, BAKERYS}})
    committed: CommittedInAList = field(default_factory=CommittedInAList)
    wait: float = 60.0

    def __post_init__(self) -> None:
        self.memory = Memory(self.store, self.committed, "", RULES.partitions, wait=self.wait)
        self.describer = Describer(RULES)

    async def recall(self, batch: Batch) -> tuple[Needed, Recalled]:
        need = needed(batch, RULES.partitions)
        return need, await self.memory.recall(need, self.parts)

    async def settle(self, batch: Batch, after: Offsets) -> Described:
        """Recall, describe, remember."""
        need, recalled = await self.recall(batch)
        described = self.describer.describe(batch, need, recalled.accounts, recalled.counterparties, recalled.unknown)
        await self.memory.remember(
            described, need, self.parts, {number: part.position.moved(after, {}) for number, part in self.parts.items()}
        )
        return described


def paying(*counterparties: str | None, first: int = 0) -> Batch:
    transactions = [a_transaction(f"t-{first + n}", counterparty_id=name) for n, name in enumerate(counterparties)]
    return read(RULES, records(transactions, first))


async def test_what_one_batch_left_behind_the_next_one_finds() -> None:
    worker = Worker()
    first = await worker.settle(paying("bakery"), Offsets(1, 0, 0))
    await worker.settle(read(RULES, activity=records(first.activity)), Offsets(1, 0, 1))

    need, recalled = await worker.recall(paying("bakery", first=1))

    assert recalled.accounts == [first.accounts["alice"]]
    assert recalled.counterparties[need.counterparties["bakery"]] is not None
    assert worker.parts[ALICES].position.next == Offsets(1, 0, 1)


async def test_every_number_moves_also_where_none_of_its_profiles_changed() -> None:
    worker = Worker()
    await worker.settle(paying(None), Offsets(1, 0, 0))

    for number in (ALICES, BAKERYS):
        assert worker.store.values[f"{{p{number}}}:position"] == b"f|e1|t,l,a|1,0,0|,,|"
        assert worker.parts[number].written


async def test_the_first_write_expects_to_find_no_position_and_the_next_one_its_own() -> None:
    worker = Worker()
    assert worker.parts[ALICES].expected == b""
    await worker.settle(paying(None), Offsets(1, 0, 0))
    assert worker.parts[ALICES].expected == b"f|e1|t,l,a|1,0,0|,,|"

    await worker.settle(paying(None, first=1), Offsets(2, 0, 0))


async def test_a_worker_that_was_overtaken_recalls_nothing_and_writes_nothing() -> None:
    worker = Worker()
    await worker.settle(paying(None), Offsets(1, 0, 0))
    worker.store.values[f"{{p{ALICES}}}:position"] = b"f|e1|t,l,a|5,0,0|,,|"

    with pytest.raises(PositionMoved):
        await worker.recall(paying(None, first=1))
    need = needed(paying(None, first=1), RULES.partitions)
    described = worker.describer.describe(paying(None, first=1), need, [None], [])
    with pytest.raises(PositionMoved):
        await worker.memory.remember(
            described, need, worker.parts, {ALICES: worker.parts[ALICES].position.moved(Offsets(2, 0, 0), {})}
        )
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
        await worker.memory.remember(
            described, need, worker.parts, {ALICES: worker.parts[ALICES].position.moved(Offsets(1, 1, 0), {})}
        )
    assert not worker.parts[ALICES].written  # as far as it knows
    await worker.memory.remember(
        described, need, worker.parts, {ALICES: worker.parts[ALICES].position.moved(Offsets(1, 1, 0), {})}
    )

    _, recalled = await worker.recall(paying(None, first=1))
    assert recalled.accounts == [described.accounts["alice"]]


async def test_profiles_of_another_epoch_are_never_seen() -> None:
    worker = Worker()
    await worker.settle(paying(None), Offsets(1, 0, 0))
    del worker.store.values[f"{{p{ALICES}}}:position"]
    worker.parts[ALICES] = a_part(ALICES, epoch="e2")

    _, recalled = await worker.recall(paying(None, first=1))

    assert recalled.accounts == [None]


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


async def test_a_counterparty_elsewhere_that_was_told_nothing_is_new_and_nothing_is_waited_for() -> None:
    worker = Worker()

    described = await worker.settle(paying(ELSEWHERE), Offsets(1, 0, 0))

    assert described.folded_activity.tolist() == [-1]
    assert described.degraded.tolist() == [False]


async def test_that_nothing_was_told_is_asked_anew_after_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its worker may have told something since, and lost it all again."""
    worker = Worker()
    await worker.recall(paying(ELSEWHERE))
    await worker.recall(paying(ELSEWHERE))
    assert worker.committed.asked == [[NUMBER_ELSEWHERE]]

    monkeypatch.setattr(memory, "NOTHING_HOLDS", 0.0)
    worker.committed.by_number[NUMBER_ELSEWHERE] = 41
    with pytest.raises(CounterpartiesBehind, match="has no position, and was told up to 41"):
        await worker.recall(paying(ELSEWHERE))


def a_position(activity: int, *, epoch: str = "e7", format_: str = "f", topics: TopicIds = TOPICS) -> bytes:
    return bytes(Position(format_, epoch, topics, Offsets(0, 0, activity)))


SHORT = {
    "is gone": None,
    "is behind": a_position(7),
    "is behind, of a new epoch": a_position(7, epoch="e9"),
    "can't be parsed": b"what is this",
    "is no text": b"\xff\xfe|a|b|1,2,3",
    "is of another format": a_position(41, format_="another"),
    "is of topics made anew": a_position(41, topics=TOPICS._replace(labels="anew")),
}


@pytest.mark.parametrize("knew", [True, False], ids=["that was whole before", "that a worker meets first"])
@pytest.mark.parametrize("found", SHORT.values(), ids=SHORT)
async def test_a_number_elsewhere_whose_position_tells_less_than_was_told_is_waited_for(
    found: bytes | None, knew: bool
) -> None:
    """Also by a worker that was started just now, and knows of nothing that could have been lost."""
    worker = Worker(committed=CommittedInAList({NUMBER_ELSEWHERE: 41}))
    await the_other_worker(worker.store)
    if knew:
        await worker.recall(paying(ELSEWHERE))
    position = f"{{p{NUMBER_ELSEWHERE}}}:position"
    whole = worker.store.values.pop(position)
    if found is not None:
        worker.store.values[position] = found

    for _ in range(3):
        with pytest.raises(
            CounterpartiesBehind, match=f"partition {NUMBER_ELSEWHERE}, which another worker serves, has"
        ):
            await worker.recall(paying(ELSEWHERE))

    worker.store.values[position] = whole
    described = await worker.settle(paying(ELSEWHERE), Offsets(1, 0, 0))
    assert described.folded_activity.tolist() == [40]
    assert described.degraded.tolist() == [False]


@pytest.mark.parametrize("found", SHORT.values(), ids=SHORT)
async def test_after_its_time_a_payment_there_is_judged_as_if_it_named_nobody_and_says_so(found: bytes | None) -> None:
    worker = Worker(committed=CommittedInAList({NUMBER_ELSEWHERE: 41}), wait=0.0)
    await the_other_worker(worker.store)
    position = f"{{p{NUMBER_ELSEWHERE}}}:position"
    whole = worker.store.values.pop(position)
    if found is not None:
        worker.store.values[position] = found

    described = await worker.settle(paying(ELSEWHERE, None, "bakery"), Offsets(3, 0, 0))

    assert described.degraded.tolist() == [True, False, False]
    assert described.folded_activity.tolist() == [-1, -1, -1]
    theirs = described.vectors[:, OF_THE_COUNTERPARTY]
    assert theirs[0].tobytes() == theirs[1].tobytes()
    assert np.isnan(theirs[0]).all()
    assert not np.isnan(theirs[2]).all()

    worker.store.values[position] = whole
    again = await worker.settle(paying(ELSEWHERE, first=3), Offsets(4, 0, 0))
    assert again.degraded.tolist() == [False]
    assert again.folded_activity.tolist() == [40]


async def test_who_was_waited_for_in_vain_is_waited_for_again_only_after_it_was_whole() -> None:
    worker = Worker(committed=CommittedInAList({NUMBER_ELSEWHERE: 41}), wait=0.0)
    other = await the_other_worker(worker.store)
    position = f"{{p{NUMBER_ELSEWHERE}}}:position"
    whole = worker.store.values.pop(position)
    _, recalled = await worker.recall(paying(ELSEWHERE))
    assert recalled.unknown == {ELSEWHERE}
    worker.memory.wait = 60.0

    _, recalled = await worker.recall(paying(ELSEWHERE))
    assert recalled.unknown == {ELSEWHERE}, "its time is over: nobody waits for each batch anew"

    worker.store.values[position] = whole
    _, recalled = await worker.recall(paying(ELSEWHERE))
    assert recalled.unknown == frozenset()
    assert other.parts[NUMBER_ELSEWHERE].position.next.activity == 41

    del worker.store.values[position]
    with pytest.raises(CounterpartiesBehind):
        await worker.recall(paying(ELSEWHERE))


async def test_a_number_elsewhere_that_was_told_less_than_kafka_once_said_is_not_done_without_for_ever(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its log became another one, or its loss was accepted: what was committed before counts no more."""
    monkeypatch.setattr(memory, "NOTHING_HOLDS", -1.0)
    worker = Worker(committed=CommittedInAList({NUMBER_ELSEWHERE: 5_000}), wait=0.0)
    await the_other_worker(worker.store)
    _, recalled = await worker.recall(paying(ELSEWHERE))
    assert recalled.unknown == {ELSEWHERE}

    worker.committed.by_number[NUMBER_ELSEWHERE] = 41
    _, recalled = await worker.recall(paying(ELSEWHERE))

    assert recalled.unknown == frozenset()


@pytest.mark.parametrize(
    ("metadata", "told"),
    [
        (Trace("a").text(), 5_000),
        (Trace("of the topic that was deleted").text(), 0),
        ("", 5_000),
        ("some tool's", 5_000),
    ],
)
def test_activity_that_was_told_of_another_log_is_nothing_to_wait_for(metadata: str, told: int) -> None:
    assert told_of(5_000, metadata, "a") == told
    assert told_of(-1001, metadata, "a") == 0


async def test_while_nothing_is_lost_kafka_is_asked_once_and_redis_no_more_than_it_must() -> None:
    worker = Worker(committed=CommittedInAList({NUMBER_ELSEWHERE: 41}))
    await the_other_worker(worker.store)
    for _ in range(5):
        await worker.recall(paying(ELSEWHERE, "bakery"))

    assert worker.committed.asked == [[NUMBER_ELSEWHERE]]


@pytest.mark.parametrize("lost", ["our own position moved", "it was not looked at for long"])
async def test_a_number_elsewhere_is_asked_about_again_where_something_may_have_been_lost_unseen(
    lost: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A backup that was brought back shows a position that a worker has seen before, and is behind all the same."""
    worker = Worker(committed=CommittedInAList({NUMBER_ELSEWHERE: 41}))
    await the_other_worker(worker.store)
    await worker.recall(paying(ELSEWHERE))
    worker.committed.by_number[NUMBER_ELSEWHERE] = 99  # told meanwhile, and lost
    if lost == "our own position moved":
        mine = worker.parts[ALICES]
        worker.parts[ALICES] = a_part(ALICES, written=True)
        with pytest.raises(PositionMoved):
            await worker.recall(paying(ELSEWHERE))
        worker.parts[ALICES] = mine
    else:
        monkeypatch.setattr(memory, "SIGHT_HOLDS", 0.0)

    with pytest.raises(CounterpartiesBehind, match="folded its activity up to 41, and was told up to 99"):
        await worker.recall(paying(ELSEWHERE))


async def test_one_number_that_is_behind_takes_nothing_from_the_counterparties_of_another() -> None:
    worker = Worker(
        parts={ALICES: a_part(ALICES)}, committed=CommittedInAList({NUMBER_ELSEWHERE: 41, BAKERYS: 1}), wait=0.0
    )
    bakers = Worker(worker.store, {BAKERYS: a_part(BAKERYS)})
    await bakers.settle(read(RULES, activity=records([an_activity()])), Offsets(0, 0, 1))

    described = await worker.settle(paying(ELSEWHERE, "bakery"), Offsets(2, 0, 0))

    assert described.degraded.tolist() == [True, False]
    assert described.folded_activity.tolist() == [-1, 0]


async def test_each_profile_stands_in_the_row_that_needs_it() -> None:
    """Accounts and counterparties of all numbers, asked for in one batch."""
    worker = Worker(parts={number: a_part(number) for number in range(4)})
    names = [f"name-{n}" for n in range(40)]
    everyone: list[Transaction] = [a_transaction(account_id=name, counterparty_id=name) for name in names]
    first = await worker.settle(read(RULES, records(everyone)), Offsets(40, 0, 0))
    second = await worker.settle(read(RULES, activity=records(first.activity)), Offsets(40, 0, 40))

    need, recalled = await worker.recall(read(RULES, records(everyone[::-1])))

    assert {name: recalled.accounts[row] for name, row in need.accounts.items()} == first.accounts
    assert {name: recalled.counterparties[row] for name, row in need.counterparties.items()} == second.counterparties
