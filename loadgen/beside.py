"""A part of loadgen in a process of its own, so that neither the sender nor the reader waits for the other.

sending = Beside(send_stream, stream, target)
reading = Beside(read_answers, stream.schedule(), target)
sending.wait_ready(), reading.wait_ready()
start_at = time.time_ns() // 1_000 + 200_000
sending.begin(start_at), reading.begin(start_at)
while sending.running:
    show(sending.latest(), reading.latest())
sent = sending.result()
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from multiprocessing.synchronize import Event
from typing import Any, Generic, TypeVar, cast

import msgspec

from loadgen.reader import Answers, Reader
from loadgen.stream import Progress, Schedule, Sent, Stream
from loadgen.target import Target
from schemas.errors import FraudScorerError, WrongSettings

Told = TypeVar("Told")
Result = TypeVar("Result")

_context = multiprocessing.get_context("spawn")


class Ended(FraudScorerError):
    """The other process ended without a result; the message says why."""


class Line(Generic[Told]):
    """How the work in the other process talks with this one."""

    def __init__(self, pipe: Connection, stop: Event) -> None:
        self._pipe = pipe
        self.stop = stop

    def ready(self) -> int | None:
        """Says that all is prepared, and waits: when it begins, microseconds since 1970 UTC; None if it shall not."""
        self._pipe.send(("ready", None))
        while not self.stop.is_set():
            if self._pipe.poll(0.05):
                return cast(int, self._pipe.recv())
        return None

    def tell(self, progress: Told) -> None:
        """How far it is."""
        self._pipe.send(("progress", progress))


class Beside(Generic[Told, Result]):
    """`work(line, *arguments)` in a process of its own, which ends with this one, whatever ends it.

    Ctrl-C reaches only this process, which says when the other one stops.
    """

    def __init__(self, work: Callable[..., Result], *arguments: object) -> None:
        self._stop = _context.Event()
        self._pipe, theirs = _context.Pipe()
        self._process = _context.Process(target=_work, args=(work, theirs, self._stop, arguments), daemon=True)
        # The child inherits the mask: a Ctrl-C while it is still importing would leave a traceback on the screen.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            self._process.start()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        theirs.close()
        self._ready = False
        self._told: Told | None = None
        self._result: Result | None = None
        self._why = ""
        self._over = False

    @property
    def running(self) -> bool:
        """It has neither given its result nor died."""
        self._hear()
        return not self._over

    def wait_ready(self, timeout: float = 600.0) -> None:
        """Until all is prepared.  Raises Ended, or WrongSettings where that is why it ended."""
        deadline = time.monotonic() + timeout
        while not self._ready:
            if not self.running:
                self._raise()
            if time.monotonic() > deadline:
                raise Ended(f"not ready within {timeout:.0f} s")
            self._pipe.poll(0.05)

    def begin(self, start_at: int) -> None:
        """The first message is due at `start_at`, microseconds since 1970 UTC."""
        with contextlib.suppress(OSError):
            self._pipe.send(start_at)

    def latest(self) -> Told | None:
        """What it told last; the same again where there is nothing new."""
        self._hear()
        return self._told

    def stop(self) -> None:
        """Asks it to end; it still gives its result."""
        self._stop.set()

    def result(self, timeout: float = 300.0) -> Result:
        """Waits for it.  Raises Ended, or WrongSettings where that is why it ended."""
        deadline = time.monotonic() + timeout
        while self.running:
            if time.monotonic() > deadline:
                raise Ended(f"no result within {timeout:.0f} s")
            self._pipe.poll(0.05)
        if self._why:
            self._raise()
        self.close()
        return cast(Result, self._result)

    def close(self) -> None:
        """Ends it, with or without a result."""
        self._stop.set()
        self._process.join(3.0)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()

    def _hear(self) -> None:
        try:
            while not self._over and self._pipe.poll(0):
                kind, what = self._pipe.recv()
                if kind == "ready":
                    self._ready = True
                elif kind == "progress":
                    self._told = what
                elif kind == "result":
                    self._result, self._over = what, True
                else:
                    self._why, self._over = what, True
        except (EOFError, OSError):
            self._process.join(1.0)
            self._why, self._over = f"it died with exit status {self._process.exitcode}", True

    def _raise(self) -> None:
        self.close()
        kind, _, why = self._why.partition(": ")
        raise WrongSettings(why) if kind == WrongSettings.__name__ else Ended(self._why)


def _work(work: Callable[..., Any], pipe: Connection, stop: Event, arguments: tuple[object, ...]) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        result = work(Line(pipe, stop), *arguments)
    except BrokenPipeError:
        return  # nobody is there to hear it
    except Exception as error:  # whatever it is, the other process says it
        pipe.send(("error", f"{type(error).__name__}: {error}"))
    else:
        pipe.send(("result", result))


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def send_stream(line: Line[Progress], stream: Stream, target: Target) -> Sent | None:
    """Encodes, is ready, and sends from when it is told to begin; None where it was stopped before."""
    prepared = stream.prepare()
    start_at = line.ready()
    return None if start_at is None else prepared.send(target, start_at=start_at, progress=line.tell, stop=line.stop)


def read_answers(
    line: Line[Answers], schedule: Schedule, target: Target, frauds: frozenset[str] = frozenset()
) -> Answers:
    """Reads what comes after this moment; ends when every scheduled transaction has its verdict, or when stopped.

    `frauds` are the transactions of which alerts are right.
    """
    with Reader(target, schedule, frauds=frauds) as reader:
        start_at = line.ready()
        if start_at is not None:
            reader.read(start_at, progress=line.tell, stop=line.stop)
        return msgspec.structs.replace(reader.answers(), histogram=reader.histogram())
