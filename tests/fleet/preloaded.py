"""What every worker imports and has compiled: once for all of them.  See tests/fleet/processes.py."""

from __future__ import annotations

from typing import cast

import features.__main__
import streaming.__main__
import streaming.explaining
import streaming.worker
from features.accepting import Rules
from streaming.agents import warm_up
from streaming.scoring import Panel

__all__ = ["features", "streaming"]


class _Nobody:
    """Decides nothing: the kernel is to be warm, and no thread started before the fork."""

    def decide(self, *_: object) -> None:
        return


warm_up(Rules(), cast(Panel, _Nobody()))
