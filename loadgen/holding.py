"""A stream at the rate that was asked for, or at the one that this machine holds.

Open loop measures whether a machine keeps up, and a machine that doesn't would be further behind at each second.  Where
verdicts fall too far behind, what was sent is waited for, and the rest goes on at half the rate, or less.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import msgspec

from loadgen.latency import merged
from loadgen.reader import Answers
from loadgen.stream import Progress, Sent, Stream

BEHIND = 15.0
"""Seconds that verdicts may be behind what is due before the rate is lowered: a stall is no reason, a queue is."""
ROOM = 0.8
"""Of the verdicts a second that there were, at most so much is asked for next: what has queued takes its time too."""
LEAST = 50.0
"""A second: the rate is not lowered further."""


class Leg(msgspec.Struct, frozen=True, kw_only=True):
    """A stretch of the stream at one rate."""

    rate: float
    """Transactions a second, as they were due."""
    transactions: int
    """That were sent."""


@dataclass(frozen=True, kw_only=True)
class Performed:
    """What came of it, over all rates."""

    sent: Sent
    answers: Answers
    legs: tuple[Leg, ...]

    @property
    def held(self) -> bool:
        """It was sent as was asked for."""
        return len(self.legs) == 1 and self.sent.finished


Enough = Callable[[Progress | None, Answers | None], bool]
"""Whether a stretch ends, by what was sent and answered so far."""
Sends = Callable[[Stream, Enough], tuple[Sent, Answers]]
"""Sends a stream until it is enough, and reads the answers to all that was sent: loadgen.rehearsal.Sending."""


def perform(
    stream: Stream,
    rate: float,
    send: Sends,
    *,
    within: float,
    clock: Callable[[], float],
    say: Callable[[str], None],
) -> Performed:
    """All of the stream, which was made for this `rate`; it ends after so many seconds with what was sent by then."""
    ends = clock() + within
    total, legs, parts = stream.transactions.height, list[Leg](), list[tuple[Sent, Answers]]()
    while True:
        watch = _Watch(rate, len(stream.due), ends, clock)
        sent, answers = send(stream, watch.enough)
        parts.append((sent, answers))
        legs.append(Leg(rate=rate, transactions=sent.transactions))
        done = sum(leg.transactions for leg in legs)
        if sent.finished or done >= total:
            break
        if clock() >= ends:
            say(f"{within / 60:.0f} minutes are over: it ends with {done:,} of {total:,} transactions")
            break
        lower = lowered(rate, watch.seconds, watch.verdicts)
        say(
            f"this machine does not hold {rate:,.0f} a second ({watch.verdicts:,} verdicts in {watch.seconds:.0f} s): "
            f"going on at {lower:,.0f} a second"
        )
        stream, rate = stream.rest(sent, lower), lower
    return Performed(sent=_sent(parts, total), answers=_answers(parts), legs=tuple(legs))


def lowered(rate: float, seconds: float, verdicts: int) -> float:
    """The next rate after one that was not held, with so many verdicts in so many seconds.

    >>> lowered(2000.0, 20.0, 30_000), lowered(2000.0, 20.0, 7_000), lowered(2000.0, 20.0, 0)
    (1000.0, 250.0, 50.0)
    """
    held = ROOM * verdicts / seconds if seconds else 0.0
    rate /= 2
    while rate > max(held, LEAST):
        rate /= 2
    return max(rate, LEAST)


class _Watch:
    """Whether it is time to end a stretch."""

    def __init__(self, rate: float, count: int, ends: float, clock: Callable[[], float]) -> None:
        self._rate, self._count, self._ends, self._clock = rate, count, ends, clock
        self._began: float | None = None
        self.seconds = 0.0
        self.verdicts = 0

    def enough(self, sent: Progress | None, answers: Answers | None) -> bool:
        if self._began is None:
            self._began = self._clock()
        self.seconds = self._clock() - self._began
        self.verdicts = 0 if answers is None else answers.verdicts
        over = self._began + self.seconds >= self._ends
        all_out = sent is not None and sent.transactions >= self._count
        due = min(self._rate * self.seconds, self._count)
        behind = due - self.verdicts > BEHIND * self._rate and self._rate > LEAST
        return over or (behind and not all_out)


def _sent(parts: list[tuple[Sent, Answers]], total: int) -> Sent:
    each = [sent for sent, _ in parts]
    transactions, seconds = sum(one.transactions for one in each), sum(one.seconds for one in each)
    return Sent(
        transactions=transactions,
        of=total,
        labels=sum(one.labels for one in each),
        labels_not_reached=each[-1].labels_not_reached,
        planted=_added(one.planted for one in each),
        failed=_added(one.failed for one in each),
        waited=sum(one.waited for one in each),
        seconds=seconds,
        rate=transactions / seconds if seconds else 0.0,
        lateness=max((one.lateness for one in each), key=lambda late: late.p99),  # the worst stretch's
        finished=each[-1].finished,
        start_at=each[0].start_at,
    )


def _answers(parts: list[tuple[Sent, Answers]]) -> Answers:
    each = [answers for _, answers in parts]
    total, histogram = (each[0].total, each[0].histogram) if len(each) == 1 else merged([a.histogram for a in each])
    return Answers(
        verdicts=sum(one.verdicts for one in each),
        # Of what was sent: the rest of a stretch's schedule is in the next one.
        awaited=sum(max(sent.transactions - answers.verdicts, 0) for sent, answers in parts),
        others=sum(one.others for one in each),
        outcomes=_added(one.outcomes for one in each),
        alerts=sum(one.alerts for one in each),
        right_alerts=sum(one.right_alerts for one in each),
        dead_letters=_added(one.dead_letters for one in each),
        bundles=_added(one.bundles for one in each),
        rate=each[-1].rate,
        interval=each[-1].interval,
        total=total,
        histogram=histogram,
    )


def _added(each: Iterable[dict[str, int]]) -> dict[str, int]:
    whole: Counter[str] = Counter()
    for one in each:
        whole.update(one)
    return dict(whole)
