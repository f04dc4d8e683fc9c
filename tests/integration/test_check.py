"""The checker finds what it is there to find: each fault is planted beside a run that was well, and named."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import msgspec
import pytest

from deploy.local.stack import LocalStack
from features.log import Log
from features.position import Offsets
from loadgen import check
from loadgen.check import Report
from schemas.activity import decode_activity
from schemas.dead_letter import DeadLetter
from schemas.errors import Fault
from schemas.partitioning import partition_of
from schemas.topics import ACTIVITY, ALERTS, DEAD_LETTERS, TRANSACTIONS, VERDICTS, Topic
from schemas.transaction import decode_transaction
from schemas.verdict import Flag, Folded, Outcome, Source, Verdict
from schemas.wire import encode
from tests.conftest import a_prefix
from tests.fleet.fleet import Fleet
from tests.fleet.messages import Outgoing, a_large_transaction, a_transaction, message, now

ACCOUNT = "account-0001"
NUMBER = partition_of(ACCOUNT.encode(), 4)
COUNTS = (
    "transactions", "pending", "verdicts", "alerts", "duplicates", "lost", "doubled", "contradicting", "vectors_different",
    "profiles_different",
)  # fmt: skip


@pytest.fixture(scope="module")
def told(stack: LocalStack, bundle: Path) -> Iterator[Fleet]:
    """A run that was well; its worker has left."""
    with Fleet(stack, a_prefix(), bundle) as fleet, mock.patch.object(check, "EXAMPLES", 1_000):
        worker = fleet.start()
        duplicate = message(a_transaction("twice", account_id=ACCOUNT))
        flagged = message(a_large_transaction("flagged", account_id=ACCOUNT))
        nonsense = message(a_transaction(account_id=ACCOUNT), value=b"nonsense")
        for half in (75, 150):  # however slow the machine is, the second knows what was paid in the first
            fleet.send(fleet.life.messages(75))
            fleet.wait_for_verdicts(half)
            fleet.wait_until_settled()
        fleet.send([duplicate, duplicate, flagged, nonsense])
        fleet.wait_for_verdicts(152)
        fleet.check(verdicts=152, duplicates=1, dead_lettered={"not-json": 1})
        assert worker.stop() == 0
        yield fleet


class Difference:
    """What planting changes in the checker's report."""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet
        self._before = fleet.report()

    def __call__(self) -> tuple[dict[str, int], str]:
        """Counts that are others now, by how much, and the examples that are new."""
        after = self._fleet.report()
        assert not after.well or after.pending
        new = [example for example in after.examples if example not in self._before.examples]
        return {name: by for name in COUNTS if (by := getattr(after, name) - getattr(self._before, name))}, "\n".join(
            new
        )


@pytest.fixture
def difference(told: Fleet) -> Difference:
    return Difference(told)


def publish(fleet: Fleet, topic: Topic, what: Any, number: int = NUMBER, headers: Any = None) -> None:
    value = what if isinstance(what, bytes) else encode(what)
    fleet.producer.produce(fleet.settings.topic(topic), value, b"", number, headers=headers)
    assert fleet.producer.flush(10) == 0


def one_verdict(fleet: Fleet, holds: Callable[[Verdict], bool] = lambda _: True) -> Verdict:
    return next(v for v in fleet.answers.verdicts if v.source.partition == NUMBER and holds(v))


def nobodys(fleet: Fleet) -> Source:
    """Where something lies that is no transaction."""
    letter = fleet.answers.letters[0].says
    assert letter.partition == NUMBER
    return Source(letter.partition, letter.offset)


def commit_up_to_the_end(fleet: Fleet) -> None:
    """As if a worker had told everything."""
    with Log(fleet.settings) as log:
        offsets, metadata = zip(*log.committed(NUMBER), strict=True)
        end = log.bounds(TRANSACTIONS, NUMBER)[1]
        fleet.wait_until_nobody_is_in_the_group()
        log.commit(NUMBER, Offsets(end, *offsets[1:]), metadata)


def test_what_was_sent_after_the_worker_left_is_pending_and_not_lost(told: Fleet, difference: Difference) -> None:
    told.send([message(a_transaction(f"later {i}", account_id=ACCOUNT)) for i in range(3)])
    assert difference() == ({"pending": 3}, "")
    commit_up_to_the_end(told)
    counts, named = difference()
    assert (counts["transactions"], counts["lost"]) == (3, 3 + 3), "verdicts, and what the counterparty is to hear"
    assert "(later 0) has no verdict" in named


def test_a_message_that_vanished_is_lost(told: Fleet, difference: Difference) -> None:
    told.send([message(a_transaction("nonsense too", account_id=ACCOUNT), value=b"{")])
    commit_up_to_the_end(told)
    counts, named = difference()
    assert counts == {"transactions": 1, "lost": 1}
    assert "has no dead letter" in named


def test_a_second_verdict_is_doubled(told: Fleet, difference: Difference) -> None:
    publish(told, VERDICTS, one_verdict(told))
    counts, named = difference()
    assert counts == {"doubled": 1}
    assert "has two verdicts" in named


def test_a_verdict_of_a_duplicate_is_doubled(told: Fleet, difference: Difference) -> None:
    verdict = one_verdict(told, lambda v: v.transaction_id == "twice")
    again = msgspec.structs.replace(verdict, source=Source(NUMBER, verdict.source.offset + 1))
    publish(told, VERDICTS, again)
    counts, named = difference()
    assert counts == {"doubled": 1, "verdicts": 1}
    assert "came again, and has a verdict of its own" in named


def test_a_verdict_of_nothing_contradicts(told: Fleet, difference: Difference) -> None:
    publish(told, VERDICTS, msgspec.structs.replace(one_verdict(told), source=nobodys(told)))
    counts, named = difference()
    assert counts == {"contradicting": 1, "verdicts": 1}
    assert "is no transaction" in named


def test_a_verdict_in_another_partition_contradicts(told: Fleet, difference: Difference) -> None:
    publish(told, VERDICTS, one_verdict(told), number=(NUMBER + 1) % 4)
    assert difference()[0] == {"contradicting": 1}


def told_by_hand(fleet: Fleet, **changed: Any) -> None:
    """A transaction judged by nobody, and its verdict."""
    (sent,) = fleet.send([message(a_transaction(f"by hand {changed}", account_id=ACCOUNT, counterparty_id=None))])
    verdict = msgspec.structs.replace(
        one_verdict(fleet),
        transaction_id=f"by hand {changed}",
        account_id=ACCOUNT,
        source=Source(NUMBER, sent.offset),
        outcome=Outcome.APPROVE,
    )
    publish(fleet, VERDICTS, msgspec.structs.replace(verdict, **changed))
    commit_up_to_the_end(fleet)


def test_a_verdict_with_another_vector_contradicts(told: Fleet, difference: Difference) -> None:
    told_by_hand(told, vector_digest="0123456789abcdef")
    counts, named = difference()
    assert counts == {"transactions": 1, "verdicts": 1, "contradicting": 1, "vectors_different": 1}
    assert "was judged on another vector than the log gives" in named


def test_a_verdict_that_names_another_transaction_contradicts(told: Fleet, difference: Difference) -> None:
    told_by_hand(told, transaction_id="somebody else's")
    counts, named = difference()
    assert counts["contradicting"] == 2, "and its vector is another's"
    assert 'has the verdict of "somebody else\'s"' in named


def a_verdict_that_knew(fleet: Fleet) -> tuple[Verdict, str]:
    """One that knew something of its counterparty, with that one's name."""
    with Log(fleet.settings) as log:
        records = [r for some in log.read(TRANSACTIONS, NUMBER, *log.bounds(TRANSACTIONS, NUMBER)) for r in some]
    for verdict in reversed([v for v in fleet.answers.verdicts if v.source.partition == NUMBER]):
        if verdict.folded.activity and verdict.outcome is Outcome.APPROVE:
            paid = next(decode_transaction(r.value) for r in records if r.offset == verdict.source.offset)
            if paid.counterparty_id is not None:  # of those that were published by hand none has one
                return verdict, paid.counterparty_id
    raise AssertionError("nobody knew anything")


def judged_by_hand(fleet: Fleet, name: str, **changed: Any) -> None:
    """A payment at a counterparty of which verdicts knew something, with a verdict by hand."""
    verdict, counterparty = a_verdict_that_knew(fleet)
    paid = a_transaction(name, account_id=ACCOUNT, counterparty_id=counterparty)
    (sent,) = fleet.send([message(paid)])
    plain = {"transaction_id": name, "account_id": ACCOUNT, "source": Source(NUMBER, sent.offset), **changed}
    publish(fleet, VERDICTS, msgspec.structs.replace(verdict, **plain))
    commit_up_to_the_end(fleet)


def test_a_verdict_that_knew_less_than_one_before_it_was_judged_on_too_little(
    told: Fleet, difference: Difference
) -> None:
    before = told.report().judged_on_too_little
    judged_by_hand(told, "knew nothing", folded=Folded(0))
    report = told.report()
    assert report.judged_on_too_little == before + 1
    assert not report.well
    assert "judged on less of its counterparty than was known before" in difference()[1]


def test_a_verdict_that_says_it_knew_nothing_is_counted_and_held_to_that(told: Fleet, difference: Difference) -> None:
    """Its vector must be that of a payment that names nobody; what it has here is another's."""
    before = told.report()
    judged_by_hand(told, "degraded", folded=Folded(0), flags=(Flag.DEGRADED,))
    report = told.report()
    assert (report.degraded, report.judged_on_too_little) == (before.degraded + 1, before.judged_on_too_little)
    assert report.vectors_different == before.vectors_different + 1

    judged_by_hand(told, "degraded and yet", flags=(Flag.DEGRADED,))
    told_by_hand(told, transaction_id="by hand {}", flags=(Flag.DEGRADED,))
    named = difference()[1]
    assert "(degraded and yet) is flagged degraded, and says what was folded" in named
    assert "is flagged degraded, and names no counterparty" in named


def test_a_flagged_transaction_without_an_alert_is_lost(told: Fleet, difference: Difference) -> None:
    told_by_hand(told, outcome=Outcome.DECLINE)
    counts, named = difference()
    assert counts["lost"] == 1
    assert "is flagged, and has no alert" in named


def test_alerts_that_are_not_their_verdicts(told: Fleet, difference: Difference) -> None:
    alert = next(a for a in told.answers.alerts if a.verdict.source.partition == NUMBER)
    publish(told, ALERTS, alert)
    approved = one_verdict(told, lambda v: v.outcome is Outcome.APPROVE)
    publish(told, ALERTS, msgspec.structs.replace(alert, verdict=approved))
    unheard = msgspec.structs.replace(alert.verdict, source=nobodys(told))
    publish(told, ALERTS, msgspec.structs.replace(alert, verdict=unheard))
    counts, named = difference()
    assert counts == {"alerts": 2, "doubled": 1, "contradicting": 2}
    assert "has two alerts" in named
    assert "has an alert that is not its verdict's" in named


def test_dead_letters_of_good_messages_and_second_ones(told: Fleet, difference: Difference) -> None:
    (letter,) = told.answers.letters[:1]
    publish(told, DEAD_LETTERS, letter.value, letter.says.partition, headers=letter.says.headers())
    good = one_verdict(told).source
    wrong = DeadLetter(
        fault=Fault.NOT_JSON, detail="", topic=letter.says.topic, partition=NUMBER, offset=good.offset, attempt=1, at=now()
    )  # fmt: skip
    publish(told, DEAD_LETTERS, b"", headers=wrong.headers())
    counts, named = difference()
    assert counts == {"doubled": 1, "contradicting": 1}
    assert "has two dead letters" in named
    assert "nothing is wrong with it" in named


def test_counterparties_that_heard_twice_or_of_nothing(told: Fleet, difference: Difference) -> None:
    with Log(told.settings) as log:
        records = [r for some in log.read(ACTIVITY, 1, *log.bounds(ACTIVITY, 1)) for r in some]
    activity = [decode_activity(record.value) for record in records]
    heard = next(one for one in activity if one.known_at is None)
    told.send([Outgoing(topic=ACTIVITY, key=heard.counterparty_id.encode(), value=encode(heard))])
    nothing = msgspec.structs.replace(heard, source=nobodys(told))
    told.send([Outgoing(topic=ACTIVITY, key=heard.counterparty_id.encode(), value=encode(nothing))])
    counts, named = difference()
    assert counts == {"doubled": 1, "contradicting": 1}
    assert "heard of it 2 times" in named
    assert "heard of it, and should not have" in named


@pytest.mark.parametrize("kind", ["a", "c"], ids=["accounts", "counterparties"])
def test_profiles_that_were_changed_removed_or_invented(told: Fleet, difference: Difference, kind: str) -> None:
    position = told.position(NUMBER)
    assert position is not None
    pattern = told.keys(NUMBER).of_epoch(position.epoch).replace("[ac]", kind)
    changed, removed, *_ = sorted(told.redis.scan_iter(match=pattern))
    blob: Any = told.redis.get(changed)
    told.redis.set(changed, blob[:-1] + bytes([blob[-1] ^ 1]))
    told.redis.delete(removed)
    told.redis.set(changed + b"-invented", blob)
    counts, named = difference()
    assert counts == {"profiles_different": 3}
    for what in ("differs", "is not there", "should not be there"):
        assert what in named


def test_without_profiles_it_needs_no_redis(told: Fleet) -> None:
    report = told.report(profiles=False)
    assert (report.profiles_compared, report.profiles_different) == (0, 0)


def test_nothing_is_well(stack: LocalStack, prefix: str, bundle: Path) -> None:
    with Fleet(stack, prefix, bundle) as fleet:
        report = fleet.report()
        assert report.well
        assert report == Report()


def test_transactions_that_name_nobody_are_well(stack: LocalStack, prefix: str, bundle: Path) -> None:
    with Fleet(stack, prefix, bundle) as fleet:
        fleet.start()
        fleet.send([message(a_transaction(f"to nobody {i}", counterparty_id=None)) for i in range(5)])
        fleet.wait_for_verdicts(5)
        fleet.check(verdicts=5)
