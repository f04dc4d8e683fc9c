"""Commands as processes of their own, forked from one that has imported everything: half a second, not four.

What they do is `python -m streaming worker` and the like, in an environment of their own.  A fault is planted in a
worker from outside, by a function that patches what it imports before it begins: the product has no hooks for tests.
"""

from __future__ import annotations

import ctypes
import importlib
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from multiprocessing.connection import Connection
from typing import Any

Plant = Callable[[], None]
"""Runs in the worker's process before the worker does.  Must be picklable."""
PR_SET_PDEATHSIG = 1


def _forge() -> Any:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.fleet.preloaded"])
    return context


class Ended(AssertionError):
    """A process ended that was to go on; its log follows."""


class Log:
    """What a process writes, line by line, as it comes."""

    def __init__(self, source: Connection) -> None:
        self.lines: list[str] = []
        self.ended = False
        self._news = threading.Condition()
        threading.Thread(target=self._read, args=(source,), daemon=True).start()

    def _read(self, source: Connection) -> None:
        with os.fdopen(os.dup(source.fileno()), encoding="utf-8", errors="replace") as text:
            source.close()
            for line in text:
                with self._news:
                    self.lines.append(line.rstrip("\n"))
                    self._news.notify_all()
        with self._news:
            self.ended = True
            self._news.notify_all()

    def mark(self) -> int:
        """Where the log ends now: to wait for what comes after."""
        with self._news:
            return len(self.lines)

    def wait_for(self, *texts: str, seconds: float = 60.0, after: int = 0, times: int = 1) -> str:
        """The line with one of these texts, when it has come for the `times`th time.  Raises Ended, TimeoutError."""
        deadline = time.monotonic() + seconds
        what = " or ".join(map(repr, texts))
        with self._news:
            while True:
                found = [line for line in self.lines[after:] if any(text in line for text in texts)]
                if len(found) >= times:
                    return found[times - 1]
                if self.ended:
                    raise Ended(f"it ended before it said {what}; it said\n{self._tail()}")
                if not self._news.wait(deadline - time.monotonic()):
                    raise TimeoutError(f"it did not say {what} within {seconds:.0f} s; it said\n{self._tail()}")

    def wait_for_end(self, seconds: float) -> bool:
        """Until nobody writes any more."""
        with self._news:
            return self._news.wait_for(lambda: self.ended, seconds)

    def count(self, text: str) -> int:
        """How many lines hold `text`."""
        with self._news:
            return sum(text in line for line in self.lines)

    def __str__(self) -> str:
        with self._news:
            return self._tail()

    def _tail(self) -> str:
        return "\n".join(f"    {line}" for line in self.lines[-40:])


class Forked:
    """One process.  What it writes is its log."""

    def __init__(self, command: Sequence[str], environment: Mapping[str, str], plant: Plant | None = None) -> None:
        """`command` as after `python -m`: the package, and its arguments."""
        ours, theirs = multiprocessing.Pipe(duplex=False)
        self._process = _forge().Process(
            target=_run, args=(list(command), dict(environment), plant, theirs), daemon=True
        )
        self._process.start()
        theirs.close()
        self.pid: int = self._process.pid
        self.log = Log(ours)
        self._status: int | None = None
        self._ended = threading.Event()
        threading.Thread(target=self._wait, daemon=True).start()  # its status can be read only once, and many ask

    def _wait(self) -> None:
        self._process.join()
        self._status = self._process.exitcode
        self._ended.set()

    @property
    def running(self) -> bool:
        return not self._ended.is_set()

    def wait(self, seconds: float | None = 30.0) -> int:
        """Its exit status when it has ended, -9 if it was killed; None: however long it takes.  Raises TimeoutError."""
        if not self._ended.wait(seconds):
            raise TimeoutError(f"process {self.pid} has not ended within {seconds:.0f} s; it said\n{self.log}")
        assert self._status is not None
        self.log.wait_for_end(5.0)
        return self._status

    def signal(self, number: int) -> None:
        if self.running:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """Without a chance to say goodbye; it is gone when this returns."""
        self.signal(signal.SIGKILL)
        self.wait()

    def stop(self, seconds: float = 15.0) -> int:
        """In good order.  Its exit status."""
        self.signal(signal.SIGTERM)
        return self.wait(seconds)

    def pause(self) -> None:
        """It stands still until `resume`, and doesn't know."""
        self.signal(signal.SIGSTOP)

    def resume(self) -> None:
        self.signal(signal.SIGCONT)


def _run(command: list[str], environment: Mapping[str, str], plant: Plant | None, output: Connection) -> None:
    if sys.platform == "linux":  # it ends when the process does that it was forked from, which ends with the tests
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    os.dup2(output.fileno(), 1)
    os.dup2(output.fileno(), 2)
    output.close()
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = command
    if plant is not None:
        plant()
    importlib.import_module(f"{command[0]}.__main__").main()
