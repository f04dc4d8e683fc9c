"""Reading the archive: the past that lies in its tables, at a version that has a name."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import msgspec
import numpy as np
import polars as pl

from features.accepting import Rules
from features.archive_tables import GAPS, Place, Table
from features.attributes import number_of, text_of
from schemas.errors import Fault, WrongSettings
from schemas.mapping import Rejected, log_rejected
from schemas.tables import ATTRIBUTE, LABEL_COLUMNS, TRANSACTION_COLUMNS
from schemas.topics import DEAD_LETTERS, LABELS, TRANSACTIONS, VERDICTS, Topic
from schemas.wire import EARLIEST, LATEST

_READ: Final = (TRANSACTIONS.name, LABELS.name, DEAD_LETTERS.name)
"""The tables that a past is made of: their versions name it."""
_NAMED: Final = (*_READ, VERDICTS.name)
"""And all whose versions may be named."""
_VERSION: Final = re.compile(r"@((?:[a-z-]+=\d+)(?:,[a-z-]+=\d+)*)$")
_PLACE: Final = ("partition", "offset", "timestamp")
_ARRIVED, _OCCURRED, _REASON = "\0arrived", "\0occurred", "\0reason"
MOST_ATTRIBUTES: Final = 1_000
"""Columns that are made of attributes where none are named."""
_LEAST: Final = 10
"""Transactions that have an attribute, below which nothing is learnt from it; of small pasts one in a hundred."""
_AT_ONCE: Final = 100_000
"""Offsets whose messages are read at once, raw bytes and all."""


@dataclass(frozen=True)
class Archive:
    """The tables of one archive, each at one version."""

    place: Place
    tables: dict[str, Table]

    @classmethod
    def is_one(cls, text: str) -> bool:
        """Whether this names an archive, and not a file or another folder."""
        place, versions = _parsed(text)
        folder = place.folder
        return folder is None or bool(versions) or (folder / TRANSACTIONS.name / "_delta_log").is_dir()

    @classmethod
    def open(cls, text: str, *, also: Sequence[Topic] = ()) -> Archive:
        """The archive at an address, as it is now; behind an @ the versions of its tables, as `str` gives them.

        `also`: tables that are to be read besides those of a past; a version names them too, where it is given.
        Raises WrongSettings, ArchiveUnusable.
        """
        place, versions = _parsed(text)
        if unknown := set(versions) - set(_NAMED):
            raise WrongSettings(f"{text}: there is no table {unknown.pop()!r}; a version names {', '.join(_NAMED)}")
        wanted = (*_READ, *(topic.name for topic in also))
        tables = {name: Table.at(place, name, versions.get(name)) for name in wanted}
        if missing := [name for name, table in tables.items() if table is None]:
            raise WrongSettings(
                f"{place.address} has no table {', '.join(missing)}: it is no archive; `training archive` makes one"
            )
        return cls(place, {name: table for name, table in tables.items() if table is not None})

    def __str__(self) -> str:
        """Its address and its version: what `open` takes."""
        return f"{self.place.address}@{self.version}"

    @property
    def version(self) -> str:
        """Names what is read.

        >>> str(Archive.open(".local/archive"))  # doctest: +SKIP
        '.local/archive@transactions=12,labels=5,dead-letters=3'
        """
        return ",".join(f"{name}={table.version}" for name, table in self.tables.items())

    def past(
        self,
        *,
        attributes: Sequence[str] | None = None,
        rules: Rules = Rules(),  # noqa: B008 - it is frozen
        on_left_out: Callable[[Rejected], None] = log_rejected,
    ) -> tuple[pl.DataFrame, pl.DataFrame]:
        """Transactions and labels as schemas.tables has them: the first in the order of the log, the others of `known_at`.

        What can't be read is left out, and what a dead letter names.  So is what was accepted once and by `rules` would not
        be any more: `on_left_out` is told of it.  `attributes`: the columns that are wanted; None: all that enough transactions
        have (at most MOST_ATTRIBUTES, the most frequent).  Raises ArchiveUnusable.
        """
        transactions, odd = self._transactions([*TRANSACTION_COLUMNS, "attributes"])
        labels, odd_labels = _fit_to_learn(
            self._accepted(LABELS.name, [*LABEL_COLUMNS]), _reason_of_labels(rules.future_tolerance)
        )
        for name, kept, left_out in ((TRANSACTIONS.name, transactions, odd), (LABELS.name, labels, odd_labels)):
            if not left_out.is_empty():
                on_left_out(_said(name, kept.height, left_out))
        in_order = _in_the_order_of_the_log(transactions)
        return (
            in_order.select(list(TRANSACTION_COLUMNS)).hstack(
                _attributes(in_order["attributes"], attributes, on_left_out)
            ),
            _in_the_order_of_the_log(labels).sort("known_at", maintain_order=True).select(list(LABEL_COLUMNS)),
        )

    def places(self) -> pl.DataFrame:
        """Where on the log the transactions of `past` lay, row by row: `partition` and `offset`.  Raises ArchiveUnusable."""
        rows, _ = self._transactions(["account_id", "occurred_at"])
        return _in_the_order_of_the_log(rows).select("partition", "offset")

    def verdicts(self) -> Iterator[pl.DataFrame]:
        """Those that can be read, some at a time: `partition` and `offset` of what they judge, `bundle`, `value`.

        The archive must have been opened with them.  Raises ArchiveUnusable.
        """
        table = self.tables[VERDICTS.name]
        of = pl.col("offset")
        ends = table.read(table.scan("partition", "offset").group_by("partition").agg(of.min().alias("low"), of.max()))
        told = {"source_partition": "partition", "source_offset": "offset"}
        for partition, low, last in ends.sort("partition").iter_rows():
            for begin in range(low, last + 1, _AT_ONCE):
                here = (pl.col("partition") == partition) & of.is_between(begin, begin + _AT_ONCE, closed="left")
                some = table.scan("partition", "offset", *told, "bundle", "value").filter(here)
                yield table.read(some.drop("partition", "offset").filter(pl.col("bundle").is_not_null()).rename(told))

    def messages(self) -> tuple[pl.DataFrame, pl.DataFrame]:
        """What lay on `transactions` and `labels`, refused or not, in the order of the log, to be sent again.

        With the `key` and `value` they had (what lacks either is left out: it was refused for that), and the columns of
        schemas.tables, null where they can't be read.  The time that paces them (`occurred_at`, `known_at`) is the latest
        so far that a worker would accept: it never goes back, and none of the year 9999 holds up the others.  Raises
        ArchiveUnusable.
        """
        found = []
        for name, columns, time in (
            (TRANSACTIONS.name, TRANSACTION_COLUMNS, "occurred_at"),
            (LABELS.name, LABEL_COLUMNS, "known_at"),
        ):
            table = self.tables[name]
            rows = _in_the_order_of_the_log(table.read(table.scan(*_PLACE, "key", "value", *columns)))
            there = pl.when(~_is_odd(time)).then(pl.col(time))
            latest = there.cum_max().forward_fill().backward_fill().alias(time)
            found.append(rows.with_columns(latest).drop_nulls([time, "key", "value"]).select(*columns, "key", "value"))
        return found[0], found[1]

    def gaps(self) -> int:
        """How many stretches of the log were gone before they were archived.  Raises ArchiveUnusable."""
        gaps = Table.at(self.place, GAPS)
        return 0 if gaps is None else gaps.count()

    def _transactions(self, columns: list[str]) -> tuple[pl.DataFrame, pl.DataFrame]:
        """Those that are learnt from, and those that are left out."""
        return _fit_to_learn(self._accepted(TRANSACTIONS.name, columns), _reason_of_transactions())

    def _accepted(self, name: str, columns: list[str]) -> pl.DataFrame:
        table, letters = self.tables[name], self.tables[DEAD_LETTERS.name]
        refused = letters.read(
            letters.scan("error", "source_topic", "source_partition", "source_offset")
            .filter((pl.col("source_topic") == table.topic) & (pl.col("error") != Fault.LOST.value))
            .select(pl.col("source_partition").alias("partition"), pl.col("source_offset").alias("offset"))
        )
        readable = table.scan(*_PLACE, *columns).filter(pl.col("account_id").is_not_null())
        return table.read(readable).join(refused, on=["partition", "offset"], how="anti")


def _parsed(text: str) -> tuple[Place, dict[str, int]]:
    named = _VERSION.search(text)
    if named is None:
        return Place.of(text), {}
    pairs = (one.split("=") for one in named[1].split(","))
    return Place.of(text[: named.start()]), {name: int(version) for name, version in pairs}


def _in_the_order_of_the_log(rows: pl.DataFrame) -> pl.DataFrame:
    """Partitions merged by when their messages had arrived; within one, and so within an account, by offset.

    A partition's clock never goes back: its message came no earlier than the one before it.  Those of one millisecond
    (a past is loaded a hundred a millisecond) go by when they occurred.
    """
    by_offset = rows.sort("partition", "offset")
    time = "occurred_at" if "occurred_at" in rows.columns else "timestamp"
    arrived = pl.col("timestamp").cum_max().over("partition").alias(_ARRIVED)
    occurred = pl.col(time).cum_max().forward_fill().over("partition").alias(_OCCURRED)
    return (
        by_offset.with_columns(arrived, occurred)
        .sort(_ARRIVED, _OCCURRED, "partition", "offset", maintain_order=True)
        .drop(_ARRIVED, _OCCURRED)
    )


_YEARS = f"a time before {EARLIEST.year} or from {LATEST.year} on"


def _is_odd(time: str) -> pl.Expr:
    return ~pl.col(time).is_between(EARLIEST, LATEST, closed="left")


def _reason_of_transactions() -> pl.Expr:
    return pl.when(_is_odd("occurred_at")).then(pl.lit(_YEARS))


def _reason_of_labels(future_tolerance: int) -> pl.Expr:
    """As Rules.label has it; `future_tolerance` in microseconds."""
    latest = pl.col("timestamp") + pl.duration(microseconds=future_tolerance)
    return (
        pl.when(_is_odd("occurred_at") | _is_odd("known_at"))
        .then(pl.lit(_YEARS))
        .when(pl.col("known_at") < pl.col("occurred_at"))
        .then(pl.lit("known before its transaction occurred"))
        .when(pl.col("known_at") > latest)
        .then(pl.lit("known later than its message was published"))
    )


def _fit_to_learn(rows: pl.DataFrame, reason: pl.Expr) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Those without a reason to be left out, and the others with it."""
    judged = rows.with_columns(reason.alias(_REASON))
    is_fit = judged[_REASON].is_null()
    return judged.filter(is_fit).drop(_REASON), judged.filter(~is_fit)


def _said(table: str, kept: int, left_out: pl.DataFrame) -> Rejected:
    reasons = left_out.group_by(_REASON).len().sort("len", _REASON, descending=[True, False])
    first = left_out.sort("partition", "offset").head(5)
    return Rejected(
        table=table,
        count=left_out.height,
        rows=kept + left_out.height,
        reasons=dict(reasons.iter_rows()),
        examples=[
            f"partition {partition} at {offset}: {reason}"
            for partition, offset, reason in first.select("partition", "offset", _REASON).iter_rows()
        ],
        left_out="messages were accepted once, would not be now, and are left out",
    )


def _attributes(
    texts: pl.Series, wanted: Sequence[str] | None, on_left_out: Callable[[Rejected], None]
) -> pl.DataFrame:
    """A column for each attribute that is wanted, of the type that all its values have; of several types, as text."""
    different = texts.drop_nulls().to_frame("attributes").group_by("attributes", maintain_order=True).len()
    names = None if wanted is None else {name.removeprefix(ATTRIBUTE) for name in wanted if name.startswith(ATTRIBUTE)}
    if different.is_empty() or names == set():
        return pl.DataFrame()
    places: dict[str, list[int]] = {}
    found: dict[str, list[Any]] = {}
    seen: Counter[str] = Counter()
    for place, (text, count) in enumerate(different.iter_rows()):
        for name, value in msgspec.json.decode(text).items():
            if (names is None or name in names) and value != "":
                places.setdefault(name, []).append(place)
                found.setdefault(name, []).append(value)
                seen[name] += count
    kept = sorted(found if names is not None else _frequent(seen, len(texts), on_left_out))
    columns = {ATTRIBUTE + name: _spread(_column(found[name]), places[name], different.height) for name in kept}
    known = different.select("attributes").hstack(pl.DataFrame(columns))
    return (
        pl.DataFrame({"attributes": texts})
        .join(known, on="attributes", how="left", maintain_order="left")
        .drop("attributes")
    )


def _frequent(seen: Counter[str], rows: int, on_left_out: Callable[[Rejected], None]) -> list[str]:
    """The names that enough transactions have to learn anything from, at most MOST_ATTRIBUTES."""
    least = min(_LEAST, rows // 100)
    enough = sorted((name for name in seen if seen[name] >= least), key=lambda name: (-seen[name], name))
    kept = enough[:MOST_ATTRIBUTES]
    reasons = {f"fewer than {least} transactions have them": len(seen) - len(enough)}
    reasons[f"{MOST_ATTRIBUTES:,} others are more frequent"] = len(enough) - len(kept)
    if len(kept) < len(seen):
        lost = sorted(seen.keys() - set(kept))
        on_left_out(
            Rejected(
                table="attributes",
                count=len(lost),
                rows=len(seen),
                reasons={why: count for why, count in reasons.items() if count},
                examples=[repr(name) for name in lost[:5]],
                left_out="names are no columns",
                hint="--attributes with names takes these alone, however few have them",
            )
        )
    return kept


def _spread(values: pl.Series, places: list[int], count: int) -> pl.Series:
    """At these places among so many; null elsewhere."""
    of = np.full(count, -1, np.int64)
    of[places] = np.arange(len(places))
    return values.gather(pl.Series(of).set(pl.Series(of < 0), None))


def _column(values: list[Any]) -> pl.Series:
    kinds = {type(value) for value in values if value is not None}
    if kinds == {bool}:
        return pl.Series(values, dtype=pl.Boolean)
    if kinds == {int} and all(value is None or abs(value) < 1 << 63 for value in values):
        return pl.Series(values, dtype=pl.Int64)
    if kinds <= {int, float}:
        return pl.Series([None if value is None else number_of(value) for value in values], dtype=pl.Float64)
    return pl.Series([text_of(value) for value in values], dtype=pl.String)
