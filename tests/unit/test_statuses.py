"""Whatever a process of ours may end with stands in the table that somebody opens at night."""

from __future__ import annotations

import re
import signal
from pathlib import Path

import pytest

from streaming import leaving

OPERATIONS = Path(__file__).parents[2] / "docs" / "operations.md"
OURS = (leaving.WRONG_USE, leaving.FENCED, leaving.BROKEN, leaving.STUCK, leaving.SLOW_STOP)
SIGNALS = (signal.SIGTERM, signal.SIGKILL, signal.SIGSEGV, signal.SIGABRT)


@pytest.mark.parametrize(
    "status", [*map(str, (0, 1, 130, *OURS)), *(f"−{number}, shown as {128 + number}" for number in SIGNALS)]
)
def test_every_exit_status_is_in_the_table(status: str) -> None:
    table = OPERATIONS.read_text().split("## Exit statuses")[1].split("\n## ")[0]
    rows = {name.strip() for row in re.findall(r"^\| (.+?) \|", table, re.MULTILINE) for name in row.split(";")}

    assert status in rows
