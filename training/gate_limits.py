"""What the gates go by (training/gates.py)."""

from __future__ import annotations

import msgspec


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """What the gates go by."""

    precision_tolerance: float = 0.01
    """The interval of the difference in average precision must not reach further below 0."""
    cost_tolerance: float = 0.05
    """The cost itself must not be further above the champion's, as a share of it, nor its interval wholly above: a few large
    frauds decide it, and by the interval's upper end (+20 % and more on two weeks) nobody would ever pass."""
    brier: float = 1.1
    """Times the champion's, at most."""
    bias: float = 2.0
    """The mean score is within this factor of the share of frauds."""
    least_frauds: int = 50
    """Fewer among the rows say nothing."""
    latency_budget: float = 0.025
    """Seconds for a batch of 256 vectors."""
