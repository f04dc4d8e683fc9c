"""Folding the log into the store in bulk: what loading a past and rebuilding a partition number have in common."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from typing import Any, NamedTuple

import redis
from redis.exceptions import RedisError

from features.accepting import Record
from features.continuity import Broken, Place, Standing
from features.describing import Describer, Folded, needed, read
from features.foreign_activity import by_another_key
from features.log import Log
from features.losses import in_words, is_kept, letters_of, still_told
from features.pin import pin
from features.position import Keys, Offsets, Position, Resumption, TopicIds, new_epoch
from features.redis_store import COMPARE_AND_SET, retries
from features.redis_words import why
from features.resuming import left_out_of, told_of
from features.settings import Settings
from schemas.activity import CounterpartyActivity
from schemas.errors import FraudScorerError, PartitionParked, StoreUnavailable, WrongSettings
from schemas.marks import Landmark
from schemas.topics import ACTIVITY, LABELS, TRANSACTIONS

CHUNK = 20_000
"""Messages folded at once: a profile is read and written once for all of its messages in a chunk."""
_WRITE = 2_000
_BUSY = 30.0
"""Seconds that Redis may take for an answer while it is sent thousands of profiles."""
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
        self.last: dict[int, Landmark] = {}
        """By index of the input topic, the last record that was folded."""
        self.duplicates = self.reused = self.rejected = 0
        self._describer = Describer(self.rules)
        self._redis = connect(settings)
        self.before = _get(self._redis, self.keys.position)
        """The position, as it was when this began."""
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
                self._note_last(i, records)
                kept = [(record, tell) for record in records if (i, record.offset) not in skipped]
                yield self._fold(transactions=kept if i == 0 else [], labels=kept if i == 1 else []).activity
                told(len(records))

    def counterparties(
        self, until: int, *, skipped: frozenset[tuple[int, int]] = frozenset(), told: Told = lambda _: None
    ) -> None:
        """Fold the activity."""
        for records in self.log.read(ACTIVITY, self.number, self.begin.activity, until, chunk=CHUNK):
            self._note_last(2, records)
            self._fold(activity=[(record, False) for record in records if (2, record.offset) not in skipped])
            told(len(records))

    def _note_last(self, topic: int, records: list[Record]) -> None:
        if records:
            self.last[topic] = records[-1].landmark()

    def publish(self, until: Offsets, topics: TopicIds, resumption: Resumption | None = None) -> None:
        """Let the profiles be seen, as those of the log of these topics.  Raises Moved, StoreUnavailable."""
        begun = Position(self.rules.format(), self.epoch, topics, self.begin, resumption=resumption)
        self._seen = True  # also where the answer is lost
        try:
            move(self._redis, self.keys, self.before, begun.moved(until, self.last))
        except Moved:
            self._seen = False
            raise
        try:
            before = Position.parse(self.before).epoch
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
    """A connection for tools: patient, for a server that is busy with what we send it.

    Raises StoreUnavailable where it does not answer a first question within FRAUD_REDIS_TIMEOUT, or refuses it.
    """
    with asking(settings) as client:
        try:
            client.ping()
        except RedisError as error:
            raise StoreUnavailable(why(error)) from error
    return redis.Redis.from_url(
        settings.redis_url, socket_timeout=_BUSY, socket_connect_timeout=settings.redis_timeout, retry=retries()
    )


def asking(settings: Settings) -> redis.Redis:
    """A connection for a few small questions: each is answered within FRAUD_REDIS_TIMEOUT, or a RedisError."""
    return redis.Redis.from_url(
        settings.redis_url,
        socket_timeout=settings.redis_timeout,
        socket_connect_timeout=settings.redis_timeout,
        retry=retries(),
    )


def _get(client: redis.Redis, key: str) -> bytes:
    try:
        found: Any = client.get(key)
    except RedisError as error:
        raise StoreUnavailable(why(error)) from error
    return found or b""


def move(client: redis.Redis, keys: Keys, before: bytes, now: Position) -> None:
    """Write a position where `before` stands.  Raises Moved where it no longer does, StoreUnavailable."""
    try:
        found = client.eval(COMPARE_AND_SET, 1, keys.position, before, bytes(now))
    except RedisError as error:
        raise StoreUnavailable(f"Redis does not answer: {error}") from error
    if found is not None and found != bytes(now):
        raise Moved(f"{keys.position} moved to {found!r} meanwhile: a worker serves that partition number")


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


class Rebuilt(NamedTuple):
    """What a rebuild made of a partition number."""

    until: Offsets
    """Where its profiles end."""
    lost: list[str]
    """The records that are gone, in words."""


def rebuild(
    settings: Settings,
    log: Log,
    number: int,
    *,
    from_here: bool = False,
    accept_loss: bool = False,
    told: Told = lambda _: None,
) -> Rebuilt:
    """Fold a partition number's profiles from its log, up to what was told of it.

    With `from_here` a log that no longer begins at its beginning is accepted as it is, with `accept_loss` one that no longer
    holds what was judged; what is there and was never judged is judged then.  Raises WrongSettings where one of them is
    needed, saying what is lost; Moved where a worker serves the number (delete its position key instead, and the worker does
    the same); LogUnavailable, StoreUnavailable.
    """
    with asking(settings) as client:
        try:
            pin(client, settings)
        except RedisError as error:
            raise StoreUnavailable(why(error)) from error
    fold = Fold(settings, log, number)
    standing = log.standing(number, fold.before)
    if any(standing.low) and not from_here:
        raise WrongSettings(
            f"partition {number}: the log begins at {tuple(standing.low)}, what came before is gone: bring it back from an "
            "archive, or accept profiles that begin there with --from-here"
        )
    instead_of = standing.committed_as
    foreign = standing.foreign()
    if foreign is not None and accept_loss:
        standing = standing.by_outputs()
    position = standing.position_if_any()
    breaks = [] if foreign and not accept_loss else standing.breaks(position, lambda at: log.landmarks(number, at))
    lost = [one.says for one in breaks if one.kind is Broken.LOST_ITS_END]
    lost += [why for why in (foreign, standing.lost_verdicts(position) if not foreign else None) if why is not None]
    if lost and not accept_loss:
        raise WrongSettings(f"partition {number}: {'; '.join(lost)}. --accept-loss goes on with what is there")
    known = told_of(log, standing, _of_this_log(position, standing))
    goes_on = still_told(log, standing, known.until, breaks)
    until = Offsets(*map(min, goes_on, standing.high))
    left_out: Collection[Place] = ()
    if known.marks.left_out or foreign:
        try:
            left_out = left_out_of(log, standing, known)
        except PartitionParked as fewer:
            if not accept_loss:
                raise WrongSettings(str(fewer)) from fewer
            lost.append(str(fewer))
            left_out = log.left_out(number, standing.topics)
    skipped = frozenset(place for place in left_out if is_kept(place, breaks, goes_on))
    letters = letters_of(log, standing, position, breaks, goes_on)
    fold.begin = standing.low
    if not from_here and (why_not := by_another_key(log, number, fold.rules)) is not None:
        raise WrongSettings(why_not)
    try:
        for _ in fold.accounts(until, skipped=skipped, told=told):
            pass
        fold.counterparties(until.activity, skipped=skipped, told=told)
        log.publish_letters(letters)
        fold.publish(until, standing.topics, Resumption(goes_on, instead_of) if lost else None)
    except BaseException:
        fold.give_up()
        raise
    return Rebuilt(until, in_words(letters))


def skip_gap(settings: Settings, log: Log, number: int) -> Rebuilt:
    """Keep a partition number's profiles, and go on behind records that retention took before they were folded.

    Raises WrongSettings where there is no such gap, or more is wrong; Moved, LogUnavailable, StoreUnavailable.
    """
    client, keys = connect(settings), Keys(settings.topic_prefix, number)
    standing = log.standing(number, _get(client, keys.position))
    position = standing.position()
    if position is None or position.format != settings.rules().format():
        raise WrongSettings(f"partition {number}: there are no profiles to keep; `features rebuild` folds them anew")
    breaks = standing.breaks(position, lambda at: log.landmarks(number, at))
    if not breaks or any(one.kind is not Broken.BEGINS_LATER for one in breaks):
        why = "; ".join(one.says for one in breaks) or "its profiles end where the log goes on"
        raise WrongSettings(f"partition {number}: there is no gap to skip: {why}")
    until = Offsets(*map(max, position.next, standing.low))
    letters = letters_of(log, standing, position, breaks, until)
    log.publish_letters(letters)
    move(client, keys, standing.raw, position.moved(until, {}))
    return Rebuilt(until, in_words(letters))


def _of_this_log(position: Position | None, standing: Standing) -> Position | None:
    """What a position says of topics that were not made anew since."""
    if position is None:
        return None
    same = [was == now for was, now in zip(position.topics, standing.topics, strict=True)]
    return position._replace(next=Offsets(*(at if kept else 0 for at, kept in zip(position.next, same, strict=True))))
