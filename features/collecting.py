"""Python's garbage collector, kept from looking at what isn't garbage."""

from __future__ import annotations

import atexit
import gc


def spare_the_collector() -> None:
    """Leave all that exists now out of every collection, and collect seldom.

    A batch makes tens of thousands of tuples, all of them gone by reference count alone; at the default threshold each
    few hundred start a search for cycles, which took a third of a worker's time.

    At the end of the process all of it is collected as ever: compiled bindings report what is left then as leaked.
    """
    atexit.unregister(gc.unfreeze)
    atexit.register(gc.unfreeze)
    gc.collect()
    gc.freeze()
    gc.set_threshold(200_000, 20, 50)
