"""Latencies in an HDR histogram: three significant digits from a microsecond to an hour."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec
import numpy as np
import numpy.typing as npt
from hdrh.histogram import HdrHistogram

Ints = npt.NDArray[np.int64]

HIGHEST: Final = 3_600_000_000
TENTHS_OF_A_PERCENT: Final = {"p50": 500, "p90": 900, "p99": 990, "p99_9": 999}


class Latency(msgspec.Struct, frozen=True, kw_only=True):
    """Milliseconds; all 0 where nothing was measured."""

    count: int = 0
    p50: float = 0.0
    p90: float = 0.0
    p99: float = 0.0
    p99_9: float = 0.0
    max: float = 0.0


def merged(encoded: Sequence[str]) -> tuple[Latency, str]:
    """Several histograms, as `Recorder.encoded` gives them, as one: to its three digits what one recorder would have had."""
    whole = HdrHistogram(1, HIGHEST, 3)
    for one in encoded:
        whole.add(HdrHistogram.decode(one.encode()))
    at = {name: whole.get_value_at_percentile(tenths / 10) / 1e3 for name, tenths in TENTHS_OF_A_PERCENT.items()}
    count = int(whole.get_total_count())
    latency = Latency(count=count, max=whole.get_max_value() / 1e3, **at) if count else Latency()
    return latency, whole.encode().decode()


# The layout of HdrHistogram for three digits: 2,048 values one by one, then 1,024 buckets for each doubling.
_HALF: Final = 1_024
_DOUBLINGS: Final = HIGHEST.bit_length() - 11
_BUCKETS: Final = (_DOUBLINGS + 2) * _HALF


def _bucket_of(values: Ints) -> Ints:
    doubling = np.maximum(np.frexp(values.astype(np.float64))[1].astype(np.int64) - 11, 0)
    bucket: Ints = doubling * _HALF + (values >> doubling)
    return bucket


def _highest_in(bucket: int) -> int:
    doubling = max(bucket // _HALF - 1, 0)
    return ((bucket - doubling * _HALF + 1) << doubling) - 1


class _Histogram:
    def __init__(self) -> None:
        self.counts = np.zeros(_BUCKETS, dtype=np.int64)
        self.highest = 0

    def add(self, values: Ints) -> None:
        self.counts += np.bincount(_bucket_of(values), minlength=_BUCKETS)
        self.highest = max(self.highest, int(values.max()))

    def read(self) -> Latency:
        cumulated = np.cumsum(self.counts)
        count = int(cumulated[-1])
        if not count:
            return Latency()
        at = {}
        for name, tenths in TENTHS_OF_A_PERCENT.items():
            rank = -(-tenths * count // 1_000)
            at[name] = min(_highest_in(int(np.searchsorted(cumulated, rank))), self.highest) / 1e3
        return Latency(count=count, max=self.highest / 1e3, **at)


class Recorder:
    """Records latencies, of an interval and in total.

    HdrHistogram in Python takes longer to record a value than the value's message took, and milliseconds for a
    percentile, in which messages would wait.  So values gather in a buffer and enter the same buckets all together.
    """

    def __init__(self) -> None:
        self._total = _Histogram()
        self._interval = _Histogram()
        self._buffer: list[Ints] = []

    def record(self, microseconds: Ints) -> None:
        """Negative ones (a clock that was set back) count as nothing."""
        if len(microseconds):
            self._buffer.append(microseconds)

    def total(self) -> Latency:
        """Of everything so far."""
        self._gather()
        return self._total.read()

    def interval(self) -> Latency:
        """Since this was last asked."""
        self._gather()
        latency = self._interval.read()
        self._interval = _Histogram()
        return latency

    def encoded(self) -> str:
        """The whole histogram in HdrHistogram's base64 form, for its other tools."""
        self._gather()
        histogram = HdrHistogram(1, HIGHEST, 3)
        for bucket in np.flatnonzero(self._total.counts):
            histogram.record_value(_highest_in(int(bucket)), int(self._total.counts[bucket]))
        encoded: bytes = histogram.encode()
        return encoded.decode()

    def _gather(self) -> None:
        if self._buffer:
            values = np.clip(np.concatenate(self._buffer), 0, HIGHEST)
            self._buffer.clear()
            self._interval.add(values)
            self._total.add(values)
