"""What the servers of the local stack have in common: a folder, ports that were free, a process, and a log to quote."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

from deploy.local.children import Child, Children, FailedToStart, LocalStackError, NotRunning, tail
from deploy.local.ports import free_ports

_TAKEN = ("Address already in use", "seems to be in use by another process")
"""As Kafka and Redis say it, and as Quarkus does."""


class Server(ABC):
    """One server with what it keeps in one folder.  `launch` after `kill` is a restart, on the same ports."""

    name: ClassVar[str]
    """As people call it."""
    ports_needed: ClassVar[int] = 1
    ready_within: ClassVar[float]
    """Seconds."""

    def __init__(self, folder: Path, children: Children) -> None:
        self.folder = folder
        self._children = children
        self._ports: tuple[int, ...] = ()
        self._child: Child | None = None

    @property
    @abstractmethod
    def url(self) -> str:
        """Raises NotRunning where it was never started."""

    @property
    def pid(self) -> int:
        """Raises NotRunning."""
        return self._running().pid

    @property
    def running(self) -> bool:
        return self._child is not None and self._child.running

    def kill(self) -> None:
        """As a crash would.  Raises NotRunning."""
        self._running().kill()

    def stop(self) -> None:
        """In good order, where it runs."""
        if self._child is not None:
            self._child.stop()

    def launch(self) -> None:
        """Start the process, and don't wait for it; `wait_until_ready` does."""
        if self.running:
            raise LocalStackError(f"{self.name} is running already")
        self.folder.mkdir(parents=True, exist_ok=True)
        if not self._ports:
            self._choose_ports()
        self._spawn()

    def wait_until_ready(self) -> None:
        """Until it does what it is for.

        Raises FailedToStart with the tail of its log.
        """
        deadline = time.monotonic() + self.ready_within
        for _ in range(3):
            try:
                self._wait(deadline)
                return
            except FailedToStart:
                if not self._port_was_taken():
                    raise
                self._choose_ports()  # someone was faster on the one that was free a moment ago
                self._spawn()
        raise FailedToStart(f"{self.name} found no port of its own.  Its log says:\n{tail(self._log)}")

    @abstractmethod
    def _configure(self) -> None:
        """Write its settings, with the ports, into the folder."""

    @abstractmethod
    def _command(self) -> Sequence[str | Path]:
        """Make ready what it needs in the folder, and say what starts it there."""

    @abstractmethod
    def _wait(self, deadline: float) -> None:
        """Until it is ready, by `_expect_life` no longer than it may."""

    @property
    def _port(self) -> int:
        if not self._ports:
            raise NotRunning(f"{self.name} was never started")
        return self._ports[0]

    @property
    def _log(self) -> Path:
        return self.folder / f"{self.name.lower()}.log"

    def _running(self) -> Child:
        if self._child is None or not self._child.running:
            raise NotRunning(f"{self.name} is not running")
        return self._child

    def _choose_ports(self) -> None:
        self._ports = free_ports(self.ports_needed)
        self._configure()

    def _port_was_taken(self) -> bool:
        said = tail(self._log, lines=100)
        return not self.running and any(words in said for words in _TAKEN)

    def _spawn(self) -> None:
        self._log.unlink(missing_ok=True)
        self._child = self._children.start(self.name.lower(), self._command(), folder=self.folder, log=self._log)

    def _expect_life(self, deadline: float) -> None:
        if not self.running:
            raise FailedToStart(f"{self.name} ended while starting.  Its log says:\n{tail(self._log)}")
        if time.monotonic() > deadline:
            self.kill()
            raise FailedToStart(
                f"{self.name} was not ready within {self.ready_within:.0f} s.  Its log says:\n{tail(self._log)}"
            )
