"""How much work something is, whatever else the machine has to do."""

from __future__ import annotations

import time
from collections.abc import Callable


def least_work(do: Callable[[], object], *, times: int = 3) -> float:
    """Seconds of this process's CPU time, the least of so many times: to be held against another such number only."""
    took = []
    for _ in range(times):
        began = time.process_time()
        do()
        took.append(time.process_time() - began)
    return max(min(took), 1e-3)
