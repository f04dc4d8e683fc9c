"""The recorder's buckets are HdrHistogram's."""

from __future__ import annotations

import numpy as np
import pytest
from hdrh.histogram import HdrHistogram
from hypothesis import given, settings
from hypothesis import strategies as st

from loadgen.latency import HIGHEST, Latency, Recorder

latencies = st.lists(
    st.integers(0, 3_000) | st.integers(0, HIGHEST) | st.sampled_from([2047, 2048, 4095, 4096]), min_size=1
)


@given(first=latencies, second=latencies)
@settings(deadline=None)
def test_a_percentile_is_the_value_of_its_rank_to_three_digits(first: list[int], second: list[int]) -> None:
    recorder = Recorder()
    recorder.record(np.array(first))
    recorder.record(np.array(second))
    values = sorted(first + second)

    total = recorder.total()

    assert (total.count, total.max) == (len(values), values[-1] / 1e3)
    for tenths, ours in {500: total.p50, 900: total.p90, 990: total.p99, 999: total.p99_9}.items():
        exact = values[(tenths * len(values) + 999) // 1000 - 1]
        assert exact / 1e3 <= ours <= exact / 1e3 * (1 + 1 / 1024)


@given(values=latencies)
@settings(deadline=None)
def test_its_buckets_are_those_of_hdr_histogram(values: list[int]) -> None:
    recorder, oracle = Recorder(), HdrHistogram(1, HIGHEST, 3)
    recorder.record(np.array(values))
    for value in values:
        oracle.record_value(value)

    decoded = HdrHistogram.decode(recorder.encoded().encode())

    assert decoded.equals(oracle) or list(decoded.counts) == list(oracle.counts)


def test_an_interval_holds_what_came_since_the_last() -> None:
    recorder = Recorder()
    recorder.record(np.array([1_000, 2_000]))
    assert recorder.interval().count == 2

    recorder.record(np.array([5_000]))

    assert recorder.interval() == Latency(count=1, p50=5.0, p90=5.0, p99=5.0, p99_9=5.0, max=5.0)
    assert recorder.interval() == Latency()
    assert recorder.total().count == 3


def test_other_tools_can_read_the_histogram() -> None:
    recorder = Recorder()
    recorder.record(np.arange(1, 10_001))

    decoded = HdrHistogram.decode(recorder.encoded().encode())

    assert decoded.get_total_count() == 10_000
    assert decoded.get_value_at_percentile(99) / 1e3 == pytest.approx(recorder.total().p99, rel=0.001)


def test_a_clock_set_back_is_no_latency() -> None:
    recorder = Recorder()
    recorder.record(np.array([-5_000]))

    assert recorder.total() == Latency(count=1)
