"""After another FRAUD_ID_KEY: what counterparties are told, derived anew from transactions and labels.

Hashes by another key are names of nothing here.  So no fold takes in activity by another key: it stays where it is on the
log, and `rekey` writes the same once more by this installation's, all or none.  No partition is folded from nothing
before that, or counterparties would have no past, and nobody would notice.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import NamedTuple

from features.accepting import Rules
from features.collecting import spare_the_collector
from features.log import Log, Written
from features.position import Offsets
from features.rebuild import Fold
from features.resuming import told_of
from features.settings import Settings
from schemas.activity import CounterpartyActivity, decode_activity
from schemas.errors import BadMessage, WrongSettings
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
        wanted = _by_other_keys(log, rules, told)
        if not wanted:
            return Rekeyed(0, 0)
        count = log.write(ACTIVITY, _derived(settings, log, wanted, told), at_once_as=f"{settings.group}-rekey")
    return Rekeyed(count, len(wanted))


def _by_other_keys(log: Log, rules: Rules, told: Told) -> dict[_Place, str]:
    """What was told by another key, and not by ours: the topic's id by place."""
    others: dict[_Place, str] = {}
    ours: set[_Place] = set()
    for number in range(rules.partitions):
        for records in log.read(ACTIVITY, number, *log.bounds(ACTIVITY, number)):
            for record in records:
                with suppress(BadMessage):
                    one = decode_activity(record.value)
                    if one.hashed_by == rules.keys.fingerprint:
                        ours.add(_place(one))
                    else:
                        others[_place(one)] = one.source.topic_id
            told(STEPS[0], len(records))
    return {place: topic_id for place, topic_id in others.items() if place not in ours}


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
