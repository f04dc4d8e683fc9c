"""A past, from wherever there is one: an archive, a folder of loadgen's, anybody's table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from features.accepting import Rules
from features.archive import Archive
from schemas.errors import WrongSettings
from schemas.mapping import Rejected, TableMapping, read_past, rows_in
from schemas.topics import VERDICTS
from training.narration import Narrator
from training.replay import require_room
from training.served import Served, read_served
from training.versions import Source


@dataclass(frozen=True, kw_only=True)
class ReadPast:
    """As schemas.tables has it, and where it came from."""

    transactions: pl.DataFrame
    labels: pl.DataFrame
    rejected: list[Rejected]
    """Rows that the mapping could make no transactions of."""
    place: str
    mapping: Path | None
    archive: str | None
    """The archive at the version that was read: a name that stays; None: it is none."""
    served: Served | None = None
    """Of its transactions, where that was asked for."""

    def source(self) -> Source:
        """Reads a file once more, a gigabyte a second.  Raises OSError."""
        return Source.of(Path(self.place), self.mapping) if self.archive is None else Source.of_archive(self.archive)


def read(
    place: str,
    mapping: TableMapping | None,
    narrator: Narrator,
    *,
    attributes: Sequence[str] | None = None,
    rules: Rules = Rules(),  # noqa: B008 - it is frozen
    served_by: Path | None = None,
    whole: bool = True,
) -> ReadPast:
    """`attributes`: the columns that are to be learnt from, where not all are: of an archive no other attribute is read.
    `rules`: the workers'; what they would not accept is left out of an archive, and named in `rejected`.

    `served_by`: the folder of the bundles that judged it; then its vectors as served are read too.

    `whole`: all of it will be described, and a file of which the vectors would not fit the memory is refused before it is read.

    Raises WrongSettings, ArchiveUnusable, UnusablePast.
    """
    also = () if served_by is None else (VERDICTS,)
    archive = Archive.open(place, also=also) if mapping is None and Archive.is_one(place) else None
    if archive is None and served_by is not None:
        raise WrongSettings(
            f"{place} is no archive, and nothing else has vectors as served; --vectors replayed would do"
        )
    gaps = 0 if archive is None else archive.gaps()
    lacks = f", which lacks {gaps} stretches of the log (training archive show)" if gaps else ""
    narrator.stage("read", f"reading {place}{lacks}")
    if whole and mapping is not None and Path(place).is_file():
        require_room(rows_in(Path(place), mapping))
    rejected: list[Rejected] = []
    transactions, labels = (
        read_past(Path(place), mapping, on_rejected=rejected.append)
        if archive is None
        else archive.past(attributes=attributes, rules=rules, on_left_out=rejected.append)
    )
    served = None
    if archive is not None and served_by is not None:
        narrator.stage("served", "reading vectors as they were served, from the verdicts")
        served = read_served(archive, served_by)
    return ReadPast(
        transactions=transactions,
        labels=labels,
        rejected=rejected,
        place=place,
        mapping=None if mapping is None else Path(mapping.origin),
        archive=None if archive is None else str(archive),
        served=served,
    )
