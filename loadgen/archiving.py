"""An archiver beside the demo, as a bank would run one, and whether its tables hold what the log does."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import psutil

from deploy.local.children import Child, tail
from deploy.local.stack import LocalStack
from features.archive_tables import ARCHIVED, Place, Table
from features.log import Log
from features.settings import Settings
from loadgen.check import Report
from loadgen.rehearsal import Failed, environment_of, run_command, say, wait_while_it_moves
from schemas.topics import ACTIVITY, DEAD_LETTERS, LABELS, TRANSACTIONS, VERDICTS

NICE = 10
"""Whoever waits for a verdict goes before."""
WRITTEN_WITHIN = 10
"""Seconds: what is archived is looked at soon after the last message."""


def launch_archiver(stack: LocalStack, settings: Settings, folder: Path, archive: Path) -> Child:
    """On its way, into tables that begin anew as the topics did; until it is stopped."""
    shutil.rmtree(archive, ignore_errors=True)
    own = {"FRAUD_ARCHIVE": str(archive), "FRAUD_ARCHIVE_SECONDS": str(WRITTEN_WITHIN)}
    child = run_command(stack, folder, "training", "archive", name="archive", **environment_of(settings), **own)
    psutil.Process(child.pid).nice(NICE)
    return child


def wait_until_archived(archiver: Child, settings: Settings, found: Report, archive: Path) -> dict[str, int]:
    """Ends the archiver when its tables have a row for each message, by what the checker read; the rows by topic.

    Raises Failed where they don't come, or there are others.
    """
    due = _due(settings, found)
    with suppress(Failed):  # the rows say it better
        _wait_for_rows(archiver, archive, lambda rows: rows == due)
    archiver.stop()
    if (rows := _rows(archive)) != due:
        wrong = {name: (rows[name], count) for name, count in due.items() if rows[name] != count}
        raise Failed(f"the archive has other rows than the log (rows, messages): {wrong}\n{tail(archiver.log)}")
    if archiver.status != 0:
        raise Failed(f"the archiver ended with status {archiver.status}:\n{tail(archiver.log)}")
    say(f"  {sum(rows.values()):,} rows in {archive}, as many as the log has messages")
    return rows


def wait_until_caught_up(archiver: Child, settings: Settings, archive: Path) -> None:
    """Until its tables have what the log has now of transactions, labels and dead letters: what a training reads.

    Raises Failed where they don't come.
    """
    with Log(settings) as log:
        numbers = range(settings.partitions)
        due = _sent(log, settings) | {DEAD_LETTERS.name: sum(1 for number in numbers for _ in log.letters(number))}
    _wait_for_rows(archiver, archive, lambda rows: all(rows[name] >= count for name, count in due.items()))


def _wait_for_rows(archiver: Child, archive: Path, enough: Callable[[dict[str, int]], bool]) -> None:
    def has_them() -> bool:
        if not archiver.running:
            raise Failed(f"the archiver ended with status {archiver.status}:\n{tail(archiver.log)}")
        return enough(_rows(archive))

    wait_while_it_moves(has_them, lambda: _rows(archive), "the rows of the archive")


def _sent(log: Log, settings: Settings) -> dict[str, int]:
    """Their producers use no transactions: each offset is a message."""
    return {
        topic.name: sum(high - low for low, high in (log.bounds(topic, n) for n in range(settings.partitions)))
        for topic in (TRANSACTIONS, LABELS)
    }


def _due(settings: Settings, found: Report) -> dict[str, int]:
    with Log(settings) as log:
        sent = _sent(log, settings)
    return sent | {
        VERDICTS.name: found.verdicts,
        ACTIVITY.name: found.activity,
        DEAD_LETTERS.name: sum(found.dead_lettered.values()),
    }


def _rows(archive: Path) -> dict[str, int]:
    tables = {topic.name: Table.at(Place.of(str(archive)), topic.name) for topic in ARCHIVED}
    return {name: 0 if table is None else table.count() for name, table in tables.items()}
