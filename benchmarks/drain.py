"""How fast do workers drain a topic that is full?  Exactly once, 300 trees of 63 leaves, broker and Redis on the same cores.

python -m benchmarks.drain --runs 5
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Annotated, Any

import typer
from confluent_kafka import Consumer, TopicPartition

from benchmarks.scene import FOLDER, Cpu, bundle_of, fresh_stack, past_of, write
from features.settings import Settings
from loadgen.check import check
from loadgen.rehearsal import Failed, launch_worker, say, wait_until_settled
from loadgen.sender import Sender
from loadgen.target import Target
from schemas.encoding import encode_labels, encode_transactions
from schemas.topics import LABELS, TRANSACTIONS, VERDICTS


def main(
    transactions: Annotated[int, typer.Option(min=10_000)] = 200_000,
    workers: Annotated[int, typer.Option(min=1)] = 2,
    runs: Annotated[int, typer.Option(min=1)] = 5,
) -> None:
    """Fill a topic, start workers, and time from the first committed verdict to the last."""
    bundle, past = bundle_of(), past_of(transactions)
    rows: list[dict[str, Any]] = []
    for number in range(runs):
        with fresh_stack("drain") as (stack, settings):
            fill(Target(url=stack.kafka_url), past.transactions, past.labels)
            children = [launch_worker(stack, settings, FOLDER, bundle, slot=slot)[0] for slot in range(workers)]
            cpu = Cpu(
                {"kafka": stack.kafka_pid, "redis": stack.redis_pid}
                | {f"worker {i}": c.pid for i, c in enumerate(children)}
            )
            first, last, seen = watch(settings, transactions)
            used = cpu.used()
            wait_until_settled(settings)
            found = check(settings, bundles=bundle.parent) if number == 0 else None
        rate = (transactions - first[1]) / (last - first[0])
        mine = sum(seconds for name, seconds in used.items() if name.startswith("worker"))
        rows.append({"rate": round(rate), "cpu": used, "worker_us": round(mine / seen * 1e6, 1)})
        if found is not None:
            rows[-1]["check"] = {"lost": found.lost, "doubled": found.doubled, "contradicting": found.contradicting}
        say(f"  run {number + 1}: {rate:,.0f} transactions a second; {rows[-1]}")
    rates = [row["rate"] for row in rows]
    say(
        f"median {statistics.median(rates):,.0f} a second (min {min(rates):,}, max {max(rates):,}) with {workers} worker(s)"
    )
    path = write(
        "drain", {"transactions": transactions, "workers": workers, "median": statistics.median(rates), "runs": rows}
    )
    say(f"the report is {path}")
    if any(any(row.get("check", {}).values()) for row in rows):
        raise typer.Exit(1)


def fill(target: Target, transactions: Any, labels: Any) -> None:
    sender = Sender(target, linger__ms=20)
    for topic, encoded in ((LABELS, encode_labels(labels)), (TRANSACTIONS, encode_transactions(transactions))):
        name = target.name(topic)
        for i, (key, value) in enumerate(zip(encoded.keys, encoded.values, strict=True)):
            sender.send(name, key, value, 0)
            if i % 1_000 == 0:
                sender.poll()
    if (left := sender.flush(60)) or sender.failed:
        raise Failed(f"{left} messages were not sent, {dict(sender.failed)}")


def watch(
    settings: Settings, count: int, *, begun: Callable[[], None] = lambda: None
) -> tuple[tuple[float, int], float, int]:
    """When the first verdicts were readable and how many they were, when the last was, and how many there are.

    `begun` hears of the first at once.
    """
    consumer = Consumer(settings.client(group_id="drain-watch", isolation_level="read_committed", fetch_wait_max_ms=20))
    consumer.assign([TopicPartition(settings.topic(VERDICTS), n, 0) for n in range(settings.partitions)])
    first: tuple[float, int] | None = None
    seen, deadline = 0, time.monotonic() + 300
    while seen < count:
        message = consumer.poll(0.2)
        messages = [] if message is None else [message, *consumer.consume(10_000, 0)]
        arrived = sum(one.error() is None for one in messages)
        if arrived:
            seen += arrived
            if first is None:
                begun()
                first = time.monotonic(), arrived
        assert time.monotonic() < deadline, f"only {seen:,} of {count:,} verdicts came"
    consumer.close()
    assert first is not None
    return first, time.monotonic(), seen


if __name__ == "__main__":
    typer.run(main)
