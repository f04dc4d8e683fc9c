"""How a worker ends when it can't go on: at once, saying why.  A crash is safe, and it is the path that is tested."""

from __future__ import annotations

import logging
import os
import threading
from typing import NoReturn

WRONG_USE, FENCED, BROKEN, STUCK, SLOW_STOP = 2, 3, 4, 5, 6
"""Exit statuses: settings; replaced by another worker; a bug; a call that hung; a stop that took too long."""

log = logging.getLogger(__name__)


def leave(status: int, why: str) -> NoReturn:
    """End the process now.  Threads hang in librdkafka where this is called, so nothing is waited for."""
    log.critical("leaving: %s", why, extra={"status": status})
    logging.shutdown()
    os._exit(status)


def leave_after(seconds: float, status: int, why: str) -> None:
    """End the process if it is still there then."""
    timer = threading.Timer(seconds, leave, (status, why))
    timer.daemon = True
    timer.start()
