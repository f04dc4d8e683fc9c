"""A machine that can't hold the rate is given a lower one; whatever it holds, all that was sent is accounted for."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from itertools import pairwise

import numpy as np
import polars as pl
import pytest

from loadgen.holding import LEAST, Enough, Performed, lowered, perform
from loadgen.latency import Latency, Recorder, merged
from loadgen.mischief import Mischief
from loadgen.pace import at_falling_rate
from loadgen.reader import Answers
from loadgen.rehearsal import Failed, wait_while_it_moves
from loadgen.retraining import GOES_ON_FOR, LEGS, TRANSACTIONS, WITHIN, UntilSwapped
from loadgen.stream import Progress, Sent, Stream
from tests.unit.pasts import a_past

PAST = a_past(days=10, per_day=1_500)
ALL = PAST[0].height


class Machine:
    """Takes so many transactions a second, whatever is due, and tells of it each second of a clock of its own."""

    def __init__(self, holds: float) -> None:
        self.holds = holds
        self.now = 0.0
        self.streams: list[Stream] = []

    def clock(self) -> float:
        return self.now

    def send(self, stream: Stream, enough: Enough) -> tuple[Sent, Answers]:
        self.streams.append(stream)
        began, of, sent, verdicts = self.now, len(stream.due), 0, 0
        while verdicts < of:
            if enough(progress(sent, of), answers(verdicts, of)):
                break
            self.now += 1.0
            sent = int(np.searchsorted(stream.due, (self.now - began) * 1e6, side="right"))
            verdicts = min(sent, verdicts + int(self.holds))
        self.now += (sent - verdicts) / self.holds if self.holds else 0.0  # what was sent is waited for
        planted = sum(one.after < sent for one in stream.planted)
        labels = sum(bool(due <= stream.due[max(sent - 1, 0)]) for due in stream.labels_due)
        return (
            a_sent(sent, of, self.now - began, {"duplicate": planted} if planted else {}, labels),
            answers(sent if self.holds else 0, of),
        )


def progress(sent: int, of: int) -> Progress:
    return Progress(
        transactions=sent, of=of, labels=0, planted=0, failed=0, seconds=0.0, rate=0.0,
        world_time=datetime(2026, 3, 1, tzinfo=UTC), lateness=Latency(),
    )  # fmt: skip


def a_sent(sent: int, of: int, seconds: float, planted: dict[str, int], labels: int = 0) -> Sent:
    return Sent(
        transactions=sent, of=of, labels=labels, labels_not_reached=0, planted=planted, failed={}, waited=0,
        seconds=seconds, rate=0.0, lateness=Latency(), finished=sent == of, start_at=0,
    )  # fmt: skip


def answers(verdicts: int, of: int = 0, **bundles: int) -> Answers:
    recorder = Recorder()
    recorder.record(np.full(verdicts, 5_000))
    return Answers(
        verdicts=verdicts, awaited=of - verdicts, others=0, outcomes={"approve": verdicts}, alerts=1, right_alerts=1,
        dead_letters={}, bundles=bundles, rate=0.0, interval=Latency(), total=recorder.total(),
        histogram=recorder.encoded(),
    )  # fmt: skip


def performed(machine: Machine, rate: float, within: float = 10_000.0) -> tuple[Performed, list[str]]:
    said: list[str] = []
    stream = Stream(*PAST, rate=rate, mischief=Mischief(duplicates=0.01))
    found = perform(stream, rate, machine.send, within=within, clock=machine.clock, say=said.append)
    return found, said


def test_a_machine_that_holds_the_rate_is_left_at_it() -> None:
    found, said = performed(machine := Machine(holds=100), rate=100.0)

    assert ([leg.rate for leg in found.legs], found.held, said) == ([100.0], True, [])
    assert (found.sent.transactions, found.answers.awaited, len(machine.streams)) == (ALL, 0, 1)


def test_a_stall_of_some_seconds_is_no_reason_to_send_less() -> None:
    machine = Machine(holds=100)
    send = machine.send

    def after_a_stall(stream: Stream, enough: Enough) -> tuple[Sent, Answers]:
        assert not enough(None, None)
        machine.now += 12.0
        assert not enough(progress(1_200, ALL), answers(0))
        return send(stream, lambda *_: False)

    stream = Stream(*PAST, rate=100.0)
    assert perform(stream, 100.0, after_a_stall, within=900, clock=machine.clock, say=pytest.fail).held


def test_a_machine_that_is_too_slow_gets_less_and_everything_is_sent_once() -> None:
    found, said = performed(machine := Machine(holds=60), rate=200.0)
    plain = Stream(*PAST, rate=200.0, mischief=Mischief(duplicates=0.01))

    rates = [leg.rate for leg in found.legs]
    assert len(rates) > 1
    assert all(later <= before / 2 for before, later in pairwise(rates))
    assert not found.held
    sent = pl.concat([
        stream.transactions["transaction_id"][: leg.transactions]
        for stream, leg in zip(machine.streams, found.legs, strict=True)
    ])  # fmt: skip
    assert sent.to_list() == PAST[0]["transaction_id"].to_list()
    assert (found.sent.transactions, found.sent.of, found.sent.finished) == (ALL, ALL, True)
    assert (found.answers.verdicts, found.answers.awaited, found.answers.total.count) == (ALL, 0, ALL)
    assert found.sent.planted == {"duplicate": len(plain.planted)}
    assert found.sent.labels == plain.labels_reached
    assert f"going on at {rates[1]:,.0f} a second" in said[0]


def test_the_rate_goes_no_lower_than_the_least_and_the_time_is_bounded() -> None:
    found, said = performed(Machine(holds=20), rate=200.0, within=300.0)

    assert found.legs[-1].rate == LEAST
    assert 0 < found.sent.transactions < ALL
    assert found.answers.awaited == 0
    assert said[-1].startswith("5 minutes are over")
    assert f"{found.sent.transactions:,} of {ALL:,}" in said[-1]


def test_what_is_never_answered_is_awaited() -> None:
    found, _ = performed(Machine(holds=0), rate=200.0, within=60.0)

    assert found.answers.awaited == found.sent.transactions > 0


@pytest.mark.parametrize(("verdicts", "rate"), [(20_000, 500.0), (30_000, 1_000.0), (0, LEAST)])
def test_the_next_rate_is_one_that_was_held(verdicts: int, rate: float) -> None:
    assert lowered(2_000.0, 20.0, verdicts) == rate


def test_the_rest_of_a_stream_has_what_was_not_sent_and_nothing_else() -> None:
    stream = Stream(*PAST, rate=100.0, mischief=Mischief(malformed=0.02, duplicates=0.02))
    after = sum(one.after < 1_000 for one in stream.planted)

    rest = stream.rest(a_sent(1_000, ALL, 10.0, {"duplicate": after}, labels=20), 50.0)

    assert rest.transactions.equals(stream.transactions[1_000:])
    assert rest.labels.equals(stream.labels[20:])
    assert [(one.key, one.value) for one in rest.planted] == [(one.key, one.value) for one in stream.planted[after:]]
    assert [one.after + 1_000 for one in rest.planted] == [one.after for one in stream.planted[after:]]
    assert rest.due.tolist() == (np.arange(ALL - 1_000) * 20_000).tolist()


def test_several_histograms_are_one() -> None:
    parts, whole = [Recorder(), Recorder()], Recorder()
    for part, values in zip(parts, ([1_000, 2_000, 900_000], [7_000]), strict=True):
        part.record(np.array(values))
        whole.record(np.array(values))

    latency, encoded = merged([part.encoded() for part in parts])

    assert encoded == whole.encoded()
    assert latency.count == 4
    assert latency.p50 == pytest.approx(2.0, rel=1e-3)
    assert latency.p99 == pytest.approx(900, rel=1e-3)


def test_traffic_goes_on_until_the_new_model_has_judged_however_long_it_takes_to_learn() -> None:
    now = 0.0
    promoted: list[str] = []
    until = UntilSwapped(lambda: promoted[0] if promoted else None, clock=lambda: now)

    def is_over(**bundles: int) -> bool:
        return until.is_over(None, answers(sum(bundles.values()), **bundles))

    for now in (1.0, 100.0, 1_500.0):
        assert not is_over(old=int(now))
    promoted.append("new")
    now = 1_600.0
    assert not is_over(old=1_600)
    now = 1_700.0
    assert not is_over(old=1_700)
    assert not until.seen, "promoted is not enough"
    assert not is_over(old=1_700, new=1)
    now += GOES_ON_FOR + 0.1
    assert is_over(old=1_700, new=9)


def test_there_is_traffic_for_as_long_as_is_waited_for_the_swap() -> None:
    due = at_falling_rate(LEGS)
    assert len(due) == TRANSACTIONS
    assert due[-1] / 1e6 > WITHIN - 1 >= 1_500
    assert np.diff(due).max() <= 1e6


def a_clock() -> tuple[list[float], Callable[[], float], Callable[[float], None]]:
    now = [0.0]
    return now, lambda: now[0], lambda seconds: now.__setitem__(0, now[0] + seconds)


def test_whatever_moves_is_waited_for_and_whatever_stands_still_is_named() -> None:
    now, clock, sleep = a_clock()
    wait_while_it_moves(
        lambda: now[0] > 5_000, lambda: int(now[0] / 100), "rows", still_for=120, clock=clock, sleep=sleep
    )

    now, clock, sleep = a_clock()
    with pytest.raises(Failed, match=r"rows: nothing has moved for 120 s, it stands at 7"):
        wait_while_it_moves(lambda: False, lambda: 7, "rows", still_for=120, clock=clock, sleep=sleep)
    assert now[0] < 130
