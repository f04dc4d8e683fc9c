"""Small archives, written without Kafka."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import polars as pl

from features.archive_tables import ARCHIVED, Place, Table, make_table, source_of
from schemas.avro_wire import NO_REGISTRY
from schemas.dead_letter import DeadLetter
from schemas.encoding import encode_labels, encode_transactions
from schemas.partitioning import partition_of
from schemas.topics import DEAD_LETTERS, LABELS, TRANSACTIONS, Topic
from training.archive_rows import Arrived, rows_of

PARTITIONS = 4


def the_table(folder: Path, topic: Topic = TRANSACTIONS, topic_id: str = "id") -> Table:
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
    folder: Path,
    transactions: pl.DataFrame,
    labels: pl.DataFrame,
    *,
    refused: Sequence[DeadLetter] = (),
    at: Sequence[int] | int = 1_772_452_800_000,
) -> Path:
    """Of a past, as a producer would have published it; its folder."""
    for topic in ARCHIVED:
        the_table(folder, topic)
    for topic, encoded in ((TRANSACTIONS, encode_transactions(transactions)), (LABELS, encode_labels(labels))):
        times = at if topic is TRANSACTIONS else 1_772_452_800_000
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
