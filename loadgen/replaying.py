"""`loadgen replay`: reads a past, sends it, and says how far it got."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import FrameType

import msgspec
import polars as pl
from rich.console import Console
from rich.progress import BarColumn, TaskProgressColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

from loadgen.avro import InAvro
from loadgen.mischief import Mischief
from loadgen.stream import AsTheyCame, Encoding, Progress, Sent, Stream, shifted_to
from loadgen.target import Target
from schemas.errors import WrongSettings
from schemas.mapping import Rejected, read_past
from schemas.tables import part_of

INTERRUPTED = 130


@dataclass(frozen=True, kw_only=True)
class Replay:
    """What is to be sent, and how fast."""

    source: str
    mapping: Path | None
    since: datetime | None
    until: datetime | None
    limit: int | None
    shift_to_now: bool
    rate: float | None
    speed: float | None
    malformed: float
    duplicates: float
    seed: int
    registry: str | None

    def run(self, kafka: str | None, prefix: str | None, people: Console, *, as_json: bool) -> int:
        """The exit status: 0, 1 where Kafka did not take everything, 130 after Ctrl-C.  Raises WrongSettings."""
        target = Target.of(kafka, prefix)
        mischief = self._checked()
        rejected: list[Rejected] = []
        transactions, labels, encoding = self._read(target, rejected)
        transactions, labels = part_of(transactions, labels, since=self.since, until=self.until, limit=self.limit)
        shift = timedelta(0)
        if self.shift_to_now:
            transactions, labels, shift = shifted_to(datetime.now(UTC), transactions, labels)
        for each in rejected:
            people.print(str(each), style="yellow", markup=False, highlight=False)
        stream = Stream(transactions, labels, rate=self.rate, speed=self.speed, mischief=mischief, encoding=encoding)
        with _ctrl_c() as stop, _shown(people) as progress:
            sent = stream.send(target, progress=progress, stop=stop)
        if as_json:
            report = {
                "source": self.source,
                "kafka": target.shown,
                "prefix": target.prefix,
                "rejected_rows": sum(each.count for each in rejected if not each.of_labels),
                "labels_left_out": sum(each.count for each in rejected if each.of_labels),
                "shifted_seconds": shift.total_seconds(),
                **msgspec.to_builtins(sent),
            }
            print(msgspec.json.encode(report).decode())
        else:
            _say(people, sent, target)
        if not sent.finished:
            return INTERRUPTED
        return 1 if sent.failed else 0

    def _checked(self) -> Mischief:
        """What was asked for, held against itself before anything is read.  Raises WrongSettings."""
        for option, value in (("--rate", self.rate), ("--speed", self.speed)):
            if value is not None and value <= 0:
                raise WrongSettings(f"{option} must be above 0, not {value:g}")
        if self.since is not None and self.until is not None and self.since >= self.until:
            raise WrongSettings(f"--since, {self.since}, must be before --until, {self.until}")
        try:
            return Mischief(malformed=self.malformed, duplicates=self.duplicates, seed=self.seed)
        except ValueError as error:
            raise WrongSettings(str(error)) from error

    def _read(self, target: Target, rejected: list[Rejected]) -> tuple[pl.DataFrame, pl.DataFrame, Encoding | None]:
        """Transactions, labels, and how they become messages."""
        if self.mapping is None:
            from features.archive import Archive  # noqa: PLC0415 - whoever has no archive need not have delta-rs

            if Archive.is_one(self.source):
                if self.shift_to_now or self.malformed or self.duplicates or self.registry is not None:
                    raise WrongSettings(
                        "an archive's messages are sent as they came: without --shift-to-now, --malformed, --duplicates "
                        "and --registry"
                    )
                return *Archive.open(self.source).messages(), AsTheyCame()
        encoding = None if self.registry is None else InAvro.registered(self.registry, target)
        return *read_past(Path(self.source), self.mapping, on_rejected=rejected.append), encoding


@contextmanager
def _ctrl_c() -> Iterator[threading.Event]:
    """Set by the first Ctrl-C (or SIGTERM); the second one ends at once, as ever."""
    stop = threading.Event()
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def end(_number: int, _frame: FrameType | None) -> None:
        stop.set()
        for number, handler in before.items():
            signal.signal(number, handler)

    for number in before:
        signal.signal(number, end)
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def _shown(people: Console) -> Iterator[_Show]:
    bar = Bar(
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TextColumn("{task.fields[speed]}"),
        TimeRemainingColumn(),
        console=people,
        transient=True,
    )
    with bar if people.is_terminal else nullcontext():
        yield _Show(bar)


class _Show:
    """Told how far it is, shows it."""

    def __init__(self, bar: Bar) -> None:
        self._bar = bar
        self._task = bar.add_task("sending", speed="", total=None)

    def __call__(self, told: Progress) -> None:
        late = f"late p50 {told.lateness.p50:.1f} p99 {told.lateness.p99:.1f} ms"
        self._bar.update(
            self._task,
            completed=told.transactions,
            total=told.of,
            description=f"{told.world_time:%Y-%m-%d %H:%M}",
            speed=f"{told.rate:,.0f}/s, {late}, {told.labels:,} labels"
            + f", {told.failed:,} failed" * bool(told.failed),
        )


def _say(people: Console, sent: Sent, target: Target) -> None:
    say = [
        f"{sent.transactions:,} of {sent.of:,} transactions and {sent.labels:,} labels sent to {target.shown} "
        f"in {sent.seconds:.1f} s: {sent.rate:,.0f} a second",
        f"late by p50 {sent.lateness.p50:.1f}, p99 {sent.lateness.p99:.1f}, at most {sent.lateness.max:.1f} ms",
    ]
    if sent.labels_not_reached:
        say.append(f"{sent.labels_not_reached:,} labels become known only after the last transaction: not sent")
    if sent.planted:
        say.append("planted: " + ", ".join(f"{name} {count:,}" for name, count in sorted(sent.planted.items())))
    if not sent.finished:
        say.append("stopped before the end")
    for error, count in sent.failed.items():
        say.append(f"{count:,} messages did not arrive: {error}")
    people.print("\n".join(say), markup=False, highlight=False)
