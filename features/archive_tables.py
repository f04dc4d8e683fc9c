"""The topics as Delta Lake tables: what each holds, and the door to delta-rs.  docs/archive.md is the page for readers.

A table's offsets are part of its commits (application transactions, named by topic id and partition): rows and the offset
behind them are there together, or neither is.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Final

import polars as pl
from deltalake import (
    ColumnProperties,
    CommitProperties,
    DeltaTable,
    Schema,
    Transaction,
    WriterProperties,
    write_deltalake,
)
from deltalake.exceptions import CommitFailedError, DeltaError, TableNotFoundError

from features.archive_compacting import compact
from schemas.errors import FraudScorerError, WrongSettings
from schemas.tables import LABEL_COLUMNS, TRANSACTION_COLUMNS, UTC_TIME
from schemas.topics import ACTIVITY, DEAD_LETTERS, LABELS, TRANSACTIONS, VERDICTS, Topic

Columns = dict[str, pl.DataType | type[pl.DataType]]

ARCHIVED: Final = (TRANSACTIONS, VERDICTS, LABELS, ACTIVITY, DEAD_LETTERS)
DAY: Final = "day"
"""What tables are partitioned by: the UTC day of the record's timestamp."""
RECORD: Final[Columns] = {
    "partition": pl.Int32,
    "offset": pl.Int64,
    "timestamp": UTC_TIME,
    "key": pl.Binary,
    "value": pl.Binary,
}
"""The message as it lay on the topic.  A later schema reads `value` anew."""
HEADERS: Final[Columns] = {"headers": pl.List(pl.Struct({"key": pl.String, "value": pl.Binary}))}
"""Of a dead letter."""
SAID: Final[Mapping[str, Columns]] = {
    TRANSACTIONS.name: TRANSACTION_COLUMNS | {"attributes": pl.String},  # JSON
    LABELS.name: LABEL_COLUMNS,
    VERDICTS.name: {
        "transaction_id": pl.String,
        "account_id": pl.String,
        "outcome": pl.String,
        "score": pl.Float64,
        "margin": pl.Float64,
        "bundle": pl.String,
        "policy": pl.String,
        "vector_digest": pl.String,
        "occurred_at": UTC_TIME,
        "decided_at": UTC_TIME,
        "source_partition": pl.Int32,
        "source_offset": pl.Int64,
        "source_topic_id": pl.String,
        "source_timestamp": pl.Int64,
        "folded_labels": pl.Int64,
        "folded_activity": pl.Int64,
        "folded_labels_topic_id": pl.String,
        "flags": pl.String,  # with commas between
        "shadow_bundle": pl.String,
        "shadow_score": pl.Float64,
    },
    ACTIVITY.name: {
        "counterparty_id": pl.String,
        "transaction": pl.Int64,  # the 64 bits of the hash, as a signed number: Delta has no other
        "account": pl.Int64,
        "hashed_by": pl.String,  # the fingerprint of the key of both
        "amount": pl.Int64,
        "ratio": pl.Int64,
        "occurred_at": UTC_TIME,
        "known_at": UTC_TIME,
        "is_fraud": pl.Boolean,
        "source_partition": pl.Int32,
        "source_offset": pl.Int64,
        "source_topic_id": pl.String,
        "source_timestamp": pl.Int64,
    },
    DEAD_LETTERS.name: {
        "error": pl.String,
        "detail": pl.String,
        "source_topic": pl.String,
        "source_partition": pl.Int32,
        "source_offset": pl.Int64,
        "source_topic_id": pl.String,
        "source_timestamp": pl.Int64,
        "until": pl.Int64,
        "attempt": pl.Int32,
        "found_at": UTC_TIME,
    },
}
"""By topic, what its messages say; null where one can't be read."""
GAPS: Final = "gaps"
"""The table of what was gone from the log before it was archived."""
GAP_COLUMNS: Final[Columns] = {
    "topic": pl.String,
    "partition": pl.Int32,
    "begin": pl.Int64,
    "end": pl.Int64,
    "found_at": UTC_TIME,
}
LEAST_KEPT: Final = timedelta(hours=1)
"""A file younger than this may be one that an archiver is about to commit."""

_TOPIC, _TOPIC_ID = "fraud.topic", "fraud.topicId"
_ATTEMPTS = 5
_RETRIES = 4
_PATIENCE = {"max_retries": str(_RETRIES), "retry_timeout": "30s", "connect_timeout": "5s", "timeout": "60s"}
"""For what lies behind a network: half a minute, then somebody should hear of it."""
_DECORATION = re.compile("\x1b\\[[0-9;]*m|[↳│╰─▶]")
_ALL_DIFFERENT = (
    *("value", "offset", "transaction_id", "label_id", "transaction", "occurred_at", "decided_at", "source_offset"),
    *("score", "margin", "vector_digest"),
)
_WRITER = WriterProperties(
    compression="ZSTD",
    compression_level=1,
    # A dictionary of what never comes twice is built for nothing.
    column_properties=dict.fromkeys(_ALL_DIFFERENT, ColumnProperties(dictionary_enabled=False)),
)


class ArchiveUnusable(WrongSettings):
    """The archive can't be read or written: it is away, full, damaged, or none of ours.  Nothing is half-written."""


class Overtaken(FraudScorerError):
    """Somebody else has archived what this one was about to: nothing of its batch was written."""


@dataclass(frozen=True)
class Place:
    """Where an archive is: a folder, or an address that delta-rs knows, such as s3://bucket/folder."""

    address: str

    @classmethod
    def of(cls, text: str) -> Place:
        """Raises WrongSettings."""
        if not text.strip():
            raise WrongSettings("FRAUD_ARCHIVE is empty; a folder or s3://bucket/folder would do")
        return cls(text.rstrip("/") or "/")

    @property
    def folder(self) -> Path | None:
        """None: it isn't on this machine."""
        return None if "://" in self.address else Path(self.address)

    @property
    def options(self) -> dict[str, str] | None:
        """For delta-rs.  Credentials and endpoints come from the environment (AWS_…)."""
        return dict(_PATIENCE) if self.folder is None else None

    @property
    def options_to_scan(self) -> dict[str, int] | None:
        """For Polars, which takes the table's own over, but wants numbers as such."""
        return {"max_retries": _RETRIES} if self.folder is None else None

    def table(self, name: str) -> str:
        """Where a table is."""
        return f"{self.address}/{name}"

    def require_ours(self) -> None:
        """Raises WrongSettings where a file or somebody else's folder is there."""
        if (folder := self.folder) is None or not folder.exists():
            return
        if not folder.is_dir():
            raise WrongSettings(f"{folder} is a file; an archive is a folder")
        there = sorted(one.name for one in folder.iterdir())
        if there and not any((folder / name / "_delta_log").is_dir() for name in (*SAID, GAPS)):
            raise WrongSettings(
                f"{folder} holds other things ({', '.join(there[:3])}) and no archive; an empty or a new folder would do"
            )


class Table:
    """One table, at one version: what it is asked is answered as of then, until it is written to."""

    def __init__(self, place: Place, name: str, delta: DeltaTable) -> None:
        self.name = name
        self._where = place.table(name)
        self._options_to_scan = place.options_to_scan
        self._delta = delta
        configuration = delta.metadata().configuration
        if _TOPIC_ID not in configuration:
            raise ArchiveUnusable(f"the table at {self._where} is none of ours; another FRAUD_ARCHIVE would do")
        self.topic, self.topic_id = configuration[_TOPIC], configuration[_TOPIC_ID]
        self._reached: dict[str, int | None] = {}

    @classmethod
    def at(cls, place: Place, name: str, version: int | None = None) -> Table | None:
        """As it is now, or was at a version; None where there is no such table.  Raises ArchiveUnusable, WrongSettings."""
        where = place.table(name)
        with _said_clearly(where):
            if not _is_there(place, name):
                return None
            try:
                return cls(place, name, DeltaTable(where, version=version, storage_options=place.options))
            except DeltaError as error:
                if version is None:
                    raise
                raise WrongSettings(
                    f"{where} can't be read at version {version}: {_plain(error)}; it was never written, or cleaned away"
                ) from error

    @classmethod
    def make(cls, place: Place, name: str, columns: Columns, *, topic: str, topic_id: str, by_day: bool) -> Table:
        """The same, made where it isn't there.  Raises ArchiveUnusable."""
        where = place.table(name)
        if (found := cls.at(place, name)) is not None:
            return found
        with _said_clearly(where):
            DeltaTable.create(
                where,
                schema=Schema.from_arrow(pl.Schema(columns).to_arrow(compat_level=pl.CompatLevel.oldest())),
                mode="ignore",
                partition_by=[DAY] if by_day else None,
                name=name,
                configuration={
                    _TOPIC: topic,
                    _TOPIC_ID: topic_id,
                    # Bounds of raw bytes would be of use to nobody.
                    "delta.dataSkippingStatsColumns": ",".join(one for one in columns if one not in _UNSORTED),
                },
                storage_options=place.options,
                raise_if_key_not_exists=False,
            )
        made = cls.at(place, name)
        assert made is not None
        return made

    @property
    def version(self) -> int:
        return int(self._delta.version())

    def reached(self, source: str) -> int | None:
        """The next offset of a source (source_of) that the table has not; None: it has nothing of it."""
        if source not in self._reached:
            self._reached[source] = self._delta.transaction_version(source)
        return self._reached[source]

    def append(self, rows: pl.DataFrame, until: Mapping[str, int]) -> None:
        """Add rows, and move the offsets of their sources, in one commit.

        Raises Overtaken where one isn't where this handle last saw it.  delta-rs refuses that only of what was committed since
        the handle's version, and the commit of another source brings the handle to a version with more in it than we know
        of.  Raises ArchiveUnusable.  Either way nothing is added.
        """
        moved = [Transaction(source, offset) for source, offset in until.items()]
        with _said_clearly(self._where):
            for attempt in range(1, _ATTEMPTS + 1):
                if any(self.reached(source) != self._delta.transaction_version(source) for source in until):
                    raise Overtaken(
                        f"another archiver writes {self._where}: nothing of this batch was added; only one may run at a time"
                    )
                try:
                    write_deltalake(
                        self._delta,
                        rows,
                        mode="append",
                        writer_properties=_WRITER,
                        commit_properties=CommitProperties(app_transactions=moved),
                    )
                    break
                except CommitFailedError:
                    if attempt == _ATTEMPTS:
                        raise
                    self._delta.update_incremental()
        self._reached |= until

    def scan(self, *columns: str) -> pl.LazyFrame:
        """The rows of this version, in no order."""
        with _said_clearly(self._where):
            return pl.scan_delta(self._delta, storage_options=self._options_to_scan).select(columns)

    def read(self, scan: pl.LazyFrame) -> pl.DataFrame:
        """What comes of a scan.  Raises ArchiveUnusable: a named version's files may have been cleaned away."""
        with _said_clearly(self._where):
            return scan.collect()

    def count(self) -> int:
        """How many rows it has."""
        with _said_clearly(self._where):
            return int(self._delta.count())

    def files(self) -> int:
        """How many files they lie in."""
        with _said_clearly(self._where):
            return len(self._delta.file_uris())

    def compact(self) -> tuple[int, int]:
        """Make few files of many; how many were taken, and how many made.  Raises ArchiveUnusable.

        Beside an archiver, and beside another who does the same: the second begins again.
        """
        with _said_clearly(self._where):
            for attempt in range(1, _ATTEMPTS + 1):
                try:
                    return compact(self._delta, [DAY] if self.topic_id != GAPS else [])
                except CommitFailedError:
                    if attempt == _ATTEMPTS:
                        raise
                    self._delta.update_incremental()
        raise AssertionError

    def vacuum(self, kept: timedelta) -> int:
        """Remove files that no version needs which is younger than `kept`; how many.  Raises WrongSettings, ArchiveUnusable."""
        if kept < LEAST_KEPT:
            raise WrongSettings("old files are kept for an hour at least: a younger one may be about to be committed")
        hours = -(-kept // timedelta(hours=1))
        with _said_clearly(self._where):
            # `full`: what a killed archiver wrote and never committed stands in no log.
            return len(
                self._delta.vacuum(retention_hours=hours, dry_run=False, enforce_retention_duration=False, full=True)
            )


def source_of(topic_id: str, partition: int) -> str:
    """The name under which a table keeps the offset of a topic's partition."""
    return f"{topic_id}:{partition}"


_UNSORTED = ("key", "value", "headers", "attributes", "detail")


def columns_of(topic: Topic) -> Columns:
    """Of a topic's table, in order."""
    return RECORD | (HEADERS if topic is DEAD_LETTERS else {}) | SAID[topic.name] | {DAY: pl.Date}


def make_table(place: Place, topic: Topic, *, topic_name: str, topic_id: str) -> Table:
    """The topic's table.  Raises ArchiveUnusable, WrongSettings where it holds another topic."""
    table = Table.make(place, topic.name, columns_of(topic), topic=topic_name, topic_id=topic_id, by_day=True)
    if table.topic != topic_name:
        raise WrongSettings(
            f"{place.table(topic.name)} archives the topic {table.topic}, not {topic_name}: an installation needs an "
            "archive of its own; another FRAUD_ARCHIVE would do"
        )
    if table.topic_id != topic_id:
        raise WrongSettings(
            f"the topic {topic_name} was made anew (its id is {topic_id}, {place.table(topic.name)} archives "
            f"{table.topic_id}): offsets mean something else now; another FRAUD_ARCHIVE for the new topics would do"
        )
    return table


@contextmanager
def _said_clearly(where: str) -> Iterator[None]:
    try:
        yield
    except (DeltaError, OSError, pl.exceptions.PolarsError, ValueError) as error:
        raise ArchiveUnusable(f"{where} can't be read or written: {_plain(error)}") from error


def _plain(error: Exception) -> str:
    """delta-rs draws its errors as trees, in colours."""
    return " ".join(_DECORATION.sub(" ", str(error)).split())[:400]


def _is_there(place: Place, name: str) -> bool:
    if (folder := place.folder) is not None:
        table = folder / name
        if table.is_dir() and not (table / "_delta_log").is_dir() and any(table.iterdir()):
            raise WrongSettings(f"{table} holds other things and no table; another FRAUD_ARCHIVE would do")
        return (table / "_delta_log").is_dir()
    try:
        DeltaTable(place.table(name), storage_options=place.options)
    except TableNotFoundError:
        return False
    return True
