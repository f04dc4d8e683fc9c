"""Profiles that are none: whose they are, in words that name nobody, and what follows from it."""

from __future__ import annotations

import logging
import time
from collections.abc import Container

from features.describing import Batch, Needed, Taken
from features.profile import DamagedProfiles
from schemas.errors import PartitionParked
from schemas.topics import ACTIVITY, LABELS, TRANSACTIONS

log = logging.getLogger(__name__)

SAID_AGAIN = 60.0
"""Seconds after which a damaged profile in another worker's partition is named once more."""


class Damage:
    """What a worker does about damaged profiles: its own park their partition, those of others are done without."""

    def __init__(self) -> None:
        self._said: dict[int, float] = {}

    def unknown(self, found: DamagedProfiles, batch: Batch, need: Needed, mine: Container[int]) -> frozenset[str]:
        """The counterparties among `found` that other workers' partitions hold.

        Raises PartitionParked, for the first of them that lies in one of `mine`.
        """
        names = list(need.accounts if found.of_accounts else need.counterparties)
        homes = need.account_partitions if found.of_accounts else need.counterparty_partitions
        for row in found.rows:
            number = homes[row]
            whose = _whose(names[row], batch, of_account=found.of_accounts)
            if number in mine:
                raise PartitionParked(
                    f"partition {number}: the profile of {whose} is damaged in Redis: somebody else wrote there, or it was "
                    f"not kept as it was written; `features rebuild --partition {number}` folds all of them anew",
                    partition=number,
                )
            self._say(number, whose)
        return frozenset(names[row] for row in found.rows)

    def _say(self, number: int, whose: str) -> None:
        now = time.monotonic()
        if now - self._said.get(number, -SAID_AGAIN) >= SAID_AGAIN:
            self._said[number] = now
            log.warning(
                "the profile of %s, in partition %d, which another worker serves, is damaged in Redis: it is done without, and "
                "verdicts that lack it are flagged `degraded`; `features rebuild --partition %d` folds all of them anew",
                whose, number, number,
            )  # fmt: skip


def _whose(name: str, batch: Batch, *, of_account: bool) -> str:
    """By a message that names it: no id may stand in a log."""
    kind = "the account" if of_account else "the counterparty"
    topics: list[tuple[str, list[Taken]]] = [(TRANSACTIONS.name, batch.transactions)]
    topics.insert(0, (LABELS.name, batch.labels) if of_account else (ACTIVITY.name, batch.activity))
    for topic, taken in topics:
        for record, message, _ in taken:
            if name == (message.account_id if of_account else message.counterparty_id):
                return f"{kind} that {topic} [{record.partition}] at {record.offset} names"
    return kind
