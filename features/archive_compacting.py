"""Making few files of many.  With features.archive_tables the door to delta-rs.

Not by delta-rs' own `optimize.compact`: of two at once it lets both replace the same files, and every row is there twice.
Here each commit moves an application transaction, so that the second conflicts, and begins again.
"""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Iterator
from typing import Any, Final, NamedTuple

import polars as pl
import pyarrow as pa
import pyarrow.fs as pa_fs
import pyarrow.parquet as pq
from deltalake import CommitProperties, DeltaTable, Schema, Transaction
from deltalake.fs import DeltaStorageHandler
from deltalake.transaction import AddAction, RemoveAction

SMALL: Final = 32 << 20
"""Bytes of a file that is compacted; so many make one."""
_COMPACTED: Final = "compacted"
"""The application transaction: the version that was compacted last."""
_BOUNDED: Final = ("partition", "offset", "timestamp")
"""The columns whose bounds a reader is told, to skip files by."""


class File(NamedTuple):
    """One of a table's."""

    path: str
    size: int
    partition: dict[str, Any]


def compact(delta: DeltaTable, partition_by: list[str]) -> tuple[int, int]:
    """Replace the small files of each day by larger ones; how many were taken, and how many made.

    One commit, of the version that `delta` has.  Raises CommitFailedError where another compacted meanwhile.
    """
    groups = [group for group in _groups(delta) if len(group) > 1]
    if not groups:
        return 0, 0
    files = pa_fs.PyFileSystem(DeltaStorageHandler.from_table(delta._table))
    now = time.time_ns() // 1_000_000
    actions: list[AddAction | RemoveAction] = []
    for group in groups:
        actions.append(_joined(files, group, now))
        actions += [RemoveAction(one.path, False, now, one.size, _as_text(one.partition)) for one in group]
    delta.create_write_transaction(
        actions,
        mode="append",
        schema=Schema.from_arrow(delta.schema().to_arrow()),
        partition_by=partition_by,
        commit_properties=CommitProperties(app_transactions=[Transaction(_COMPACTED, delta.version())]),
    )
    delta.update_incremental()
    return sum(map(len, groups)), len(groups)


def _groups(delta: DeltaTable) -> Iterator[list[File]]:
    """Small files of one day, about SMALL bytes together."""
    adds = pl.DataFrame(delta.get_add_actions())
    partitions = adds["partition"].to_list() if "partition" in adds.columns else [{}] * adds.height
    found = [File(*one) for one in zip(adds["path"], adds["size_bytes"], partitions, strict=True)]
    group: list[File] = []
    for one in sorted((one for one in found if one.size < SMALL), key=lambda one: one.path):
        if group and (one.partition != group[0].partition or sum(file.size for file in group) >= SMALL):
            yield group
            group = []
        group.append(one)
    yield group


def _joined(files: pa_fs.FileSystem, group: list[File], now: int) -> AddAction:
    """One file with all their rows, which is no part of the table yet."""
    rows = pa.concat_tables([pq.read_table(one.path, filesystem=files, partitioning=None) for one in group])
    folder = group[0].path.rpartition("/")[0]
    path = f"{folder}{'/' if folder else ''}part-{uuid.uuid4()}.zstd.parquet"
    pq.write_table(rows, path, filesystem=files, compression="zstd", write_statistics=list(_BOUNDED))
    return AddAction(
        path=path,
        size=files.get_file_info(path).size,
        partition_values=_as_text(group[0].partition),
        modification_time=now,
        data_change=False,
        stats=_bounds(pl.from_arrow(rows.select([name for name in _BOUNDED if name in rows.column_names]))),
    )


def _bounds(columns: pl.DataFrame | pl.Series) -> str:
    assert isinstance(columns, pl.DataFrame)
    least, most = columns.min().row(0, named=True), columns.max().row(0, named=True)
    said = {"numRecords": columns.height, "minValues": least, "maxValues": most, "nullCount": dict.fromkeys(least, 0)}
    return json.dumps(said, default=lambda moment: moment.isoformat(timespec="milliseconds").replace("+00:00", "Z"))


def _as_text(partition: dict[str, Any]) -> dict[str, str | None]:
    return {name: None if value is None else str(value) for name, value in partition.items()}
