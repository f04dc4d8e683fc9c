"""Small archives, written without Kafka."""

from __future__ import annotations

from binascii import b2a_base64
from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

import polars as pl
from xxhash import xxh3_64_hexdigest

from features.archive_tables import ARCHIVED, Place, Table, make_table, source_of
from schemas.avro_wire import NO_REGISTRY
from schemas.dead_letter import DeadLetter
from schemas.encoding import encode_labels, encode_transactions
from schemas.partitioning import partition_of
from schemas.topics import DEAD_LETTERS, LABELS, TRANSACTIONS, VERDICTS, Topic
from schemas.verdict import Folded, Outcome, Source, Verdict
from schemas.wire import encode
from training.archive_rows import Arrived, rows_of

PARTITIONS = 4
_MUCH_LATER = 1_800_000_000_000
"""When labels are published: all of them are known by then."""

Where = TypeVar("Where", Path, str)


def the_table(folder: Path | str, topic: Topic = TRANSACTIONS, topic_id: str = "id") -> Table:
    """Of a topic, made where it isn't there."""
    return make_table(Place.of(str(folder)), topic, topic_name=topic.name, topic_id=topic_id)


def arrived(
    values: Sequence[bytes | None], keys: Sequence[bytes | None], *, at: Sequence[int] | int = 1_772_452_800_000
) -> Arrived:
    """In the partitions of their keys, at consecutive offsets; `at`: the records' timestamps."""
    partitions = [partition_of(key or b"", PARTITIONS) for key in keys]
    return Arrived(
        partitions=partitions,
        offsets=[partitions[:row].count(number) for row, number in enumerate(partitions)],
        timestamps=[at] * len(keys) if isinstance(at, int) else at,
        keys=keys,
        values=values,
    )


def add(table: Table, topic: Topic, some: Arrived) -> pl.DataFrame:
    """Archive these; the rows."""
    rows = rows_of(topic, some, NO_REGISTRY)
    ends = {source_of("id", number): offset + 1 for number, offset in zip(some.partitions, some.offsets, strict=True)}
    table.append(rows, ends)
    return rows


def an_archive(
    folder: Where,
    transactions: pl.DataFrame,
    labels: pl.DataFrame,
    *,
    refused: Sequence[DeadLetter] = (),
    at: Sequence[int] | int = 1_772_452_800_000,
) -> Where:
    """Of a past, as a producer would have published it; its folder."""
    for topic in ARCHIVED:
        the_table(folder, topic)
    for topic, encoded in ((TRANSACTIONS, encode_transactions(transactions)), (LABELS, encode_labels(labels))):
        times = at if topic is TRANSACTIONS else _MUCH_LATER
        add(the_table(folder, topic), topic, arrived(encoded.values, encoded.keys, at=times))
    letters = Arrived(
        partitions=[0] * len(refused),
        offsets=range(len(refused)),
        timestamps=[1_772_452_800_000] * len(refused),
        keys=[b"key"] * len(refused),
        values=[b"value"] * len(refused),
        headers=[[(name, str(value).encode()) for name, value in one.headers()] for one in refused],
    )
    if refused:
        add(the_table(folder, DEAD_LETTERS), DEAD_LETTERS, letters)
    return folder


def judged(
    folder: Path, transactions: pl.DataFrame, vectors: Sequence[bytes | None], bundle: str, *, digest: str | None = None
) -> None:
    """Archive a verdict of each that has a vector (or b"", which is left out of it); `digest`: instead of the right one."""
    sent = encode_transactions(transactions)
    where = arrived(sent.values, sent.keys)
    said = [
        Verdict(
            transaction_id=row["transaction_id"],
            account_id=row["account_id"],
            outcome=Outcome.APPROVE,
            score=0.1,
            margin=-2.0,
            bundle=bundle,
            policy="policy",
            vector_digest=digest or xxh3_64_hexdigest(vector),
            occurred_at=row["occurred_at"],
            decided_at=row["occurred_at"],
            source=Source(partition, offset),
            folded=Folded(0),
            vector=b2a_base64(vector, newline=False).decode() or None,
        )
        for row, vector, partition, offset in zip(
            transactions.iter_rows(named=True), vectors, where.partitions, where.offsets, strict=True
        )
        if vector is not None
    ]
    told = arrived([encode(one) for one in said], [one.account_id.encode() for one in said])
    add(the_table(folder, VERDICTS), VERDICTS, told)
