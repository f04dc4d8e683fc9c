"""A steady stream, as payments come: it does not wait for anybody.  And how long each one waited for its verdict."""

from __future__ import annotations

import threading
import time
from datetime import timedelta
from typing import Self

from schemas.topics import TRANSACTIONS
from schemas.transaction import decode_transaction
from tests.fleet.fleet import Fleet
from tests.fleet.messages import Life, Outgoing

TICK = 0.01
"""Seconds at least between two looks at the clock."""
EVERY_SO_MANY_A_DUPLICATE, EVERY_SO_MANY_NONSENSE = 997, 1_501


class Traffic:
    """Sends from `with` on, until it ends."""

    def __init__(self, fleet: Fleet, *, rate: float = 2_000, seed: int = 1) -> None:
        self.rate = rate
        self.sent_at: dict[str, float] = {}
        """By transaction_id, in order: time.monotonic() when it was handed to Kafka's client."""
        self._ids: list[str] = []
        self._answered = 0
        self._life = (
            Life(  # which reaches now, and what comes then is from the future, after four minutes at 2,000 a second
                seed=seed, accounts=3_000, counterparties=400, every=timedelta(seconds=1), name=f"traffic-{seed}"
            )
        )
        self._fleet = fleet
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True, name="traffic")

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()
        assert self._fleet.producer.flush(120) == 0, "Kafka did not take all that was sent"

    def answered_up_to(self, moment: float) -> bool:
        """Whether everything that was sent before has its verdict."""
        heard = self._fleet.answers.heard_at
        while self._answered < len(self._ids):
            one = self._ids[self._answered]
            if self.sent_at[one] >= moment:
                return True
            if one not in heard:
                return False
            self._answered += 1
        return self._over.is_set()

    def longest_wait(self, begin: float, end: float) -> float:
        """Of what was sent between these moments and has a verdict, the longest time until it could be read."""
        heard = self._fleet.answers.heard_at
        return max(
            (heard[one] - at for one, at in self.sent_at.items() if begin <= at < end and one in heard), default=0.0
        )

    def _run(self) -> None:
        began = time.monotonic()
        while not self._over.is_set():
            for one in self._life.messages(1):
                number = len(self._ids)
                while (early := began + number / self.rate - time.monotonic()) > 0:
                    self._fleet.producer.poll(0)
                    if self._over.wait(max(early, TICK)):
                        return
                self._produce(one)
                if one.topic is not TRANSACTIONS:
                    continue
                if number % EVERY_SO_MANY_A_DUPLICATE == 0:
                    self._produce(one)
                if number % EVERY_SO_MANY_NONSENSE == 0:
                    self._produce(Outgoing(value=b'{"nonsense', key=one.key))
                transaction_id = decode_transaction(one.value).transaction_id
                self.sent_at[transaction_id] = time.monotonic()
                self._ids.append(transaction_id)

    def _produce(self, one: Outgoing) -> None:
        while True:
            try:
                self._fleet.producer.produce(self._fleet.settings.topic(one.topic), one.value, one.key)
                return
            except BufferError:  # Kafka is away
                self._fleet.producer.poll(0.05)
