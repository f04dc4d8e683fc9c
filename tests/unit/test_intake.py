"""Who gets what was polled: a number that can't be served is left out, and what belongs to an older assignment is dropped."""

from __future__ import annotations

import itertools
from itertools import pairwise
from typing import Any

import pytest

from features.position import Offsets
from schemas.errors import PartitionParked
from streaming.intake import APART, MOST_PARKED_AGAIN, PARKED_AGAIN, Polled
from streaming.partition import Part
from tests.intakes import TRANSACTIONS, LoneIntake, told

SPOILT, SOUND = 1, 2


def failing_at(offset: int, *, number: int | None = SPOILT) -> LoneIntake:
    """At which the number SPOILT can't be served from this transaction on, which is said of `number`."""
    worker = LoneIntake()

    def settle(polled: Polled) -> None:
        if any((m.partition(), m.offset()) == (SPOILT, offset) for _, m in polled.messages):
            polled.settle(parked=PartitionParked("it is spoilt", partition=number))
        else:
            told(polled)

    worker.settle = settle
    worker.serves(SPOILT, SOUND)
    return worker


def parked(worker: LoneIntake) -> dict[int, str]:
    """What /readyz and the metric say."""
    assert worker.metrics.parked._value.get() == len(worker.intake.parked)
    return worker.intake.parked


def test_a_number_that_a_batch_fails_on_is_parked_and_the_others_go_on() -> None:
    worker = failing_at(0)
    worker.wrote(TRANSACTIONS, SPOILT, b"bad")
    worker.wrote(TRANSACTIONS, SOUND, b"good")
    worker.turns(5)

    assert parked(worker) == {SPOILT: "it is spoilt"}
    assert worker.intake.parts.keys() == {SOUND}
    assert worker.positions[SOUND].next.transactions == 1, "what shared the batch was told in another"
    worker.wrote(TRANSACTIONS, SOUND, b"good", b"good")
    worker.turns(5)
    assert worker.positions[SOUND].next.transactions == 3
    assert worker.handed(SPOILT) == [0], "and the bad one was not met again"
    assert worker.intake.waits_for() is None


def test_where_every_number_is_parked_the_worker_says_that_it_waits() -> None:
    worker = failing_at(0)
    worker.serves(SPOILT)
    worker.wrote(TRANSACTIONS, SPOILT, b"bad")
    worker.turns(5)

    assert worker.intake.waits_for() == "it is spoilt"


def test_a_number_parked_by_a_batch_is_tried_again_at_longer_and_longer_intervals() -> None:
    worker = failing_at(0)
    worker.wrote(TRANSACTIONS, SPOILT, b"bad")
    tried = []
    for _ in range(2_000):
        before = len(worker.handed(SPOILT))
        worker.turns(2)
        if len(worker.handed(SPOILT)) > before:
            tried.append(worker.now)
        assert parked(worker) == {SPOILT: "it is spoilt"}, "also while it is tried"
        worker.now += 0.1

    waits = [later - earlier for earlier, later in pairwise(tried)]
    assert waits[:4] == pytest.approx([PARKED_AGAIN, 2 * PARKED_AGAIN, 4 * PARKED_AGAIN, 8 * PARKED_AGAIN], abs=0.5)
    assert waits[4] == pytest.approx(MOST_PARKED_AGAIN, abs=0.5)


def test_a_parked_number_goes_on_once_it_has_got_over_what_it_was_parked_for() -> None:
    worker = failing_at(0)
    worker.wrote(TRANSACTIONS, SPOILT, b"bad")
    worker.turns(5)
    worker.settle = told
    worker.now += PARKED_AGAIN + 0.1
    worker.turns(5)

    assert parked(worker) == {}
    assert worker.positions[SPOILT].next.transactions == 1


def test_a_parked_number_is_looked_at_at_once_where_something_has_changed() -> None:
    worker = failing_at(0)
    worker.wrote(TRANSACTIONS, SPOILT, b"bad")
    worker.turns(5)
    worker.settle = told
    worker.intake.look_at_parked()
    worker.turns(5)

    assert parked(worker) == {}


def test_a_number_whose_profiles_were_rebuilt_is_parked_no_more() -> None:
    worker = failing_at(0)
    worker.wrote(TRANSACTIONS, SPOILT, b"bad")
    worker.turns(5)
    worker.positions[SPOILT] = worker.positions[SPOILT]._replace(epoch="another")
    worker.now += PARKED_AGAIN + 0.1
    worker.settle = told
    worker.turns(5)

    assert parked(worker) == {}


def test_a_number_without_profiles_yet_is_not_called_mended_because_each_takeover_begins_them_anew() -> None:
    worker = failing_at(0)
    stored = worker.part
    takeovers = itertools.count()

    def begun_anew(number: int) -> Part:
        part = stored(number)
        part.position = part.position._replace(epoch=f"takeover {next(takeovers)}")
        part.written = False
        return part

    worker.part = begun_anew  # type: ignore[method-assign]
    worker.serves(SPOILT, SOUND)
    worker.wrote(TRANSACTIONS, SPOILT, b"bad")
    worker.turns(5)
    for wait in (PARKED_AGAIN, 2 * PARKED_AGAIN):
        assert parked(worker) == {SPOILT: "it is spoilt"}
        worker.now += wait + 0.1
        worker.turns(1)
        assert parked(worker) == {SPOILT: "it is spoilt"}, "also while it is tried"
        worker.turns(4)
    tries = len(worker.handed(SPOILT))
    worker.now += 2 * PARKED_AGAIN + 0.1
    worker.turns(5)
    assert len(worker.handed(SPOILT)) == tries, "each time it waits twice as long"


def test_a_parked_number_that_goes_to_another_worker_and_comes_back_is_tried_at_once() -> None:
    worker = failing_at(0)
    worker.wrote(TRANSACTIONS, SPOILT, b"bad")
    worker.turns(5)
    worker.is_assigned(SOUND)
    worker.turns(5)
    assert parked(worker) == {}
    worker.settle = told
    worker.serves(SPOILT, SOUND)

    assert parked(worker) == {}


def test_where_it_is_not_known_which_number_a_batch_fails_on_each_has_its_own_until_it_is() -> None:
    worker = failing_at(3, number=None)
    worker.wrote(TRANSACTIONS, SPOILT, *[b"good"] * 3, b"bad")
    worker.wrote(TRANSACTIONS, SOUND, *[b"good"] * 4)
    worker.turns(8)

    assert parked(worker) == {SPOILT: f"partition {SPOILT}: it is spoilt"}
    assert worker.positions[SOUND].next.transactions == 4
    worker.now += APART + 1
    worker.turns(5)
    worker.wrote(TRANSACTIONS, SOUND, b"good")
    worker.turns(5)
    assert worker.positions[SOUND].next.transactions == 5


def test_what_comes_after_kafka_was_away_is_judged_only_once_its_log_was_looked_at() -> None:
    lone = LoneIntake()
    lone.serves(1)
    lone.wrote(TRANSACTIONS, 1, b"before")
    lone.turns()
    lone.kafka_goes_away()
    lone.wrote(TRANSACTIONS, 1, b"after")

    lone.intake.turn()
    lone.intake.turn()

    assert lone.handed(1) == [0]
    assert [number for _, number in lone.takeover.asked] == [1], "its log is looked at"
    lone.turns()
    assert lone.handed(1) == [0, 1]


def test_an_answer_that_was_asked_for_before_a_rebalance_is_dropped() -> None:
    worker = LoneIntake()
    worker.is_assigned(SOUND)
    worker.intake.turn()
    ((generation, number),) = worker.takeover.asked
    worker.is_assigned(SOUND)
    worker.answer()
    worker.intake.turn()

    assert worker.intake.parts == {}, "where it was to begin was asked in another generation of the group"
    ((asked_again, _),) = worker.takeover.asked
    assert asked_again > generation
    worker.turns()
    assert worker.intake.parts.keys() == {number}


def test_what_was_polled_under_the_assignment_before_is_dropped_and_comes_again() -> None:
    worker = LoneIntake()
    worker.wrote(TRANSACTIONS, SOUND, b"good")
    worker.serves(SOUND)
    worker.turns()
    worker.wrote(TRANSACTIONS, SOUND, b"good")
    worker.is_assigned(SOUND)
    worker.turns(5)

    assert worker.handed(SOUND) == [0, 1]
    assert worker.positions[SOUND].next.transactions == 2


@pytest.mark.parametrize("fields", [{}, {"of_headers": (("padding", b"x" * 256_000),)}], ids=["values", "headers"])
def test_messages_that_wait_are_bounded_by_their_bytes_and_none_is_lost(fields: dict[str, Any]) -> None:
    """A thousand messages are nothing where each has 300 bytes, and everything where each has a megabyte."""
    worker = LoneIntake(held_bytes=16 << 20)
    large = b"x" * 256_000 if not fields else b"{}"
    for number in (SPOILT, SOUND):
        worker.wrote(TRANSACTIONS, number, *[large] * 200, **fields)
    worker.is_assigned(SPOILT, SOUND, 3)
    worker.intake.turn()
    worker.answer(but=3)  # while it isn't known where that one begins, nobody is judged
    most = 0.0
    for _ in range(20):
        worker.intake.turn()
        most = max(most, worker.metrics.held._value.get())
    assert worker.handed(SOUND) == []
    assert (8 << 20) < most <= (8 << 20) + (2 << 20) + 20 * 260_000, "its half, and what one poll can bring"

    worker.answer()
    worker.turns(40)
    assert worker.handed(SPOILT) == worker.handed(SOUND) == list(range(200))
    assert worker.metrics.held._value.get() == 0


def test_a_number_that_is_folded_anew_gets_on_however_much_the_others_hold() -> None:
    worker = LoneIntake(held_bytes=16 << 20)
    worker.wrote(TRANSACTIONS, SOUND, *[b"x" * 256_000] * 100)
    worker.wrote(TRANSACTIONS, SPOILT, *[b"x" * 256_000] * 100)
    worker.until[SPOILT] = Offsets(100, 0, 0)
    worker.serves(SPOILT, SOUND)
    worker.turns(60)

    assert worker.handed(SPOILT) == worker.handed(SOUND) == list(range(100))
