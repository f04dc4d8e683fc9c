"""What a supervisor does: a worker that ends is started again."""

from __future__ import annotations

import signal
import threading
import time
from collections import Counter
from collections.abc import Callable
from typing import Any, Self

from tests.fleet.fleet import PATIENCE, Fleet, Worker

AFTER = 0.5
"""Seconds until it is."""


class Keeper:
    """Keeps one worker in each of its slots, until it is told to let one go."""

    def __init__(self, fleet: Fleet, slots: int) -> None:
        self.ended: Counter[int] = Counter()
        """Exit statuses of workers that were not told to end."""
        self._fleet = fleet
        self._workers: dict[int, Worker] = {}
        self._threads: dict[int, threading.Thread] = {}
        self._free = {slot: threading.Event() for slot in range(slots)}
        self._launching = threading.Lock()
        for slot in range(slots):
            self.keep(slot)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for free in self._free.values():
            free.set()
        for worker in self._workers.values():
            worker.resume()
            worker.signal(signal.SIGKILL)
        for thread in self._threads.values():
            thread.join()

    @property
    def slots(self) -> list[int]:
        return sorted(self._workers)

    def worker(self, slot: int) -> Worker:
        """The one that is in this slot now."""
        return self._workers[slot]

    def wait_until(self, slot: int, holds: Callable[[dict[str, Any]], bool], seconds: float = PATIENCE) -> None:
        """Until this holds of what /readyz says of the worker in this slot, whichever it is by then.  Raises TimeoutError."""
        deadline = time.monotonic() + seconds
        while not holds(said := self.worker(slot).readiness()):
            if time.monotonic() > deadline:
                raise TimeoutError(f"slot {slot}: {said}; the worker said\n{self.worker(slot).log}")
            time.sleep(0.05)

    def keep(self, slot: int) -> Worker:
        """A worker in this slot from now on."""
        self._free[slot] = free = threading.Event()
        worker = self._launch(slot)
        self._threads[slot] = threading.Thread(target=self._keep, args=(slot, free), daemon=True)
        self._threads[slot].start()
        return worker

    def let_go(self, slot: int) -> int:
        """It leaves in good order, for good; its exit status."""
        self._free[slot].set()
        status = self._workers.pop(slot).stop()
        self._threads.pop(slot).join()
        return status

    def lose(self, slot: int) -> None:
        """It is killed, and nobody starts it again."""
        self._free[slot].set()
        self._workers.pop(slot).kill()
        self._threads.pop(slot).join()

    def _launch(self, slot: int) -> Worker:
        with self._launching:
            worker = self._workers[slot] = self._fleet.launch(slot)
        return worker

    def _keep(self, slot: int, free: threading.Event) -> None:
        worker = self._workers[slot]
        while True:
            status = worker.wait(None)
            if free.is_set():
                return
            self.ended[status] += 1
            if free.wait(AFTER):
                return
            worker = self._launch(slot)
