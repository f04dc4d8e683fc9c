"""`training archive`: the topics as tables."""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import FrameType
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer
from rich.console import Console
from rich.logging import RichHandler
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table as Lines

from features.collecting import spare_the_collector
from features.people import console
from features.settings import Settings, load
from schemas import installation, masking
from schemas.errors import WrongSettings
from schemas.spans import duration
from training.archive_limits import Limits
from training.options import own

if TYPE_CHECKING:
    from features.archive_tables import Place, Table
    from training.archive import Archived

DEFAULT = installation.archive("")
INTERRUPTED = 130
LIMITS = Limits()

app = typer.Typer(
    help="The topics as Delta Lake tables, each message once.",
    invoke_without_command=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
_people = Console(stderr=True, highlight=False, soft_wrap=True)

Where = Annotated[
    str,
    typer.Option(
        "--to",
        envvar="FRAUD_ARCHIVE",
        help="A folder, or s3://bucket/folder. The topic prefix goes before the default's last part.",
        callback=own(installation.archive),
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Report as one line of JSON on standard output.")]


@app.callback()
def archive(
    context: typer.Context,
    to: Where = DEFAULT,
    until_end: Annotated[bool, typer.Option("--until-end", help="Archive what is there now, and end.")] = False,
    rows: Annotated[
        int, typer.Option(envvar="FRAUD_ARCHIVE_ROWS", help="Of a topic, that are written at once, at most.")
    ] = LIMITS.rows,
    seconds: Annotated[
        float, typer.Option(envvar="FRAUD_ARCHIVE_SECONDS", help="That a message waits to be written, at most.")
    ] = LIMITS.seconds,
    as_json: AsJson = False,
) -> None:
    """Archive the topics, until SIGTERM or Ctrl-C, which leave nothing unwritten.  One at a time.

    Killed at any point it neither loses nor doubles a row.  Example: training archive --to s3://bank/fraud --seconds 300
    """
    if context.invoked_subcommand is not None:
        return
    from features.archive_tables import Place
    from training.archive import Archiver

    settings = load(Settings, os.environ)
    limits = Limits(rows=rows, seconds=seconds)
    spare_the_collector()
    with _ends_cleanly() as stop, _shown() as told:
        archived = Archiver(settings, Place.of(to), limits=limits, told=told).run(stop, until_end=until_end)
    if as_json:
        print(msgspec.json.encode(msgspec.to_builtins(archived)).decode())
    else:
        _say(archived, to)
    if stop.interrupted:
        raise typer.Exit(INTERRUPTED)


@app.command()
def tidy(
    to: Where = DEFAULT,
    keep: Annotated[
        str,
        typer.Option(envvar="FRAUD_ARCHIVE_KEEP", help="How long versions can be read that are no longer the newest."),
    ] = "7d",
    as_json: AsJson = False,
) -> None:
    """Make few files of many, and remove those that no version needs any more.  An archiver may run meanwhile.

    Example: training archive tidy --to s3://bank/fraud --keep 30d
    """
    from features.archive_tables import Place

    kept, place = duration(keep), Place.of(to)
    done: dict[str, dict[str, int]] = {}
    for table in _tables(place):
        taken, made = table.compact()
        done[table.name] = {"compacted": taken, "into": made, "removed": table.vacuum(kept)}
        if not as_json:
            print(f"{table.name}: {taken:,} files made {made:,}, {done[table.name]['removed']:,} old ones removed")
    if as_json:
        print(msgspec.json.encode(done).decode())


@app.command()
def show(to: Where = DEFAULT, as_json: AsJson = False) -> None:
    """What is in the tables, what is not, and the name of this version.

    Example: training archive show --to .local/demo/archive
    """
    from features.archive import Archive
    from features.archive_tables import GAPS, Place

    place = Place.of(to)
    tables = _tables(place)
    named = str(Archive.open(place.address))
    gaps = next(
        (table.read(table.scan("topic", "partition", "begin", "end")) for table in tables if table.name == GAPS), None
    )
    if as_json:
        said = {
            "version": named,
            "tables": {
                table.name: {"version": table.version, "rows": table.count(), "files": table.files()}
                for table in tables
            },
            "gaps": [] if gaps is None else gaps.to_dicts(),
        }
        print(msgspec.json.encode(said).decode())
        return
    lines = Lines("table", "version", "rows", "files", box=None)
    for table in tables:
        lines.add_row(table.name, f"{table.version:,}", f"{table.count():,}", f"{table.files():,}")
    console().print(lines)
    for gap in () if gaps is None else gaps.iter_rows(named=True):
        print(f"missing: {gap['topic']} [{gap['partition']}] {gap['begin']} to {gap['end'] - 1}")
    print(f"to learn from exactly this: training run {named}")


def _tables(place: Place) -> list[Table]:
    from features.archive_tables import ARCHIVED, GAPS, Table

    found = [Table.at(place, name) for name in (*(topic.name for topic in ARCHIVED), GAPS)]
    if not any(found):
        raise WrongSettings(f"there is no archive at {place.address}; `training archive` makes one")
    return [table for table in found if table is not None]


class _Ending:
    """Set by the first SIGTERM or Ctrl-C; the second one ends at once, as ever."""

    def __init__(self) -> None:
        self._set = threading.Event()
        self.interrupted = False

    def is_set(self) -> bool:
        return self._set.is_set()

    def set(self, number: int, _frame: FrameType | None) -> None:
        self.interrupted = number == signal.SIGINT
        self._set.set()
        signal.signal(number, signal.SIG_DFL)


@contextmanager
def _ends_cleanly() -> Iterator[_Ending]:
    ending = _Ending()
    before = {number: signal.signal(number, ending.set) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield ending
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def write_log(handler: logging.Handler) -> None:
    """All that is logged goes there, and shows what may be shown."""
    handler.setFormatter(masking.Lines("%(message)s"))
    logging.basicConfig(handlers=[handler], force=True)


@contextmanager
def _shown() -> Iterator[Callable[[Mapping[str, int]], None]]:
    """A line that changes on a terminal; one for every write elsewhere."""
    # A terminal's handler breaks lines, where nobody wants them broken.
    handler = RichHandler(console=_people, show_path=False, show_time=False) if _people.is_terminal else None
    write_log(handler or logging.StreamHandler(sys.stderr))
    logging.getLogger("training").setLevel(logging.INFO)
    bar = Progress(
        SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn(), console=_people, transient=True,
        disable=not _people.is_terminal,
    )  # fmt: skip

    def told(rows: Mapping[str, int]) -> None:
        said = "archived " + ", ".join(f"{count:,} {name}" for name, count in rows.items() if count)
        bar.update(task, description=said)
        if not _people.is_terminal:
            print(said, file=sys.stderr, flush=True)

    with bar:
        task = bar.add_task("archiving", total=None)
        yield told


def _say(archived: Archived, to: str) -> None:
    rate = archived.total / archived.seconds if archived.seconds else 0.0
    _people.print(
        f"{archived.total:,} rows archived to {to} in {archived.seconds:.1f} s, {rate:,.0f} a second; "
        + ", ".join(f"{name} {count:,}" for name, count in archived.rows.items())
    )
