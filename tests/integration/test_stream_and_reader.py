"""loadgen on a real Kafka: the stream in one process, the reader in another, an echo for a worker."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import pytest
from confluent_kafka import Consumer, KafkaException, Message, Producer, TopicPartition

from deploy.local.stack import LocalStack
from loadgen.beside import Beside, read_answers, send_stream
from loadgen.mischief import DUPLICATE, Mischief
from loadgen.reader import Answers
from loadgen.simulate import Past, World, simulate, write_past
from loadgen.stream import Progress, Sent, Stream
from loadgen.target import Target
from schemas.errors import BadMessage, WrongSettings
from schemas.partitioning import partition_of
from schemas.transaction import decode_transaction

NOON = datetime(2025, 3, 1, 12, 0, tzinfo=UTC)
WORLD = World(start=NOON, end=NOON + timedelta(days=9), accounts=60, counterparties=40, per_day=200)


@pytest.fixture(scope="module")
def past() -> Past:
    return simulate(WORLD)


@pytest.fixture
def target(stack: LocalStack, prefix: str) -> Target:
    stack.create_topics(prefix)
    return Target(url=stack.kafka_url, prefix=prefix)


def everything(target: Target, topic: str, *, isolated: bool = True) -> list[Message]:
    consumer = Consumer(
        {
            "bootstrap.servers": target.url,
            "group.id": "test",
            "isolation.level": "read_committed" if isolated else "read_uncommitted",
        }
    )
    parts = [TopicPartition(target.prefix + topic, number, 0) for number in range(4)]
    ends = sum(end_of(consumer, part) for part in parts)
    consumer.assign(parts)
    messages: list[Message] = []
    while len(messages) < ends and (batch := consumer.consume(1_000, 5.0)):
        messages += batch
    consumer.close()
    return messages


def end_of(consumer: Consumer, part: TopicPartition) -> int:
    for _ in range(100):
        try:
            return int(consumer.get_watermark_offsets(part)[1])
        except KafkaException:
            time.sleep(0.1)  # the topic was made just now
    raise TimeoutError(part.topic)


@contextmanager
def an_echo(target: Target) -> Iterator[None]:
    """Answers every transaction that can be decoded with a verdict, in transactions, the others with a letter."""
    over = threading.Event()
    consumer = Consumer({"bootstrap.servers": target.url, "group.id": "echo"})
    consumer.assign([TopicPartition(target.prefix + "transactions", number, 0) for number in range(4)])
    producer = Producer({"bootstrap.servers": target.url, "transactional.id": target.prefix + "echo"})
    producer.init_transactions(30)

    def answer() -> None:
        while not over.is_set():
            messages = consumer.consume(500, 0.05)
            if not messages:
                continue
            producer.begin_transaction()
            for message in messages:
                try:
                    transaction = decode_transaction(message.value())
                except BadMessage as error:
                    producer.produce(target.prefix + "dead-letters", b"", headers=[("error", str(error.fault))])
                    continue
                verdict = {"transaction_id": transaction.transaction_id, "outcome": "review", "score": 0.5, "flags": []}
                producer.produce(target.prefix + "verdicts", msgspec.json.encode(verdict))
                if transaction.amount > 20_000:
                    producer.produce(target.prefix + "alerts", msgspec.json.encode({"verdict": verdict, "reasons": []}))
            producer.commit_transaction(30)

    thread = threading.Thread(target=answer)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
        consumer.close()


def test_the_reader_sees_a_verdict_for_every_transaction_sent(target: Target, past: Past) -> None:
    mischief = Mischief(malformed=0.03, duplicates=0.02, largest=50_000)
    stream = Stream(past.transactions, past.labels, rate=1_000, mischief=mischief)
    dear = frozenset(past.transactions.filter(past.transactions["amount"] > 20_000)["transaction_id"].head(5))
    sending = Beside[Progress, Sent | None](send_stream, stream, target)
    reading = Beside[Answers, Answers](read_answers, stream.schedule(), target, dear)
    with an_echo(target):
        sending.wait_ready()
        reading.wait_ready()
        start_at = time.time_ns() // 1_000 + 100_000
        sending.begin(start_at)
        reading.begin(start_at)
        sent = sending.result()
        answers = reading.result()

    assert sent is not None
    assert sent.finished
    assert not sent.failed
    assert (answers.verdicts, answers.awaited) == (past.transactions.height, 0)
    assert answers.total.count == past.transactions.height
    assert 0 < answers.total.p50 <= answers.total.p99 <= answers.total.max < 30_000
    # The echo knows neither duplicates nor anything that the message alone doesn't show.
    assert answers.others >= sent.planted[DUPLICATE]
    assert answers.dead_letters["null-value"] == sent.planted["null-value"]
    assert answers.dead_letters["out-of-range"] == sent.planted["out-of-range"]
    assert answers.right_alerts >= len(dear) > 0
    assert answers.alerts >= answers.right_alerts
    assert answers.histogram
    assert sending.latest() is not None
    check_messages(target, past, sent)


def check_messages(target: Target, past: Past, sent: Sent) -> None:
    own = set(past.transactions["transaction_id"])
    order: dict[str, list[str]] = {}
    for message in everything(target, "transactions"):
        headers = dict(message.headers() or [])
        due = headers["due"]
        assert isinstance(due, bytes)
        assert abs(int(due) / 1e3 - message.timestamp()[1]) < 30_000
        try:
            transaction = decode_transaction(message.value())
        except BadMessage:
            continue
        if transaction.transaction_id in own:
            assert message.key() == transaction.account_id.encode()
            assert message.partition() == partition_of(transaction.account_id.encode(), 4)
            seen = order.setdefault(transaction.account_id, [])
            if transaction.transaction_id not in seen:
                seen.append(transaction.transaction_id)
    for account, ids in order.items():
        assert ids == past.transactions.filter(account_id=account)["transaction_id"].to_list()
    assert sum(len(ids) for ids in order.values()) == past.transactions.height
    labels = everything(target, "labels")
    assert len(labels) == sent.labels
    assert all(message.partition() == partition_of(message.key() or b"", 4) for message in labels)


def test_a_sender_beside_us_says_what_is_wrong(stack: LocalStack, past: Past) -> None:
    nowhere = Target(url=stack.kafka_url, prefix="no-such-")
    stream = Stream(past.transactions, past.labels, rate=1_000)
    sending = Beside[Progress, Sent | None](send_stream, stream, nowhere)
    sending.wait_ready()
    sending.begin(time.time_ns() // 1_000)

    with pytest.raises(WrongSettings, match="no-such-transactions"):
        sending.result()
    with pytest.raises(WrongSettings, match="no-such-verdicts"):
        Beside[Answers, Answers](read_answers, stream.schedule(), nowhere).wait_ready()


def test_replay_sends_all_and_reports_in_json(target: Target, past: Past, tmp_path: Path) -> None:
    write_past(tmp_path / "past", WORLD, past)

    done = subprocess.run(
        [*REPLAY, str(tmp_path / "past"), "--rate", "5000", "--limit", "300", *where(target)],
        capture_output=True,
        check=True,
        timeout=60,
    )

    report = msgspec.json.decode(done.stdout)
    assert (report["transactions"], report["of"], report["finished"]) == (300, 300, True)
    assert len(everything(target, "transactions")) == 300


def test_ctrl_c_ends_a_replay_cleanly(target: Target, past: Past, tmp_path: Path) -> None:
    write_past(tmp_path / "past", WORLD, past)
    replay = subprocess.Popen(
        [*REPLAY, str(tmp_path / "past"), "--rate", "100", *where(target)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    deadline = time.monotonic() + 30
    while not everything(target, "transactions") and time.monotonic() < deadline:
        time.sleep(0.2)
    replay.send_signal(signal.SIGINT)
    out, err = replay.communicate(timeout=30)

    assert replay.returncode == 130
    assert b"Traceback" not in err
    report = msgspec.json.decode(out)
    assert not report["finished"]
    assert 0 < report["transactions"] == len(everything(target, "transactions"))


def where(target: Target) -> list[str]:
    return ["--kafka", target.url, "--prefix", target.prefix, "--json"]


REPLAY = [sys.executable, "-m", "loadgen", "replay"]
