"""While catching up, a transaction waits for the labels and the activity of its time, and no longer than it must."""

from __future__ import annotations

import pytest

from features.position import Offsets
from streaming.merging import BESIDE, MOST_BYTES, Merger
from tests.fakes import FakeMessage

WALL = 1_000_000_000
"""Milliseconds: now."""
LONG_AGO = WALL - 3_600_000
NOTHING = Offsets(0, 0, 0)
LABELS, ACTIVITY = 1, 2


class CatchingUp:
    """A worker whose partition number 0 begins at `begin` and was judged up to `until`."""

    def __init__(self, begin: Offsets = NOTHING, until: Offsets | None = None, *, wait: float = 0.25) -> None:
        self.merger = Merger[FakeMessage](wait)
        self.merger.place(0, begin, until or begin)
        self.folded = begin
        self.now = 100.0

    def came(self, *messages: FakeMessage) -> None:
        for message in messages:
            self.merger.hold(message)

    def take(self, *, most: int = 100, judge: bool = True) -> list[int]:
        """Offsets of what may go now."""
        taken = self.merger.take(most, {0: self.folded, 1: NOTHING}, judge=judge, now=self.now, wall=WALL)
        return [message.at_offset for message in taken]


def test_a_live_transaction_waits_for_nothing() -> None:
    worker = CatchingUp()
    worker.came(FakeMessage(0, at=WALL - Merger.LIVE + 1))

    assert worker.take() == [0]


def test_an_old_transaction_waits_until_labels_and_activity_of_its_time_have_come() -> None:
    worker = CatchingUp()
    worker.came(FakeMessage(0, at=LONG_AGO), FakeMessage(1, at=LONG_AGO + 10))

    assert worker.take() == []
    worker.merger.saw(LABELS, FakeMessage(0, at=LONG_AGO))
    assert worker.take() == []
    worker.merger.saw(ACTIVITY, FakeMessage(0, at=LONG_AGO + 5))
    assert worker.take() == [0]
    worker.merger.saw(LABELS, FakeMessage(1, at=LONG_AGO + 10))
    worker.merger.saw(ACTIVITY, FakeMessage(1, at=LONG_AGO + 10))
    assert worker.take() == [1]


def test_where_a_topic_has_ended_there_is_nothing_to_wait_for() -> None:
    worker = CatchingUp()
    worker.came(FakeMessage(0, at=LONG_AGO))
    worker.merger.ended(LABELS, 0, 0)
    assert worker.take() == []
    worker.merger.ended(ACTIVITY, 0, 0)
    assert worker.take() == [0]

    worker.merger.saw(LABELS, FakeMessage(7, at=LONG_AGO - 50))  # it goes on after all
    worker.came(FakeMessage(1, at=LONG_AGO))
    assert worker.take() == []


def test_waiting_in_vain_ends_and_then_nothing_is_waited_for_a_while() -> None:
    worker = CatchingUp(wait=0.25)
    worker.came(*(FakeMessage(n, at=LONG_AGO) for n in range(3)))

    assert worker.take(most=1) == []
    worker.now += 0.24
    assert worker.take(most=1) == []
    worker.now += 0.01
    assert worker.take(most=1) == [0]
    assert worker.merger.waived == 1
    worker.now += Merger.WAIVED - 0.01
    assert worker.take(most=1) == [1]
    worker.now += 0.02
    assert worker.take(most=1) == []
    assert worker.merger.waived == 1


def test_a_transaction_told_before_is_folded_at_once_but_never_with_one_to_be_judged() -> None:
    worker = CatchingUp(NOTHING, Offsets(2, 0, 0))
    worker.came(*(FakeMessage(n, at=WALL) for n in range(4)))

    assert worker.take() == [0, 1]
    assert worker.take() == [2, 3]


def test_without_leave_to_judge_only_what_was_told_before_goes() -> None:
    worker = CatchingUp(NOTHING, Offsets(1, 0, 0))
    worker.came(FakeMessage(0, at=WALL), FakeMessage(1, at=WALL))

    assert worker.take(judge=False) == [0]
    assert worker.take(judge=False) == []
    assert worker.take(judge=True) == [1]


@pytest.mark.parametrize(("folded", "waits"), [((0, 3, 5), True), ((0, 4, 4), True), ((0, 4, 5), False)])
def test_nothing_is_judged_before_the_labels_and_activity_of_the_last_verdicts_are_folded_again(
    folded: tuple[int, int, int], waits: bool
) -> None:
    worker = CatchingUp(NOTHING, Offsets(0, 4, 5))
    worker.came(FakeMessage(0, at=WALL))
    worker.folded = Offsets(*folded)

    assert worker.merger.behind(0, worker.folded) is waits
    assert worker.take() == ([] if waits else [0])


def test_what_the_log_has_lost_is_not_waited_for() -> None:
    worker = CatchingUp(NOTHING, Offsets(0, 4, 0))
    worker.folded = Offsets(0, 3, 0)
    worker.merger.saw(LABELS, FakeMessage(2))
    assert worker.merger.behind(0, worker.folded)

    worker.merger.ended(LABELS, 0, 3)
    assert not worker.merger.behind(0, worker.folded)


def test_no_more_are_taken_than_asked_for_and_their_order_is_kept() -> None:
    worker = CatchingUp()
    worker.came(*(FakeMessage(n, at=WALL) for n in range(5)))

    assert [worker.take(most=2), worker.take(most=2), worker.take(most=2)] == [[0, 1], [2, 3], [4]]


def test_a_batch_ends_where_it_would_be_too_large_for_one_kafka_transaction() -> None:
    worker = CatchingUp()
    worker.came(*(FakeMessage(n, at=WALL, size=MOST_BYTES // 2) for n in range(5)))

    assert [worker.take(), worker.take(), worker.take()] == [[0, 1], [2, 3], [4]]


def test_one_number_that_waits_holds_no_other_up() -> None:
    worker = CatchingUp()
    worker.merger.place(1, NOTHING, NOTHING)
    worker.came(FakeMessage(0, at=LONG_AGO), FakeMessage(9, at=WALL, of_partition=1))

    assert worker.take() == [9]
    assert (worker.merger.held(0), worker.merger.held(1)) == (1, 0)


def test_messages_of_a_number_that_is_not_served_are_passed_over() -> None:
    worker = CatchingUp()
    worker.came(FakeMessage(0, at=WALL, of_partition=7))
    worker.merger.saw(LABELS, FakeMessage(0, of_partition=7))
    worker.merger.ended(LABELS, 7, 3)

    assert worker.take() == []
    assert worker.merger.held(7) == 0
    assert not worker.merger.behind(7, NOTHING)


def test_a_number_placed_anew_has_forgotten_what_it_held() -> None:
    worker = CatchingUp()
    worker.came(FakeMessage(0, at=WALL))
    worker.merger.place(0, NOTHING, NOTHING)
    assert worker.take() == []

    worker.came(FakeMessage(0, at=WALL))
    worker.merger.clear()
    worker.came(FakeMessage(1, at=WALL))
    assert worker.merger.held(0) == 0


def test_what_waits_is_counted_in_bytes_of_key_value_and_headers() -> None:
    worker = CatchingUp()
    worker.came(
        FakeMessage(0, at=LONG_AGO, size=1_000),
        FakeMessage(1, at=LONG_AGO, size=0, of_key=b"k" * 500),
        FakeMessage(2, at=LONG_AGO, size=0, of_headers=(("name", b"h" * 2_000),)),
    )
    assert worker.merger.bytes_held(0) == 3 * BESIDE + 1_000 + 500 + 2_004

    worker.merger.ended(LABELS, 0, 0)
    worker.merger.ended(ACTIVITY, 0, 0)
    worker.take(most=1)
    assert worker.merger.bytes_held(0) == 2 * BESIDE + 500 + 2_004
    worker.take()
    assert worker.merger.bytes_held(0) == 0
