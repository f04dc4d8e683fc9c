"""How fast does an archiver on one core empty full topics?  Transactions, their verdicts with vectors, and activity.

python -m benchmarks.archive --runs 3
"""

from __future__ import annotations

import base64
import os
import resource
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Annotated, Any, NamedTuple

import msgspec
import polars as pl
import psutil
import typer

from benchmarks.scene import FOLDER, fresh_stack, past_of, write
from features.hash_keys import PUBLIC
from features.log import Log, Written
from features.settings import Settings
from loadgen.rehearsal import Failed, environment_of, say
from schemas.activity import CounterpartyActivity
from schemas.encoding import encode_labels, encode_transactions
from schemas.topics import ACTIVITY, LABELS, TRANSACTIONS, VERDICTS
from schemas.verdict import Folded, Outcome, Source, Verdict
from schemas.wire import encode, microseconds
from training.archive import Archived
from training.replay import vectors

ARCHIVE = FOLDER / "archive-tables"
CORE = max(os.sched_getaffinity(0))


def main(
    transactions: Annotated[int, typer.Option(min=10_000)] = 200_000,
    runs: Annotated[int, typer.Option(min=1)] = 3,
) -> None:
    """Fill the topics once, and archive them from the beginning again and again."""
    past = past_of(transactions)
    rows: list[dict[str, Any]] = []
    with fresh_stack("archive") as (_, settings):
        fill(settings, past.transactions, past.labels)
        for number in range(runs):
            shutil.rmtree(ARCHIVE, ignore_errors=True)
            archived, spent = archive(settings)
            own = spent.own - archive(settings)[1].own  # again, with nothing to do: what its start takes
            rate, busy = archived.total / archived.seconds, archived.total / own
            rows.append(
                {"rows": archived.rows, "rate": round(rate), "rate_of_a_cpu_second": round(busy)}
                | {"seconds": archived.seconds, "spent": spent._asdict()}
            )
            say(
                f"  run {number + 1}: {rate:,.0f} rows a second by the clock, {busy:,.0f} in a second of its CPU time; its "
                f"core was its own for {spent.own:.1f} s, others' for {spent.others:.1f} s, idle for {spent.idle:.1f} s"
            )
    rates = [row["rate"] for row in rows]
    busy = statistics.median(row["rate_of_a_cpu_second"] for row in rows)
    say(
        f"median {statistics.median(rates):,.0f} rows a second on one core, by the clock (min {min(rates):,}, "
        f"max {max(rates):,})"
    )
    say(f"       {busy:,.0f} in a second of its CPU time: what a core that it has to itself would do")
    path = write("archive-speed", {"transactions": transactions, "median": statistics.median(rates), "runs": rows})
    say(f"the report is {path}")


def fill(settings: Settings, transactions: pl.DataFrame, labels: pl.DataFrame) -> None:
    """What a worker would have told of them, with the vectors that it would have computed."""
    with Log(settings) as log:
        for topic, encoded in (
            (TRANSACTIONS, encode_transactions(transactions)),
            (LABELS, encode_labels(labels)),
        ):
            log.write(topic, map(Written, encoded.keys, encoded.values))
        log.write(VERDICTS, _verdicts(transactions, labels))
        log.write(ACTIVITY, _activity(transactions))


class Spent(NamedTuple):
    """Seconds of the archiver's core, from its start to its end."""

    own: float
    others: float
    """Theirs who were on the same core meanwhile; what a virtual machine was not given, too."""
    idle: float
    """The archiver waited for Kafka, or for the disk."""


def archive(settings: Settings) -> tuple[Archived, Spent]:
    """What an archiver on one core did, and what became of that core's time."""
    before, core, began = resource.getrusage(resource.RUSAGE_CHILDREN), _idle(), time.monotonic()
    done = subprocess.run(
        [sys.executable, "-m", "training", "archive", "--until-end", "--json"],
        env=dict(os.environ) | environment_of(settings) | {"FRAUD_ARCHIVE": str(ARCHIVE)},
        preexec_fn=lambda: os.sched_setaffinity(0, {CORE}),
        capture_output=True,
        check=False,
    )
    if done.returncode:
        raise Failed(done.stderr.decode())
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    idle, whole = _idle() - core, time.monotonic() - began
    return msgspec.json.decode(done.stdout, type=Archived), Spent(used, max(whole - idle - used, 0.0), idle)


def _idle() -> float:
    times = psutil.cpu_times(percpu=True)[CORE]
    return float(times.idle + getattr(times, "iowait", 0.0))


def _verdicts(transactions: pl.DataFrame, labels: pl.DataFrame) -> Iterator[Written]:
    told = vectors(transactions, labels).vectors
    now = datetime.now(UTC)
    for offset, (vector, row) in enumerate(zip(told, transactions.iter_rows(named=True), strict=True)):
        verdict = Verdict(
            transaction_id=row["transaction_id"],
            account_id=row["account_id"],
            outcome=Outcome.APPROVE,
            score=float(offset % 997) / 9_970,
            margin=-float(offset % 997) / 97,
            bundle="0a1b2c3d4e5f6071",
            policy="9f8e7d6c",
            vector_digest=f"{PUBLIC.ids.hash_of_text(row['transaction_id']):016x}",
            occurred_at=row["occurred_at"],
            decided_at=now,
            source=Source(offset % 4, offset // 4),
            folded=Folded(offset // 100, offset // 3),
            vector=base64.b64encode(vector.tobytes()).decode(),
        )
        yield Written(row["account_id"].encode(), encode(verdict))


def _activity(transactions: pl.DataFrame) -> Iterator[Written]:
    paid = transactions.filter(pl.col("counterparty_id").is_not_null())
    for offset, row in enumerate(paid.iter_rows(named=True)):
        activity = CounterpartyActivity(
            counterparty_id=row["counterparty_id"],
            transaction=PUBLIC.ids.hash_of_text(row["transaction_id"]),
            account=PUBLIC.accounts.hash_of_text(row["account_id"]),
            amount=row["amount"],
            occurred_at=microseconds(row["occurred_at"]),
            source=Source(offset % 4, offset // 4),
            ratio=1_000,
        )
        yield Written(row["counterparty_id"].encode(), encode(activity))


if __name__ == "__main__":
    typer.run(main)
