"""Folding the log into the store in bulk: what loading a past and rebuilding a partition number have in common."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from typing import Any

import redis
from redis.exceptions import RedisError

from features.accepting import Record
from features.describing import Describer, Folded, needed, read
from features.log import NOTHING_COMMITTED, Log
from features.position import Keys, Offsets, Position, new_epoch
from features.redis_store import COMPARE_AND_SET, retries
from features.redis_words import why
from features.settings import Settings
from schemas.activity import CounterpartyActivity
from schemas.errors import FraudScorerError, StoreUnavailable, WrongSettings
from schemas.marks import Marks
from schemas.topics import ACTIVITY, INPUTS, LABELS, TRANSACTIONS

CHUNK = 20_000
"""Messages folded at once: a profile is read and written once for all of its messages in a chunk."""
_WRITE = 2_000
Told = Callable[[int], None]
"""Hears of progress, in messages."""


class Moved(FraudScorerError):
    """A worker serves the partition number: its profiles moved meanwhile."""


class Fold:
    """A partition number's profiles, folded anew under an epoch that nobody sees before `publish`."""

    def __init__(self, settings: Settings, log: Log, number: int) -> None:
        self.settings = settings
        self.log = log
        self.number = number
        self.epoch = new_epoch()
        self.keys = Keys(settings.topic_prefix, number)
        self.rules = settings.rules()
        self.begin = Offsets(0, 0, 0)
        self.duplicates = self.reused = self.rejected = 0
        self._describer = Describer(self.rules)
        self._redis = connect(settings)
        self._before = _get(self._redis, self.keys.position)
        self._seen = False

    def accounts(
        self,
        until: Offsets,
        *,
        skipped: frozenset[tuple[int, int]] = frozenset(),
        tell: bool = False,
        told: Told = lambda _: None,
    ) -> Iterable[list[CounterpartyActivity]]:
        """Fold labels and transactions; with `tell`, give what their counterparties are to be told, a chunk at a time."""
        for i, topic in ((1, LABELS), (0, TRANSACTIONS)):
            for records in self.log.read(topic, self.number, self.begin[i], until[i], chunk=CHUNK):
                kept = [(record, tell) for record in records if (i, record.offset) not in skipped]
                yield self._fold(transactions=kept if i == 0 else [], labels=kept if i == 1 else []).activity
                told(len(records))

    def counterparties(
        self, until: int, *, skipped: frozenset[tuple[int, int]] = frozenset(), told: Told = lambda _: None
    ) -> None:
        """Fold the activity."""
        for records in self.log.read(ACTIVITY, self.number, self.begin.activity, until, chunk=CHUNK):
            self._fold(activity=[(record, False) for record in records if (2, record.offset) not in skipped])
            told(len(records))

    def publish(self, until: Offsets) -> None:
        """Let the profiles be seen.  Raises Moved where somebody wrote the position meanwhile."""
        position = Position(self.rules.format(), self.epoch, topics_digest(self.log), until)
        self._seen = True  # also where the answer is lost
        try:
            found = self._redis.eval(COMPARE_AND_SET, 1, self.keys.position, self._before, bytes(position))
        except RedisError as error:
            raise StoreUnavailable(why(error)) from error
        if found is not None:
            self._seen = False
            raise Moved(f"partition {self.number}: its position moved to {found!r} meanwhile: a worker serves it")
        try:
            before = Position.parse(self._before).epoch
        except ValueError:
            return  # there was none
        forget(self._redis, self.keys, before)

    def give_up(self) -> None:
        """Remove what was folded, unless it can be seen already."""
        if not self._seen:
            forget(self._redis, self.keys, self.epoch)

    def _fold(
        self,
        transactions: list[tuple[Record, bool]] = [],  # noqa: B006 - never written to
        labels: list[tuple[Record, bool]] = [],  # noqa: B006
        activity: list[tuple[Record, bool]] = [],  # noqa: B006
    ) -> Folded:
        batch = read(self.rules, transactions, labels, activity)
        self.rejected += len(batch.rejected)
        need = needed(batch, self.rules.partitions, to_describe=False)
        accounts = [self.keys.account(self.epoch, name) for name in need.accounts]
        counterparties = [self.keys.counterparty(self.epoch, name) for name in need.counterparties]
        try:
            folded = self._describer.fold(batch, need, self._recall(accounts), self._recall(counterparties))
            self._remember(accounts, folded.accounts)
            self._remember(
                [self.keys.counterparty(self.epoch, name) for name in folded.counterparties], folded.counterparties
            )
        except RedisError as error:
            raise StoreUnavailable(why(error)) from error
        self.duplicates += folded.duplicates
        self.reused += folded.reused
        return folded

    def _recall(self, keys: list[str]) -> list[bytes | None]:
        blobs: list[bytes | None] = []
        for start in range(0, len(keys), _WRITE):
            found: Any = self._redis.mget(keys[start : start + _WRITE])
            blobs += found
        return blobs

    def _remember(self, keys: list[str], blobs: dict[str, bytes]) -> None:
        pairs = list(zip(keys, blobs.values(), strict=True))
        for start in range(0, len(pairs), _WRITE):
            self._redis.mset(dict(pairs[start : start + _WRITE]))


def connect(settings: Settings) -> redis.Redis:
    """A connection for tools: patient, for a server that is busy with what we send it."""
    return redis.Redis.from_url(settings.redis_url, socket_timeout=30, socket_connect_timeout=5, retry=retries())


def _get(client: redis.Redis, key: str) -> bytes:
    try:
        found: Any = client.get(key)
    except RedisError as error:
        raise StoreUnavailable(why(error)) from error
    return found or b""


def topics_digest(log: Log) -> str:
    """Names the input topics as they are now: made anew under the same names they are others."""
    return hashlib.sha256("".join(log.topic_ids()).encode()).hexdigest()[:8]


def forget(client: redis.Redis, keys: Keys, epoch: str) -> int:
    """Remove the profiles of an epoch that is no longer seen.  How many."""
    gone = 0
    found: list[bytes] = []
    for key in client.scan_iter(match=keys.of_epoch(epoch), count=1000):
        found.append(key)
        if len(found) == _WRITE:
            gone += int(client.unlink(*found))
            found = []
    if found:
        gone += int(client.unlink(*found))
    return gone


def rebuild(
    settings: Settings, log: Log, number: int, *, from_here: bool = False, told: Told = lambda _: None
) -> Offsets:
    """Fold a partition number's profiles from its log, up to what the group has committed; where they end.

    With `from_here` a log that no longer begins at its beginning is accepted as it is.  Raises WrongSettings where it
    isn't, Moved where a worker serves the number (delete its position key instead, and the worker does the same).
    """
    committed, metadata = log.committed(number)
    bounds = [log.bounds(topic, number) for topic in INPUTS]
    low = Offsets(*(bound[0] for bound in bounds))
    if any(low) and not from_here:
        raise WrongSettings(
            f"partition {number}: the log begins at {tuple(low)}, what came before is gone: bring it back from an archive, "
            "or accept profiles that begin there with --from-here"
        )
    left_out = Marks.parse(metadata).left_out
    if committed.transactions == NOTHING_COMMITTED and (said := log.told(number)) is not None:
        committed, left_out = said.until, said.marks.left_out  # the group expired, or was deleted
    until = Offsets(*(min(max(offset, first), high) for offset, (first, high) in zip(committed, bounds, strict=True)))
    fold = Fold(settings, log, number)
    fold.begin = low
    skipped = frozenset(log.left_out(number)) if left_out else frozenset()
    try:
        for _ in fold.accounts(until, skipped=skipped, told=told):
            pass
        fold.counterparties(until.activity, skipped=skipped, told=told)
        fold.publish(until)
    except BaseException:
        fold.give_up()
        raise
    return until
