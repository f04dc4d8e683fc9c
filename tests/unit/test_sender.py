"""What a stream sends: every message once, in order, when it is due, in the words of the schemas."""

from __future__ import annotations

import threading
import time
from collections import Counter
from datetime import UTC, datetime, timedelta

import polars as pl
import pytest

from features.registry import Registry
from loadgen.avro import InAvro
from loadgen.mischief import DUPLICATE, Mischief
from loadgen.simulate import Past, World, simulate
from loadgen.stream import Progress, Sent, Stream, shifted_to
from loadgen.target import Target
from schemas.encoding import encode_labels, encode_transactions
from schemas.errors import BadMessage, Fault, WrongSettings
from schemas.label import decode_label
from schemas.partitioning import partition_of
from schemas.tables import part_of
from schemas.transaction import Transaction, decode_transaction
from tests.fleet.registry import FakeRegistry

NOON = datetime(2025, 3, 1, 12, 0, tzinfo=UTC)


class Kept:
    """A sender that keeps what it is given."""

    def __init__(self) -> None:
        self.waited = 0
        self.failed: Counter[str] = Counter()
        self.last_error = ""
        self.messages: list[tuple[str, bytes | None, bytes | None, int, int]] = []
        self.early = 0
        self.undelivered = 0

    def send(self, topic: str, key: bytes | None, value: bytes | None, due: int, partition: int = -1) -> None:
        self.early += time.time_ns() // 1_000 < due
        self.messages.append((topic, key, value, due, partition))

    def poll(self) -> None:
        pass

    def flush(self, timeout: float) -> int:
        return self.undelivered

    def of(self, topic: str) -> list[tuple[str, bytes | None, bytes | None, int, int]]:
        return [message for message in self.messages if message[0] == topic]


@pytest.fixture(scope="module")
def past() -> Past:
    world = World(start=NOON, end=NOON + timedelta(days=9), accounts=60, counterparties=40, per_day=300)
    return simulate(world)


def sent(stream: Stream, kept: Kept, **settings: object) -> Sent:
    return stream.prepare(ahead=700).send_through(kept, Target(), partitions=4, **settings)  # type: ignore[arg-type]


def test_a_row_says_the_same_as_a_message(past: Past) -> None:
    rows = past.transactions.head(300)

    decoded = [decode_transaction(value) for value in encode_transactions(rows).values]

    for row, message in zip(rows.rows(named=True), decoded, strict=True):
        assert message == Transaction(
            **{
                name: value
                for name, value in row.items()
                if name != "utc_offset" and not name.startswith("attributes.")
            },
            attributes={name: row[f"attributes.{name}"] for name in ("card_present", "entry_mode")},
        )
        assert message.occurred_at.utcoffset() == timedelta(minutes=row["utc_offset"])


def test_an_offset_may_be_any_minute_on_either_side(past: Past) -> None:
    rows = past.transactions.head(4).with_columns(pl.Series("utc_offset", [-210, 345, -1, 0], dtype=pl.Int16))

    decoded = [decode_transaction(value) for value in encode_transactions(rows).values]

    assert [message.occurred_at for message in decoded] == rows["occurred_at"].to_list()
    assert [message.occurred_at.utcoffset() for message in decoded] == [
        timedelta(minutes=minutes) for minutes in (-210, 345, -1, 0)
    ]


def test_what_is_missing_is_left_out(past: Past) -> None:
    rows = past.transactions.filter(pl.col("counterparty_id").is_null()).with_columns(
        pl.lit(None).alias("attributes.x")
    )

    for value in encode_transactions(rows).values:
        assert b"null" not in value
        message = decode_transaction(value)
        assert message.counterparty_id is None
        assert "x" not in message.attributes


def test_a_label_says_the_same_as_its_row(past: Past) -> None:
    encoded = encode_labels(past.labels)

    for row, key, value in zip(past.labels.rows(named=True), encoded.keys, encoded.values, strict=True):
        label = decode_label(value)
        assert {name: getattr(label, name) for name in row} == row
        assert key == label.account_id.encode()


def test_every_transaction_is_sent_once_in_order_and_none_before_it_is_due(past: Past) -> None:
    kept, stream = Kept(), Stream(past.transactions, past.labels, rate=5_000)

    report = sent(stream, kept)

    ids = [decode_transaction(value).transaction_id for _, _, value, _, _ in kept.of("transactions")]
    assert ids == past.transactions["transaction_id"].to_list()
    assert kept.early == 0
    assert report.finished
    assert (report.transactions, report.of) == (len(ids), len(ids))
    assert report.lateness.count == len(kept.messages)
    due = [due - report.start_at for _, _, _, due, _ in kept.of("transactions")]
    assert due == stream.schedule().due.tolist()
    assert stream.schedule().by_id() == dict(zip(ids, due, strict=True))


def test_a_label_goes_out_when_the_streams_time_gets_to_it(past: Past) -> None:
    kept = Kept()

    report = sent(Stream(past.transactions, past.labels, rate=50_000), kept)

    world = datetime(1970, 1, 1, tzinfo=UTC)
    labels = 0
    for topic, _, value, _, _ in kept.messages:
        if topic == "transactions":
            world = decode_transaction(value).occurred_at
        else:
            label = decode_label(value)
            assert label.known_at > world
            labels += 1
    last = past.transactions["occurred_at"].max()
    assert labels == report.labels == past.labels.filter(pl.col("known_at") <= last).height
    assert report.labels_not_reached == past.labels.height - labels
    assert labels > 3


def test_at_a_speed_a_day_takes_its_part(past: Past) -> None:
    kept = Kept()

    report = sent(Stream(past.transactions, past.labels, speed=86_400 * 20), kept)

    assert report.seconds == pytest.approx(9 / 20, abs=0.3)
    assert report.transactions == past.transactions.height


def test_mischief_comes_on_top_and_where_it_was_planned(past: Past) -> None:
    kept = Kept()
    stream = Stream(past.transactions, past.labels, rate=50_000, mischief=Mischief(malformed=0.05, duplicates=0.05))

    report = sent(stream, kept)

    seen: dict[str, int] = Counter()
    duplicates = 0
    values = set[bytes | None]()
    for _, key, value, _, partition in kept.of("transactions"):
        duplicates += value in values and value is not None
        values.add(value)
        try:
            decode_transaction(value)
        except BadMessage as error:
            seen[error.fault] += 1
        if partition >= 0:
            assert partition != partition_of(key or b"", 4)
            seen[Fault.WRONG_PARTITION] += 1
    assert duplicates == report.planted[DUPLICATE]
    for fault, count in seen.items():
        assert report.planted[fault] == count
    assert len(kept.of("transactions")) == report.transactions + sum(report.planted.values())


def test_with_one_partition_there_is_no_wrong_one(past: Past) -> None:
    kept, stream = Kept(), Stream(past.transactions, past.labels, rate=50_000, mischief=Mischief(malformed=0.05))

    report = stream.prepare().send_through(kept, Target(), partitions=1)

    assert Fault.WRONG_PARTITION not in report.planted
    assert {partition for *_, partition in kept.messages} == {-1}


def test_a_stopped_stream_says_how_far_it_got(past: Past) -> None:
    kept, stop = Kept(), threading.Event()
    told: list[Progress] = []

    def enough(progress: Progress) -> None:
        told.append(progress)
        stop.set()

    report = sent(Stream(past.transactions, past.labels, rate=400), kept, progress=enough, stop=stop)

    assert not report.finished
    assert 0 < report.transactions == len(kept.of("transactions")) < past.transactions.height
    assert told[-1].transactions == report.transactions
    assert told[-1].world_time == past.transactions["occurred_at"][report.transactions - 1]


def test_a_late_start_is_lateness_and_nothing_is_skipped(past: Past) -> None:
    kept = Kept()

    report = sent(
        Stream(past.transactions, past.labels, rate=50_000), kept, start_at=time.time_ns() // 1_000 - 3_000_000
    )

    assert report.transactions == past.transactions.height
    assert report.lateness.p50 > 2_500


def test_what_kafka_did_not_acknowledge_has_failed(past: Past) -> None:
    kept = Kept()
    kept.undelivered, kept.last_error = 7, "brokers down"

    report = sent(Stream(past.transactions.head(20), past.labels.head(0), rate=50_000), kept)

    assert report.failed == {"brokers down": 7}


@pytest.mark.parametrize("pace", [{}, {"rate": 1.0, "speed": 1.0}, {"rate": 0.0}, {"speed": -2.0}])
def test_a_stream_has_a_rate_or_a_speed(past: Past, pace: dict[str, float]) -> None:
    with pytest.raises(WrongSettings):
        Stream(past.transactions, past.labels, rate=pace.get("rate"), speed=pace.get("speed"))


def test_a_part_holds_what_happens_and_becomes_known_in_its_time(past: Past) -> None:
    since, until = NOON + timedelta(days=5), NOON + timedelta(days=8)

    transactions, labels = part_of(past.transactions, past.labels, since=since, until=until)
    limited, known = part_of(past.transactions, past.labels, since=since, limit=700)

    assert set(transactions["occurred_at"].is_between(since, until, closed="left")) == {True}
    assert set(labels["known_at"].is_between(since, until, closed="left")) == {True}
    assert labels.filter(pl.col("occurred_at") < since).height
    assert limited.height == 700
    assert known.height
    assert known["known_at"].max() <= limited["occurred_at"].max()  # type: ignore[operator]


def test_a_shift_by_whole_weeks_keeps_hours_and_weekdays(past: Past) -> None:
    now = datetime(2026, 5, 6, 7, 8, tzinfo=UTC)

    transactions, labels, shift = shifted_to(now, past.transactions, past.labels)

    last = transactions["occurred_at"].max()
    assert now - timedelta(days=7) < last <= now  # type: ignore[operator]
    assert shift % timedelta(weeks=1) == timedelta(0)
    assert ((labels["known_at"] - past.labels["known_at"]).unique() == shift).all()
    assert transactions["occurred_at"].dt.weekday().equals(past.transactions["occurred_at"].dt.weekday())


def test_in_avro_it_is_the_same_messages(past: Past) -> None:
    in_json, in_avro = Kept(), Kept()
    sent(Stream(past.transactions, past.labels, rate=50_000), in_json)
    with FakeRegistry() as fake:
        stream = Stream(
            past.transactions,
            past.labels,
            rate=50_000,
            encoding=InAvro.registered(f"{fake.url}/", Target(prefix="bank-")),
        )
        sent(stream, in_avro)
        registry = Registry(fake.url)
        assert set(fake.asked) == {"/subjects/bank-transactions-value/versions", "/subjects/bank-labels-value/versions"}
        for (_, key, value, _, _), (_, other_key, in_json_value, _, _) in zip(
            in_avro.of("transactions"), in_json.of("transactions"), strict=True
        ):
            assert (key, decode_transaction(value, registry)) == (other_key, decode_transaction(in_json_value))
            assert value is not None
            assert value[0] == 0
        labels = [decode_label(value, registry) for _, _, value, _, _ in in_avro.of("labels")]
        assert labels == [decode_label(value) for _, _, value, _, _ in in_json.of("labels")]


def test_a_registry_that_takes_no_schema_is_named() -> None:
    with FakeRegistry() as fake:
        url = fake.url
    with pytest.raises(WrongSettings, match="does not register 'transaction'"):
        InAvro.registered(url, Target())
