"""Features that nobody here computed, against those that the worker judged by: August of the published transactions.

    python -m benchmarks.oracle DATA        (a folder with the handbook's transactions.parquet and features_oracle.parquet)

The days before are loaded; August goes through a running worker, on a real Kafka and Redis, in its order; what the
verdicts' vectors say is held against what the authors published (benchmarks/published.py).

The worker is fast: a month in minutes.  A payment reaches its counterparty's profile a round trip after its verdict, and
at that speed a round trip is a quarter of an hour of the month or more.  The month is therefore sent in steps: a step
ends before a transaction whose counterparty was paid in the same step, two seconds before it or earlier, and the next one
begins when the activity is folded.  Labels go in the step in which they become known, before its transactions, which wait
until they are folded: a vector doesn't count a label before its `known_at`.  So each vector is what a worker in August
would have seen, and `loadgen check` must find no activity that came late.

What is published would allow steps of a day (its windows of terminals end seven days before), and such a run equals it as
well, in 42 s instead of 161; but 106,308 of its 296,559 vectors miss activity (two shared cores).
"""

from __future__ import annotations

import time
from base64 import b64decode
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import TracebackType
from typing import Annotated, Any, NamedTuple, Self

import msgspec
import numpy as np
import numpy.typing as npt
import polars as pl
import redis
import typer
from confluent_kafka import Consumer, TopicPartition
from rich.table import Table

from benchmarks.published import Compared, Odd, Seen, compare
from benchmarks.scene import bundle_of, write
from deploy.local.id_key import id_key
from deploy.local.stack import LocalStack
from features.catalogue import DAY, FEATURES, MATURITY, SETTLING
from features.load import load
from features.log import Log
from features.position import Keys, Position
from features.settings import Settings
from loadgen.check import check
from loadgen.check_command import table_of
from loadgen.rehearsal import Failed, Steps, out, say, start_worker, wait_until_settled
from loadgen.sender import Sender
from loadgen.target import Target
from schemas.encoding import Encoded, encode_labels, encode_transactions
from schemas.mapping import read_past
from schemas.tables import part_of
from schemas.topics import ACTIVITY, DEAD_LETTERS, LABELS, TRANSACTIONS, VERDICTS

FOLDER = Path(".local/oracle")
TRANSACTIONS_FILE, PUBLISHED_FILE = "transactions.parquet", "features_oracle.parquet"
HISTORY = timedelta(microseconds=30 * DAY + MATURITY + DAY)
"""Of past, before the live days: as far as the longest matured window reaches, and a day."""
PATIENCE = 60.0
"""Seconds that a step may take."""


def main(
    data: Annotated[Path, typer.Argument(help="Folder with the handbook's transactions and published features.")],
    since: Annotated[datetime, typer.Option(formats=["%Y-%m-%d"])] = datetime(2018, 8, 1),
    days: Annotated[int, typer.Option(min=1)] = 31,
) -> None:
    """Take the published transactions of these days through a worker; exit status 1 where a value differs without a cause."""
    require_files(data, TRANSACTIONS_FILE, PUBLISHED_FILE)
    steps = Steps()
    with steps.step("reading"):
        past, live, published = read(data, since.replace(tzinfo=UTC), days)
    say(f"  {past.transactions.height:,} transactions of history, {live.transactions.height:,} of {days} days")
    bundle = bundle_of(trees=20, leaves=15)  # what it says is of no matter here
    with LocalStack(FOLDER / "stack", fresh=True) as stack:
        stack.create_topics()
        settings = Settings(kafka_url=stack.kafka_url, redis_url=stack.redis_url, id_key=id_key())
        with steps.step("loading the history"):
            load(settings, past.transactions, past.labels)
        with steps.step("starting a worker"):
            start_worker(stack, settings, FOLDER, bundle)
        with steps.step("sending the days, step by step"), Road(settings) as road:
            vectors = road.take(live, told=lambda text: say(f"    {text}"))
        wait_until_settled(settings)
        with steps.step("checking every verdict against the log"):
            found = check(settings, bundles=bundle.parent)
    with steps.step("comparing"):
        compared, odd = compare(Seen(live.transactions, vectors), published)
    out.print(table_of(found))
    out.print(_table(compared))
    for why, some in _by_why(odd).items():
        say(f"  {why}")
        for one in some:
            say(f"    {one.transaction_id} {one.published}: ours {one.ours:.7g}, theirs {one.theirs:.7g}")
    different = sum(line.different for line in compared)
    report = {
        "rows": live.transactions.height,
        "values": sum(line.values for line in compared),
        "equal": sum(line.equal for line in compared),
        "ties": sum(line.ties for line in compared),
        "leftovers": sum(line.leftovers for line in compared),
        "different": different,
        "features": msgspec.to_builtins(compared),
        "odd": msgspec.to_builtins(odd),
        "steps": road.steps,
        "seconds": steps.seconds,
        "check": msgspec.to_builtins(found),
    }
    say(f"the report is {write('oracle', report)}")
    raise typer.Exit(0 if found.well and not found.activity_late and not different else 1)


class Part(NamedTuple):
    """Some days, in the order of the log."""

    transactions: pl.DataFrame
    labels: pl.DataFrame
    """Those that become known in these days."""


def read(data: Path, begin: datetime, days: int) -> tuple[Part, Part, pl.DataFrame]:
    """The history, the live days, and what was published of the latter, row by row."""
    everything = read_past(data / TRANSACTIONS_FILE, Path("handbook"))
    past = Part(*part_of(*everything, since=begin - HISTORY, until=begin))
    live = Part(*part_of(*everything, since=begin, until=begin + timedelta(days=days)))
    return past, live, published_of(data, live.transactions)


def require_files(data: Path, *names: str, otherwise: str = "") -> None:
    """Says at once what isn't there, and ends with status 2.  `otherwise`: what would do without them."""
    missing = [str(data / name) for name in names if not (data / name).is_file()]
    if missing:
        say(f"there is no {' and no '.join(missing)}: DATA is to name the folder with it{otherwise}")
        raise typer.Exit(2)


def published_of(data: Path, transactions: pl.DataFrame) -> pl.DataFrame:
    """What was published of these, in their order.  Raises Failed where one isn't there."""
    table = pl.read_parquet(data / PUBLISHED_FILE)
    named = table.with_columns(pl.format("tx-{}", "TRANSACTION_ID").alias("transaction_id"))
    rows = transactions.select("transaction_id").join(named, on="transaction_id", how="left", maintain_order="left")
    if missing := rows["TRANSACTION_ID"].null_count():
        raise Failed(f"{data / PUBLISHED_FILE} has nothing of {missing:,} of the transactions")
    return rows


def in_steps(live: Part) -> Iterator[tuple[range, range]]:
    """Rows of labels, and rows of transactions: within a step, no counterparty is asked what it was told there."""
    times = live.transactions["occurred_at"].dt.epoch("us").to_list()
    known = live.labels["known_at"].dt.epoch("us").to_numpy()
    paid: dict[str, int] = {}
    begin, labels = 0, 0
    for row, (counterparty, at) in enumerate(zip(live.transactions["counterparty_id"], times, strict=True)):
        if at - paid.get(counterparty, at) >= SETTLING:
            upto = int(np.searchsorted(known, times[row - 1], side="right"))
            yield range(labels, upto), range(begin, row)
            begin, labels = row, upto
            paid.clear()
        paid.setdefault(counterparty, at)
    yield range(labels, live.labels.height), range(begin, len(times))


class _Verdict(msgspec.Struct):
    transaction_id: str
    vector: str


_verdict = msgspec.json.Decoder(_Verdict).decode


class Road:
    """From the topics, by way of a running worker, to the vectors that its verdicts carry.  Used by one thread."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._sender = Sender(Target(url=settings.kafka_url, prefix=settings.topic_prefix), linger__ms=1)
        self._redis: Any = redis.Redis.from_url(settings.redis_url)
        self._consumer = Consumer(
            settings.client(
                group_id=f"{settings.group}-oracle", isolation_level="read_committed", enable_auto_commit=False,
                fetch_wait_max_ms=20, fetch_queue_backoff_ms=5,
            )
        )  # fmt: skip
        self._verdicts, self._activity = settings.topic(VERDICTS), settings.topic(ACTIVITY)
        with Log(settings) as log:
            self._consumer.assign(
                [
                    TopicPartition(settings.topic(topic), number, log.bounds(topic, number)[1])
                    for topic in (VERDICTS, ACTIVITY, DEAD_LETTERS)
                    for number in range(settings.partitions)
                ]
            )
        self._vectors: dict[str, str] = {}
        self._told = 0
        """Activities that were read."""
        self._last: dict[int, int] = {}
        """Of each partition: the last activity's offset."""
        self.steps = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._consumer.close()
        self._redis.close()

    def take(self, live: Part, *, told: Callable[[str], None] = lambda _: None) -> npt.NDArray[np.float32]:
        """Sends these days and returns what their vectors have of the catalogue, [transactions, features].

        Every transaction and every label names a counterparty.  Raises Failed where a verdict doesn't come.
        """
        transactions, labels = encode_transactions(live.transactions), encode_labels(live.labels)
        moments = live.transactions["occurred_at"]
        began, day = time.monotonic(), None
        for some_labels, some in in_steps(live):
            self._send(LABELS.name, labels, some_labels)
            if some_labels:
                self._settle(some.start, some_labels.stop)
            self._send(TRANSACTIONS.name, transactions, some)
            self._settle(some.stop, some_labels.stop)
            self.steps += 1
            if moments[some.start].date() != day:
                day = moments[some.start].date()
                told(f"{day}  {some.stop:>9,} judged, {self.steps:,} steps, {time.monotonic() - began:.0f} s")
        rows = [b64decode(self._vectors[name]) for name in live.transactions["transaction_id"]]
        return np.frombuffer(b"".join(rows), "<f4").reshape(len(rows), -1)[:, : len(FEATURES)]

    def _send(self, topic: str, messages: Encoded, rows: range) -> None:
        name = self._settings.topic_prefix + topic
        for row in rows:
            self._sender.send(name, messages.keys[row], messages.values[row], 0)
        if (left := self._sender.flush(PATIENCE)) or self._sender.failed:
            raise Failed(f"{left} messages were not sent, {dict(self._sender.failed)}")

    def _settle(self, transactions: int, labels: int) -> None:
        """Until so many have been judged and labelled in all, and their counterparties' profiles have heard of it."""
        deadline = time.monotonic() + PATIENCE
        while len(self._vectors) < transactions or self._told < transactions + labels or not self._folded():
            self._read()
            if time.monotonic() > deadline:
                raise Failed(
                    f"within {PATIENCE:.0f} s there came {len(self._vectors):,} verdicts of {transactions:,}, and "
                    f"{self._told:,} activities of {transactions + labels:,}"
                )

    def _read(self) -> None:
        first = self._consumer.poll(0.002)
        for message in [] if first is None else [first, *self._consumer.consume(5_000, 0)]:
            if message.error() is not None:
                continue  # Kafka may be away for a moment; in the end the deadline says so
            if message.topic() == self._verdicts:
                verdict = _verdict(message.value() or b"")
                self._vectors[verdict.transaction_id] = verdict.vector
            elif message.topic() == self._activity:
                self._told += 1
                self._last[message.partition() or 0] = message.offset() or 0
            else:
                raise Failed(f"a dead letter: {dict(message.headers() or ())}")

    def _folded(self) -> bool:
        numbers = list(self._last)
        raw = self._redis.mget([Keys(self._settings.topic_prefix, number).position for number in numbers])
        return all(
            Position.parse(one).next.activity > self._last[number] for number, one in zip(numbers, raw, strict=True)
        )


def _by_why(odd: list[Odd]) -> dict[str, list[Odd]]:
    found: dict[str, list[Odd]] = {}
    for one in odd:
        found.setdefault(f"{one.cause}: {one.why}" if one.cause else "different, and no cause is known:", []).append(
            one
        )
    return found


def _table(compared: list[Compared]) -> Table:
    table = Table(
        "published", "of the vector", "values", "equal", "ties", "leftovers", "different", "furthest",
        box=None, header_style="dim",
    )  # fmt: skip
    for line in compared:
        table.add_row(
            line.published.removesuffix("_WINDOW"), line.of,
            *(f"{n:,}" for n in (line.values, line.equal, line.ties, line.leftovers, line.different)),
            f"{line.furthest:.0e}" if line.furthest else "",
        )  # fmt: skip
    return table


if __name__ == "__main__":
    typer.run(main)
