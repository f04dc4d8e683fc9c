"""Whatever comes in: a dead letter with its bytes untouched that says why, and a verdict for everybody else."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any

import msgspec
import pytest

from deploy.local.stack import LocalStack
from loadgen.check import Report
from schemas.errors import Fault
from schemas.partitioning import partition_of
from schemas.topics import ACTIVITY
from schemas.verdict import Flag
from schemas.wire import MAX_AMOUNT, encode
from tests.conftest import a_prefix
from tests.fleet.answers import Letter
from tests.fleet.fleet import Fleet, Sent, Worker
from tests.fleet.messages import Outgoing, a_label_of, a_transaction, message, now, spoiled

LARGEST = (1 << 20) - 200
"""Bytes of a value that `transactions` still takes: a record batch has a head, a record has one too."""
GOOD = a_transaction("a good one", account_id="account-1", occurred_at=now() - timedelta(hours=1))
HOME = partition_of(b"account-1", 4)
LABEL = a_label_of(GOOD)
HEARSAY = encode(LABEL).replace(b"chargeback", b"hearsay")
EARLY = encode(a_label_of(GOOD, known_at=GOOD.occurred_at - timedelta(seconds=1)))
AHEAD = encode(a_label_of(GOOD, known_at=now() + timedelta(days=365)))


@dataclass(frozen=True)
class Bad:
    """One row of the table."""

    name: str
    message: Outgoing
    fault: Fault
    says: str
    """A part of the dead letter's detail: where it is wrong, or what would be right."""


def bad(name: str, fault: Fault, says: str, value: bytes | None, **changed: Any) -> Bad:
    return Bad(name, message(GOOD, value=value, **changed), fault, says)


def named(name: str, fault: Fault, says: str, **fields: Any) -> Bad:
    """A good transaction with an id of its own and other `fields`."""
    return bad(name, fault, says, spoiled(GOOD, **({"transaction_id": name} | fields)))


NOISE = b"\xff" + bytes(range(256)) * 4_095
TABLE = [
    bad("null value", Fault.NULL_VALUE, "null", None),
    bad("empty value", Fault.NOT_JSON, "truncated", b""),
    bad("not JSON", Fault.NOT_JSON, "malformed", b"{nonsense"),
    bad("cut short", Fault.NOT_JSON, "truncated", encode(GOOD)[:40]),
    bad("two messages in one", Fault.NOT_JSON, "trailing", encode(GOOD) * 2),
    bad("NaN", Fault.NOT_JSON, "malformed", spoiled(GOOD, amount=0).replace(b'"amount":0', b'"amount":NaN')),
    bad("Infinity", Fault.NOT_JSON, "malformed", spoiled(GOOD, amount=0).replace(b'"amount":0', b'"amount":Infinity')),
    bad("half a surrogate", Fault.NOT_JSON, "", spoiled(GOOD, transaction_id="?").replace(b'"?"', rb'"\udc00"')),
    bad("too deep", Fault.NOT_JSON, "deeper than", b'{"unknown":' + b"[" * 5_000),
    bad("a list", Fault.WRONG_TYPE, "Expected `object`", b"[1, 2]"),
    bad("a number", Fault.WRONG_TYPE, "Expected `object`", b"12"),
    bad("an empty object", Fault.MISSING_FIELD, "missing required field", b"{}"),
    bad("invalid UTF-8", Fault.INVALID_UTF8, "", spoiled(GOOD, category="caf?").replace(b"caf?", b"caf\xe9")),
    bad("noise", Fault.INVALID_UTF8, "", b"\xff\x00\x01\x02"),
    bad("noise of the largest size", Fault.INVALID_UTF8, "", (NOISE * 2)[:LARGEST]),
    named("amount is text", Fault.WRONG_TYPE, "`$.amount`", amount="12.50"),
    named("amount is a fraction", Fault.WRONG_TYPE, "`$.amount`", amount=12.5),
    named("amount is null", Fault.WRONG_TYPE, "`$.amount`", amount=None),
    named("amount is negative", Fault.OUT_OF_RANGE, "`$.amount`", amount=-1),
    named("amount is above 10^12", Fault.OUT_OF_RANGE, "`$.amount`", amount=MAX_AMOUNT + 1),
    named("amount is beyond 64 bits", Fault.OUT_OF_RANGE, "`$.amount`", amount=2**63),
    named("no transaction_id", Fault.MISSING_FIELD, "transaction_id", transaction_id=...),
    named("no account_id", Fault.MISSING_FIELD, "account_id", account_id=...),
    named("no amount", Fault.MISSING_FIELD, "amount", amount=...),
    named("no currency", Fault.MISSING_FIELD, "currency", currency=...),
    named("no time", Fault.MISSING_FIELD, "occurred_at", occurred_at=...),
    named("unknown currency", Fault.UNKNOWN_CURRENCY, "`$.currency`", currency="QQQ"),
    named("no currency's form", Fault.UNKNOWN_CURRENCY, "`$.currency`", currency="eur"),
    named("time without zone", Fault.TIME_WITHOUT_ZONE, "`$.occurred_at`", occurred_at="2025-03-01T12:00:00"),
    named("time is no time", Fault.WRONG_TYPE, "`$.occurred_at`", occurred_at="yesterday"),
    named("empty id", Fault.OUT_OF_RANGE, "`$.transaction_id`", transaction_id=""),
    named("id of 129 bytes", Fault.OUT_OF_RANGE, "`$.transaction_id`", transaction_id="x" * 129),
    named("id of 65 characters and 130 bytes", Fault.OUT_OF_RANGE, "`$.transaction_id` is 130 bytes", transaction_id="ü" * 65),
    named("latitude beyond the pole", Fault.OUT_OF_RANGE, "`$.latitude`", latitude=90.5),
    named("attributes that nest", Fault.WRONG_TYPE, '`$.attributes["a"]`', attributes={"a": [1]}),
    named("4,000 attributes", Fault.OUT_OF_RANGE, "FRAUD_MOST_ATTRIBUTES", attributes={f"a{n}": n for n in range(4_000)}),
    named("a till whose clock was reset", Fault.OUT_OF_RANGE, "from 1990 until before 2100", occurred_at="1970-01-01T00:00:00Z"),
    named("the year 0 in UTC", Fault.OUT_OF_RANGE, "from 1990 until before 2100", occurred_at="0001-01-01T00:00:00+14:00"),
    bad("another key", Fault.WRONG_KEY, "account-2", spoiled(GOOD, transaction_id="another key"), key=b"account-2"),
    bad("no key", Fault.WRONG_KEY, "None", spoiled(GOOD, transaction_id="no key"), key=None),
    bad("a key that is no text", Fault.WRONG_KEY, "xfe", spoiled(GOOD, transaction_id="a key"), key=b"\xfe\xff"),
    bad(
        "the wrong partition", Fault.WRONG_PARTITION, f"belongs in {HOME}", spoiled(GOOD, transaction_id="wrong partition"),
        partition=(HOME + 1) % 4,
    ),
    bad(
        "eleven minutes ahead", Fault.FROM_THE_FUTURE, "660 s after",
        spoiled(GOOD, transaction_id="ahead", occurred_at=datetime(2025, 3, 1, 12, 11, tzinfo=UTC)),
        timestamp=datetime(2025, 3, 1, 12, 0, tzinfo=UTC),
    ),
    named("the year 9999", Fault.FROM_THE_FUTURE, "after", occurred_at="9999-12-31T23:59:59.999999-23:59"),
    named("an id used again", Fault.ID_REUSED, "`$.transaction_id`", transaction_id=GOOD.transaction_id, amount=GOOD.amount + 1),
    Bad("label: not JSON", message(LABEL, value=b"{"), Fault.NOT_JSON, "truncated"),
    Bad("label: source unknown", message(LABEL, value=HEARSAY), Fault.OUT_OF_RANGE, "`$.source`"),
    Bad("label: known before its payment", message(LABEL, value=EARLY), Fault.OUT_OF_RANGE, "before `$.occurred_at`"),
    Bad("label: a year ahead", message(LABEL, value=AHEAD), Fault.FROM_THE_FUTURE, "`$.known_at`"),
    Bad("label: another key", message(LABEL, key=b"account-2"), Fault.WRONG_KEY, "account-2"),
    Bad("label: wrong partition", message(LABEL, partition=(HOME + 1) % 4), Fault.WRONG_PARTITION, f"belongs in {HOME}"),
]  # fmt: skip


@dataclass
class Told:
    """What came of the table."""

    worker: Worker
    log: list[str]
    sent: dict[str, Sent]
    letters: dict[Sent, list[Letter]]
    goods: list[str]
    fleet: Fleet
    report: Report
    dead_letters_counted: float
    duplicates_counted: float


@pytest.fixture(scope="module")
def told(stack: LocalStack, bundle: Path) -> Iterator[Told]:
    """The whole table, each among good ones, before the worker starts: one batch has them all."""
    with Fleet(stack, a_prefix(), bundle, log_level="debug") as fleet:
        goods = [f"good after {bad.name}" for bad in TABLE]
        messages = [message(GOOD), message(GOOD)]  # a duplicate at once
        for row, name in zip(TABLE, goods, strict=True):
            messages += [row.message, message(a_transaction(name, occurred_at=GOOD.occurred_at))]
        places = fleet.send(messages)
        worker = fleet.start()
        fleet.wait_for(
            lambda answers: len(answers.letters) >= len(TABLE) and answers.has_all([GOOD.transaction_id, *goods])
        )
        fleet.wait_until_settled()
        letters: dict[Sent, list[Letter]] = {}
        for letter in fleet.answers.letters:
            topic = letter.says.topic.removeprefix(fleet.settings.topic_prefix)
            letters.setdefault(Sent(topic, letter.says.partition, letter.says.offset), []).append(letter)
        yield Told(
            worker=worker,
            log=worker.log.lines,
            sent={row.name: places[2 + 2 * i] for i, row in enumerate(TABLE)},
            letters=letters,
            goods=goods,
            fleet=fleet,
            report=fleet.report(),
            dead_letters_counted=worker.metric("fraud_dead_letters_total"),
            duplicates_counted=worker.metric("fraud_duplicates_total"),
        )


@pytest.mark.parametrize("row", TABLE, ids=lambda row: row.name)
def test_a_bad_message_is_dead_lettered_with_its_bytes_untouched_and_says_why(told: Told, row: Bad) -> None:
    sent = told.sent[row.name]
    (letter,) = told.letters[sent]
    assert (letter.value, letter.key) == (row.message.value, row.message.key)
    headers = dict(letter.headers)
    detail, at = headers.pop("detail"), datetime.fromisoformat(headers.pop("at"))
    assert len(headers.pop("topic_id")) == 22, "128 bits of Kafka's"
    assert int(headers.pop("timestamp")) > 0
    assert headers == {
        "error": row.fault.value,
        "topic": f"{told.fleet.settings.topic_prefix}{sent.topic}",
        "partition": str(sent.partition),
        "offset": str(sent.offset),
        "attempt": "1",
    }
    assert row.says in detail
    assert abs(now() - at) < timedelta(minutes=10)


def test_everybody_else_gets_a_verdict_in_the_same_batch(told: Told) -> None:
    for name in told.goods:
        assert len(told.fleet.answers.verdicts_of(name)) == 1, name
    # "batch told: 59 messages, 28 verdicts, 0 alerts, 30 dead letters, 12.3 ms"
    batches = re.findall(r"(\d+) verdicts, \d+ alerts, (\d+) dead letters", "\n".join(told.log))
    assert max(min(int(verdicts), int(letters)) for verdicts, letters in batches) >= 15


def test_a_duplicate_gets_no_verdict_of_its_own_and_is_counted(told: Told) -> None:
    assert len(told.fleet.answers.verdicts_of(GOOD.transaction_id)) == 1
    assert told.duplicates_counted == told.report.duplicates == 1


def test_bad_messages_are_counted_by_error(told: Told) -> None:
    assert told.dead_letters_counted == len(TABLE)
    for fault in {row.fault for row in TABLE}:
        rows = sum(row.fault is fault for row in TABLE)
        assert told.worker.metric("fraud_dead_letters_total", error=fault.value) == rows, fault


def test_the_checker_agrees(told: Told) -> None:
    assert told.report.well, told.report
    assert sum(told.report.dead_lettered.values()) == len(TABLE)
    assert told.report.verdicts == len(TABLE) + 1


def test_after_a_takeover_everything_bad_stays_dead_lettered_once(told: Told) -> None:
    """Last of the table's: it starts the worker again and wipes the profiles, which are folded anew from the log."""
    told.worker.kill()
    told.fleet.redis.delete(*[told.fleet.keys(number).position for number in range(4)])
    told.fleet.start()
    told.fleet.send([message(a_transaction("afterwards"))])
    told.fleet.wait_for(lambda answers: answers.has_all(["afterwards"]))
    report = told.fleet.check(duplicates=1)
    assert sum(report.dead_lettered.values()) == len(TABLE)


def test_what_is_no_activity_is_dead_lettered_too(stack: LocalStack, prefix: str, bundle: Path) -> None:
    """Only workers write there; but if somebody else does, it stops nobody."""
    with Fleet(stack, prefix, bundle) as fleet:
        (sent,) = fleet.send([Outgoing(topic=ACTIVITY, key=b"shop-1", value=b"?")])
        fleet.start()
        fleet.send([message(GOOD)])
        fleet.wait_for(lambda answers: len(answers.letters) == 1 and answers.has_all([GOOD.transaction_id]))
        (letter,) = fleet.answers.letters
        assert (letter.value, letter.says.fault, letter.says.offset) == (b"?", Fault.NOT_JSON, sent.offset)
        assert letter.says.topic == f"{prefix}counterparty-activity"
        fleet.check(verdicts=1, dead_lettered={"not-json": 1})


def test_accepted_to_the_edge(stack: LocalStack, prefix: str, bundle: Path) -> None:
    """What is just not bad."""
    noon = datetime(2025, 3, 1, 12, 0, tzinfo=UTC)
    elsewhere = a_transaction("in another zone", occurred_at=noon)
    edge = [
        message(a_transaction("nothing paid", amount=0, occurred_at=noon)),
        message(a_transaction("the most", amount=MAX_AMOUNT, occurred_at=noon)),
        message(a_transaction("x" * 128, account_id="ü" * 64, counterparty_id="\n{}:*", occurred_at=noon)),
        message(a_transaction("to nobody", counterparty_id=None, occurred_at=noon)),
        message(a_transaction("ten minutes ahead", occurred_at=noon + timedelta(minutes=10)), timestamp=noon),
        message(a_transaction("1990", account_id="Methuselah", occurred_at=datetime(1990, 1, 1, tzinfo=UTC))),
        message(a_transaction("1990 again", account_id="Methuselah", occurred_at=datetime(1990, 1, 1, tzinfo=UTC))),
        message(a_transaction("much later", account_id="Methuselah", occurred_at=noon)),
        message(elsewhere, value=spoiled(elsewhere, transaction_id="gaps", channel="", latitude="", attributes={"a": None})),
        message(elsewhere, value=spoiled(elsewhere, occurred_at="2025-03-01T23:59:59.999999+11:59")),
        message(a_label_of(a_transaction("never seen", occurred_at=noon), known_at=noon)),
    ]  # fmt: skip
    with Fleet(stack, prefix, bundle) as fleet:
        fleet.send(edge)
        fleet.start()
        fleet.wait_for_verdicts(len(edge) - 1)
        assert fleet.answers.letters == []
        fleet.check(verdicts=len(edge) - 1, dead_lettered={})


def test_a_transaction_older_than_all_that_is_remembered_is_judged_and_flagged_late(
    stack: LocalStack, prefix: str, bundle: Path
) -> None:
    with Fleet(stack, prefix, bundle) as fleet:
        worker = fleet.start()
        newest = now()
        fleet.send([message(a_transaction("on time", occurred_at=newest))])
        fleet.send([message(a_transaction("late", occurred_at=newest - timedelta(days=3)))])
        fleet.wait_for_verdicts(2)
        (on_time,), (late,) = fleet.answers.verdicts_of("on time"), fleet.answers.verdicts_of("late")
        assert on_time.flags == ()
        assert late.flags == (Flag.LATE,)
        fleet.check(verdicts=2)
        worker.wait_until(lambda: worker.metric("fraud_late_total") == 1)


def test_what_dead_letters_does_not_take_goes_there_by_head_and_digest(
    stack: LocalStack, prefix: str, bundle: Path
) -> None:
    with Fleet(stack, prefix, bundle, dead_letter_bytes=2_048) as fleet:
        small, large, large_key = b"\xff" * 2_000, b"\xfe" * 500_000, b"k" * 5_000
        sent = fleet.send(
            [
                message(GOOD, value=small),
                message(GOOD, value=large),
                message(GOOD, key=large_key),
                message(GOOD),
            ]
        )
        fleet.start()
        fleet.wait_for(lambda answers: len(answers.letters) == 3 and answers.has_all([GOOD.transaction_id]))
        found = {(one.says.partition, one.says.offset): one for one in fleet.answers.letters}
        whole, head, key = (found[one.partition, one.offset] for one in sent[:3])
        assert whole.value == small
        assert head.value == large[:1024]
        assert "500000 bytes" in head.says.detail
        assert sha256(large).hexdigest() in head.says.detail
        assert key.key == large_key[:1024]
        assert key.value == encode(GOOD)
        fleet.check(verdicts=1, dead_lettered={"invalid-utf8": 2, "wrong-key": 1})


def test_a_flagged_transaction_as_large_as_they_come_gets_its_alert(
    stack: LocalStack, prefix: str, bundle: Path
) -> None:
    """An alert carries its transaction; and a number may take more room when it is written again: 9e15 becomes 18 bytes."""
    plain = a_transaction("plain", account_id="large", attributes={f"a{i}": "x" * 1_020 for i in range(1_000)})
    numbers = a_transaction("numbers", account_id="large", attributes={f"{i:x}": 9e15 for i in range(75_000)})
    value = encode(numbers).replace(b"9000000000000000.0", b"9e15")
    assert max(len(encode(plain)), len(value)) < LARGEST
    with Fleet(stack, prefix, bundle, review=0.0, dead_letter_bytes=2_048) as fleet:
        fleet.adopt(most_attributes=100_000)
        fleet.send([message(plain), message(numbers, value=value), message(a_transaction("after", account_id="large"))])
        fleet.start()
        fleet.wait_for(lambda answers: answers.has_all(["plain", "numbers", "after"]) and len(answers.alerts) == 3)
        alerts = {alert.verdict.transaction_id: alert for alert in fleet.answers.alerts}
        assert alerts["plain"].transaction == plain
        assert msgspec.structs.replace(alerts["numbers"].transaction, attributes={}) == msgspec.structs.replace(
            numbers, attributes={}
        )
        fleet.check(verdicts=3, alerts=3)
