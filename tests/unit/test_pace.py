"""Open loop: due times are fixed beforehand, and nothing due is skipped, however late the sender comes to it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadgen.pace import Pace, at_rate, at_speed, when_the_world_gets_there

sorted_times = st.lists(st.integers(0, 10**7), max_size=60).map(sorted)


@given(due=sorted_times, steps=st.lists(st.integers(0, 10**6), max_size=80), slice_of=st.integers(1, 20))
def test_everything_due_is_handed_out_once_in_order_and_never_early(
    due: list[int], steps: list[int], slice_of: int
) -> None:
    pace = Pace(np.array(due, dtype=np.int64), start=1_000, slice_of=slice_of)
    now, taken = 0, list[int]()
    for step in steps:
        now += step
        part = pace.take(now)
        assert len(part) <= slice_of
        assert all(due[each] + 1_000 <= now for each in part)
        taken += part
    while not pace.finished:
        now += pace.wait(now)
        part = pace.take(now)
        assert part
        taken += part
    assert taken == list(range(len(due)))


def test_a_sender_that_was_away_catches_up_and_keeps_the_old_due_times() -> None:
    pace = Pace(at_rate(10, 1_000.0), start=0)
    pace.take(1_000)

    late = pace.take(7_500)

    assert list(late) == [2, 3, 4, 5, 6, 7]
    assert pace.due[late].tolist() == [2_000, 3_000, 4_000, 5_000, 6_000, 7_000]
    assert pace.wait(7_500) == 500


@given(rate=st.floats(0.01, 1e6), count=st.integers(1, 2_000))
def test_at_a_rate_message_i_is_due_after_i_over_rate(rate: float, count: int) -> None:
    due = at_rate(count, rate)

    assert due[0] == 0
    assert abs(due[-1] - (count - 1) / rate * 1e6) <= 1
    assert (np.diff(due) >= 0).all()


@given(times=st.lists(st.integers(0, 10**15), min_size=1, max_size=50).map(sorted), speed=st.floats(0.01, 1e5))
def test_at_a_speed_distances_shrink_alike(times: list[int], speed: float) -> None:
    due = at_speed(np.array(times), speed)

    assert due[0] == 0
    assert due[-1] == pytest.approx((times[-1] - times[0]) / speed, rel=1e-9, abs=1)


@given(moments=sorted_times, occurred=sorted_times)
def test_a_label_is_due_when_the_world_gets_there(moments: list[int], occurred: list[int]) -> None:
    due = at_rate(len(occurred), 10.0)

    when, reached = when_the_world_gets_there(
        np.array(moments, dtype=np.int64), np.array(occurred, dtype=np.int64), due
    )

    assert reached == sum(bool(occurred) and moment <= occurred[-1] for moment in moments)
    for moment, label_due in zip(moments, when, strict=False):
        first = next(index for index, time in enumerate(occurred) if time >= moment)
        assert label_due == due[first]


@pytest.mark.parametrize("wrong", [0.0, -1.0])
def test_no_rate_and_no_speed_is_refused(wrong: float) -> None:
    with pytest.raises(ValueError, match="positive"):
        at_rate(3, wrong)
    with pytest.raises(ValueError, match="positive"):
        at_speed(np.array([1, 2]), wrong)
