"""Who gets what was polled: a number that can't be served is left out, and what belongs to an older assignment is dropped."""

from __future__ import annotations

from itertools import pairwise

import pytest

from schemas.errors import PartitionParked
from streaming.intake import APART, MOST_PARKED_AGAIN, PARKED_AGAIN, Polled
from tests.intakes import TRANSACTIONS, Desk, told

SPOILT, SOUND = 1, 2


def failing_at(offset: int, *, number: int | None = SPOILT) -> Desk:
    """At which the number SPOILT can't be served from this transaction on, which is said of `number`."""
    desk = Desk()

    def settle(polled: Polled) -> None:
        if any((m.partition(), m.offset()) == (SPOILT, offset) for _, m in polled.messages):
            polled.settle(parked=PartitionParked("it is spoilt", partition=number))
        else:
            told(polled)

    desk.settle = settle
    desk.serves(SPOILT, SOUND)
    return desk


def parked(desk: Desk) -> dict[int, str]:
    """What /readyz and the metric say."""
    assert desk.metrics.parked._value.get() == len(desk.intake.parked)
    return desk.intake.parked


def test_a_number_that_a_batch_fails_on_is_parked_and_the_others_go_on() -> None:
    desk = failing_at(0)
    desk.wrote(TRANSACTIONS, SPOILT, b"bad")
    desk.wrote(TRANSACTIONS, SOUND, b"good")
    desk.turns(5)

    assert parked(desk) == {SPOILT: "it is spoilt"}
    assert desk.intake.parts.keys() == {SOUND}
    assert desk.positions[SOUND].next.transactions == 1, "what shared the batch was told in another"
    desk.wrote(TRANSACTIONS, SOUND, b"good", b"good")
    desk.turns(5)
    assert desk.positions[SOUND].next.transactions == 3
    assert desk.handed(SPOILT) == [0], "and the bad one was not met again"
    assert desk.intake.waits_for() is None


def test_where_every_number_is_parked_the_worker_says_that_it_waits() -> None:
    desk = failing_at(0)
    desk.serves(SPOILT)
    desk.wrote(TRANSACTIONS, SPOILT, b"bad")
    desk.turns(5)

    assert desk.intake.waits_for() == "it is spoilt"


def test_a_number_parked_by_a_batch_is_tried_again_at_longer_and_longer_intervals() -> None:
    desk = failing_at(0)
    desk.wrote(TRANSACTIONS, SPOILT, b"bad")
    tried = []
    for _ in range(2_000):
        before = len(desk.handed(SPOILT))
        desk.turns(2)
        if len(desk.handed(SPOILT)) > before:
            tried.append(desk.now)
        assert parked(desk) == {SPOILT: "it is spoilt"}, "also while it is tried"
        desk.now += 0.1

    waits = [later - earlier for earlier, later in pairwise(tried)]
    assert waits[:4] == pytest.approx([PARKED_AGAIN, 2 * PARKED_AGAIN, 4 * PARKED_AGAIN, 8 * PARKED_AGAIN], abs=0.5)
    assert waits[4] == pytest.approx(MOST_PARKED_AGAIN, abs=0.5)


def test_a_parked_number_goes_on_once_it_has_got_over_what_it_was_parked_for() -> None:
    desk = failing_at(0)
    desk.wrote(TRANSACTIONS, SPOILT, b"bad")
    desk.turns(5)
    desk.settle = told
    desk.now += PARKED_AGAIN + 0.1
    desk.turns(5)

    assert parked(desk) == {}
    assert desk.positions[SPOILT].next.transactions == 1


def test_a_parked_number_is_looked_at_at_once_where_something_has_changed() -> None:
    desk = failing_at(0)
    desk.wrote(TRANSACTIONS, SPOILT, b"bad")
    desk.turns(5)
    desk.settle = told
    desk.intake.look_at_parked()
    desk.turns(5)

    assert parked(desk) == {}


def test_a_number_whose_profiles_were_rebuilt_is_parked_no_more() -> None:
    desk = failing_at(0)
    desk.wrote(TRANSACTIONS, SPOILT, b"bad")
    desk.turns(5)
    desk.positions[SPOILT] = desk.positions[SPOILT]._replace(epoch="another")
    desk.now += PARKED_AGAIN + 0.1
    desk.settle = told
    desk.turns(5)

    assert parked(desk) == {}


def test_a_parked_number_that_goes_to_another_worker_and_comes_back_is_tried_at_once() -> None:
    desk = failing_at(0)
    desk.wrote(TRANSACTIONS, SPOILT, b"bad")
    desk.turns(5)
    desk.is_assigned(SOUND)
    desk.turns(5)
    assert parked(desk) == {}
    desk.settle = told
    desk.serves(SPOILT, SOUND)

    assert parked(desk) == {}


def test_where_it_is_not_known_which_number_a_batch_fails_on_each_has_its_own_until_it_is() -> None:
    desk = failing_at(3, number=None)
    desk.wrote(TRANSACTIONS, SPOILT, *[b"good"] * 3, b"bad")
    desk.wrote(TRANSACTIONS, SOUND, *[b"good"] * 4)
    desk.turns(8)

    assert parked(desk) == {SPOILT: "it is spoilt"}
    assert desk.positions[SOUND].next.transactions == 4
    desk.now += APART + 1
    desk.turns(5)
    desk.wrote(TRANSACTIONS, SOUND, b"good")
    desk.turns(5)
    assert desk.positions[SOUND].next.transactions == 5


def test_an_answer_that_was_asked_for_before_a_rebalance_is_dropped() -> None:
    desk = Desk()
    desk.is_assigned(SOUND)
    desk.intake.turn()
    ((generation, number),) = desk.takeover.asked
    desk.is_assigned(SOUND)
    desk.answer()
    desk.intake.turn()

    assert desk.intake.parts == {}, "where it was to begin was asked in another generation of the group"
    ((asked_again, _),) = desk.takeover.asked
    assert asked_again > generation
    desk.turns()
    assert desk.intake.parts.keys() == {number}


def test_what_was_polled_under_the_assignment_before_is_dropped_and_comes_again() -> None:
    desk = Desk()
    desk.wrote(TRANSACTIONS, SOUND, b"good")
    desk.serves(SOUND)
    desk.turns()
    desk.wrote(TRANSACTIONS, SOUND, b"good")
    desk.is_assigned(SOUND)
    desk.turns(5)

    assert desk.handed(SOUND) == [0, 1]
    assert desk.positions[SOUND].next.transactions == 2
