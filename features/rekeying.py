"""After another FRAUD_ID_KEY: what counterparties are told, derived anew from transactions and labels.

Hashes by another key are names of nothing here.  So no fold takes in activity by another key: it stays where it is on the
log, and `rekey` writes the same once more by this installation's, all or none, and commits the group's offsets behind it, so
that it is folded before anybody is judged.  No partition is folded from nothing before that, or counterparties would have no
past, and nobody would notice.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from typing import NamedTuple

from features.accepting import Record, Rules
from features.collecting import spare_the_collector
from features.log import Log, Written
from features.position import Offsets
from features.rebuild import Fold
from features.resuming import told_of
from features.settings import Settings
from schemas.activity import CounterpartyActivity, decode_activity
from schemas.errors import BadMessage, WrongSettings
from schemas.marks import Trace
from schemas.topics import ACTIVITY
from schemas.wire import encode

Told = Callable[[str, int], None]
"""Hears of progress: of which step, how many messages more."""
STEPS = ("activity read", "accounts folded")
_Place = tuple[int, int, bool]
"""Partition and offset of a transaction, or of a label."""


class Rekeyed(NamedTuple):
    """What was derived anew."""

    derived: int
    """Messages written."""
    gone: int
    """Messages by another key whose transaction or label is on the log no more: their counterparties have lost them."""


def rekey(settings: Settings, told: Told = lambda _step, _count: None) -> Rekeyed:
    """Derive anew whatever was told by another key, and write it behind: all or none, and what is there already no second time.

    Raises WrongSettings where workers run, LogUnavailable, StoreUnavailable.
    """
    spare_the_collector()
    rules = settings.rules()
    with Log(settings) as log:
        log.check_topics()
        if members := log.members():
            raise WrongSettings(f"group {settings.group} has workers ({', '.join(members)}): stop them first")
        heard = _Heard(log, rules, told)
        heard.read_on()
        if not heard.others:
            return Rekeyed(0, 0)
        wanted, count = heard.wanted(), 0
        if wanted:
            count = log.write(ACTIVITY, _derived(settings, log, wanted, told), at_once_as=f"{settings.group}-rekey")
            heard.read_on()
        # Also where all was derived before, by a run that ended before this.
        _commit_behind(log, heard.last)
    return Rekeyed(count, len(wanted))


class _Heard:
    """What counterparties were told, by our key and by others."""

    def __init__(self, log: Log, rules: Rules, told: Told) -> None:
        self._log, self._ours, self._told = log, rules.keys.fingerprint, told
        self._next = dict.fromkeys(range(rules.partitions), 0)
        self.others: dict[_Place, str] = {}
        """By another key: the topic's id by place."""
        self.ours: set[_Place] = set()
        self.last: dict[int, Record] = {}
        """By partition number: the last message by our key."""

    def read_on(self) -> None:
        """All that has come since."""
        for number, at in self._next.items():
            low, high = self._log.bounds(ACTIVITY, number)
            for records in self._log.read(ACTIVITY, number, max(low, at), high):
                for record in records:
                    with suppress(BadMessage):
                        self._hear(number, record)
                self._told(STEPS[0], len(records))
            self._next[number] = high

    def _hear(self, number: int, record: Record) -> None:
        one = decode_activity(record.value)
        if one.hashed_by == self._ours:
            self.ours.add(_place(one))
            self.last[number] = record
        else:
            self.others[_place(one)] = one.source.topic_id

    def wanted(self) -> dict[_Place, str]:
        """What was told by another key, and not by ours."""
        return {place: topic_id for place, topic_id in self.others.items() if place not in self.ours}


def _commit_behind(log: Log, last: Mapping[int, Record]) -> None:
    """Let what was derived count as told: it is folded before anybody is judged by it, as whatever was told before."""
    for number, record in last.items():
        standing = log.standing(number, b"", outputs=False)
        if standing.offsets().activity <= record.offset:
            log.commit(number, [record.offset + 1], [Trace(record.topic_id, record.landmark()).text()], [ACTIVITY])


def _place(one: CounterpartyActivity) -> _Place:
    return one.source.partition, one.source.offset, one.known_at is not None


def _derived(settings: Settings, log: Log, wanted: dict[_Place, str], told: Told) -> Iterator[Written]:
    """By our key; what is given is wanted no longer."""
    for number in range(settings.partitions):
        fold = Fold(settings, log, number)
        standing = log.standing(number, fold.before)
        known = told_of(log, standing, None)
        until = Offsets(*map(min, known.until, standing.high))
        left_out = log.left_out(number, standing.topics) if known.marks.left_out else {}
        fold.begin = standing.low
        try:
            for some in fold.accounts(until, skipped=frozenset(left_out), tell=True, told=lambda n: told(STEPS[1], n)):
                for one in some:
                    # Before releases that name the topic, none is named; another topic's id is of a log that is gone.
                    if wanted.get(_place(one)) in ("", one.source.topic_id):
                        del wanted[_place(one)]
                        yield Written(one.counterparty_id.encode(), encode(one))
        finally:
            fold.give_up()  # the accounts' profiles were only needed on the way
