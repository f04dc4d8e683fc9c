"""Whatever a message raises costs itself, or its partition; the worker goes on, and every good message is told once."""

from __future__ import annotations

import asyncio
import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, cast

import msgspec
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from features.accepting import Record, Rules
from features.describing import Described
from features.position import Keys, Last, Offsets, Position, TopicIds
from features.store import InMemoryProfiles
from schemas.dead_letter import ATTEMPT, DeadLetter
from schemas.errors import Fault
from schemas.marks import Marks, parse
from schemas.partitioning import partition_of
from schemas.transaction import Transaction
from schemas.verdict import Alert, Folded, Outcome, Reason, Source, Verdict, decode_alert
from schemas.wire import encode
from streaming.agents import Desk
from streaming.culprits import AT_FIRST
from streaming.intake import Polled
from streaming.memory import Memory
from streaming.metrics import Metrics
from streaming.outbox import Outbox, Said, Told, TooLarge
from streaming.partition import Part
from streaming.scoring import Decisions, Panel
from streaming.settings import WorkerSettings
from tests.builders import a_label, a_transaction
from tests.fakes import CommittedInAList
from tests.intakes import ACTIVITY, LABELS, START, TRANSACTIONS, LoneIntake

NUMBERS = range(4)
ACCOUNTS = {partition_of(f"account-{n}".encode(), len(NUMBERS)): f"account-{n}" for n in range(40)}
"""One of each partition number."""
BAD, GOOD = 1, 2
"""Numbers."""
READ, DECIDE, SAY = "when it is read", "when it is decided on", "when its verdict is written"


A_REASON = Reason(feature="f", meaning="m" * 100, value=1.0, contribution=1.0)


class RulesThatFail(Rules):
    """Of which some messages show a bug before anything of them is known."""

    bugs: Bugs

    def transaction(self, record: Record, belongs: int) -> Transaction:
        """See Rules."""
        message = super().transaction(record, belongs)
        if self.bugs.get(message.transaction_id) == READ:
            raise UnicodeError("planted")
        return message


Bugs = dict[str, str]
"""Of transactions, by id: where they show a bug."""


class PanelThatFails:
    """It approves, but for what shows a bug."""

    def __init__(self, bugs: Bugs) -> None:
        self.bugs = bugs
        self.fails_on = 10**9
        """It fails too where so many come at once, whoever they are."""
        self.flags: set[str] = set()
        """Transactions that it flags."""

    def decide(self, described: Described, _next_labels: Mapping[int, int], now: datetime) -> Decisions:
        """See Panel."""
        if len(described.transactions) >= self.fails_on:
            raise MemoryError
        verdicts = [self._verdict(taken.record, taken.message, now) for taken in described.transactions]
        alerts = [
            Alert(verdict=verdict, transaction=taken.message, reasons=(A_REASON,) * 5)
            for verdict, taken in zip(verdicts, described.transactions, strict=True)
            if verdict.transaction_id in self.flags
        ]
        return Decisions(verdicts, alerts)

    def _verdict(self, record: Record, transaction: Transaction, now: datetime) -> Verdict:
        bug = self.bugs.get(transaction.transaction_id)
        if bug == DECIDE:
            raise ZeroDivisionError("planted")
        return Verdict(
            transaction_id=transaction.transaction_id,
            account_id=transaction.account_id,
            outcome=Outcome.APPROVE,
            score=cast(float, object()) if bug == SAY else 0.0,
            margin=0.0,
            bundle="b",
            policy="p",
            vector_digest="v",
            occurred_at=transaction.occurred_at,
            decided_at=now,
            source=Source(record.partition, record.offset),
            folded=Folded(0),
        )


class FakeOutbox:
    """Takes all, and remembers the offsets."""

    def __init__(self) -> None:
        self.said: list[Said] = []
        self.told: dict[tuple[str, int], int] = {}
        self.marks: dict[int, Marks] = {}
        self.takes: dict[str, int] = {}
        """By topic: how large a message may be there."""
        self.refused = 0

    async def tell(self, said: Sequence[Said], told: Sequence[Told], _group: bytes) -> None:
        """See Outbox."""
        if too_large := [one for one in said if one.size > self.takes.get(one.topic, 1 << 30)]:
            self.refused += 1
            raise TooLarge(too_large, "a planted limit")
        self.said += said
        for topic, number, offset, metadata in told:
            self.told[topic, number] = offset
            if topic == TRANSACTIONS:
                self.marks[number] = parse(Marks, metadata)

    def of(self, topic: str) -> list[Said]:
        """What was said on this topic."""
        return [one for one in self.said if one.topic == topic]


class Worker(LoneIntake):
    """An intake and a desk, with all that they lean on in memory; it serves all four numbers."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(self._settle, **settings)
        self.bugs: Bugs = {}
        self.store, self.outbox, self.panel = InMemoryProfiles(), FakeOutbox(), PanelThatFails(self.bugs)
        rules = RulesThatFail()
        rules.bugs = self.bugs
        self.desk = Desk(
            msgspec.convert({"topic_prefix": ""} | settings, WorkerSettings),
            rules,
            Memory(self.store, CommittedInAList(), "", len(NUMBERS), wait=10.0),
            cast(Outbox, self.outbox),
            Metrics(),
            lambda *_: None,
            lambda *_: None,
        )
        self.desk.panel = cast(Panel, self.panel)
        self.serves(*NUMBERS)

    def _settle(self, polled: Polled) -> None:
        asyncio.run(self.desk.settle(polled))

    def part(self, number: int) -> Part:
        """What a takeover finds."""
        keys = Keys("", number)
        raw = self.store.values.get(keys.position, b"")
        position = Position.parse(raw) if raw else Position("f", "e", TopicIds("t", "l", "a"), START)
        until = Offsets(self.outbox.told.get((TRANSACTIONS, number), 0), self.outbox.told.get((LABELS, number), 0), 0)
        return Part(number, position, until, self.outbox.marks.get(number, Marks()), Last(), keys, bool(raw))

    def pays(self, number: int, *ids: str, at_counterparty: str | None = None, **fields: Any) -> None:
        """Transactions of this number's account come."""
        account = ACCOUNTS[number]
        messages = [encode(a_transaction(one, account_id=account, counterparty_id=at_counterparty)) for one in ids]
        self.wrote(TRANSACTIONS, number, *messages, of_key=account.encode(), at=2_000_000_000_000, **fields)

    def pays_at_length(self, number: int, name: str, length: int) -> None:
        """A transaction of so many bytes comes, which is flagged."""
        self.panel.flags.add(name)
        account = ACCOUNTS[number]
        one = a_transaction(name, account_id=account, attributes={f"note {n}": "x" * 100 for n in range(length // 100)})
        self.wrote(TRANSACTIONS, number, encode(one), of_key=account.encode(), at=2_000_000_000_000)

    def forgets_profiles(self) -> None:
        """As a store that was wiped: what was told is folded anew."""
        self.store.values.clear()
        self.is_assigned(*NUMBERS)

    @property
    def verdicts(self) -> Counter[str]:
        """How many each transaction got."""
        return Counter(msgspec.json.decode(one.value or b"")["transaction_id"] for one in self.outbox.of("verdicts"))

    @property
    def letters(self) -> Counter[str]:
        """How many dead letters each transaction got, all of them `bug`."""
        letters = self.outbox.of("dead-letters")
        assert all(dict(one.headers)["error"] == "bug" for one in letters)
        return Counter(msgspec.json.decode(one.value or b"")["transaction_id"] for one in letters)


@pytest.mark.parametrize("where", [READ, DECIDE, SAY])
def test_nine_messages_with_one_bug_are_dead_lettered_and_the_others_are_judged(where: str) -> None:
    worker = Worker()
    culprits = [f"culprit {n}" for n in range(9)]
    worker.bugs |= dict.fromkeys(culprits, where)
    worker.pays(BAD, *(one for n, culprit in enumerate(culprits) for one in (culprit, f"good {n}")))
    worker.turns()

    assert worker.letters == Counter(culprits)
    assert worker.verdicts == Counter(f"good {n}" for n in range(9))
    assert worker.intake.parked == {}
    assert worker.outbox.marks[BAD].left_out == 9


def test_beyond_a_share_their_partition_is_parked_and_the_others_go_on() -> None:
    worker = Worker()
    culprits = [f"culprit {n}" for n in range(AT_FIRST + 1)]
    worker.bugs |= dict.fromkeys(culprits, DECIDE)
    worker.pays(BAD, *culprits)
    worker.pays(GOOD, "good")
    worker.turns(6)

    assert worker.verdicts == Counter(["good"])
    assert worker.letters == Counter()
    why = worker.intake.parked[BAD]
    assert "too many messages show a bug (ZeroDivisionError)" in why
    assert "FRAUD_BUG_SHARE" in why
    worker.bugs.clear()
    worker.intake.look_at_parked()
    worker.turns(6)
    assert worker.verdicts == Counter(["good", *culprits])
    assert worker.intake.parked == {}


def test_few_at_a_time_do_not_get_past_the_share() -> None:
    worker = Worker(bug_share=0.5)
    ids = [f"culprit {n}" for n in range(3 * AT_FIRST)]
    worker.bugs |= dict.fromkeys(ids, DECIDE)
    for one in ids:
        worker.pays(BAD, one)
        worker.turns(1)

    assert len(worker.letters) == 2 * AT_FIRST - 1, "each adds half a one, and takes one"
    assert BAD in worker.intake.parked


@pytest.mark.parametrize("at_once", [10, 5 * AT_FIRST])
def test_whoever_asks_for_it_has_all_of_them_dead_lettered(at_once: int) -> None:
    worker = Worker(bug_share=1.0)
    ids = [f"culprit {n}" for n in range(5 * AT_FIRST)]
    worker.bugs |= dict.fromkeys(ids, READ)
    for begin in range(0, len(ids), at_once):
        worker.pays(BAD, *ids[begin : begin + at_once])
        worker.turns(1)

    assert worker.letters == Counter(ids)
    assert worker.intake.parked == {}


def test_what_was_told_before_is_left_out_of_no_fold_and_parks_its_partition() -> None:
    worker = Worker()
    worker.pays(BAD, "told", "and told")
    worker.turns()
    worker.bugs["told"] = READ
    worker.forgets_profiles()
    worker.turns(6)
    worker.pays(GOOD, "good")
    worker.turns(6)

    why = worker.intake.parked[BAD]
    assert "transactions [1] at offset 0 was told before and can't be folded now" in why
    assert worker.verdicts == Counter(["told", "and told", "good"])
    assert worker.letters == Counter()
    worker.bugs.clear()
    worker.intake.look_at_parked()
    worker.turns(6)
    assert worker.intake.parked == {}
    assert worker.verdicts == Counter(["told", "and told", "good"])


def test_with_the_first_that_is_told_all_is_committed_anew_where_some_of_it_was_of_a_log_that_is_gone() -> None:
    worker = Worker()
    part = worker.intake.parts[GOOD]
    part.anew, part.marks = True, Marks(left_out=2)
    worker.wrote(LABELS, GOOD, b"no label", of_key=ACCOUNTS[GOOD].encode(), at=2_000_000_000_000)
    worker.turns(1)

    assert {topic for topic, number in worker.outbox.told if number == GOOD} == {TRANSACTIONS, LABELS, ACTIVITY}
    assert worker.outbox.marks[GOOD].left_out == 2
    assert not part.anew


def test_a_batch_that_fails_as_a_whole_parks_a_partition_where_it_does_and_ends_no_process() -> None:
    worker = Worker()
    worker.panel.fails_on = 3
    worker.pays(BAD, "1", "2", "3")
    worker.pays(GOOD, "4", "5")
    worker.turns(10)

    assert worker.intake.parked.keys() == {BAD}
    assert "a batch failed as a whole, and none of its messages alone (MemoryError)" in worker.intake.parked[BAD]
    assert worker.verdicts == Counter(["4", "5"])


def test_a_label_that_shows_a_bug_stays_out_of_the_fold() -> None:
    worker = Worker()
    label = a_label(a_transaction("t", account_id=ACCOUNTS[BAD]))
    key = ACCOUNTS[BAD].encode()
    worker.wrote(LABELS, BAD, encode(label), of_key=key, at=2_000_000_000_000)
    worker.pays(BAD, "t")
    worker.bugs["t"] = DECIDE
    worker.turns()

    assert worker.letters == Counter(["t"])
    assert worker.desk.metrics.labels._value.get() == 1


def test_a_dead_letter_that_was_sent_again_and_is_still_bad_says_that_it_is_the_second_attempt() -> None:
    worker = Worker()
    worker.bugs["bad"] = DECIDE
    worker.pays(BAD, "bad")
    worker.pays(BAD, "bad", of_headers=((ATTEMPT, b"2"),))
    worker.turns()

    assert [dict(letter.headers)[ATTEMPT] for letter in worker.outbox.of("dead-letters")] == ["1", "2"]


def test_an_alert_that_kafka_finds_too_large_is_told_without_attributes_beside_its_verdict() -> None:
    worker = Worker()
    worker.outbox.takes["alerts"] = 2_500
    worker.pays_at_length(BAD, "long", 4_000)
    worker.pays_at_length(BAD, "short", 100)
    worker.turns()

    assert worker.verdicts == Counter(["long", "short"])
    long, short = (decode_alert(one.value) for one in worker.outbox.of("alerts"))
    assert (long.transaction.transaction_id, long.transaction.attributes, len(long.reasons)) == ("long", {}, 5)
    assert short.transaction.attributes == {"note 0": "x" * 100}
    assert worker.letters == Counter()


def test_an_alert_that_is_still_too_large_keeps_its_strongest_reason() -> None:
    worker = Worker()
    worker.outbox.takes["alerts"] = 1_100
    worker.pays_at_length(BAD, "long", 4_000)
    worker.turns()

    (alert,) = (decode_alert(one.value) for one in worker.outbox.of("alerts"))
    assert len(alert.reasons) == 1
    assert worker.verdicts == Counter(["long"])


def test_a_dead_letter_that_kafka_finds_too_large_is_cut_and_says_its_digest() -> None:
    worker = Worker()
    worker.outbox.takes["dead-letters"] = 5_000
    value = b"x" * 100_000
    worker.wrote(TRANSACTIONS, BAD, value, of_key=ACCOUNTS[BAD].encode())
    worker.pays(BAD, "good")
    worker.turns()

    (letter,) = worker.outbox.of("dead-letters")
    assert letter.value == value[:1024]
    assert hashlib.sha256(value).hexdigest() in str(dict(letter.headers)["detail"])
    assert worker.verdicts == Counter(["good"])
    assert worker.outbox.refused == 1, "and is not met again"


def test_what_kafka_takes_no_verdict_of_is_dead_lettered_by_digest_and_left_out_of_every_fold() -> None:
    """As of every accepted transaction there is one verdict, or as here one dead letter: never both, never none."""
    worker = Worker()
    worker.outbox.takes["verdicts"] = 500
    name = "n" * 128
    worker.pays(BAD, name, "good")
    worker.turns()

    assert worker.verdicts == Counter(["good"])
    (letter,) = worker.outbox.of("dead-letters")
    says = DeadLetter.from_headers(letter.headers)
    assert (says.fault, says.partition, says.offset) == (Fault.TOO_LARGE, BAD, 0)
    assert "SHA-256" in says.detail
    assert worker.outbox.marks[BAD].left_out == 1
    assert worker.intake.parked == {}


def test_where_kafka_does_not_even_take_the_dead_letter_the_partition_is_parked_and_the_topic_named() -> None:
    worker = Worker()
    worker.outbox.takes["dead-letters"] = 10
    worker.wrote(TRANSACTIONS, BAD, b"?")
    worker.pays(GOOD, "good")
    worker.turns(6)

    assert worker.intake.parked.keys() == {BAD}
    assert "is larger than dead-letters takes" in worker.intake.parked[BAD]
    assert worker.verdicts == Counter(["good"])


@hypothesis_settings(max_examples=40, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from(NUMBERS), st.sampled_from(["", "", READ, DECIDE, SAY])), max_size=60),
    st.integers(1, 30),
    st.integers(2, 40),
)
def test_whatever_messages_raise_the_worker_lives_and_each_is_told_once_dead_lettered_once_or_parked(
    messages: list[tuple[int, str]], at_once: int, fails_on: int
) -> None:
    worker = Worker()
    worker.panel.fails_on = fails_on
    for begin in range(0, len(messages), at_once):
        for i, (number, bug) in enumerate(messages[begin : begin + at_once], begin):
            worker.bugs[f"{number} {i}"] = bug
            worker.pays(number, f"{number} {i}")
        worker.turns(4)
    worker.turns(12)

    verdicts, letters, parked = worker.verdicts, worker.letters, worker.intake.parked
    for i, (number, bug) in enumerate(messages):
        name = f"{number} {i}"
        told = (letters if bug else verdicts)[name]
        assert told + (letters if not bug else verdicts)[name] <= 1
        assert told == 1 or number in parked, (name, bug)


@pytest.mark.parametrize("spoilt", [b"", b"?", b"\x00" * 60, b"\xff" * 500], ids=["empty", "short", "zeros", "ones"])
def test_a_damaged_profile_costs_its_partition_until_it_is_folded_anew_and_no_good_payment(spoilt: bytes) -> None:
    worker = Worker()
    worker.pays(BAD, "before")
    worker.turns()
    key = Keys("", BAD).account("e", ACCOUNTS[BAD])
    worker.store.values[key] = spoilt
    worker.pays(BAD, "after")
    worker.pays(GOOD, "good")
    worker.turns(8)

    assert worker.verdicts == Counter(["before", "good"])
    assert worker.letters == Counter()
    why = worker.intake.parked[BAD]
    assert why == (
        "partition 1: the profile of the account that transactions [1] at 1 names is damaged in Redis: somebody else wrote "
        "there, or it was not kept as it was written; `features rebuild --partition 1` folds all of them anew"
    )
    worker.forgets_profiles()  # as a rebuild does
    worker.intake.look_at_parked()
    worker.turns(8)
    assert worker.verdicts == Counter(["before", "good", "after"])
    assert worker.intake.parked == {}


def test_a_damaged_profile_that_another_worker_writes_is_done_without_and_the_verdict_says_so(
    caplog: pytest.LogCaptureFixture,
) -> None:
    worker = Worker()
    worker.pays(BAD, "before")
    worker.turns()
    shop = next(f"shop-{n}" for n in range(99) if partition_of(f"shop-{n}".encode(), len(NUMBERS)) == BAD)
    worker.store.values[Keys("", BAD).counterparty("e", shop)] = b"?" * 90
    worker.is_assigned(GOOD)
    for one in ("one", "two"):
        worker.pays(GOOD, one, at_counterparty=shop)
        worker.turns(6)

    assert worker.verdicts == Counter(["before", "one", "two"])
    assert worker.letters == Counter()
    assert worker.intake.parked == {}
    assert worker.desk.metrics.registry.get_sample_value("fraud_degraded_total") == 2
    said = [record.getMessage() for record in caplog.records if "is damaged in Redis" in record.getMessage()]
    assert len(said) == 1, "once a minute"
    assert "the counterparty that transactions [2] at 0 names, in partition 1, which another worker serves" in said[0]
    assert shop not in said[0]
