"""How far hypothesis looks: each time at the same examples, few enough for every day.

`EXAMPLES=20 python -m pytest tests/unit/test_kernel.py` looks at twenty times as many, other ones each time.
"""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings

FACTOR = int(os.environ.get("EXAMPLES", "1"))


def examples(count: int) -> settings:
    """For a test that takes so many."""
    return settings(
        max_examples=count * FACTOR,
        derandomize=FACTOR == 1,
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    )
